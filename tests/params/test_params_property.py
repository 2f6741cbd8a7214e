"""Broken parameter files: every one is a valid study or one line that says what is wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from copy import deepcopy
from datetime import date
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from internal_kd.errors import UserError
from internal_kd.params import Params, load_params, merge, parse_params, read_yaml
from internal_kd.plan.study import plan_study
from tiny_study import ROOT

TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")
# Without comments: less for YAML to read, and every change hits something.
BARE = "\n".join(line.split(" #")[0].rstrip() for line in TEXT.splitlines() if not line.startswith("#"))
OTHER_SOURCES: dict[str, Any] = {
    "tasks": {
        "made": {"source": "generator", "grammar": "entailment", "train": 40, "dev": 10, "seed": 0},
        "mine": {"source": "files", "train": "a.csv", "dev": "b.csv", "text": ["q", "a"], "labels": ["no", "yes"]},
    },
    "methods": {
        "short": {"id": "9", "weights": {"soft": {"from": 1, "to": 0}}, "epochs": 2, "select": {"keep": 0.5}},
        "phased": {
            "id": "10",
            "weights": {"soft": 1, "hidden_mse": 1},
            "teacher": {"of": ["teacher"], "seeds": [1, 2]},
            "curriculum": {"phases": [{"epochs": 2, "terms": ["hidden_mse"]}, {"epochs": 1, "terms": ["soft"]}]},
        },
    },
}
STUDY: dict[str, Any] = merge(read_yaml(ROOT / "params.yaml"), OTHER_SOURCES)
# Here people choose the keys, or other registries know them; everywhere else an unknown key is refused on reading.
OPEN = {("tasks",), ("methods",), ("study", "vary")}


def is_open(where: tuple[str | int, ...]) -> bool:
    """Whether a group's keys are checked while planning: learners, terms and their options come from registries."""
    return where in OPEN or "learner" in where or where[-1:] in (("weights",), ("options",))


Where = tuple[str | int, ...]


def places(value: Any, where: Where = ()) -> Iterator[Where]:
    """Every place of a nested value, the whole included."""
    yield where
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*where, key))


def at(value: Any, where: Where) -> Any:
    for key in where:
        value = value[key]
    return value


PLACES = [where for where in places(STUDY) if where]
GROUPS = [where for where in [(), *PLACES] if isinstance(at(STUDY, where), dict) and not is_open(where)]
deep = st.integers(1, 200).map(lambda depth: nested(depth))
# What pydantic calls things: people write lists and groups of lines, and no `constrained-int` or `tuple[...]`.
OF_PYTHON = re.compile(r"(?i)\b(tuple|dictionary|instance|NoneType)\b|\b(literal|tuple|function-\w+)\[|\[key\]")


def texts(**limits: int) -> st.SearchStrategy[str]:
    """Any text but one of `OF_PYTHON`: a line quotes what it was given."""
    return st.text(**limits).filter(lambda text: not OF_PYTHON.search(text))


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 10**9 + 1, 2**31, 2**63, -(2**70), 16**5000, 10**400]),
    st.floats(),
    st.sampled_from([math.nan, math.inf, -math.inf, 1e-320, 1e308]),
    texts(),
    st.sampled_from(
        ["", " ", "nan", "inf", "1e999", "-0", "../up", "/", "~", "\x00", "a\nb", "\ud800", "\x1b[31m", "9" * 5000]
    ),
    st.binary(max_size=8),
    st.just(date(2020, 1, 1)),
    st.just({1, 2}),
)
values = st.one_of(
    scalars,
    st.lists(scalars, max_size=4),
    st.dictionaries(st.one_of(texts(max_size=8), st.integers(), st.none()), scalars, max_size=3),
    deep,
)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def changed(where: Where, value: Any) -> dict[str, Any]:
    study = deepcopy(STUDY)
    at(study, where[:-1])[where[-1]] = value
    return study


