"""A method's terms: which layers they compare, what they read, what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest

from internal_kd.distillation.curricula import Schedule
from internal_kd.distillation.terms import Term, asked_of_teacher, compared_layers, terms_of
from internal_kd.errors import UserError
from internal_kd.learners.learner import Shape

MAP = ((1, 4), (2, 8), (3, 12))
STUDENT, TEACHER = Shape(layers=3, width=312, heads=12), Shape(layers=12, width=768, heads=12)


def one(name: str, options: dict[str, Any] | None = None, **given: Any) -> Term:
    values = {"layer_map": MAP, "student": STUDENT, "teacher": TEACHER, "settings": {"temperature": 1.0}, **given}
    (term,) = terms_of({name: 1.0}, options={name: options or {}}, **values)
    return term


@pytest.mark.parametrize(
    ("layers", "pairs"),
    [
        (None, MAP),
        ("last", ((3, 12),)),
        ("embeddings", ((0, 0),)),
        ("map_with_embeddings", ((0, 0), *MAP)),
        ([1, 3], ((1, 4), (3, 12))),
        ([[3, 11], [1, 2]], ((1, 2), (3, 11))),
    ],
)
def test_an_option_chooses_the_pairs(layers: Any, pairs: tuple[tuple[int, int], ...]) -> None:
    assert one("hidden_mse", {"layers": layers}).pairs == pairs


def test_the_last_layers_are_the_top_ones_even_if_the_map_leaves_them_out() -> None:
    assert one("hidden_mse", {"layers": "last"}, layer_map=((1, 4), (2, 8))).pairs == ((3, 12),)


@pytest.mark.parametrize(
    ("layers", "word"),
    [
        ([4], "neither"),
        ([[1, 13]], "teacher has no layer 13"),
        ([[4, 1]], "student has no layer 4"),
        ([[1, 2], [1, 3]], "twice"),
        ("top", "'top'"),
        ([[1, 2, 3]], "neither"),
    ],
)
def test_layers_that_do_not_exist_are_refused(layers: Any, word: str) -> None:
    with pytest.raises(UserError, match=word):
        one("hidden_mse", {"layers": layers})


@pytest.mark.parametrize(
    ("layers", "value"),
    [(value, value) for value in (0, 3, 1.5, True, [], {1: 2}, "")]
    + [([value], value) for value in (1.5, None, True, "1", [1], [True, 2], [1, 2.0], {1: 2})],
)
def test_what_is_not_layers_is_refused_by_its_value(layers: Any, value: Any) -> None:
    with pytest.raises(UserError, match=re.escape(f"'hidden_mse': layers {value!r} is n")):
        one("hidden_mse", {"layers": layers})


def test_a_term_on_outputs_has_no_layers() -> None:
    with pytest.raises(UserError, match=r"'soft': layers \[1\]"):
        one("soft", {"layers": [1]})


def test_a_term_on_layers_without_a_map_is_refused() -> None:
    with pytest.raises(UserError, match=r"'cls_cosine'.*layer map"):
        terms_of({"cls_cosine": 1.0})


def test_widths_that_differ_are_projected_and_equal_ones_on_demand() -> None:
    assert one("hidden_mse").projections == {"hidden": (312, 768)}
    assert one("cls_cosine").projections == {"cls": (312, 768)}
    assert one("hidden_mse", student=TEACHER).projections == {}
    assert one("hidden_mse", {"always_project": True}, student=TEACHER).projections == {"hidden": (768, 768)}
    assert one("hidden_mse", {"projection": "per_layer"}).projection == "per_layer"
    with pytest.raises(UserError, match="'none'"):
        one("hidden_mse", {"projection": "none"})


def test_needs_are_checked_where_the_shapes_are_known() -> None:
    with pytest.raises(UserError, match=r"'attention_kl'.*12"):
        one("attention_kl", student=Shape(layers=3, width=312, heads=4))
    assert one("attention_kl", student=Shape()).pairs == MAP


def test_settings_and_options_become_arguments() -> None:
    assert one("soft", settings={"temperature": 4.0}).arguments == {"temperature": 4.0}
    with pytest.raises(UserError, match="'temperature'"):
        one("soft", settings={})


def test_what_is_read_of_either_side() -> None:
    terms = terms_of(
        {"hard": 0.1, "soft": 1.0, "attention_kl": 1.0, "cls_cosine": 0.0},
        layer_map=MAP[:2],
        settings={"temperature": 1.0},
    )
    assert [term.name for term in terms] == ["hard", "soft", "attention_kl"]
    assert asked_of_teacher(terms) == {("logits", 0), ("attention", 4), ("attention", 8)}
    assert asked_of_teacher(terms[:1]) == frozenset()  # hard asks no teacher
    assert compared_layers(terms) == (1, 2)


def test_a_weight_that_moves_is_kept_though_it_starts_at_zero() -> None:
    (term,) = terms_of({"hard": Schedule(start=0, end=1)})
    assert isinstance(term.weight, Schedule)
