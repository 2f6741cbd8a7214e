"""Nothing about the user's home, name, locale or network stops a run from starting."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from internal_kd.running.environment import NAMES

REPORT = """
import getpass, json, os, pwd, sys
from pathlib import Path
from internal_kd.running.environment import prepare_environment
if "nameless" in sys.argv:  # as in a container: a number that the system has no entry for
    pwd.getpwuid = {}.__getitem__
prepare_environment(offline="offline" in sys.argv)
print(json.dumps(dict(os.environ)))
print(getpass.getuser(), Path.home(), "89.6 \xb1 1.2")
"""


def report(*arguments: str, **environment: str | None) -> tuple[dict[str, str], str]:
    """Return the variables a process finds, and the line it prints; None stands for a variable that is not set."""
    around = {**os.environ, "PYTHONIOENCODING": "utf-8", **environment}
    done = subprocess.run(
        [sys.executable, "-c", REPORT, *arguments],
        env={name: value for name, value in around.items() if value is not None},
        stdout=subprocess.PIPE,
        check=True,
    )
    variables, line = done.stdout.decode("latin-1").splitlines()
    return json.loads(variables), line


def test_what_is_in_order_stays(project: Path) -> None:
    home = project / "home"
    found, _ = report(HOME=str(home), XDG_CACHE_HOME=None, MPLCONFIGDIR=None, HF_HUB_OFFLINE=None)
    assert found["HOME"] == str(home) and not {"XDG_CACHE_HOME", "MPLCONFIGDIR", "HF_HUB_OFFLINE"} & found.keys()
    assert not Path("work").exists()


@pytest.mark.parametrize("broken", [{"HOME": "/proc/nohome"}, {"XDG_CACHE_HOME": "/dev/null/cache"}], ids=str)
def test_a_home_that_cannot_be_written_has_its_caches_in_work(project: Path, broken: dict[str, str]) -> None:
    found, _ = report(**{"XDG_CACHE_HOME": None, "MPLCONFIGDIR": None, **broken})
    assert found["XDG_CACHE_HOME"] == str(project / "work/cache")
    assert found["MPLCONFIGDIR"] == str(project / "work/cache/matplotlib")


def test_a_user_without_a_name_or_home_gets_both(project: Path) -> None:
    _, line = report("nameless", **dict.fromkeys((*NAMES, "HOME", "XDG_CACHE_HOME")))
    assert line.split()[:2] == [f"uid{os.getuid()}", str(project / "work/cache/home")]


@pytest.mark.parametrize("encoding", ["ascii", "iso8859-2"])
def test_what_a_terminal_cannot_show_becomes_a_question_mark(project: Path, encoding: str) -> None:
    _, line = report(PYTHONIOENCODING=encoding)
    assert line.endswith("89.6 ? 1.2")


def test_offline_is_said_before_the_libraries_are_imported(project: Path) -> None:
    found, _ = report("offline")
    assert found["HF_HUB_OFFLINE"] == found["HF_DATASETS_OFFLINE"] == "1"
