# The plan that all rules ask, and who is at work on it.

import gc
import os
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from internal_kd.errors import UserError
from internal_kd.held import describe
from internal_kd.running.dvc import unknown_to_dvc
from internal_kd.running.environment import find_own_commands
from internal_kd.running.project import INHERITED, at_work, end_work, start_work
from internal_kd.running.snakemake_plan import WILDCARDS, make_plan
from internal_kd.tracking.names import announce, is_announced

# A DAG is a great many objects that live as long as Snakemake does: searching them for garbage at Python's usual rate
# takes a fifth of the planning time of two thousand runs.
gc.set_threshold(100_000, 20, 100)

find_own_commands()
# No `configfile:`, because overlays are not laid over params.yaml as Snakemake would: another encoder's entry, for
# instance, replaces the first one. `--configfile` and `--config` count all the same.
try:
    PLAN = make_plan(
        workflow.config_settings.configfiles, workflow.config_settings.config, main_process=workflow.is_main_process
    )
except UserError as error:
    raise WorkflowError(str(error)) from None

PARAMS = str(PLAN.snapshot)
PUBLISHING = PLAN.publishing(is_announced(PLAN.study))

if workflow.is_main_process:
    for line in PLAN.describe():
        logger.info(line)
    # Snakemake's own words about its lock name nobody.
    if INHERITED not in os.environ and (working := at_work()):
        logger.info(f"another {describe(working)} is at work in this folder; `internal-kd status` shows how far it is")

# What `snakemake --report` shows, besides what each rule took.
SHOWN = {"tables": ("main.csv", "comparisons.csv", "fidelity.csv"), "figures": ("forest.svg", "learning.svg")}


def labelled(path):
    """A result, with its caption and labels if `snakemake --report` shows it."""
    found = Path(path)
    kind = "report" if found.name == "report.html" else found.parent.name
    if kind != "report" and found.name not in SHOWN.get(kind, ()):
        return path
    labels = {"what": found.stem.replace("_", " "), "format": found.suffix[1:]}
    return report(path, caption=f"../report/{kind}.rst", category=kind.capitalize(), labels=labels)


wildcard_constraints:
    **WILDCARDS,


onstart:
    try:
        start_work(PLAN.snapshot, logger.info)
        PLAN.start()
        if PUBLISHING:
            announce(PLAN.study)
    except UserError as error:
        raise WorkflowError(str(error)) from None


onsuccess:
    PLAN.remember_sources()
    end_work()
    for line in (PLAN.outcome(), unknown_to_dvc(len(PLAN.missing_runs))):
        if line:
            logger.info(line)


onerror:
    PLAN.remember_sources()
    end_work()
    if line := PLAN.way_out():
        logger.info(line)
