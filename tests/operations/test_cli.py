import resource
import subprocess
import sys
from pathlib import Path

import pytest

from internal_kd.operations.catalogue import Catalogue
from internal_kd.operations.cli import build_parser, main, parse_arguments
from internal_kd.operations.commands import COMMANDS
from internal_kd.study import Study
from tiny_study import OVERLAY, complete, complete_everything


def test_help_answers_at_once_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from internal_kd.operations.cli import build_parser; build_parser().format_help(); "
        "print(*{'torch', 'pandas', 'numpy', 'pydantic', 'yaml', 'mlflow'} & {*sys.modules})"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Processor time, since a busy machine is no fault of ours; about 0.15 s on a quiet one.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_command_explains_itself_and_can_be_called(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        build_parser().parse_args([verb, "--help"])
    assert done.value.code == 0
    shown = capsys.readouterr().out
    assert COMMANDS[verb].example in shown and COMMANDS[verb].example.startswith(f"internal-kd {verb}")


@pytest.mark.parametrize("verb", COMMANDS)
def test_the_example_of_every_command_parses(verb: str) -> None:
    assert parse_arguments(COMMANDS[verb].example.split()[1:]).command == verb


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["status", "--params", "nowhere.yaml"], "nowhere.yaml does not exist"),
        (["status", "--overlay", "wrong.yaml"], "unknown parameter 'sede'"),
        (["train-teacher", "--overlay", OVERLAY, "--task", "x", "--seed", "1"], "unknown task 'x'"),
        (["train-teacher", "--overlay", OVERLAY, "--task", "judge", "--seed", "9"], "the study wants: 1, 2"),
        (["tokenize-task", "--overlay", OVERLAY, "--task", "judge"], "make it with `internal-kd fetch-"),
        (["show", "--overlay", OVERLAY], "start it with internal-kd run"),
        (["fetch-encoder", "--overlay", OVERLAY, "--expect", "0" * 12], "has changed since"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(
    study: Study, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("wrong.yaml").write_text("study: {sede: 1}\n")
    assert main(arguments) == 1
    output = capsys.readouterr()
    assert output.err.startswith("internal-kd: ") and output.err.count("\n") == 1 and said in output.err
    assert output.out == ""


def test_a_step_that_is_done_says_so_and_is_no_error(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    complete_everything(study)
    stamp = study.students[0].marker.stat().st_mtime_ns
    run = Catalogue(study).coordinates(study.students[0])
    options = [word for name, value in run.items() for word in (f"--{name}", value)]
    assert main(["train-student", "--overlay", OVERLAY, *options]) == 0
    assert "complete already" in capsys.readouterr().out
    assert study.students[0].marker.stat().st_mtime_ns == stamp


def test_a_step_makes_what_it_names(study: Study) -> None:
    assert main(["fetch-task", "--overlay", OVERLAY, "--task", "judge"]) == 0
    assert study.tasks["judge"].data.marker.is_file()


def test_ctrl_c_ends_with_130(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import internal_kd.operations.status as status

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(status.time, "sleep", interrupt)
    assert main(["status", "--overlay", OVERLAY, "--watch", "5"]) == 130
    assert capsys.readouterr().err == "internal-kd: interrupted\n"


def test_status_ends_its_watch_when_all_is_done(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    complete(*study.runs)
    assert main(["status", "--overlay", OVERLAY, "--watch", "60"]) == 0
    assert "all 8 runs done" in capsys.readouterr().out
