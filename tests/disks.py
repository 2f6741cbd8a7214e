"""Disks that are full or read-only. Only root may mount such disks: elsewhere the tests that need one are skipped."""

import os
import subprocess
from pathlib import Path

import pytest


def mount(folder: Path, options: str = "mode=755") -> None:
    """Mount a small disk at ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("only root may mount a small disk here")


def remount(folder: Path, options: str) -> None:
    """Change a mounted disk: ``ro``, or another size."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def unmount(folder: Path) -> None:
    """Take a disk away, lazily: somebody may be in it still, or map a file of it."""
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
