"""The places that name versions agree: pyproject, the lock, environment.yml and the Makefile."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = dict(re.findall(r"^([a-zA-Z0-9_.-]+)==([^\s\\;]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())
OUTSIDE_THE_LOCK = {"torch"}  # installed first, by itself, as the build the machine wants


def requirements() -> list[str]:
    extras = PROJECT["project"]["optional-dependencies"].values()
    groups = PROJECT["dependency-groups"].values()
    return [*PROJECT["project"]["dependencies"], *(r for group in (*extras, *groups) for r in group)]


@pytest.mark.parametrize("requirement", requirements())
def test_every_requirement_allows_the_version_that_is_locked(requirement: str) -> None:
    needed = Requirement(requirement)
    if needed.name in OUTSIDE_THE_LOCK:
        assert needed.name not in LOCK
    else:
        assert needed.specifier.contains(LOCK[needed.name.lower()])


def test_the_library_states_ranges_and_the_pipeline_pins() -> None:
    assert all("==" not in requirement for requirement in PROJECT["project"]["dependencies"])
    unpinned = {"huggingface-hub", "pillow", "pyarrow"}  # pinned through transformers, matplotlib and datasets
    pipeline = PROJECT["project"]["optional-dependencies"]["pipeline"]
    assert {r for r in pipeline if "==" not in r} == unpinned


def test_the_lock_has_hashes_and_no_addresses() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert text.count("==") == len(LOCK) + text.count("; python_version ==")
    assert "://" not in text and "--index-url" not in text and "--find-links" not in text
    for block in re.split(r"^(?=\S)", text, flags=re.MULTILINE):
        assert not block.strip() or "--hash=sha256:" in block


def test_conda_installs_the_same_torch_and_python() -> None:
    conda = [item for item in ENVIRONMENT["dependencies"] if isinstance(item, str)]
    (pip,) = [item["pip"] for item in ENVIRONMENT["dependencies"] if isinstance(item, dict)]
    torch = next(r for r in PROJECT["dependency-groups"]["dev"] if r.startswith("torch=="))
    assert torch in pip
    assert f"TORCH ?= {torch}\n" in (ROOT / "Makefile").read_text()
    minimum = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert f"python={minimum}" in conda and "pip" in conda


def test_conda_installs_this_project_with_extras_that_exist() -> None:
    (pip,) = [item["pip"] for item in ENVIRONMENT["dependencies"] if isinstance(item, dict)]
    (editable,) = [line for line in pip if line.startswith("--editable")]
    extras = re.fullmatch(r"--editable \.\[([a-z,]+)\]", editable)
    assert extras and set(extras[1].split(",")) == set(PROJECT["project"]["optional-dependencies"])


def test_the_check_of_a_change_runs_the_tests() -> None:
    script = ROOT / ".ci/run"
    assert script.stat().st_mode & 0o111
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n") and "set -euo pipefail" in text and "\nmake test\n" in text
