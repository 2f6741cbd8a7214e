"""The configuration that Snakemake reads is looked at before Snakemake does."""

from pathlib import Path

import pytest

from internal_kd.errors import UserError
from internal_kd.operations.cli import main
from internal_kd.operations.config_files import check_arguments, check_config_files
from tiny_study import OVERLAY

TEMPLATE = "__use_yte__: true\nstudy:\n  name: ?__import__('pathlib').Path('pwned').touch() or 'evil'\n"
DEFINITIONS = "__definitions__: ['import pathlib; pathlib.Path(\"pwned\").touch()']\n"


@pytest.mark.parametrize("arguments", [[], ["--configfile", OVERLAY, "--config", "study={seeds: [1]}", "-n", "all"]])
def test_what_is_sound_is_let_through(project: Path, arguments: list[str]) -> None:
    check_arguments(arguments)


def test_a_project_may_be_overlays_alone(project: Path) -> None:
    Path("params.yaml").unlink()
    check_config_files([OVERLAY])


def test_a_key_given_twice_is_refused(project: Path) -> None:
    Path("twice.yaml").write_text("study: {name: a}\nstudy: {name: b}\n")
    with pytest.raises(UserError, match="'study' stands twice"):
        check_config_files(["twice.yaml"])


@pytest.mark.parametrize(
    "text",
    [TEMPLATE, DEFINITIONS, '{"__use_yte__": true}', "a: &a {__use_yte__: true}\n<<: *a\n", "1: 2\n", "studdy: {}\n"],
)
def test_a_key_that_no_study_has_is_refused(project: Path, text: str) -> None:
    Path("other.yaml").write_text(text)
    with pytest.raises(UserError, match=r"^other\.yaml: unknown parameter .*; at the top stand study, data, tasks"):
        check_config_files(["other.yaml"])
    Path("params.yaml").write_text(text)
    with pytest.raises(UserError, match=r"^params\.yaml: unknown parameter "):
        check_config_files([])


@pytest.mark.parametrize(
    "arguments",
    [
        ["--configfile", "evil.yaml"],
        ["--configfile=evil.yaml"],
        ["--configfiles", OVERLAY, "evil.yaml"],
        ["--configfiles=evil.yaml"],
        ["--configfi", "evil.yaml"],
        ["-n", "--configfile", OVERLAY, "--cores", "1", "--configfile", "evil.yaml", "--", "all"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("standing", [False, True], ids=["given", "standing"])
def test_no_python_of_an_overlay_runs(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    standing: bool,
) -> None:
    Path("evil.yaml").write_text(TEMPLATE)
    if standing:
        monkeypatch.setenv("INTERNAL_KD_RUN", " ".join(arguments))
    assert main(["run", *([] if standing else arguments)]) == 1
    out, err = capfd.readouterr()
    assert err.startswith("internal-kd: evil.yaml: unknown parameter '__use_yte__'") and not out
    assert not Path("pwned").exists() and not Path("work").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--configfile", "nope.yaml"], "nope.yaml does not exist"),
        (["--configfile", "latin1.yaml"], "latin1.yaml cannot be read as YAML: 'utf-8' codec can't decode"),
        (["--configfile", "config"], "config cannot be read: Is a directory"),
        (["--configfile", OVERLAY, "all"], "all does not exist"),
        (["--config", "garbage"], "--config garbage: should be key=value, such as --config study='{seeds: [1, 2]}'"),
        (["-C", "pwned=1"], "-C: unknown parameter 'pwned'; at the top stand study, data"),
        (["-Cstudyy=1"], "-C: unknown parameter 'studyy' (did you mean 'study'?)"),
        (["--config=garbage"], "--config garbage: should be key=value"),
        (["--config", "study={seeds: [1]}", "students"], "--config students: should be key=value"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_mistyped_is_one_line(
    project: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    Path("latin1.yaml").write_bytes("study: {name: caf\xe9}\n".encode("latin-1"))
    Path("config").mkdir()
    assert main(["run", *arguments]) == 1
    out, err = capfd.readouterr()
    assert err.startswith(f"internal-kd: {said}") and err.count("\n") == 1 and not out


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"study: caf\xe9\n", "params.yaml cannot be read as YAML: 'utf-8' codec can't decode"),
        (b"study:\n\tname: a\n", "params.yaml cannot be read as YAML: while scanning"),
        (b"- study\n", "params.yaml should hold `key: value` lines, and holds a list"),
        (b"", "params.yaml should hold `key: value` lines, and holds nothing"),
    ],
    ids=["latin-1", "tab", "list", "empty"],
)
def test_a_broken_params_file_is_one_line(
    project: Path, capfd: pytest.CaptureFixture[str], content: bytes, said: str
) -> None:
    Path("params.yaml").write_bytes(content)
    assert main(["run", "--cores", "1"]) == 1
    out, err = capfd.readouterr()
    assert err.startswith(f"internal-kd: {said}") and err.count("\n") == 1 and not out


def test_standing_arguments_that_are_none_are_one_line(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INTERNAL_KD_RUN", '"--cores')
    assert main(["run"]) == 1
    err = capfd.readouterr().err
    assert err == 'internal-kd: INTERNAL_KD_RUN="--cores: No closing quotation; write it as on a command line\n'