def outcome(act: Any) -> Params | str:
    """What came of it: parameters, or the one line of a refusal. Anything else is raised and fails the test."""
    try:
        return act()
    except UserError as refusal:
        line = str(refusal)
        assert line.splitlines() == [line] and line.isprintable() and len(line) < 1500
        assert not OF_PYTHON.search(line), line
        return line


def assert_sound(params: Params) -> None:
    """Nothing that is no number got through, and the parameters can be written down and read again."""
    dumped = params.model_dump()
    assert Params.model_validate(dumped) == params
    numbers = [at(dumped, where) for where in places(dumped)]
    assert all(math.isfinite(number) for number in numbers if isinstance(number, float))
    yaml.safe_dump(params.model_dump(mode="json"))


@given(st.sampled_from(GROUPS), texts(min_size=1), values)
def test_an_unknown_key_is_refused_wherever_it_stands(where: Where, key: str, value: Any) -> None:
    if key in at(STUDY, where):
        return
    done = outcome(lambda: parse_params(changed((*where, f"{key}~"), value)))
    assert isinstance(done, str) and done.startswith("params.yaml: ")


@pytest.mark.parametrize("where", GROUPS, ids=lambda where: ".".join(map(str, where)) or "top")
def test_a_misspelt_key_is_named(where: Where) -> None:
    done = outcome(lambda: parse_params(changed((*where, "epohcs"), 3)))
    assert isinstance(done, str) and "'epohcs'" in done
    assert all(str(part) in done for part in where)


def with_a_typo(key: str, position: int, kind: str, letter: str) -> str:
    """A key with one letter more, less or other, or with two letters in the other order."""
    position %= len(key)
    before, here, after = key[:position], key[position], key[position + 1 :]
    others = {"more": letter + here, "less": "", "other": letter, "swapped": after[:1] + here}
    return before + others[kind] + (after[1:] if kind == "swapped" else after)


KEYS = [where for where in PLACES if isinstance(at(STUDY, where[:-1]), dict) and not is_open(where[:-1])]


@given(
    st.sampled_from(KEYS),
    st.integers(0, 30),
    st.sampled_from(["more", "less", "other", "swapped"]),
    st.sampled_from(ascii_lowercase + "_"),
)
def test_a_key_with_a_typo_in_it_is_never_a_key_left_out(where: Where, position: int, kind: str, letter: str) -> None:
    study = deepcopy(STUDY)
    group, key = at(study, where[:-1]), str(where[-1])
    typo = with_a_typo(key, position, kind, letter)
    if typo in group:  # two equal letters swapped
        return
    group[typo] = group.pop(where[-1])
    done = outcome(lambda: parse_params(study))
    assert isinstance(done, str)
    # Without its `source` an entry is a GLUE task, and keys that no GLUE task has may be named first.
    # `seeds` without its last letter is another key, whose value is then at fault.
    assert typo in done or where[0] == "tasks"


@given(st.sampled_from(PLACES), values)
def test_any_value_anywhere_is_taken_or_refused_with_its_name(where: Where, value: Any) -> None:
    done = outcome(lambda: parse_params(changed(where, value)))
    if isinstance(done, Params):
        assert_sound(done)
    else:
        # A name taken out of `tasks` or `methods` is missed where the study asks for it.
        assert str(where[0]) in done


@given(st.lists(st.tuples(st.sampled_from(PLACES), values), min_size=2, max_size=6))
def test_many_mistakes_at_once_are_still_one_line(mistakes: list[tuple[Where, Any]]) -> None:
    study = deepcopy(STUDY)
    for where, value in mistakes:
        try:
            at(study, where[:-1])[where[-1]] = value
        except (KeyError, TypeError, IndexError):
            continue  # the place went with an earlier mistake
    done = outcome(lambda: parse_params(study))
    if isinstance(done, Params):
        assert_sound(done)


