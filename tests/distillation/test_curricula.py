"""Curricula: which layers count when, and when a training moves up."""

import pytest

from internal_kd.distillation.curricula import CURRICULA, Climb, Stage, stages_of
from internal_kd.errors import UserError


def test_all_layers_is_one_stage_with_classification():
    (stage,) = stages_of("all", "top", 3)
    assert (stage.layers, stage.classification, stage.last) == ((1, 2, 3), True, True)


def test_progressive_takes_one_pair_at_a_time_then_classification_only():
    stages = stages_of("progressive", "top", 3)
    assert [s.layers for s in stages] == [(1,), (2,), (3,), ()]
    assert [s.classification for s in stages] == [False, False, False, True]
    assert [s.highest_layer for s in stages] == [1, 2, 3, None]


def test_stacked_keeps_the_earlier_pairs():
    stages = stages_of("stacked", "top", 3)
    assert [s.layers for s in stages] == [(1,), (1, 2), (1, 2, 3), ()]
    assert [s.highest_layer for s in stages] == [1, 2, 3, None]


@pytest.mark.parametrize("curriculum", list(CURRICULA))
def test_classification_always_needs_the_whole_student_in_every_stage(curriculum):
    stages = stages_of(curriculum, "always", 4)
    assert all(stage.classification and stage.highest_layer is None for stage in stages)
    assert stages[-1].last and not any(stage.last for stage in stages[:-1])


@pytest.mark.parametrize("last", [(False, False), (True, True), (True, False)])
def test_a_curriculum_without_one_end_is_refused(last, monkeypatch):
    stages = tuple(Stage(f"stage {n}", (1,), classification=True, last=ends) for n, ends in enumerate(last))
    monkeypatch.setitem(CURRICULA, "own", lambda depth, always: stages)
    with pytest.raises(UserError, match="curriculum 'own' has no end: give its final stage, and no other, last=True"):
        stages_of("own", "top", 2)


def climb(threshold: float = 0.1) -> Climb:
    return Climb(stages_of("progressive", "top", 2), epochs_per_layer=3, cosine_threshold=threshold)


def test_a_stage_ends_when_it_has_had_its_epochs():
    walk = climb()
    moved = [walk.end_epoch(0.5) for _ in range(6)]
    assert moved == [False, False, True, False, False, True]
    assert walk.stage.last


def test_a_stage_ends_when_the_mean_cosine_falls_below_the_threshold():
    walk = climb()
    assert not walk.end_epoch(0.1)  # not below
    assert walk.end_epoch(0.09)
    assert walk.stage.name == "layer 2" and walk.epochs_here == 0


def test_without_a_cosine_term_only_epochs_count():
    walk = climb()
    assert [walk.end_epoch(None) for _ in range(3)] == [False, False, True]


def test_the_last_stage_never_ends():
    walk = climb()
    for _ in range(20):
        walk.end_epoch(0.0)
    assert walk.stage.last and walk.position == 2
