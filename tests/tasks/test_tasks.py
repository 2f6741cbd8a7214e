"""A task's facts fit together, travel through JSON, and are read without heavy imports."""

import json
import subprocess
import sys

import numpy as np
import pytest

from internal_kd.errors import UserError
from internal_kd.tasks.glue import GLUE
from internal_kd.tasks.info import TaskInfo
from internal_kd.tasks.kinds import KINDS
from internal_kd.tasks.metrics import METRICS
from internal_kd.tasks.tags import tag_names

FACTS = {
    "name": "mine",
    "title": "Mine",
    "kind": "classes",
    "labels": ("no", "yes"),
    "metrics": ("accuracy", "f1"),
    "texts": 2,
    "rows": {"train": 80, "dev": 20, "unlabelled": 500},
    "licence": "CC0",
    "source": "data/mine.csv",
}


@pytest.mark.parametrize("task", GLUE.values(), ids=list(GLUE))
def test_glue_tasks_are_scored_by_metrics_of_their_kind(task):
    info = task.info({"train": 10, "dev": 5}, "hub")
    assert all(METRICS[metric].kind == task.kind for metric in task.metrics)
    assert info.outputs == (len(task.labels) or 1)
    assert info.texts == len(task.text)
    assert (task.kind == "values") == (task.label_range is not None)


def test_facts_survive_a_manifest():
    info = TaskInfo(**FACTS)
    assert TaskInfo.from_json(json.loads(json.dumps(info.to_json()))) == info


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"kind": "clases"}, "classes"),
        ({"kind": "values"}, "label names"),
        ({"labels": ()}, "label names"),
        ({"metrics": ()}, "no metrics"),
        ({"metrics": ("acuracy",)}, "accuracy"),
        ({"metrics": ("pearson",)}, "pearson"),
        ({"labels": ("a", "b", "c")}, "macro_f1"),
    ],
)
def test_facts_that_do_not_fit_each_other_are_refused(change, named):
    with pytest.raises(UserError) as refusal:
        TaskInfo(**{**FACTS, **change})
    assert named in str(refusal.value)


@pytest.mark.parametrize(
    "change", [{"extra": 1}, {"labels": "no"}, {"rows": [1]}, {"title": None}, {"texts": "1"}, {"kind": ["classes"]}]
)
def test_a_damaged_manifest_is_refused(change):
    with pytest.raises(UserError, match="field"):
        TaskInfo.from_json({**TaskInfo(**FACTS).to_json(), **change})


def test_a_manifest_without_a_field_is_refused():
    facts = TaskInfo(**FACTS).to_json()
    del facts["rows"]
    with pytest.raises(UserError, match="rows"):
        TaskInfo.from_json(facts)


def test_logits_become_classes_or_values():
    logits = np.array([[0.1, 2.0, 0.3], [1.0, 0.0, 0.0]])
    assert KINDS["classes"].predicted(logits).tolist() == [1, 0]
    assert KINDS["values"].predicted(logits[:, :1]).tolist() == [0.1, 1.0]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_metrics_for_a_task_that_names_none(kind):
    labels = tag_names("ab") if kind == "tags" else ("a", "b") if KINDS[kind].named_labels else ()
    assert TaskInfo("t", "T", kind, labels, KINDS[kind].default_metrics(labels), 1, {}).outputs == (len(labels) or 1)


def test_tasks_are_read_without_numpy_and_torch():
    code = "import sys, internal_kd.tasks.glue; sys.exit('numpy' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
