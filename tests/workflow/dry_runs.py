"""Snakemake's dry runs of the tiny study in the current directory."""

from __future__ import annotations

from pathlib import Path

from forked import Done, forked
from tiny_study import OVERLAY, environment, planned_jobs


def snakemake(*arguments: str, overlay: str | Path | None = OVERLAY) -> Done:
    """Run Snakemake as ``python -m snakemake`` would, without its imports."""
    files = ["--configfile", str(overlay)] if overlay else []
    return forked("snakemake", *arguments, "--cores", "2", *files, env=environment())


def dry_run(*arguments: str, overlay: str | Path | None = OVERLAY) -> dict[str, int]:
    """Return the jobs that a dry run announces, which has to succeed."""
    done = snakemake("--dry-run", *arguments, overlay=overlay)
    assert done.code == 0, done.output
    return planned_jobs(done.output)
