# The plan that all rules ask, and who is at work on it.

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from internal_kd.errors import UserError
from internal_kd.operations.planning import WILDCARDS, check_config_files, find_own_commands, make_plan
from internal_kd.operations.owners import claim, release
from internal_kd.operations.slurm import end_orphans
from internal_kd.operations.wanted import untracked_runs

find_own_commands()
try:
    check_config_files([*workflow.configfiles, *workflow.config_settings.configfiles])
    PLAN = make_plan(config, main_process=workflow.is_main_process)
except UserError as error:
    raise WorkflowError(str(error)) from None

PARAMS = str(PLAN.snapshot)

if workflow.is_main_process:
    for line in PLAN.describe():
        logger.info(line)


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


onsuccess:
    PLAN.remember_sources()
    release()
    if line := untracked_runs(len(PLAN.missing_runs)):
        logger.info(line)


onerror:
    PLAN.remember_sources()
    release()
