"""The command line: what every command promises, and one line for every mistake."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import tiny_study
from completed import complete_everything
from internal_kd.command_line import COMMANDS, build_parser, main, parse_arguments
from internal_kd.files import read_json, write_json
from internal_kd.held import held
from internal_kd.plan.study import Study
from internal_kd.running.dvc import remember_study
from internal_kd.running.make import lock_of
from tiny_study import OVERLAY, complete
from trained_study import Trained, trained_copy, trained_project

__all__ = ["trained_copy", "trained_project"]


@pytest.fixture
def study(project: Path) -> Study:
    tiny_study.make_project(project)
    return tiny_study.plan_here()


def test_help_answers_at_once_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from internal_kd.command_line import build_parser; build_parser().format_help(); "
        "print(*{'torch', 'pandas', 'numpy', 'pydantic', 'yaml', 'mlflow'} & {*sys.modules})"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Processor time, because a busy machine is not our fault; about 0.06 s on a quiet one.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        parse_arguments([name, "--help"])
    assert done.value.code == 0
    shown, known = capsys.readouterr().out, COMMANDS[name]
    assert known.example in shown and known.example.startswith(f"internal-kd {name}")
    assert name in build_parser().format_help()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_of_every_command_parses(name: str) -> None:
    assert parse_arguments(COMMANDS[name].example.split()[1:]).command == name


@pytest.mark.parametrize("name", [name for name, known in COMMANDS.items() if len(known.options) > 1 and name != "gc"])
def test_overlay_and_configfile_mean_the_same_with_several_files_or_repeated(name: str) -> None:
    named = {"make": ["0123456789ab"], "answers": ["0123456789ab", "a.jsonl"], "check-answers": ["a.jsonl"]}
    named |= {"llm-requests": ["a.jsonl", "--model", "m"], "llm-answers": ["a.jsonl", "b.jsonl"]}
    target = named.get(name, [])
    for option in ("--overlay", "--configfile"):
        for spelling in ([option, "a.yaml", "b.yaml"], [option, "a.yaml", "--configfile", "b.yaml"]):
            assert parse_arguments([name, *target, *spelling]).overlay == ["a.yaml", "b.yaml"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["statsu"], ["'statsu'", "'status'"]),
        (["status", "--ovelay", "x"], ["--ovelay", "'--overlay'", "internal-kd status --help"]),
        (["make"], ["FINGERPRINT|FOLDER"]),
        ([], ["COMMAND"]),
        (["status", "--watch", "soon"], ["--watch", "'soon'"]),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as done:
        main(arguments)
    output = capsys.readouterr()
    assert done.value.code == 2 and output.out == ""
    assert output.err.startswith("internal-kd: ") and output.err.count("\n") == 1
    assert all(word in output.err for word in words)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["status", "--params", "nowhere.yaml"], "nowhere.yaml"),
        (["status", "--overlay", "wrong.yaml"], "'sede'"),
        (["runs", "--configfile", "wrong.yaml"], "'sede'"),
        (["make", "results/runs/x", "--overlay", OVERLAY], "'results/runs/x'"),
        (["show", "--overlay", OVERLAY], f"`internal-kd run --overlay {OVERLAY}`"),
        (["gc", "--params", "wrong.yaml"], "wrong.yaml"),
        (["run", "--configfile", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(
    study: Study, arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("wrong.yaml").write_text("study: {sede: 1}\n")
    assert main(arguments) == 1
    output = capsys.readouterr()
    assert output.err.startswith("internal-kd: ") and output.err.count("\n") == 1 and word in output.err
    assert output.out == ""


def test_the_runs_are_listed_for_programs_with_who_listens_to_whom(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    complete(study.runs[0])
    complete(study.runs[1])
    (study.runs[1].folder / "history.jsonl").unlink()
    with held(lock_of(study.runs[2])):
        assert main(["runs", "--overlay", OVERLAY, "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    columns = {"fingerprint", "task", "method", "learner", "seed", "teacher", "folder", "state"}
    assert [run["fingerprint"] for run in listed] == [run.fingerprint for run in study.runs]
    assert all(run.keys() == columns for run in listed)
    assert [run["state"] for run in listed] == ["complete", "broken", "running"] + ["missing"] * 5
    teacher = listed[0]["fingerprint"]
    taught_by = {run["method"]: run["teacher"] for run in listed}
    assert taught_by == {"teacher": [], "finetuned": [], "soft": [teacher], "stacked": [teacher]}
    assert {run["learner"] for run in listed} == {"all", "L2"} and all(
        Path(run["folder"]).parts[0] == "results" for run in listed
    )


def test_the_runs_are_listed_for_people(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "--overlay", OVERLAY]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["fingerprint", "task", "method", "learner", "seed", "teacher", "state", "folder"]
    assert len(rows) == 8 and any("stacked" in row and "teacher s1" in row for row in rows)


def test_make_makes_what_it_names_and_leaves_alone_what_is_complete(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    data = study.tasks["judge"].data
    assert main(["make", data.fingerprint, "--overlay", OVERLAY]) == 0
    assert data.marker.is_file() and "is complete\n" in capsys.readouterr().out
    assert main(["make", str(data.folder), "--overlay", OVERLAY]) == 0
    assert "complete already" in capsys.readouterr().out


def test_make_names_the_command_for_a_missing_input_as_it_would_be_typed(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["make", study.tasks["judge"].fingerprint, "--overlay", OVERLAY]) == 1
    line = capsys.readouterr().err
    commands = [word for word in line.split("`") if word.startswith("internal-kd make")]
    assert commands and parse_arguments(commands[0].split()[1:]).overlay == [OVERLAY]
    assert main(commands[0].split()[1:]) == 0


LOGGED = """
import sys
from internal_kd.command_line import main
from internal_kd.running import make as making
import tiny_study
from internal_kd.files import read_json, write_json

