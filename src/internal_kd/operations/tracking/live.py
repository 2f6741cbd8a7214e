"""What a training tells MLflow while it runs, when MLFLOW_TRACKING_URI is set: its epochs, never its time.

The training only writes a line into a pipe. A process of its own passes the lines on (streaming.py), so a server that
is slow, dead or away can neither hold the training up nor end it, and MLflow is not even imported here. What does not
arrive is published from the run's files afterwards.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from internal_kd.artefacts import Run
from internal_kd.errors import Interrupted
from internal_kd.operations.tracking.names import (
    IDENTITY,
    LIVE,
    MADE_BY,
    MAKER,
    Opening,
    coordinates,
    experiment_name,
    identity_of,
)
from internal_kd.operations.tracking.store import patience, shown_uri

if TYPE_CHECKING:
    from internal_kd.distillation.epochs import OnEpoch

# What may wait when the pipe is full; beyond it epochs are left to publish-runs.
BACKLOG_BYTES = 1_000_000
# How long a finished training waits for its last epochs to arrive.
GRACE_SECONDS = 5.0


@contextlib.contextmanager
def live_tracking(run: Run, study: str) -> Iterator[OnEpoch | None]:
    """Yield what is to be told the history after every epoch, or None when MLFLOW_TRACKING_URI is not set."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        yield None
        return
    tags = {MADE_BY: MAKER, IDENTITY: identity_of(run), LIVE: "true", "level": "run", "study": study}
    tags |= {**coordinates(run), "seed": str(run.seed), "fingerprint": run.fingerprint}
    stream = LiveStream(Opening(uri, experiment_name(study, run.task), run.label, now(), tags))
    status = "FAILED"
    try:
        yield stream.tell
        status = "FINISHED"
    except (KeyboardInterrupt, Interrupted):
        status = "KILLED"
        raise
    finally:
        if trouble := stream.close(status):
            print(trouble, flush=True)


class LiveStream:
    """A pipe to the process that talks to MLflow. No method raises or blocks, whatever has become of that process."""

    def __init__(self, opening: Opening) -> None:
        """Start the process; it creates the run and waits for epochs."""
        self._uri = shown_uri(opening.uri)
        self._told = 0
        self._waiting = b""
        self._process: subprocess.Popen[bytes] | None = None
        environment = {**os.environ, **patience(timeout=3, retries=0), "CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, "-m", "internal_kd.operations.tracking.streaming"]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
            assert self._process.stdin is not None
            os.set_blocking(self._process.stdin.fileno(), False)
        except OSError:
            return
        self._send(opening.plain())

    def tell(self, history: Sequence[dict[str, Any]]) -> None:
        """Pass on the epochs that were not told yet."""
        for line in history[self._told :]:
            self._send({"epoch": line, "time": now()})
        self._told = len(history)

    def close(self, status: str) -> str | None:
        """Say how the training ended, wait a moment for the rest to arrive, and return what is to be said of it."""
        self._send({"end": status, "time": now()})
        arrived, reason = self._wait()
        missed = self._told - arrived
        if not missed:
            return None
        return (
            f"MLflow at {self._uri}: {missed} of {self._told} epochs did not arrive ({reason}). The training is whole; "
            "internal-kd publish-runs sends what is missing"
        )

    def _send(self, message: dict[str, Any]) -> None:
        if self._process is None or self._process.stdin is None or self._process.stdin.closed:
            return
        data = json.dumps(message).encode() + b"\n"
        if len(self._waiting) + len(data) <= BACKLOG_BYTES:
            self._waiting += data
        try:
            written = os.write(self._process.stdin.fileno(), self._waiting)
            self._waiting = self._waiting[written:]
        except BlockingIOError:
            return
        except OSError:  # it has ended
            self._waiting = b""

    def _wait(self) -> tuple[int, str]:
        """Return how many epochs arrived and why not more."""
        process = self._process
        if process is None:
            return 0, "no process could be started for it"
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        process.stdin = None
        try:
            said, _ = process.communicate(timeout=GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
            return _last_word(said)[0], f"no answer within {GRACE_SECONDS:.0f} s of the training's end"
        return _last_word(said)


def _last_word(said: bytes) -> tuple[int, str]:
    arrived, reason = 0, "the process that passes them on has ended"
    for line in said.splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            values = json.loads(line)
            arrived, reason = int(values["arrived"]), str(values["trouble"] or reason)
    return arrived, reason


def now() -> int:
    """Return milliseconds since 1970."""
    return round(time.time() * 1000)
