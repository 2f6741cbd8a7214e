"""Requests to a large language model for a task's texts, and its responses as a file of answers.

Both are JSON Lines in the format that batch endpoints of OpenAI-compatible servers take and give: a request has
``custom_id`` and ``body`` (what is posted to /v1/chat/completions); a response has the same ``custom_id`` and the
server's answer under ``response.body``. Nothing here calls a server.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from internal_kd.data.answer_forms import class_named
from internal_kd.data.examples import TaskOnDisk
from internal_kd.data.repairs import Repairs
from internal_kd.data.tables import columns_of, rows_of
from internal_kd.errors import UserError
from internal_kd.files import replacing, write_text
from internal_kd.tasks.info import TaskInfo
from internal_kd.tasks.tags import types_of

# {labels} and {text} are filled in; a template of your own has both.
PROMPTS = {
    "classes": """Read the text and choose the one label that fits it best.
Labels: {labels}
Answer with JSON alone, such as {{"label": "{first}"}}.

Text:
{text}""",
    "tags": """Find the entities in the text.
Types of entities: {labels}
Copy each entity exactly as it stands in the text, without words around it. Name nothing that is not in the text.
Answer with JSON alone, such as {{"entities": [{{"text": "...", "type": "{first}"}}]}}, or {{"entities": []}}.

Text:
{text}""",
}
_FENCE = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL)


def write_requests(
    task: TaskOnDisk, split: str, path: Path, model: str, *, template: str | None = None, votes: int = 1
) -> int:
    """Write a request for every text of a split.

    Args:
        task: of classes or tags.
        split: such as "unlabelled" or "train".
        path: the file, ending in .jsonl.
        model: the name under which the server knows the model.
        template: a prompt with ``{labels}`` and ``{text}``; braces of its own are doubled.
        votes: requests for each text; several are drawn at temperature 1, one at 0.

    Returns:
        The number of requests.

    Raises:
        UserError: the task has values, the split or a field of the template is missing, or ``path`` is not JSON Lines.
    """
    if path.suffix != ".jsonl":
        raise UserError(f"{path}: requests are written as JSON Lines; give a name that ends in .jsonl")
    prompt = template if template is not None else _prompt(task.info)
    _filled(prompt, task.info, "")
    lines = []
    for idx, text in _texts(task, split):
        for vote in range(votes):
            body = {
                "model": model,
                "messages": [{"role": "user", "content": _filled(prompt, task.info, text)}],
                "temperature": 1 if votes > 1 else 0,
            }
            custom = f"{split}-{idx}-{vote}"
            lines.append({"custom_id": custom, "method": "POST", "url": "/v1/chat/completions", "body": body})
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return len(lines)


def read_responses(responses: Path, task: TaskOnDisk, path: Path) -> tuple[int, Repairs]:
    """Write a language model's responses as a file of answers for ``teacher: {answers: FILE}``.

    Args:
        responses: JSON Lines with ``custom_id`` and the server's answer, in any order.
        task: the one whose requests were written.
        path: the file of answers, ending in .jsonl.

    Returns:
        The number of answers, and what was repaired or left out.

    Raises:
        UserError: the file cannot be read, or a response belongs to no text of the task.
    """
    repairs, texts = Repairs(responses), {}
    for split in ("train", "unlabelled", "dev", "test"):
        if split in task.info.rows:
            texts.update({f"{split}-{idx}": parts for idx, parts in _columns(task, split)})
    count, there = 0, [name for name in ("response", "body", "choices", "content") if name in columns_of(responses)]
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for place, (custom, *values) in rows_of(responses, ["custom_id"], there):
            answer = dict(zip(there, values, strict=True))
            key = str(custom).rpartition("-")[0]
            if key not in texts:
                raise UserError(f"{responses} {place}: {custom!r} is no text of {task.info.name}; was it another task?")
            row = _answer(_content(answer, responses, place), task.info, place, repairs)
            if row is not None:
                file.write(json.dumps({**texts[key], **row}, ensure_ascii=False) + "\n")
                count += 1
    return count, repairs


def _prompt(info: TaskInfo) -> str:
    if info.kind not in PROMPTS:
        raise UserError(f"task {info.name}: there is no prompt for {info.kind}; give one of your own")
    return PROMPTS[info.kind]


def _filled(template: str, info: TaskInfo, text: str) -> str:
    labels: Sequence[str] = types_of(info.labels) if info.kind == "tags" else info.labels
    fields = {"labels": ", ".join(labels), "first": labels[0] if labels else "", "text": text}
    if "{text}" not in template:
        raise UserError("the prompt has no {text}: it would ask the same of every text")
    try:
        return template.format(**fields)
    except (KeyError, ValueError, IndexError) as error:
        raise UserError(
            f"the prompt cannot be filled in ({error}): {{text}} and {{labels}} are; double other braces"
        ) from None


def _columns(task: TaskOnDisk, split: str) -> Iterator[tuple[int, dict[str, str]]]:
    names = ("text_a", "text_b") if task.info.texts == 2 else ("text",)
    table = task.table(split)
    columns = [table[name].to_pylist() for name in ("idx", "text_a", "text_b")[: 1 + task.info.texts]]
    for idx, *texts in zip(*columns, strict=True):
        yield idx, dict(zip(names, texts, strict=True))


def _texts(task: TaskOnDisk, split: str) -> Iterator[tuple[int, str]]:
    if task.info.kind == "values":
        raise UserError(f"task {task.info.name} has values: an LLM is asked for classes or tags")
    for idx, parts in _columns(task, split):
        yield idx, "\n\n".join(parts.values())


def _content(answer: Mapping[str, Any], path: Path, place: str) -> str:
    """Return the text that the model wrote, wherever the server's answer lies."""
    response, body, choices, content = (answer.get(name) for name in ("response", "body", "choices", "content"))
    if isinstance(response, dict):
        body = response.get("body", response)
    if isinstance(body, dict):
        choices = body.get("choices", choices)
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        content = choices[0].get("message", {}).get("content", choices[0].get("text", content))
    if content is None:
        return ""  # an error of the server, or nothing said
    if not isinstance(content, str):
        raise UserError(f"{path} {place}: no text of the model in response.body.choices[0].message.content")
    return content


def _answer(content: str, info: TaskInfo, place: str, repairs: Repairs) -> dict[str, Any] | None:
    if fenced := _FENCE.search(content):
        repairs.note("JSON in a code block", place, content)
        content = fenced[1]
    start, end = content.find("{"), content.rfind("}")
    try:
        value = json.loads(content[start : end + 1]) if start >= 0 else None
    except (ValueError, RecursionError):
        value = None
    if info.kind == "tags":
        entities = value.get("entities") if isinstance(value, dict) else None
        if not isinstance(entities, list):
            repairs.note("not JSON", place, content)
            return None
        complete = [one for one in entities if isinstance(one, dict) and one.get("text") and one.get("type")]
        for one in entities:
            if one not in complete:
                repairs.note("entity without text or type", place, str(one))
        return {"entities": [{"text": str(one["text"]), "type": str(one["type"])} for one in complete]}
    said = str(value["label"]) if isinstance(value, dict) and "label" in value else content
    if said in info.labels:
        return {"label": said}
    label, rule = class_named(said, info.labels)
    repairs.note(rule, place, said)
    return None if label is None else {"label": label}
