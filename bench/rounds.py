"""Contestants in turn: each in a process of its own that is held while the others run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.contestants import Contestant

ROOT = Path(__file__).parents[1]


class Worker:
    """A contestant's process; a context manager that ends it."""

    def __init__(self, contestant: Contestant, python: Path, folder: Path, threads: int) -> None:
        self.contestant = contestant
        self._log = folder / f"{contestant.name}.log"
        surroundings = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [str(python), "-m", "bench.worker", contestant.name, str(folder)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=surroundings,
            )  # fmt: skip

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is not None:
            self._process.kill()
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def answer(self) -> dict[str, Any]:
        """Wait for the contestant's next report.

        Raises:
            RuntimeError: it ended instead; the last lines of its log are in the message.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            last = "\n".join(self._log.read_text().splitlines()[-15:])
            raise RuntimeError(f"{self.contestant.name} ended early; {self._log} ends with\n{last}")
        return json.loads(line)

    def round(self) -> dict[str, Any]:
        """Let it run one round."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return self.answer()


def run_in_turn(
    contestants: Sequence[Contestant], folder: Path, peers: Path | None, threads: int, rounds: int, minutes: float
) -> dict[str, Any]:
    """Run rounds of all contestants, A B C A B C, and return the reports of each by name.

    ``peers`` is the Python of the peers' environment; None leaves them out. After three rounds no other one begins
    that would not end within ``minutes``.
    """
    taking_part = [c for c in contestants if peers is not None or not c.peer]
    with ExitStack() as stack:
        workers = []
        found: dict[str, Any] = {}
        for contestant in taking_part:
            python = peers if contestant.peer and peers is not None else Path(sys.executable)
            workers.append(stack.enter_context(Worker(contestant, python, folder, threads)))
            # One warms up at a time: the memory of all together would not fit into many machines.
            found[contestant.name] = workers[-1].answer() | {"rounds": []}
        began = time.monotonic()
        for done in range(rounds):
            took = (time.monotonic() - began) / max(1, done)
            if done >= 3 and time.monotonic() - began + took > 60 * minutes:
                break
            for worker in workers:
                found[worker.contestant.name]["rounds"].append(worker.round())
            print(f"round {done + 1} of {rounds}, {time.monotonic() - began:.0f} s", flush=True)
    return found
