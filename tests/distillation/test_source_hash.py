"""An edited loss retrains its methods: what the hash of a function sees, and what it does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from internal_kd.distillation import source_hash as module
from internal_kd.distillation.objectives import OBJECTIVES
from internal_kd.distillation.source_hash import source_hash
from internal_kd.errors import UserError

LOSSES = '''
"""A file of losses."""
import math
from math import tau as turn
from internal_kd.errors import UserError

SCALE = 2.0

def helper(values):
    """Double them."""
    return values * SCALE  # twice

def other(values):
    return values - 1

class Wrapped:
    def value(self, values: float) -> float:
        return deep(values)

def deep(values):
    return math.cos(values) + turn

def loss(student: float, teacher: float) -> float:
    """The loss."""
    if student is None:
        raise UserError("no student")
    return helper(student) - Wrapped().value(teacher)
'''


def write(file: Path, text: str) -> None:
    """Write a file and give it a time of its own: two edits of a test are nearer than the clock of a disk can tell."""
    before = file.stat().st_mtime_ns if file.exists() else 10**18
    file.write_text(text)
    os.utime(file, ns=(before + 10**9, before + 10**9))


@pytest.fixture
def hash_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(module, "_hashed", {})  # one name is another file in every test

    def compute(text: str) -> str:
        write(tmp_path / "losses_under_test.py", text)
        return source_hash("losses_under_test:loss")

    return compute


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("helper(student) -", "helper(student) +"),  # the function
        ("values * SCALE", "values / SCALE"),  # a helper
        ("SCALE = 2.0", "SCALE = 3.0"),  # a constant of the helper
        ("math.cos", "math.sin"),  # a helper of a class
        ("tau as turn", "e as turn"),  # what an import brings
        ("if student is None", "if student == 0"),
    ],
)
def test_what_the_function_computes_counts(hash_of, old: str, new: str) -> None:
    assert old in LOSSES and hash_of(LOSSES) != hash_of(LOSSES.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  # twice", ""),
        ('"""The loss."""', '"""Another word."""'),
        ('"""Double them."""\n    ', ""),
        ("return values - 1", "return values - 2"),  # a function it does not use
        ("(student: float, teacher: float) -> float:", "(student, teacher):"),
        (
            "helper(student) - Wrapped().value(teacher)",
            "(\n        helper(student) - Wrapped().value(teacher))",
        ),
        ("no student", "the student is missing"),
        ('"""A file of losses."""', ""),
    ],
)
def test_what_it_does_not_compute_does_not_count(hash_of, old: str, new: str) -> None:
    assert old in LOSSES and hash_of(LOSSES) == hash_of(LOSSES.replace(old, new))


@pytest.mark.parametrize(
    "text",
    [
        "from helpers_under_test import far\n\ndef loss(a, b):\n    return far(a) - b\n",
        "def loss(a, b):\n    from helpers_under_test import far\n    return far(a) - b\n",
    ],
)
def test_helpers_in_other_modules_of_the_package_count(hash_of, tmp_path: Path, monkeypatch, text: str) -> None:
    monkeypatch.setattr(module, "FOLLOWED", "helpers_under_test.")
    write(tmp_path / "helpers_under_test.py", "def far(x):\n    return x + 1\n")
    before = hash_of(text)
    write(tmp_path / "helpers_under_test.py", "def far(x):\n    return x + 2\n\n# later\n")
    assert hash_of(text) != before


def test_the_name_of_the_file_does_not_count(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("one_file", "another_file"):
        (tmp_path / f"{name}.py").write_text(LOSSES)
    assert source_hash("one_file:loss") == source_hash("another_file:loss")


@pytest.mark.parametrize("path", ["no_such_module_here:loss", "internal_kd.errors:no_such_name"])
def test_what_does_not_exist_is_named(path: str) -> None:
    with pytest.raises(UserError, match=path.partition(":")[2]):
        source_hash(path)


def test_every_objective_is_hashed_without_torch() -> None:
    # Other tests may have entered plugins.
    paths = [entry.function for entry in OBJECTIVES.values() if entry.function.startswith("internal_kd.")]
    code = (
        "import sys; from internal_kd.distillation.source_hash import source_hash; "
        "[source_hash(path) for path in sys.argv[1:]]; print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True).stdout == "False\n"
