# The pipeline: fetch_task -> tokenize_task -> train_teacher -> record_teacher -> initialize_student -> train_student
# -> score_runs -> compare_runs, measure_fidelity, map_attention -> plot_figures -> render_report -> publish_runs.
#
#   snakemake --cores 8 --resources gpu=2                   the study of params.yaml, as in the paper
#   snakemake --cores 2 --configfile config/demo.yaml       another study: an overlay on params.yaml
#   snakemake -n --cores 1                                  what would be done; needs no network
#
# A run's path ends in the fingerprint of all that determines it, so whether it is up to date is whether it exists.
# What is complete is no part of the DAG at all: file times and .snakemake/ never make anything again.

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

from internal_kd.errors import UserError
from internal_kd.operations.config_files import check_config_files

min_version("9.0")

# Before `configfile:`, which would run the Python of a file that says it is a template.
try:
    check_config_files(workflow.config_settings.configfiles)
except UserError as error:
    raise WorkflowError(str(error)) from None

configfile: "params.yaml"

report: "workflow/report/workflow.rst"

# What jobs run in under `--software-deployment-method apptainer`; otherwise in Snakemake's own environment.
container: "docker://python:3.11"

include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/teachers.smk"
include: "workflow/rules/students.smk"
include: "workflow/rules/results.smk"
include: "workflow/rules/export.smk"


rule all:
    default_target: True
    message:
        f"all of {PLAN.study.name}: results/{PLAN.study.name}/report.html"
    input:
        PARAMS,
        # By name, though the results wait for them too: Snakemake does without an input that is missing where what was
        # made of it seems to be younger, as after a clock was set back.
        PLAN.missing_runs,
        PLAN.results(),
        PLAN.publishing,


# The same in parts: `snakemake data --cores 2`, then teachers, students, and all.
rule data:
    message:
        f"the data of {PLAN.study.name}"
    input:
        PARAMS,
        PLAN.missing_data,


rule teachers:
    message:
        f"the teachers of {PLAN.study.name}"
    input:
        PARAMS,
        PLAN.missing_teachers,


# Not part of all: it asks for the extra `export` (docs/export.md).
rule export:
    message:
        f"the students to hand on: results/{PLAN.study.name}/export/"
    input:
        PARAMS,
        PLAN.exporting,


rule students:
    message:
        f"the students of {PLAN.study.name}"
    input:
        PARAMS,
        PLAN.missing_students,
