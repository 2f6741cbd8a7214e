"""Descriptions of learners: read, checked and compared without torch."""

import subprocess
import sys

import pytest

from internal_kd.errors import UserError
from internal_kd.learners.encoder import EncoderLearner
from internal_kd.learners.finished import FinishedModel
from internal_kd.learners.learner import LEARNERS, Shape, parse_learner
from internal_kd.registry import resolve

BERT = Shape(layers=12, width=768, heads=12, inner=3072)


def test_nothing_that_planning_reads_imports_torch() -> None:
    modules = ("learner", "encoder", "finished", "layers", "families", "configs")
    imports = "; ".join(f"import internal_kd.learners.{module}" for module in modules)
    subprocess.run([sys.executable, "-c", f"{imports}; import sys; assert 'torch' not in sys.modules"], check=True)


def test_the_kind_chooses_the_class_and_encoder_is_the_default() -> None:
    assert parse_learner({}) == parse_learner({"kind": "encoder"}) == EncoderLearner()
    assert parse_learner({"kind": "finished"}) == FinishedModel()


NEEDED = {
    "pair": {"of": ({"kind": "mlp"}, {"kind": "cnn"})},
    "specialist": {"of": "teacher"},
    "subnetwork": {"of": "adaptive"},
}


@pytest.mark.parametrize("kind", list(LEARNERS))
def test_every_learner_is_frozen_hashable_and_names_its_kind(kind: str) -> None:
    given = {"kind": kind, **NEEDED.get(kind, {})}
    learner = parse_learner(given)
    assert isinstance(learner, resolve(LEARNERS[kind])) and learner.kind == kind
    assert hash(learner) == hash(parse_learner(given))
    assert learner.hands_out >= {"logits"}
    with pytest.raises(ValueError):
        learner.kind = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "identity"),
    [
        ({}, {}),
        ({"layers": "all", "width": None}, {}),
        ({"layers": 6}, {"layers": 6}),
        ({"start": {"from": "encoder", "layers": "first"}}, {}),
        ({"start": "teacher"}, {"start": {"from": "teacher"}}),
        ({"start": {"from": "teacher", "layers": [2, 4]}}, {"start": {"from": "teacher", "layers": [2, 4]}}),
        # What has no effect does not count: random weights have no layers to choose, full widths nothing to slice.
        ({"start": {"from": "random", "layers": "last", "slice": "random"}}, {"start": {"from": "random"}}),
        ({"start": {"slice": "random"}}, {}),
        ({"width": 384, "start": {"slice": "random"}}, {"width": 384, "start": {"slice": "random"}}),
        ({"start": {"reinitialize": 2}}, {"start": {"reinitialize": 2}}),
        ({"rank": 48, "groups": 1, "start": {"slice": "random"}}, {"rank": 48, "start": {"slice": "random"}}),
    ],
)
def test_the_identity_has_what_counts_and_is_not_a_default(values: dict, identity: dict) -> None:
    assert parse_learner(values).identity() == identity


@pytest.mark.parametrize(
    ("values", "where", "what"),
    [
        ({"kind": "encodr"}, "learner.kind: ", "'encoder'"),
        ({"kind": 3}, "learner.kind: ", "'3'"),
        ({"layer": 6}, "learner: ", "'layers'"),
        ({"layers": 0}, "learner.layers: ", "(given: 0)"),
        ({"layers": "six"}, "learner.layers: ", "'all'"),
        ({"layers": True}, "learner.layers: ", "true"),
        ({"width": -1}, "learner.width: ", "-1"),
        ({"width": 1.5}, "learner.width: ", "1.5"),
        ({"start": {"form": "teacher"}}, "learner.start: ", "'from'"),
        ({"start": {"from": "a b"}}, "learner.start.from: ", "'a b'"),
        ({"start": {"layers": "middle"}}, "learner.start.layers: ", "'every_other'"),
        ({"start": {"layers": [1, 0]}}, "learner.start.layers.1: ", "0"),
        ({"start": {"slice": "best"}}, "learner.start.slice: ", "'importance'"),
        ({"start": 3}, "learner.start: ", ""),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(values: dict, where: str, what: str) -> None:
    with pytest.raises(UserError) as error:
        parse_learner(values)
    assert str(error.value).startswith(where) and what in str(error.value) and "\n" not in str(error.value)


def test_the_place_of_a_mistake_can_be_named_by_the_caller() -> None:
    with pytest.raises(UserError, match=r"^methods\.tiny\.learner\.width: "):
        parse_learner({"width": "x"}, where="methods.tiny.learner")


# Sizes


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, (12, 768, 12, 3072)),
        ({"layers": 4, "width": 312}, (4, 312, 12, 1248)),
        ({"width": 384, "heads": 6, "inner": 1200}, (12, 384, 6, 1200)),
        ({"width": 1024, "heads": 16, "layers": 20, "start": "random"}, (20, 1024, 16, 4096)),
    ],
)
def test_sizes_that_are_left_out_are_the_sources(values: dict, expected: tuple) -> None:
    shape = parse_learner(values).shape(BERT)
    assert (shape.layers, shape.width, shape.heads, shape.inner) == expected


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"width": 310}, "width 310: 12 heads do not divide it"),
        ({"width": 310, "start": "random"}, "width 310: 12 heads do not divide it"),
        ({"heads": 5}, "5 heads do not divide"),
        ({"width": 1536}, "width 1536"),
        ({"heads": 24}, "heads 24"),
        ({"heads": 6}, "heads 6"),
        ({"inner": 4000}, "inner 4000"),
        ({"layers": 13}, "start.layers"),
        ({"layers": 5, "start": {"layers": "every_other"}}, "start.layers"),
        ({"layers": 2, "start": {"layers": [1, 13]}}, "start.layers"),
        ({"layers": 3, "start": {"layers": [1, 2]}}, "start.layers"),
        ({"layers": 3, "start": {"reinitialize": 4}}, "start.reinitialize"),
        ({"rank": 800}, "rank 800"),
        ({"rank": 96, "inner": 64}, "rank 96"),
        ({"groups": 5}, "groups 5: do not divide width 768"),
        ({"rank": 50, "groups": 4}, "groups 4: do not divide rank 50"),
        ({"groups": 8, "inner": 1001}, "inner 1001"),
        ({"shared_keys": 5}, "shared_keys 5"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_in_one_line(values: dict, named: str) -> None:
    with pytest.raises(UserError) as error:
        parse_learner(values).shape(BERT)
    assert named in str(error.value) and "\n" not in str(error.value)


def test_sizes_that_nobody_stated_yet_are_not_checked() -> None:
    assert EncoderLearner(layers=6, width=310).shape(Shape(layers=12)).width == 310
    assert EncoderLearner(layers=6).shape(Shape()) == Shape(layers=6)
