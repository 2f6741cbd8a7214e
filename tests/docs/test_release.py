"""What a release needs is in order: one version everywhere, and a section of the changelog for it."""

import re
import subprocess
import tomllib

import pytest
import yaml

from docs.pages import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github/workflows").glob("*.yml")}


def test_the_version_is_the_same_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    sections = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert citation["version"] == PROJECT["version"] == sections[1] and sections[0] == "Unreleased"
    assert citation["license"] == PROJECT["license"] == "Apache-2.0"


def test_the_release_has_the_text_of_its_section() -> None:
    steps = WORKFLOWS["release"]["jobs"]["image"]["steps"]
    (command,) = [step["run"] for step in steps if "awk" in step.get("run", "")]
    read = command.splitlines()[0].removesuffix(" > notes.md")
    done = subprocess.run(
        ["bash", "-c", read], cwd=ROOT, env={"GITHUB_REF_NAME": f"v{PROJECT['version']}", "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "### Distillation" in done.stdout and "\n## " not in done.stdout


def test_every_version_of_python_that_is_promised_is_tested() -> None:
    tested = WORKFLOWS["check"]["jobs"]["tests"]["strategy"]["matrix"]["python"]
    promised = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
    assert tested == promised and PROJECT["requires-python"] == f">={promised[0]}"


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_make_targets_of_a_workflow_exist(name: str) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    steps = [step.get("run", "") for job in WORKFLOWS[name]["jobs"].values() for step in job["steps"]]
    used = [found for step in steps for found in re.findall(r"(?:^|&& )make ([\w-]+)", step)]
    assert set(used) <= set(targets)


def test_the_images_install_what_make_env_installs() -> None:
    """One lock, one torch: the Dockerfile, the apptainer definition and the Makefile agree."""
    texts = {name: (ROOT / name).read_text() for name in ("Dockerfile", "apptainer.def", "Makefile")}
    assert len({re.search(r"torch==([\d.]+)", text)[1] for text in texts.values()}) == 1
    assert all("--no-deps --require-hashes -r requirements.lock" in text for text in texts.values())
    for name in ("Dockerfile", "apptainer.def"):
        copied = re.findall(r"^(?:COPY|    )(?: )?([\w.]+) ", texts[name], re.MULTILINE)
        assert all((ROOT / path).exists() for path in copied if "." in path and path != ".")
