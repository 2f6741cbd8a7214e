"""Commands in a forked child of one process that has loaded what they need: tenths of a second for seconds.

Use it wherever a test asks Snakemake or DVC something and the process itself is not what is tested:
``forked("snakemake", "--dry-run", "--cores", "2")``. What a command starts in its turn is started as always.
"""

from __future__ import annotations

import functools
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# A package to load as a whole, as a worker does: a light one.
LITTLE = "internal_kd.tasks"
# The function behind each command, and what takes its time to load.
COMMANDS = {
    "snakemake": ("forked:snakemake", "snakemake.cli", "internal_kd.running.snakemake_plan"),
    "dvc": ("dvc.cli:main", "dvc.cli.parser", "dvc.repo", "dvc.data_cloud", "rich"),
    # Without huggingface_hub, which reads the hub's address when it is loaded.
    "fetch": ("hub_server:fetch", "torch", "pandas", "pyarrow.parquet", "internal_kd.plan.study"),
}


@dataclass(frozen=True)
class Done:
    """What a command printed, stdout and stderr together, and its exit code."""

    code: int
    output: str


def forked(command: str, *arguments: str, folder: Path | None = None, env: Mapping[str, str] | None = None) -> Done:
    """Run one of the commands in a folder (default: the current one) and an environment (default: this one)."""
    request = {
        "main": COMMANDS[command][0],
        "arguments": arguments,
        "folder": str(folder or Path.cwd()),
        "environment": dict(os.environ if env is None else env),
    }
    with tempfile.TemporaryFile() as output, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        line.connect(f"{_process(command)[0].name}/socket")
        socket.send_fds(line, [json.dumps(request).encode()], [output.fileno(), output.fileno(), output.fileno()])
        line.recv(1)  # it has started
        (code,) = line.recv(1)
        output.seek(0)
        return Done(code, output.read().decode(errors="replace"))


@functools.cache
def _process(command: str) -> tuple[tempfile.TemporaryDirectory[str], subprocess.Popen[bytes]]:
    """Start the process, which ends with this one; it is the worker that does the steps of a run."""
    folder = tempfile.TemporaryDirectory(prefix="forked-")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(f"{folder.name}/socket")
        listener.listen()
        paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        process = subprocess.Popen(
            [sys.executable, "-m", "internal_kd.running.warm", str(listener.fileno()), LITTLE, *COMMANDS[command][1:]],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            pass_fds=[listener.fileno()],
            stdin=subprocess.PIPE,
        )
    return folder, process


def snakemake(arguments: list[str]) -> int:
    """Be ``python -m snakemake``, with the package that PYTHONPATH names."""
    import snakemake.cli

    first = os.environ.get("PYTHONPATH", "").split(os.pathsep)[0]
    if first and first not in sys.path:  # another version than the one that is loaded
        sys.path.insert(0, first)
        for name in [name for name in sys.modules if name.partition(".")[0] == "internal_kd"]:
            del sys.modules[name]
    sys.argv = ["snakemake", *arguments]
    snakemake.cli.main(arguments)
    return 0
