"""The built-in generator's tasks in the form of every other task."""

from __future__ import annotations

from internal_kd.data.examples import Examples, FetchedTask, examples_of, more_texts, rows_by_split, with_unlabelled
from internal_kd.generator import GRAMMARS, RECIPE, Example, generate
from internal_kd.params.data import GeneratorEntry
from internal_kd.tasks.info import TaskInfo

# As in the GLUE tasks that they imitate.
METRICS = {"acceptability": ("matthews_correlation", "accuracy"), "entailment": ("accuracy",)}


def generate_task(name: str, entry: GeneratorEntry) -> FetchedTask:
    """Generate the examples of the task ``name``.

    Raises:
        UserError: an unknown phenomenon, or more examples than the grammar has.
    """
    more = entry.unlabelled if isinstance(entry.unlabelled, int) else 0
    generated = generate(entry.grammar, entry.train, entry.dev, entry.seed, entry.phenomena, more)
    unlabelled = generated.pop("unlabelled", [])
    splits = {split: _examples(rows) for split, rows in generated.items()}
    only = f" ({', '.join(entry.phenomena)})" if entry.phenomena else ""
    info = TaskInfo(
        name=name,
        title=f"{entry.grammar.capitalize()} (generated)",
        kind="classes",
        labels=GRAMMARS[entry.grammar].label_names,
        metrics=METRICS[entry.grammar],
        texts=2 if "text_b" in splits["train"].table.column_names else 1,
        rows=rows_by_split(splits),
        licence="Apache-2.0",
        source=f"built-in generator: {entry.grammar}{only}, seed {entry.seed}, recipe {RECIPE}",
    )
    task = FetchedTask(info, splits)
    return with_unlabelled(task, more_texts(task, _texts(unlabelled))) if unlabelled else task


def _texts(rows: list[Example]) -> list[list[str]]:
    first = [row.text_a for row in rows]
    return [first] if rows[0].text_b is None else [first, [row.text_b or "" for row in rows]]


def _examples(rows: list[Example]) -> Examples:
    texts = _texts(rows)
    labels = [row.label for row in rows]
    return examples_of([row.idx for row in rows], texts, labels, phenomena=[row.phenomenon for row in rows])
