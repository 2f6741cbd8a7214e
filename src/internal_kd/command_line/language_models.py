"""The commands around answers of a large language model: its requests, its responses, and what a file of them holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from internal_kd.command_line.commands import STUDY, Option, Options, command, study_of
from internal_kd.errors import UserError
from internal_kd.files import read_text

if TYPE_CHECKING:
    from internal_kd.data.examples import TaskOnDisk
    from internal_kd.plan.artefacts import Data

TASK = Option("--task", metavar="NAME", help="a task of the study; its only one if left out")


@command(
    Option("file", metavar="FILE", help="a file of answers"),
    *STUDY, TASK,
    Option("--occurrences", choices=("all", "first"), default="all", help="which places of a named entity"),
    example="internal-kd check-answers data/llm.jsonl --task species",
    reads="FILE, the task's data, which is fetched if it is not here", writes="nothing",
)  # fmt: skip
def check_answers(options: Options) -> int:
    """Show what a file of answers holds for a task: how it fits, what is repaired by which rule, label shares."""
    from internal_kd.data import answers_check

    data, task = _fetched(options)
    print(*answers_check.check_answers(Path(options.file), data, task, options.occurrences), sep="\n")
    return 0


@command(
    Option("file", metavar="FILE", help="written as JSON Lines: a name that ends in .jsonl"),
    *STUDY, TASK,
    Option("--split", default="unlabelled", help="whose texts: unlabelled, train, dev"),
    Option("--model", required=True, metavar="NAME", help="the model as the server knows it"),
    Option("--prompt", metavar="FILE", help="a prompt of your own with {labels} and {text}"),
    Option("--votes", type=int, default=1, metavar="N", help="requests for each text; their shares are soft labels"),
    example="internal-kd llm-requests requests.jsonl --task species --model my-model",
    reads="the task's data", writes="FILE, a request for every text as OpenAI-compatible servers take it",
)  # fmt: skip
def llm_requests(options: Options) -> int:
    """Write requests that ask a large language model for the labels or entities of a task's texts."""
    from internal_kd.data.llm import write_requests

    _, task = _fetched(options)
    template = read_text(options.prompt) if options.prompt else None
    path = Path(options.file)
    count = write_requests(task, options.split, path, options.model, template=template, votes=options.votes)
    print(f"{path}: {count} requests")
    return 0


@command(
    Option("responses", metavar="RESPONSES", help="what the server gave: JSON Lines with custom_id"),
    Option("file", metavar="FILE", help="written as JSON Lines: a name that ends in .jsonl"),
    *STUDY, TASK,
    example="internal-kd llm-answers responses.jsonl data/llm.jsonl --task species",
    reads="RESPONSES, the task's data", writes="FILE, for `teacher: {answers: FILE}`",
)  # fmt: skip
def llm_answers(options: Options) -> int:
    """Turn a large language model's responses into a file of answers that can teach."""
    from internal_kd.data.llm import read_responses

    _, task = _fetched(options)
    count, repairs = read_responses(Path(options.responses), task, Path(options.file))
    print(f"{options.file}: {count} answers", *repairs.lines(), sep="\n")
    return 0


def _fetched(options: Options) -> tuple[Data, TaskOnDisk]:
    """Return the task that is meant: as planned, and as fetched."""
    from internal_kd.data.examples import read_task
    from internal_kd.plan.store import is_complete
    from internal_kd.steps.fetch import fetch_task

    tasks = study_of(options).tasks
    name = options.task or (next(iter(tasks)) if len(tasks) == 1 else None)
    if name not in tasks:
        what = f"{name!r} is not a task of the study" if name else "the study has several tasks"
        raise UserError(f"--task: {what}; give one of {', '.join(tasks)}")
    data = tasks[name].data
    if not is_complete(data):
        fetch_task(data)
    return data, read_task(data)
