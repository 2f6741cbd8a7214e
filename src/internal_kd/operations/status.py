"""``internal-kd status``: a study's state from files, while or after the pipeline runs."""

from __future__ import annotations

import argparse
import time

from internal_kd.operations.owners import owners
from internal_kd.operations.progress import StudyState, describe, look
from internal_kd.params import load_params
from internal_kd.study import plan_study


def status(options: argparse.Namespace) -> int:
    """Print a study's state, again and again with ``--watch`` until nothing is left."""
    study = plan_study(load_params(options.params, options.overlay))
    state: StudyState | None = None
    while True:
        state = look(study, before=state)
        print("\n".join([*describe(state), *_at_work()]), flush=True)
        if options.watch is None or state.finished:
            return 0
        time.sleep(max(1, options.watch))


def _at_work() -> list[str]:
    return [f"  snakemake is at work: {owner}, on {owner.params}" for owner in owners() if owner.alive]
