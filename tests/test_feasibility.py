"""What a study is refused for before anything is computed: methods that are one, climbs without an end."""

from __future__ import annotations

from typing import Any

import pytest

from internal_kd.distillation.curricula import CURRICULA, Stage
from internal_kd.errors import UserError
from internal_kd.params import merge, parse_params
from internal_kd.study import Study, plan_study
from planned import study_values

JUDGE = {"judge": {"source": "generator", "grammar": "acceptability", "train": 64, "dev": 48}}
SIMILARITY = {"stsb": None}
SOFT = {"weights": {"soft": 1}}
SOFT_COS = {"weights": {"soft": 1, "cls_cosine": 1}}
CLIMB = {"weights": {"soft": 1, "attention_kl": 1}, "curriculum": "stacked"}


@pytest.fixture(autouse=True)
def empty(project) -> None:
    """Nothing is fetched."""


def plan(methods: dict[str, Any], tasks: dict[str, Any] = JUDGE, **changes: Any) -> Study:
    """A study of these methods alone, students of 2 layers and a teacher of 12."""
    named = {name: {"id": f"9.{number}"} | method for number, (name, method) in enumerate(methods.items())}
    values = study_values(tasks) | {"methods": named}
    return plan_study(parse_params(merge(values, merge({"study": {"methods": list(methods)}}, changes))))


@pytest.mark.parametrize(
    ("first", "second", "tasks"),
    [
        (SOFT, SOFT | {"temperature": 4.0}, SIMILARITY),
        (SOFT | {"temperature": 2.0}, SOFT | {"temperature": 4.0}, SIMILARITY),
        (CLIMB | {"cosine_threshold": 0.5}, CLIMB | {"cosine_threshold": 0.1}, JUDGE),
        (SOFT_COS, SOFT_COS | {"layer_map": [6, 12]}, JUDGE),
        (SOFT_COS | {"layer_map": "spread"}, SOFT_COS, JUDGE),
        (SOFT, SOFT | {"initialization": {"layers": [1, 2]}}, JUDGE),
    ],
)
def test_two_spellings_of_one_training_are_one_clear_line(first, second, tasks):
    with pytest.raises(
        UserError, match=r"'one' and 'other' differ in nothing that counts on \w+: they are one training"
    ):
        plan({"one": first, "other": second}, tasks)
    assert plan({"one": first, "other": second | {"learning_rate": 1e-3}}, tasks).students


@pytest.mark.parametrize(
    ("first", "second", "changes"),
    [
        (SOFT, SOFT | {"temperature": 4.0}, {"tasks": JUDGE | SIMILARITY}),
        (SOFT_COS, SOFT_COS | {"layer_map": "last"}, {"study": {"depths": [2, 12]}}),
        (CLIMB | SOFT_COS, CLIMB | SOFT_COS | {"cosine_threshold": 0.5}, {}),
        (SOFT, SOFT | {"initialization": {"source": "teacher"}}, {}),
    ],
)
def test_what_counts_anywhere_in_a_study_makes_two_methods(first, second, changes):
    assert plan({"one": first, "other": second}, **changes).students


def test_a_method_that_names_a_source_alone_is_not_blamed_for_the_students_layers():
    common = {"student": {"initialization": {"layers": [1, 19]}}}
    with pytest.raises(UserError, match=r"^student\.initialization\.layers: layers \[1, 19\]"):
        plan({"own": SOFT | {"initialization": {"source": "teacher"}}}, **common)
    with pytest.raises(UserError, match=r"^methods\.own\.initialization\.layers: layers \[1, 19\]"):
        plan({"own": SOFT | {"initialization": {"layers": [1, 19]}}})


def test_a_curriculum_of_ones_own_climbs_as_many_stages_as_it_has(monkeypatch):
    def at_once(depth: int, always: bool) -> tuple[Stage, ...]:
        layers = tuple(range(1, depth + 1))
        return Stage("layers", layers, classification=always), Stage("top", (), classification=True, last=True)

    monkeypatch.setitem(CURRICULA, "at_once", at_once)
    own = {"own": SOFT_COS | {"curriculum": "at_once"}}
    assert plan(own, student={"epochs": 6}).students
    with pytest.raises(UserError, match=r"^methods\.own: 1 stages of up to 5 epochs leave none of 5 epochs"):
        plan(own, student={"epochs": 5})
