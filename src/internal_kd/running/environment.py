"""What a process needs around it before any library is imported: caches it can write, a user's name, no network."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

from internal_kd.plan.identity import WORK

# Read by the libraries when they are imported.
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")


def prepare_environment(*, offline: bool = False) -> None:
    """Make the surroundings of this process and of those it starts fit to work in.

    Libraries that cache files in the user's home get ``work/cache`` if that home cannot be written, a user who has a
    number but no name (as in a container) gets one, characters that the terminal cannot show become question marks,
    and with ``offline`` nothing asks a network. What is set already stays, unless it cannot be used.
    """
    cache = WORK.absolute() / "cache"
    try:
        home = Path.home()
    except RuntimeError:  # neither HOME nor an entry of the user's
        home = cache / "home"
        os.environ["HOME"] = str(home)
    if not _is_writable(Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")):
        os.environ["XDG_CACHE_HOME"] = str(cache)
        os.environ.setdefault("MPLCONFIGDIR", str(cache / "matplotlib"))
    if not _has_a_name():
        os.environ["USER"] = f"uid{os.getuid()}"
    # For the Python programs that this one starts; its own streams are open already.
    os.environ.setdefault("PYTHONIOENCODING", ":replace")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    if offline:
        os.environ.update(OFFLINE)


def find_own_commands() -> None:
    """Put this Python's scripts first in PATH, so that jobs find `internal-kd` in an environment not activated."""
    scripts = str(Path(sys.executable).parent)
    paths = os.environ.get("PATH", "").split(os.pathsep)
    if paths[0] != scripts:
        os.environ["PATH"] = os.pathsep.join([scripts, *paths])


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def _has_a_name() -> bool:
    import pwd

    if any(os.environ.get(name) for name in NAMES):
        return True
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    return True