def test_a_key_left_out_is_a_default_or_is_named() -> None:
    for where in PLACES:
        study = deepcopy(STUDY)
        del at(study, where[:-1])[where[-1]]
        done = outcome(lambda study=study: parse_params(study))
        if isinstance(done, Params):
            assert_sound(done)


@given(st.sampled_from(PLACES), values)
def test_what_is_valid_can_be_planned_or_is_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, where: Where, value: Any
) -> None:
    done = outcome(lambda: parse_params(changed(where, value)))
    if isinstance(done, Params):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path_factory.getbasetemp())
            outcome(lambda: plan_study(done))  # type: ignore[arg-type, return-value]


pieces = st.one_of(
    st.sampled_from(
        ["\t", ":", "- ", "{", "}", "[", "]", "&a ", "*a", "<<: *a", "!!python/name:os.system ", "!!set {a}", "'", '"']
    ),
    st.sampled_from(["\x00", "\ufeff", "%YAML 9", "---\n", "\n...\n", "? ", "|", ">", "#", "\u2028", "\x85", "\\"]),
    st.sampled_from(
        ["? [a, b]\n: c\n", "1: 2\n", "~: 1\n", "0x" + "f" * 5000, "&b [*b]", "&c {d: *c}", "=", "<<: 3\n"]
    ),
    st.text(max_size=5),
)


@given(st.lists(st.tuples(st.integers(0, len(BARE)), st.integers(0, 40), pieces), min_size=1, max_size=4))
def test_a_damaged_text_is_a_study_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, damages: list[tuple[int, int, str]]
) -> None:
    text = BARE
    for start, length, piece in damages:
        text = text[:start] + piece + text[start + length :]
    path = tmp_path_factory.getbasetemp() / "damaged.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    done = outcome(lambda: load_params(path))
    if isinstance(done, Params):
        assert_sound(done)
    else:
        assert "damaged.yaml" in done


@given(st.binary(max_size=300), st.integers(0, len(BARE)))
def test_bytes_that_are_no_text_are_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, position: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.yaml"
    for content in (data, BARE[:position].encode() + data + BARE[position:].encode()):
        path.write_bytes(content)
        outcome(lambda: load_params(path))


@pytest.mark.parametrize("key", ["epochs", "batch_size", "'epochs'", '"ep\\x6fchs"'])
def test_a_key_given_twice_is_refused_however_it_is_written(tmp_path: Path, key: str) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text(TEXT.replace("defaults:\n", f"defaults:\n  {key}: 3\n"))
    done = outcome(lambda: load_params(path))
    assert isinstance(done, str) and "given twice" in done


def test_aliases_and_merge_keys_mean_what_they_mean_in_yaml(tmp_path: Path) -> None:
    path = tmp_path / "alias.yaml"
    path.write_text(
        TEXT.replace("student: {gpu: 1, mem_mb: 12000, runtime: 480", "student: {<<: *job, runtime: 480").replace(
            "teacher: {gpu: 1", "teacher: &job {gpu: 1"
        )
    )
    machine = load_params(path).machine
    assert (machine.student.mem_mb, machine.student.runtime) == (machine.teacher.mem_mb, 480)


@pytest.mark.parametrize(
    "bomb",
    [
        "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{n}: &{n} [{', '.join([f'*{p}'] * 10)}]\n" for p, n in zip("abcdefgh", "bcdefghi", strict=True)),
        "study: &s {name: *s}\n",
        "tasks: &t [*t]\n",
        "study: " + "{a: " * 400 + "1" + "}" * 400 + "\n",
        "study: " + "[" * 1_000 + "]" * 1_000 + "\n",
    ],
    ids=["laughs", "mapping in itself", "list in itself", "deep", "very deep"],
)
def test_a_yaml_bomb_is_one_line_at_once(tmp_path: Path, bomb: str) -> None:
    path = tmp_path / "bomb.yaml"
    path.write_text(bomb)
    assert isinstance(outcome(lambda: load_params(path)), str)
    assert isinstance(outcome(lambda: load_params(ROOT / "params.yaml", [path])), str)
