"""Steps that start at once: one process that has loaded torch, its company and this package, and forks for each step.

Loading them takes five seconds of a core, as long as a small training. So ``internal-kd run`` keeps a worker that has
loaded them. A step's command sends it arguments, environment and open files; the worker forks, the child does the step,
and the command waits, passes on the signals it gets, and ends with the child's exit code. The open connection is what
keeps a child alive: the kernel closes it when the command ends, however it ends, and that ends the child. If anything
fails here, or a file of this package has changed since it was loaded, the command does the step itself. Jobs in a
cluster's queue never see the worker. It ends with the run.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from select import select

from internal_kd.plan.identity import WORK
from internal_kd.registry import resolve
from internal_kd.running.environment import OFFLINE

ADDRESS = "INTERNAL_KD_WARM"
SOCKET = WORK / "warm.sock"  # one run at a time works in a folder; relative, since sockets take no long path
MODULES = (
    "torch",
    "accelerate",
    "transformers.models.bert.modeling_bert",
    "pandas",
    "pyarrow.parquet",
    "scipy.stats",
    "matplotlib.figure",
)
OWN = "internal_kd"  # with all its modules
STARTED = b"+"


@contextmanager
def warm_worker() -> Iterator[dict[str, str]]:
    """Keep a worker for the time of the block; yield what a step's environment needs to find it."""
    try:
        SOCKET.parent.mkdir(exist_ok=True)
        SOCKET.unlink(missing_ok=True)
        # In packets: a request arrives complete or not at all.
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(str(SOCKET))
            SOCKET.chmod(0o600)
            listener.listen(64)
            # A session of its own: what a terminal sends, steps get from Snakemake. Its input ends with this process.
            worker = subprocess.Popen(
                [sys.executable, "-m", __name__, str(listener.fileno()), OWN, *MODULES],
                env=os.environ | OFFLINE,
                pass_fds=[listener.fileno()],
                stdin=subprocess.PIPE,
                start_new_session=True,
            )
    except OSError:  # a disk or a system without such sockets
        yield {}
        return
    try:
        yield {ADDRESS: str(SOCKET)}
    finally:
        SOCKET.unlink(missing_ok=True)
        worker.kill()
        worker.communicate()


def do_warm(main: str, arguments: Sequence[str]) -> int | None:
    """Let the worker call ``main``, a ``module:function``; return the exit code, or None if it is to be called here.

    Not for what fetches: the worker has loaded its libraries without a network.
    """
    if not os.environ.get(ADDRESS):
        return None
    request = {"main": main, "arguments": list(arguments), "folder": str(Path.cwd()), "environment": dict(os.environ)}
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        line.connect(os.environ[ADDRESS])
        socket.send_fds(line, [json.dumps(request).encode()], [0, 1, 2])
        if line.recv(1) != STARTED:
            return None
    except OSError:
        return None
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: line.send(bytes([number])))
    with suppress(OSError):
        if last := line.recv(1):
            return last[0]
    print("internal-kd: the step's process was killed", file=sys.stderr)
    return 128 + signal.SIGKILL


def serve(listener: socket.socket, own: str, modules: Sequence[str]) -> None:
    """Fork for every request until standard input ends; the first one makes it load the modules and a whole package."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel clears away children that have ended
    loaded: dict[Path, tuple[int, int]] = {}
    while 0 not in select([listener.fileno(), 0], [], [])[0]:
        line, _ = listener.accept()
        if not loaded:
            loaded = _sources(own)
            for name in modules:
                importlib.import_module(name)
            for found in pkgutil.walk_packages(importlib.import_module(own).__path__, f"{own}."):
                if not found.name.endswith("__main__"):
                    importlib.import_module(found.name)
        # What was edited meanwhile is not what was loaded: the command is on its own then.
        if _sources(own) == loaded and os.fork() == 0:
            listener.close()
            _do(line)
        line.close()


def _sources(package: str) -> dict[Path, tuple[int, int]]:
    """Return time and size of every source file of a package."""
    found = find_spec(package)
    folders = [Path(folder) for folder in (found and found.submodule_search_locations) or ()]
    looked = [(path, path.stat()) for folder in folders for path in folder.rglob("*.py")]
    return {path: (about.st_mtime_ns, about.st_size) for path, about in looked}


def _do(line: socket.socket) -> None:
    """Be the command that asked: its files, folder, environment and arguments. Never returns."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        message, files, _, _ = socket.recv_fds(line, 1 << 20, 3)
        if not message:  # the command is gone
            os._exit(code)
        request = json.loads(message)
        for place, file in enumerate(files):
            os.dup2(file, place)
            os.close(file)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update({k: v for k, v in request["environment"].items() if k != ADDRESS})
        if torch := sys.modules.get("torch"):  # it has read this when it was loaded, for another process
            torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))
        threading.Thread(target=_obey, args=(line,), daemon=True).start()
        line.send(STARTED)
        code = resolve(request["main"])(request["arguments"])
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    with suppress(OSError):
        line.send(bytes([code & 0xFF]))
    os._exit(code & 0xFF)


def _obey(line: socket.socket) -> None:
    """Take the signals that the command passes on; its end is the last one."""
    with suppress(OSError):
        while number := line.recv(1):
            os.kill(os.getpid(), number[0])
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2], sys.argv[3:])
