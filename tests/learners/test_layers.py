"""Which layers are matched and copied."""

import pytest

from internal_kd.errors import UserError
from internal_kd.learners.layers import choose_layers, layer_map


@pytest.mark.parametrize(
    ("strategy", "teacher", "student", "expected"),
    [
        ("uniform", 12, 6, (2, 4, 6, 8, 10, 12)),  # the paper's main table
        ("uniform", 12, 1, (12,)),
        ("uniform", 12, 12, tuple(range(1, 13))),
        ("spread", 12, 6, (2, 4, 6, 8, 10, 12)),
        ("spread", 12, 5, (2, 5, 7, 10, 12)),
        ("spread", 12, 8, (2, 3, 5, 6, 8, 9, 11, 12)),
        ("first", 12, 3, (1, 2, 3)),
        ("last", 12, 3, (10, 11, 12)),
        ("skip", 12, 6, (2, 4, 6, 8, 10)),  # PKD-Skip: nothing for the last layer
        ("last_below_top", 12, 6, (7, 8, 9, 10, 11)),  # PKD-Last
        ([1, 1, 4], 4, 3, (1, 1, 4)),
        ([1, 1, 2, 2], 2, 4, (1, 1, 2, 2)),  # a student that is deeper than its teacher
    ],
)
def test_layer_maps(strategy, teacher: int, student: int, expected: tuple[int, ...]) -> None:
    assert layer_map(strategy, teacher, student) == tuple(enumerate(expected, start=1))


def test_a_list_leaves_out_layers_marked_with_null_or_0() -> None:
    assert layer_map([None, 4, 0, 12], 12, 4) == ((2, 4), (4, 12))


def test_spread_serves_every_depth_ends_at_the_top_and_agrees_with_uniform() -> None:
    for teacher in (1, 4, 6, 12, 24):
        for depth in range(1, teacher + 1):
            chosen = [layer for _, layer in layer_map("spread", teacher, depth)]
            assert len(set(chosen)) == depth and chosen == sorted(chosen)
            assert chosen[0] >= 1 and chosen[-1] == teacher
            if teacher % depth == 0:
                assert layer_map("spread", teacher, depth) == layer_map("uniform", teacher, depth)


def test_every_other_layer_of_twelve_is_the_uniform_map() -> None:
    assert choose_layers("every_other", 12, 6) == (2, 4, 6, 8, 10, 12)
    assert choose_layers("first", 12, 2) == (1, 2)
    assert choose_layers([3, 7], 12, 2) == (3, 7)


@pytest.mark.parametrize(
    ("function", "arguments", "named"),
    [
        (layer_map, ("uniform", 12, 5), "1, 2, 3, 4, 6, 12"),
        (layer_map, ("uniform", 12, 5), "'spread'"),
        (layer_map, ("spread", 4, 6), "student of 6 layers is deeper than its source of 4"),
        (layer_map, ("spread", 4, 0), "0 layers"),
        (layer_map, ("uniformly", 4, 2), "uniform, spread, first, last"),
        (layer_map, ([1, 2, 3], 4, 2), "3 layers for a student of 2"),
        (layer_map, ([1, 5], 4, 2), "1 to 4"),
        (layer_map, ([-1, 4], 4, 2), "1 to 4"),
        (layer_map, ([None, 0], 4, 2), "match nothing"),
        (layer_map, ("skip", 12, 1), "no other"),
        (layer_map, ("last_below_top", 12, 1), "no other"),
        (layer_map, ("skip", 12, 5), "'skip' needs"),
        (choose_layers, ([2, 0], 4, 2), "leave one out"),
        (layer_map, ([4, 2], 4, 2), "descend"),
        (choose_layers, ("every_other", 12, 5), "'every_other' needs"),
        (choose_layers, ("every_other", 4, 6), "deeper"),
        (choose_layers, ("uniform", 12, 6), "every_other"),
    ],
)
def test_what_cannot_be_matched_is_refused_in_one_line(function, arguments: tuple, named: str) -> None:
    with pytest.raises(UserError) as error:
        function(*arguments)
    assert named in str(error.value) and "\n" not in str(error.value)
