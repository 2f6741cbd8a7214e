"""A study in MLflow while it runs, where MLFLOW_TRACKING_URI names a server: a process beside the run.

It reads the trainings' files, at the lowest priority; nothing waits for it, and nothing that fails in it concerns the
run. It ends with the run, however that ends, and then shows once what has become of the trainings.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from threading import Event

from internal_kd.plan.identity import WORK
from internal_kd.running.project import at_work

LOG = WORK / "logs/publish_runs.log"
# Standard input ends when the run does, killed or not.
SCRIPT = 'nice -n 19 "$@" --follow & cat > /dev/null; kill $!; exec nice -n 19 "$@"'
POLL_SECONDS = 1.0


def show_meanwhile(ended: Event, command: Sequence[str] = ()) -> None:
    """Until the event is set, keep a process that shows the study at work; returns at once where no server is named.

    ``command`` publishes; it is ``internal-kd publish-runs`` if empty.
    """
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        return
    while not (params := (at_work() or {}).get("params")):
        if ended.wait(POLL_SECONDS):
            return
    publish = command or (sys.executable, "-m", "internal_kd.command_line", "publish-runs", "--log", str(LOG))
    nobody = subprocess.DEVNULL
    shell = ["sh", "-c", SCRIPT, "sh", *publish, "--params", str(params)]
    child = subprocess.Popen(shell, stdin=subprocess.PIPE, stdout=nobody, stderr=nobody, start_new_session=True)
    ended.wait()
    assert child.stdin is not None
    child.stdin.close()
    child.returncode = 0  # not waited for
