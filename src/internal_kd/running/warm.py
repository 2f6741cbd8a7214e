"""Steps that start at once: a process that has loaded torch and its company, and forks for each step.

Loading torch, transformers and pandas takes a step some seconds, which is what a small step itself takes. So
`internal-kd run` keeps one process that has loaded them and does nothing else. A step's command hands it its arguments,
environment and open files; it forks, the child does the step as the command would have done it, and the command waits.

    command                        preloaded process              child
    connect, send request  ──────> fork                  ──────>  do the step
           <───────────────────────────────────────── {"pid": ...}
    hand signals on        ──────────────────────────────────────> checkpoint, end
           <───────────────────────────────────────── {"code": ...}

Whatever is amiss with it, the command does the step itself. It serves one run on one machine: steps that a cluster's
queue starts never see it. It ends with the run, and a child ends with the command that waits for it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from types import FrameType
from typing import Any

ADDRESS = "INTERNAL_KD_PRELOADED"
_STEPS = ("tokenize-task", "train-teacher", "record-teacher", "initialize-student", "train-student")
_TABLES = ("score-runs", "compare-runs", "measure-fidelity", "map-attention", "plot-figures", "render-report")
_MEASUREMENTS = ("measure-latency",)
VERBS = frozenset(_STEPS + _TABLES + _MEASUREMENTS)
# What those verbs load on their way; nothing that starts threads or asks for a GPU.
MODULES = ("internal_kd.distillation.trainer", "pandas", "scipy.stats", "sklearn.metrics", "matplotlib.figure")
_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
_REQUEST_BYTES = 1 << 20


@contextlib.contextmanager
def preloading() -> Iterator[dict[str, str]]:
    """Keep a preloaded process for the time of the block; yield what a step's environment needs to find it."""
    from internal_kd.identity import WORK

    address = WORK / f"preloaded-{os.getpid()}.sock"
    WORK.mkdir(exist_ok=True)
    address.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address))
        address.chmod(0o600)
        listener.listen(64)
        # A session of its own: what a terminal sends, steps get from Snakemake. Its input ends when this process does.
        server = subprocess.Popen(
            [sys.executable, "-m", __name__, str(listener.fileno())],
            env=os.environ | _OFFLINE,
            pass_fds=[listener.fileno()],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
    try:
        yield {ADDRESS: str(address)}
    finally:
        address.unlink(missing_ok=True)
        assert server.stdin is not None
        server.stdin.close()
        server.terminate()
        server.wait()


def done_by_preloaded(arguments: Sequence[str]) -> int | None:
    """Let the preloaded process do a command; return its exit code, or None when the command is to be done here."""
    address = os.environ.get(ADDRESS)
    if address is None or not arguments or arguments[0] not in VERBS:
        return None
    request = {"arguments": list(arguments), "folder": str(Path.cwd()), "environment": dict(os.environ)}
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(address)
            socket.send_fds(line, [json.dumps(request).encode() + b"\n"], [0, 1, 2])
            answers = line.makefile("r")
            first = answers.readline()
            if not first:
                return None
            with _handing_signals_on(json.loads(first)["pid"]):
                last = answers.readline()
    except OSError:
        return None
    if not last:
        print("internal-kd: the step's process was killed", file=sys.stderr)
        return 128 + signal.SIGKILL
    return int(json.loads(last)["code"])


@contextlib.contextmanager
def _handing_signals_on(pid: int) -> Iterator[None]:
    def hand_on(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    former = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def serve(listener: socket.socket) -> None:
    """Fork for every request until standard input ends; the first one makes it load the modules."""
    with DefaultSelector() as selector:
        selector.register(listener, EVENT_READ)
        selector.register(sys.stdin, EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select(timeout=1.0)}
            _reap()
            if sys.stdin in ready:
                return
            if listener in ready:
                line, _ = listener.accept()
                for name in MODULES:
                    importlib.import_module(name)
                with line:
                    if _is_ours(line) and os.fork() == 0:
                        selector.close()
                        listener.close()
                        _do(line)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _is_ours(line: socket.socket) -> bool:
    """Whether the same user asks; the socket's mode says so too, where file systems keep modes."""
    pid_uid_gid = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(pid_uid_gid[4:8], sys.byteorder) == os.getuid()


def _do(line: socket.socket) -> None:
    """Be the command that asked: its files, folder, environment and arguments. Never returns."""
    code = 1
    try:
        request = _receive(line)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        signal.signal(signal.SIGINT, signal.default_int_handler)
        line.sendall(json.dumps({"pid": os.getpid()}).encode() + b"\n")
        threading.Thread(target=_end_with, args=(line,), daemon=True).start()
        code = _command(request["arguments"])
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        with contextlib.suppress(OSError):
            line.sendall(json.dumps({"code": code}).encode() + b"\n")
        os._exit(code & 0xFF)


def _receive(line: socket.socket) -> dict[str, Any]:
    message, files, _, _ = socket.recv_fds(line, _REQUEST_BYTES, 3)
    while not message.endswith(b"\n"):
        message += line.recv(_REQUEST_BYTES)
    for place, file in enumerate(files):
        os.dup2(file, place)
        os.close(file)
    return json.loads(message)


def _command(arguments: list[str]) -> int:
    import torch

    from internal_kd.operations.cli import main

    # torch has read it when it was loaded, for another process.
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))
    try:
        return main(arguments)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1


def _end_with(line: socket.socket) -> None:
    """Die when the command that waits is gone, as the command itself would have."""
    line.recv(1)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
