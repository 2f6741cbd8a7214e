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
from internal_kd.files import check_json_lines, write_json_lines
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
        UserError: the task has values, the split or a field of the template is missing, ``votes`` is below 1, or
            ``path`` is not JSON Lines.
    """
    check_json_lines(path)
    if votes < 1:
        raise UserError(f"votes: {votes} would ask nothing; give 1 or more")
    info = task.info
    if info.kind not in PROMPTS or not info.texts:
        what = info.kind if info.texts else "images"
        raise UserError(f"task {info.name} has {what}: an LLM is asked for classes or tags of texts")
    prompt = template if template is not None else PROMPTS[info.kind]
    _filled(prompt, info, "")

    def requests() -> Iterator[dict[str, Any]]:
        for idx, texts in task.texts([split]):
            message = {"role": "user", "content": _filled(prompt, info, "\n\n".join(texts))}
            body = {"model": model, "messages": [message], "temperature": 1 if votes > 1 else 0}
            for vote in range(votes):
                custom = f"{split}-{idx}-{vote}"
                yield {"custom_id": custom, "method": "POST", "url": "/v1/chat/completions", "body": body}

    return write_json_lines(path, requests())


def read_responses(responses: Path, task: TaskOnDisk, path: Path) -> tuple[int, Repairs]:
    """Write a language model's responses as a file of answers for ``teacher: {answers: FILE}``.

    ``responses`` are JSON Lines with ``custom_id`` and the server's answer, in any order. Returns the number of
    answers, and what was repaired or left out.

    Raises:
        UserError: the file cannot be read, a response belongs to no text of the task, or ``path`` is not JSON Lines.
    """
    check_json_lines(path)
    repairs = Repairs(responses)
    asked = {f"{split}-{idx}": texts for split in task.info.rows for idx, texts in task.texts([split])}
    names = ("text_a", "text_b") if task.info.texts == 2 else ("text",)
    found = columns_of(responses)
    there = [name for name in ("response", "body", "choices", "content") if name in found]

    def answers() -> Iterator[dict[str, Any]]:
        for place, (custom, *values) in rows_of(responses, ["custom_id"], there):
            key = str(custom).rpartition("-")[0]
            if key not in asked:
                raise UserError(
                    f"{responses} {place}: {custom!r} is not a text of {task.info.name}; was it another task?"
                )
            content = _content(dict(zip(there, values, strict=True)), responses, place)
            if content is None:
                repairs.note("no answer of the server", place, str(custom))
                continue
            row = _answer(content, task.info, place, repairs)
            if row is not None:
                yield {**dict(zip(names, asked[key], strict=True)), **row}

    return write_json_lines(path, answers()), repairs


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


def _content(answer: Mapping[str, Any], path: Path, place: str) -> str | None:
    """Return the text that the model wrote, wherever the server's answer lies; None if there is none."""
    response, body, choices, content = (answer.get(name) for name in ("response", "body", "choices", "content"))
    if isinstance(response, dict):
        body = response.get("body", response)
    if isinstance(body, dict):
        choices = body.get("choices", choices)
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        content = choices[0].get("message", {}).get("content", choices[0].get("text", content))
    if not isinstance(content, str | None):
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
