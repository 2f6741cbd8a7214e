# The pipeline:
#   fetch_task, fetch_encoder -> encode_task -> train_teacher -> record_answers, initialize_student
#   -> distill_labels, distill_internals -> measure_latency -> map_attention -> evaluate -> plot -> report -> publish_runs
#
#   snakemake --cores 8 --resources gpu=2                   the study of params.yaml, as in the paper
#   snakemake --cores 2 --configfile config/demo.yaml       another study: an overlay on params.yaml
#   snakemake -n --cores 1                                  what would be done; needs no network
#
# A run's path ends in the fingerprint of everything that determines it, so whether it is up to date is whether it exists.
# Complete artefacts are no part of the DAG: file times and .snakemake/ never make anything again. That is why the rules
# ask a plan for their inputs (src/internal_kd/running/snakemake_plan.py) and do not name them.

from snakemake.utils import min_version

min_version("9.0")

report: "workflow/report/workflow.rst"

# What jobs run in under `--software-deployment-method apptainer`: `apptainer build internal-kd.sif apptainer.def` makes
# it from the lock. Otherwise they run in Snakemake's own environment.
container: "internal-kd.sif"

include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/runs.smk"
include: "workflow/rules/results.smk"
include: "workflow/rules/export.smk"


rule all:
    default_target: True
    message:
        f"all of {PLAN.study.name}: {PLAN.study.folder}/report.html"
    input:
        PARAMS,
        # The results wait for the runs too. They are named here because Snakemake does without a missing input if what
        # was made of it looks younger, as after a clock was set back.
        PLAN.missing_runs,
        PLAN.results(),
        PUBLISHING,


# The same in parts: `snakemake data --cores 2`, then teachers, runs, and all.
rule data:
    message:
        f"the data of {PLAN.study.name}"
    input:
        PARAMS,
        PLAN.missing_data,


rule teachers:
    message:
        f"the runs of {PLAN.study.name} that teach others"
    input:
        PARAMS,
        PLAN.missing_teachers,


rule runs:
    message:
        f"all runs of {PLAN.study.name}"
    input:
        PARAMS,
        PLAN.missing_runs,
