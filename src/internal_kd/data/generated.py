"""The built-in generator's tasks in the form of every other task."""

from __future__ import annotations

from internal_kd.data.generator import GRAMMARS, RECIPE, Example, generate
from internal_kd.data.tasks_on_disk import Examples, FetchedTask, examples_of
from internal_kd.params.sources import GeneratorEntry

# As in the GLUE tasks they imitate.
METRICS = {"acceptability": ("matthews_correlation", "accuracy"), "entailment": ("accuracy",)}


def generate_task(entry: GeneratorEntry) -> FetchedTask:
    """Generate a task's examples.

    Raises:
        UserError: an unknown phenomenon, or more examples than the grammar has.
    """
    splits = generate(entry.grammar, entry.train, entry.dev, entry.seed, entry.phenomena)
    only = f" ({', '.join(entry.phenomena)})" if entry.phenomena else ""
    return FetchedTask(
        title=f"{entry.grammar.capitalize()} (generated)",
        source=f"built-in generator: {entry.grammar}{only}, seed {entry.seed}, recipe {RECIPE}",
        licence="Apache-2.0",
        labels=GRAMMARS[entry.grammar].label_names,
        metrics=METRICS[entry.grammar],
        regression=False,
        splits={split: _examples(rows) for split, rows in splits.items()},
    )


def _examples(rows: list[Example]) -> Examples:
    texts = [[row.text_a for row in rows]]
    if rows[0].text_b is not None:
        texts.append([row.text_b or "" for row in rows])
    labels = [row.label for row in rows]
    return examples_of([row.idx for row in rows], texts, labels, phenomena=[row.phenomenon for row in rows])
