"""The process beside a training that passes its epochs on to MLflow; live.py starts it.

It reads JSON lines: an ``Opening``, then ``{"epoch": line of history, "time": ms}`` as often as there are epochs, then
``{"end": status, "time": ms}``; input that ends without that line means the training was killed. It writes
``{"arrived": epochs, "trouble": text}`` after every attempt. What could not be sent is tried again with the next epoch.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, TextIO

from internal_kd.operations.tracking.names import IDENTITY, LIVE, Opening, epoch_points
from internal_kd.operations.tracking.store import experiment_id, log_points, made_here, open_store, shown_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

# A server may answer drop by drop for ever; nobody waits for this process longer than that.
LAST_SECONDS = 15.0
LOCK_SECONDS = 60.0


class Sender:
    """A live run and the epochs that have not arrived there yet."""

    def __init__(self, opening: Opening) -> None:
        """Nothing is created before the first attempt to send."""
        self.arrived = 0
        self._opening = opening
        self._waiting: list[dict[str, Any]] = []
        self._end: dict[str, Any] | None = None
        self._client: MlflowClient | None = None
        self._run_id: str | None = None

    def take(self, message: dict[str, Any]) -> None:
        """Remember what is to be sent."""
        if "end" in message:
            self._end = message
        else:
            self._waiting.append(message)

    def send(self) -> None:
        """Create the run if need be and send all that waits. Any error leaves what did not arrive waiting."""
        client, run_id = self._open()
        waiting = list(self._waiting)
        log_points(client, run_id, [p for told in waiting for p in epoch_points(told["epoch"], told["time"])])
        del self._waiting[: len(waiting)]
        self.arrived += len(waiting)
        if self._end:
            client.set_terminated(run_id, self._end["end"], self._end["time"])

    def _open(self) -> tuple[MlflowClient, str]:
        if self._client is None:
            self._client = open_store(self._opening.uri, LOCK_SECONDS)
        if self._run_id is None:
            experiment = experiment_id(self._client, self._opening.experiment)
            earlier = [
                run.info.run_id
                for run in made_here(self._client, experiment)
                if LIVE in run.data.tags and run.data.tags.get(IDENTITY) == self._opening.tags[IDENTITY]
            ]
            run = self._client.create_run(
                experiment, start_time=self._opening.started, tags=self._opening.tags, run_name=self._opening.name
            )
            self._run_id = run.info.run_id
            for run_id in earlier:  # attempts that were killed
                self._client.delete_run(run_id)
        return self._client, self._run_id


def main() -> None:
    """Pass on what comes until the input ends."""
    # The training decides when this ends: an interrupt of the whole process group must not lose its last words.
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    report = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # MLflow prints; only reports belong into the pipe
    messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    opening = Opening(**json.loads(sys.stdin.readline()))
    threading.Thread(target=_read, args=(messages,), daemon=True).start()
    sender = Sender(opening)
    _try(sender, report)
    while True:
        batch = [messages.get()]
        while not messages.empty():
            batch.append(messages.get())
        for message in batch:
            sender.take(message)
        _try(sender, report)
        if "end" in batch[-1]:
            return


def _read(messages: queue.SimpleQueue[dict[str, Any]]) -> None:
    ended = False
    for line in sys.stdin:
        message = json.loads(line)
        ended = ended or "end" in message
        messages.put(message)
    timer = threading.Timer(LAST_SECONDS, os._exit, args=(1,))
    timer.daemon = True
    timer.start()
    if not ended:
        messages.put({"end": "KILLED", "time": round(time.time() * 1000)})


def _try(sender: Sender, report: TextIO) -> None:
    trouble = ""
    try:
        sender.send()
    except Exception as error:  # whatever it is: it is told, and tried again with the next epoch
        trouble = shown_uri(" ".join(str(error).split()))[:200] or type(error).__name__
    try:
        report.write(json.dumps({"arrived": sender.arrived, "trouble": trouble}) + "\n")
    except OSError:  # the training was killed
        return


if __name__ == "__main__":
    main()
