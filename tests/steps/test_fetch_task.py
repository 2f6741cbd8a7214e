"""Fetching what needs no network: generated tasks, and the examples that the documentation shows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from internal_kd import records
from internal_kd.data.tasks_on_disk import read_task
from internal_kd.errors import UserError
from internal_kd.params import merge, parse_params
from internal_kd.steps.fetch_task import fetch_task
from planned import PARAMS, planned_task, study_values

DOCS = Path(__file__).parents[2] / "docs"


def examples(page: str) -> list[dict[str, Any]]:
    blocks = re.findall(r"```yaml\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL)
    return [yaml.safe_load(block.replace("<40 hexadecimal digits of a commit>", "a" * 40)) for block in blocks]


@pytest.mark.parametrize(
    ("grammar", "labels", "texts"),
    [
        ("acceptability", ("unacceptable", "acceptable"), 1),
        ("entailment", ("entailment", "not_entailment"), 2),
    ],
)
def test_a_generated_task_has_everything_a_task_has(
    project: Path, grammar: str, labels: tuple[str, ...], texts: int
) -> None:
    data = planned_task({"source": "generator", "grammar": grammar, "train": 60, "dev": 20, "seed": 3})
    fetch_task(data)
    task = read_task(data)
    assert records.problem_with(data, checksums=True) is None
    assert task.labels == labels and task.text_columns == texts and not task.regression
    assert {split: facts["rows"] for split, facts in task.splits.items()} == {"train": 60, "dev": 20}
    frame = task.frame("dev")
    assert list(frame.columns) == ["idx", *["text_a", "text_b"][:texts], "label", "phenomenon"]
    assert task.splits["dev"]["label_shares"] == {labels[0]: 0.5, labels[1]: 0.5}


def test_a_split_that_is_not_there_is_named(project: Path) -> None:
    data = planned_task({"source": "generator", "grammar": "entailment", "train": 4, "dev": 4})
    fetch_task(data)
    with pytest.raises(UserError, match="task mine has no split 'test'; it has train, dev"):
        read_task(data).frame("test")


def test_a_task_never_fetched_is_one_line(project: Path) -> None:
    with pytest.raises(UserError, match=r"manifest.json does not exist"):
        read_task(planned_task({"source": "generator", "grammar": "entailment"}))


def test_the_example_of_own_data_works(project: Path) -> None:
    entry = examples("own-data.md")[0]["tasks"]["tickets"]
    rows = "\n".join(f"Hello {label},Some words,{label}" for label in ("billing", "shipping", "other"))
    for split in ("train", "dev"):
        path = project / entry[split]
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"subject,body,queue\n{rows}\n")
    data = planned_task(entry)
    fetch_task(data)
    task = read_task(data)
    assert task.labels == ("billing", "shipping", "other") and task.metrics == ("macro_f1", "accuracy")
    assert task.licence == "internal use"


def test_metrics_and_licence_of_ones_own_files_are_what_the_parameters_say_now(project: Path) -> None:
    (project / "own.csv").write_text("text,label\nfine,a\nbad,b\nso so,c\n")
    entry = {"source": "files", "train": "own.csv", "dev": "own.csv", "text": ["text"]}
    data = planned_task(entry)
    fetch_task(data)
    assert not {"metrics", "licence"} & set(json.loads(data.marker.read_text()))
    later = planned_task(entry | {"metrics": ["macro_f1", "accuracy"], "licence": "CC0-1.0"})
    assert later.fingerprint == data.fingerprint and records.is_complete(later)
    said = [(read_task(each).metrics, read_task(each).licence) for each in (data, later)]
    assert said == [(("accuracy",), "not stated"), (("macro_f1", "accuracy"), "CC0-1.0")]
    with pytest.raises(UserError, match=r"tasks\.mine\.metrics: f1 is for two classes, this task has 3: take macro_f1"):
        read_task(planned_task(entry | {"metrics": ["f1"]}))
    assert planned_task(entry | {"label": "text", "text": ["label"]}).fingerprint != data.fingerprint


@pytest.mark.parametrize("page", ["own-data.md", "own-encoder.md"])
def test_every_example_in_the_documentation_is_accepted(page: str) -> None:
    for example in examples(page):
        shown_elsewhere = {"tickets": {"source": "generator", "grammar": "entailment"}}
        tasks = PARAMS["tasks"] | ({} if "tickets" in example.get("tasks", {}) else shown_elsewhere)
        parse_params(merge(study_values(tasks), example))