def step(run, **options):
    print("epoch 1")
    if "--fail" in sys.argv:
        raise RuntimeError("broken")
    tiny_study.complete(run)
    write_json(run.marker, read_json(run.marker) | {"scores": {"accuracy": 0.464}})

making.resolve = lambda path: step
making.check_inputs = lambda artefact, options: None
sys.exit(main(sys.argv[1:5] + ["--log", "logs/run.log"]))
"""


@pytest.mark.parametrize("fails", [False, True])
def test_make_with_a_log_shows_the_finished_runs_score_and_nothing_else(study: Study, fails: bool) -> None:
    run = study.runs[0]
    arguments = ["make", run.fingerprint, "--overlay", OVERLAY]
    command = [sys.executable, "-c", LOGGED, *arguments, *(["--fail"] if fails else [])]
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": paths})
    log = Path("logs/run.log").read_text()
    assert "epoch 1" in log and done.stderr == ""
    if fails:
        assert done.returncode == 1 and done.stdout == "" and "RuntimeError: broken" in log
    else:
        line = f"{run.label}: accuracy 46.4"
        assert (done.returncode, done.stdout) == (0, f"{line}\n") and line in log


def test_status_without_a_study_is_that_of_the_one_started_last(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status"]) == 0
    assert "study paper" in capsys.readouterr().out
    assert main(["params", "--overlay", OVERLAY]) == 0
    Path("snapshot.yaml").write_text(capsys.readouterr().out)
    remember_study(study, Path("snapshot.yaml"), described=True, started=True)
    assert main(["status"]) == 0
    assert "study tiny" in capsys.readouterr().out
    assert main(["status", "--params", "params.yaml"]) == 0
    assert "study paper" in capsys.readouterr().out


def test_status_shows_who_is_at_work_and_prints_json(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    with held("work/run.lock", {"what": "internal-kd run"}):
        assert main(["status", "--overlay", OVERLAY]) == 0
    assert "at work: internal-kd run" in capsys.readouterr().out
    assert main(["status", "--overlay", OVERLAY, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == 8


def test_a_watch_ends_when_all_is_done_and_ctrl_c_ends_it_with_130(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import internal_kd.command_line.pipeline as pipeline

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline.time, "sleep", interrupt)
    assert main(["status", "--overlay", OVERLAY, "--watch", "5"]) == 130
    assert capsys.readouterr().err == "internal-kd: interrupted\n"
    complete(*study.runs)
    assert main(["status", "--overlay", OVERLAY, "--watch", "60"]) == 0


def test_a_reader_that_is_gone_is_no_error(study: Study) -> None:
    command = f"{sys.executable} -m internal_kd.command_line runs --json --params params.yaml | head -n 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[\n", "")


def test_the_main_table_is_shown_and_what_is_older_than_its_runs_is_mentioned(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    complete_everything(study)
    assert main(["show", "--overlay", OVERLAY]) == 0
    shown = capsys.readouterr().out
    assert "report.html" in shown and "all 8 runs done" in shown and "older" not in shown
    write_json(study.runs[0].marker, read_json(study.runs[0].marker) | {"seconds": 3})
    assert main(["show", "--overlay", OVERLAY]) == 0
    assert "`internal-kd report`" in capsys.readouterr().out


def test_the_parameters_replace_params_yaml_on_request(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["params", "--overlay", OVERLAY, "--write"]) == 0
    assert capsys.readouterr().out == "params.yaml\n"
    assert main(["runs", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 8


@pytest.fixture
def trained_project_file(trained_copy: Trained) -> Trained:
    """The trained study as a project whose params.yaml describes it."""
    Path("params.yaml").write_text(trained_copy.study.as_yaml())
    return trained_copy


def test_a_runs_answers_are_written_by_name(trained_project_file: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained_project_file.run("judge", "teacher")
    assert main(["answers", run.fingerprint, "answers.jsonl"]) == 0
    assert len(Path("answers.jsonl").read_text().splitlines()) == 48
    assert main(["answers", str(run.inputs.folder), "answers.jsonl"]) == 1
    assert "not a run" in capsys.readouterr().err


@pytest.mark.slow
def test_a_student_is_exported_by_name(trained_project_file: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--task", "judge", "--method", "soft", "--to", "out"]) == 0
    assert (Path("out") / "model/config.json").is_file() and "out/export.json" in capsys.readouterr().out
    assert main(["export", "--point", "learner.layers"]) == 1
    assert "KEY=VALUE" in capsys.readouterr().err


def test_two_studies_are_compared_by_name() -> None:
    assert parse_arguments(["report", "--compare", "HEAD~1:demo", "demo"]).compare == ["HEAD~1:demo", "demo"]
    with pytest.raises(SystemExit):
        parse_arguments(["report", "--compare", "demo"])
