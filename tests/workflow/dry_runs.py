"""Snakemake's dry runs in a forked child of the test's own process, which has imported it already."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tiny_study import OVERLAY, environment, planned_jobs


@dataclass(frozen=True)
class DryRun:
    """What a dry run printed, and its exit code."""

    code: int
    output: str

    @property
    def jobs(self) -> dict[str, int]:
        """How many jobs of each rule it announces."""
        return planned_jobs(self.output)


def snakemake(*arguments: str, overlay: str | Path | None = OVERLAY) -> DryRun:
    """Run Snakemake as ``python -m snakemake`` would, without its three seconds of imports."""
    import snakemake.cli

    import internal_kd.running.snakemake_plan  # noqa: F401  what the Snakefile imports

    files = ["--configfile", str(overlay)] if overlay else []
    with tempfile.TemporaryFile() as output:
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            code = 1
            with contextlib.suppress(BaseException):
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                sys.stdout, sys.stderr = open(1, "w"), open(2, "w")  # noqa: SIM115
                kept = environment()
                os.environ.clear()
                os.environ.update(kept)
                # As python -m does: the Snakefile's folder is where modules are looked for first.
                sys.argv = ["snakemake", *arguments, "--cores", "2", *files]
                try:
                    snakemake.cli.main(sys.argv[1:])
                    code = 0
                except SystemExit as ended:
                    code = ended.code if isinstance(ended.code, int) else 1
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
        _, status = os.waitpid(child, 0)
        output.seek(0)
        return DryRun(os.waitstatus_to_exitcode(status), output.read().decode(errors="replace"))


def dry_run(*arguments: str, overlay: str | Path | None = OVERLAY) -> dict[str, int]:
    """Return the jobs that a dry run announces, which has to succeed."""
    done = snakemake("--dry-run", *arguments, overlay=overlay)
    assert done.code == 0, done.output
    return done.jobs
