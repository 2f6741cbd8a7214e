"""Curricula: which terms and layers count when, with what weight, and when a training moves up."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from internal_kd.distillation.curricula import (
    CURRICULA,
    CurriculumState,
    Phase,
    Schedule,
    Stage,
    epochs_of,
    stages_of,
    weight_at,
)
from internal_kd.errors import UserError

TERMS = ("soft", "attention_kl", "cls_cosine")


def test_all_layers_is_one_stage_with_the_output_terms() -> None:
    (stage,) = stages_of("all", "top", (1, 2, 3))
    assert (stage.layers, stage.output_terms, stage.last) == ((1, 2, 3), True, True)


def test_progressive_takes_one_pair_at_a_time_then_output_terms_only() -> None:
    stages = stages_of("progressive", "top", (1, 2, 3))
    assert [s.layers for s in stages] == [(1,), (2,), (3,), ()]
    assert [s.output_terms for s in stages] == [False, False, False, True]


def test_stacked_keeps_the_earlier_pairs() -> None:
    stages = stages_of("stacked", "top", (1, 2, 3))
    assert [s.layers for s in stages] == [(1,), (1, 2), (1, 2, 3), ()]
    assert [s.name for s in stages] == ["layer 1", "layers 1-2", "layers 1-3", "classification"]


def test_a_curriculum_climbs_the_layers_that_are_compared_and_no_other() -> None:
    assert [s.layers for s in stages_of("stacked", "top", (0, 2))] == [(0,), (0, 2), ()]


@pytest.mark.parametrize("curriculum", list(CURRICULA))
def test_with_always_the_output_terms_count_in_every_stage(curriculum: str) -> None:
    stages = stages_of(curriculum, "always", (1, 2, 3, 4))
    assert all(stage.output_terms for stage in stages)
    assert stages[-1].last and not any(stage.last for stage in stages[:-1])


@pytest.fixture
def own_curriculum() -> object:
    def enter(*stages: Stage) -> None:
        CURRICULA.add("own", lambda layers, always: stages)

    yield enter
    CURRICULA._entries.pop("own", None)  # the table has no way to forget a plugin


@pytest.mark.parametrize("last", [(False, False), (True, True), (True, False)])
def test_a_curriculum_without_one_end_is_refused(last: tuple[bool, ...], own_curriculum) -> None:
    own_curriculum(*(Stage(f"stage {n}", (1,), output_terms=True, last=ends) for n, ends in enumerate(last)))
    with pytest.raises(UserError, match=r"'own'.*last=True"):
        stages_of("own", "top", (1, 2))


def test_a_plugins_curriculum_is_as_good_as_ours(own_curriculum) -> None:
    own_curriculum(Stage("upper", (2,), output_terms=True, last=True))
    assert stages_of("own", "top", (1, 2))[0].name == "upper"


def test_a_stage_with_a_rate_of_its_own_must_restart_and_name_its_epochs(own_curriculum) -> None:
    own_curriculum(Stage("a", (1,), True, learning_rate=1e-3), Stage("b", (), True, last=True))
    with pytest.raises(UserError, match="restarts"):
        stages_of("own", "top", (1,))


def test_an_unknown_curriculum_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match="stacked"):
        stages_of("stakced", "top", (1,))


# Phases

TINYBERT = (
    Phase(epochs=20, terms=("attention_kl", "cls_cosine")),
    Phase(epochs=3, terms=("soft",), learning_rate=3e-5, batch_size=16),
)


def test_phases_say_which_terms_count_how_long_and_at_which_rate() -> None:
    first, second = stages_of(TINYBERT, "top", (1, 2), TERMS)
    assert [first.counts(term) for term in TERMS] == [False, True, True]
    assert [second.counts(term) for term in TERMS] == [True, False, False]
    assert (first.output_terms, second.output_terms, second.last) == (False, True, True)
    assert (second.learning_rate, second.batch_size, second.restarts) == (3e-5, 16, True)
    assert epochs_of((first, second), 50) == 23
    assert epochs_of(stages_of("stacked", "top", (1, 2)), 50) == 50


def test_a_phase_lasts_its_epochs_however_close_the_student_is() -> None:
    state = CurriculumState(stages_of(TINYBERT, "top", (1, 2), TERMS), epochs_per_layer=1, cosine_threshold=1.0)
    moved = [state.end_epoch(0.0) for _ in range(23)]
    assert moved.index(True) == 19 and sum(moved) == 1


@pytest.mark.parametrize(
    ("phases", "word"),
    [
        ((), "empty"),
        ((Phase(epochs=1, terms=("soft", "hard")),), "'hard'"),
        ((Phase(epochs=1, terms=("soft", "attention_kl")),), "'cls_cosine'"),
    ],
)
def test_phases_and_weights_that_do_not_fit_are_refused(phases: tuple[Phase, ...], word: str) -> None:
    with pytest.raises(UserError, match=word):
        stages_of(phases, "top", (1, 2), TERMS)


# Weights that move


def test_a_weight_moves_linearly_and_stays_at_its_end() -> None:
    down = Schedule.model_validate({"from": 1, "to": 0})
    early = Schedule.model_validate({"from": 0, "to": 2, "until": 0.5})
    assert [down.at(share) for share in (0, 0.25, 1)] == [1.0, 0.75, 0.0]
    assert [early.at(share) for share in (0, 0.25, 0.5, 1)] == [0.0, 1.0, 2.0, 2.0]
    assert weight_at(0.7, 0.5) == 0.7 and weight_at(down, 0.5) == 0.5


def test_a_schedule_is_written_as_it_is_read() -> None:
    given = {"from": 1.0, "to": 0.0}
    read = Schedule.model_validate(given)
    assert read.model_dump(by_alias=True, exclude_unset=True) == given
    assert Schedule.model_validate(read.model_dump(by_alias=True)) == read
    assert list(Schedule.model_json_schema()["properties"]) == ["from", "to", "until"]


@pytest.mark.parametrize(
    "given", [{"from": 1}, {"from": -1, "to": 0}, {"from": 1, "to": 0, "until": 0}, {"from": 1, "to": 0, "over": 2}]
)
def test_a_schedule_that_makes_no_sense_is_refused(given: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Schedule.model_validate(given)


# Where a training stands


def state(threshold: float = 0.1) -> CurriculumState:
    return CurriculumState(stages_of("progressive", "top", (1, 2)), epochs_per_layer=3, cosine_threshold=threshold)


def test_a_stage_ends_when_it_has_had_its_epochs() -> None:
    walk = state()
    assert [walk.end_epoch(0.5) for _ in range(6)] == [False, False, True, False, False, True]
    assert walk.stage.last


def test_a_stage_ends_when_the_mean_cosine_falls_below_the_threshold() -> None:
    walk = state()
    assert not walk.end_epoch(0.1)  # not below
    assert walk.end_epoch(0.09)
    assert walk.stage.name == "layer 2" and walk.epochs_here == 0


def test_without_a_cosine_term_only_epochs_count() -> None:
    walk = state()
    assert [walk.end_epoch(None) for _ in range(3)] == [False, False, True]


def test_the_last_stage_never_ends() -> None:
    walk = state()
    for _ in range(20):
        walk.end_epoch(0.0)
    assert walk.stage.last and walk.position == 2


def test_planning_with_curricula_imports_no_torch() -> None:

    code = (
        "import sys, internal_kd.distillation.terms, internal_kd.distillation.curricula; print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
