"""The table of objectives: declarations that cannot work are refused, and a user's file adds to the table."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from internal_kd.distillation.declarations import KINDS, RESERVED, Objective
from internal_kd.distillation.needs import NEEDS, Facts
from internal_kd.distillation.objectives import OBJECTIVES, check_needs, objective
from internal_kd.errors import UserError
from internal_kd.learners.learner import LOWEST
from internal_kd.plugins import load_plugins
from internal_kd.registry import resolve

Enter = Callable[..., None]


@pytest.fixture(autouse=True)
def table() -> Iterator[None]:
    """What a test enters is forgotten afterwards."""
    before = dict(OBJECTIVES._entries)
    yield
    OBJECTIVES._entries.clear()
    OBJECTIVES._entries.update(before)


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_every_objective_is_a_function_that_exists(name: str) -> None:
    assert callable(resolve(OBJECTIVES[name].function))


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_every_objective_has_an_identity_that_names_its_code(name: str) -> None:
    assert len(OBJECTIVES[name].identity()["source"]) == 64


def test_kinds_are_those_that_networks_hand_out() -> None:
    assert set(KINDS) == set(LOWEST)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"reads": ("logits",), "per": "pair"}, "logits"),
        ({"reads": ("cls",), "per": "output"}, "cls"),
        ({"reads": ("labels",), "per": "output"}, "reads nothing"),
        ({"reads": ("atention",), "per": "pair"}, "'attention'"),
        ({"reads": ("cls",), "per": "pair", "needs": ("equal_head",)}, "'equal_heads'"),
        ({"reads": ("cls",), "per": "pair", "project": ("hidden",)}, "project"),
        ({"reads": ("cls",), "per": "pair", "options": {"layers": 3}}, "layers"),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused_in_one_line(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(UserError, match=word) as refused:
        Objective("own:loss", **changes)
    assert "own:loss" in str(refused.value) and "\n" not in str(refused.value)


def test_options_are_those_of_the_function_and_those_of_all_objectives() -> None:
    entry = Objective("own:loss", ("hidden",), "pair", options={"window": 10})
    assert entry.all_options == {"window": 10, **RESERVED}
    assert entry.with_options({"window": 5, "layers": "last"}) == {"window": 5}
    with pytest.raises(UserError, match=r"'windw'.*'window'"):
        entry.with_options({"windw": 5})


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_option_of_another_kind_than_its_default_is_refused(name: str) -> None:
    for option, default in OBJECTIVES[name].all_options.items():
        if isinstance(default, bool | int | float):
            for value in ("many", None, [1], -1, math.nan if isinstance(default, float) else 0.5):
                with pytest.raises(UserError, match=f"option {option}: {re.escape(repr(value))} should be"):
                    OBJECTIVES[name].with_options({option: value})


def test_an_identity_names_what_differs_from_a_default_and_nothing_else() -> None:
    plain, chosen = OBJECTIVES["cls_cosine"].identity(), OBJECTIVES["cls_cosine"].identity({"layers": "last"})
    assert plain == OBJECTIVES["cls_cosine"].identity({"projection": "shared"})
    assert chosen == {**plain, "options": {"layers": "last"}}


@pytest.mark.parametrize(
    ("needs", "facts", "options", "words"),
    [
        ("equal_heads", {"heads": (12, 4)}, {}, ("12", "4")),
        ("equal_width", {"widths": (312, 768)}, {}, ("312", "768")),
        ("heads_divide_width", {"widths": (312, 768)}, {"heads": 48}, ("48", "312")),
        ("classes", {"kind": "values"}, {}, ("values",)),
        ("classes>=3", {"kind": "classes", "outputs": 2}, {}, ("3", "2")),
        ("classes>=3", {"kind": "values", "outputs": 1}, {}, ("values",)),
        ("smoothing<1", {}, {"smoothing": 2.0}, ("smoothing", "2.0")),
    ],
)
def test_what_a_term_needs_and_does_not_get_is_named(
    needs: str, facts: dict[str, Any], options: dict[str, Any], words: tuple[str, ...]
) -> None:
    defaults = {"heads": 1, "smoothing": 0.1}
    OBJECTIVES.add("own", Objective("own:loss", ("cls",), "pair", needs=(needs,), options=defaults))
    check_needs("own", Facts())  # what is not known yet is not refused
    with pytest.raises(UserError) as refused:
        check_needs("own", Facts(**facts), options)
    assert all(word in str(refused.value) for word in ("'own'", *words))


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if "classes>=3" in OBJECTIVES[name].needs])
def test_what_is_left_of_a_term_with_two_classes_is_said(name: str) -> None:
    with pytest.raises(UserError, match="weigh `soft`"):
        check_needs(name, Facts("classes", 2))


@pytest.mark.parametrize("need", list(NEEDS))
def test_needs_that_are_met_are_not_mentioned(need: str) -> None:
    assert NEEDS[need](Facts("classes", 3, (12, 12), (768, 768)), {"heads": 12}) is None


# Plugins

PLUGIN = """
from internal_kd.distillation.objectives import objective

@objective({name!r}, reads=("hidden",), per="pair", project=("hidden",))
def own_loss(student, teacher, attention_mask):
    return (student - teacher).abs().mean()
"""


def test_a_users_file_enters_its_objective_once(tmp_path: Path) -> None:
    file = tmp_path / "my_losses.py"
    file.write_text(PLUGIN.format(name="own"))
    load_plugins([file])
    load_plugins([str(file)])  # planning and training load it in one process
    assert callable(resolve(OBJECTIVES["own"].function))
    assert OBJECTIVES["own"].identity()["reads"] == ["hidden"]


def test_two_files_of_one_name_are_two_plugins(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "losses.py").write_text(PLUGIN.format(name=f"own_{folder}"))
    load_plugins([tmp_path / "a/losses.py", tmp_path / "b/losses.py"])
    assert OBJECTIVES["own_a"].function != OBJECTIVES["own_b"].function


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (PLUGIN.format(name="soft"), "'soft'"),
        ("import no_such_module_anywhere", "no_such_module_anywhere"),
        ("1 +", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit"),
        (None, "does not exist"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_one_line_with_its_path(tmp_path: Path, text: str | None, word: str) -> None:
    file = tmp_path / "broken_losses.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError) as refused:
        load_plugins([file])
    assert str(file) in str(refused.value) and word in str(refused.value) and "\n" not in str(refused.value)
    assert not any("broken_losses" in name for name in sys.modules)


def test_the_decorator_leaves_the_function_as_it_is() -> None:
    def own(student: float, teacher: float) -> float:
        return student - teacher

    assert objective("own", reads=("cls",), per="pair")(own) is own
    with pytest.raises(UserError, match="'own'"):
        objective("own", reads=("cls",), per="pair")(own)
