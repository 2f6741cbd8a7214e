# The plan that all rules ask, and who is at work on it.

import gc
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from internal_kd.errors import UserError
from internal_kd.operations.locks import another_at_work
from internal_kd.operations.planning import WILDCARDS, find_own_commands, make_plan
from internal_kd.operations.owners import claim, forget_those_elsewhere, release
from internal_kd.operations.slurm import end_orphans
from internal_kd.operations.wanted import is_described, untracked_runs
from internal_kd.params import with_nulls

# A DAG is a great many objects that live as long as Snakemake does: searching them for garbage at Python's usual rate
# takes a fifth of the planning time of two thousand runs.
gc.set_threshold(100_000, 20, 100)

find_own_commands()
try:
    PLAN = make_plan(
        with_nulls(config, workflow.config_settings.config),
        main_process=workflow.is_main_process,
        described=is_described(workflow.config_settings.configfiles, bool(workflow.config_settings.config)),
    )
except UserError as error:
    raise WorkflowError(str(error)) from None

PARAMS = str(PLAN.snapshot)

if workflow.is_main_process:
    for line in PLAN.describe():
        logger.info(line)
    if line := another_at_work():
        logger.info(line)
    if "--unlock" in sys.argv:
        # Whoever unlocks says that the owner has ended; of another machine's nobody here can tell.
        forget_those_elsewhere()

# What `snakemake --report` shows, besides what each rule took.
TABLES = [path for path in PLAN.results() if Path(path).name in ("main.csv", "comparisons.csv", "fidelity.csv")]


def labelled(path, kind):
    """A result with what the report says of it."""
    found = Path(path)
    labels = {"what": found.stem.replace("_", " "), "format": found.suffix[1:]}
    return report(path, caption=f"../report/{kind}.rst", category=kind.capitalize(), labels=labels)


wildcard_constraints:
    **WILDCARDS,


onstart:
    # Done by `internal-kd run` before the plan is made; here for those who start snakemake themselves.
    try:
        end_orphans(logger.info)
    except UserError as error:
        raise WorkflowError(str(error)) from None
    claim(PLAN.snapshot)
    PLAN.announce_publishing()
    PLAN.remember_study()


onsuccess:
    PLAN.remember_sources()
    release()
    if line := untracked_runs(len(PLAN.missing_runs)):
        logger.info(line)


onerror:
    from internal_kd.operations.gaps import way_on

    PLAN.remember_sources()
    release()
    if line := way_on(PLAN.study, PLAN.snapshot):
        logger.info(line)
