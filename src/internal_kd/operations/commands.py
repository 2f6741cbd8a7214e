"""The table of sub-commands: what each does, reads and writes, its options, and the function that does it."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Handler = Callable[[argparse.Namespace], int]


@dataclass(frozen=True)
class Option:
    """One option of a sub-command; ``settings`` are argparse's."""

    flag: str
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Command:
    """One sub-command. ``does`` names its function as ``module:function`` below internal_kd.operations."""

    summary: str
    does: str
    example: str
    reads: str = ""
    writes: str = ""
    options: tuple[Option, ...] = ()

    def handler(self) -> Handler:
        """Import and return the function; it takes the parsed options and returns the exit code."""
        module, function = self.does.split(":")
        return getattr(importlib.import_module(f"internal_kd.operations.{module}"), function)


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is below 0")
    return number


def _size(text: str) -> int | str:
    return text if text == "full" else _count(text)


_size.__name__ = _count.__name__ = "number"  # what argparse calls them in its messages

PARAMS = Option("--params", {"default": "params.yaml", "metavar": "FILE", "help": "the study (default: params.yaml)"})
OVERLAY = Option(
    "--overlay",
    {"action": "append", "default": [], "metavar": "FILE", "help": "laid over it; may be given more than once"},
)
STUDY = (PARAMS, OVERLAY)
TASK = Option("--task", {"required": True, "help": "an entry of `tasks`"})
SEED = Option("--seed", {"required": True, "type": _count, "metavar": "K", "help": "a seed of the study"})
DEPTH = Option("--depth", {"required": True, "type": _count, "metavar": "D", "help": "student layers"})
METHOD = Option("--method", {"required": True, "help": "an entry of `methods`"})
EXAMPLES = Option(
    "--examples", {"type": _size, "metavar": "N", "help": "training-set size or `full` (default: the study's first)"}
)
EXPECT = Option(
    "--expect",
    {"metavar": "FINGERPRINT", "help": "refuse unless this is what the options name (given by Snakemake)"},
)

COMMANDS: dict[str, Command] = {
    "run": Command(
        "run the whole pipeline: Snakemake, after clearing locks whose owner is dead",
        "run:run",
        "internal-kd run --cores 8 --resources gpu=2 --configfile config/demo.yaml",
        "params.yaml and every overlay given with --configfile",
        "whatever the study lacks; ends with results/<study>/report.html",
        (
            Option(
                "arguments",
                {
                    "nargs": argparse.REMAINDER,
                    "metavar": "SNAKEMAKE-ARGUMENT",
                    "help": "passed on to snakemake as they are, and after them those in the environment variable "
                    "INTERNAL_KD_RUN; without --cores, all cores are used",
                },
            ),
        ),
    ),
    "status": Command(
        "show what of a study is done, running, broken and left, and how long it may take",
        "status:status",
        "internal-kd status --overlay config/demo.yaml --watch 30",
        "run.json of every wanted run and work/progress/; works while the pipeline runs elsewhere",
        options=(
            *STUDY,
            Option("--watch", {"type": _count, "metavar": "SECONDS", "help": "show it again until all is done"}),
        ),
    ),
    "estimate": Command(
        "say what a study still asks for: runs, hours, disk, downloads",
        "estimate:estimate",
        "internal-kd estimate --overlay config/demo.yaml",
        "run.json of every finished run, manifests; neither a network nor a GPU",
        options=(*STUDY, Option("--json", {"action": "store_true", "help": "print it as JSON"})),
    ),
    "show": Command(
        "print a study's main table and where its report lies",
        "results:show",
        "internal-kd show --overlay config/demo.yaml",
        "results/<study>/tables/main.md",
        options=STUDY,
    ),
    "results": Command(
        "make tables, figures and report of the runs that are there; what is missing is a named gap",
        "gaps:make_results",
        "internal-kd results --overlay config/demo.yaml",
        "what the commands it does in turn read: measure-latency, score-runs, compare-runs, measure-fidelity, "
        "map-attention, plot-figures, render-report",
        "results/<study>/tables/, figures/, report.html",
        STUDY,
    ),
    "fetch-task": Command(
        "fetch a task's examples: from the hub, local files, or the built-in generator",
        "steps:fetch_task",
        "internal-kd fetch-task --task rte",
        "the source named in params.yaml (network only for the hub)",
        "data/tasks/<task>-<fingerprint>/",
        (*STUDY, TASK, EXPECT),
    ),
    "fetch-encoder": Command(
        "fetch the pre-trained encoder",
        "steps:fetch_encoder",
        "internal-kd fetch-encoder",
        "the source named in params.yaml (network only for the hub)",
        "data/encoders/<name>-<fingerprint>/",
        (*STUDY, EXPECT),
    ),
    "tokenize-task": Command(
        "turn a task's examples into token ids",
        "steps:tokenize_task",
        "internal-kd tokenize-task --task rte",
        "data/tasks/, data/encoders/",
        "work/tokens/<task>-<fingerprint>/",
        (*STUDY, TASK, EXPECT),
    ),
    "train-teacher": Command(
        "fine-tune the encoder on a task",
        "steps:train_teacher",
        "internal-kd train-teacher --task rte --seed 1",
        "work/tokens/, data/encoders/",
        "results/runs/teachers/<task>/<encoder>/seed<k>-<fingerprint>/",
        (*STUDY, TASK, SEED, EXPECT),
    ),
    "record-teacher": Command(
        "record what the frozen teacher says about every training example",
        "steps:record_teacher",
        "internal-kd record-teacher --task rte",
        "the teaching teacher's model, work/tokens/",
        "work/teacher_outputs/<task>-<fingerprint>/",
        (*STUDY, TASK, EXPECT),
    ),
    "initialize-student": Command(
        "make a student's first weights",
        "steps:initialize_student",
        "internal-kd initialize-student --task rte --depth 6 --method stacked --seed 1",
        "data/encoders/, or the teacher's model",
        "work/initial/<encoder>-L<depth>-<fingerprint>/",
        (*STUDY, TASK, DEPTH, METHOD, SEED, EXPECT),
    ),
    "train-student": Command(
        "train one student by one method",
        "steps:train_student",
        "internal-kd train-student --task rte --depth 6 --method stacked --seed 1",
        "work/tokens/, work/initial/, work/teacher_outputs/",
        "results/runs/students/<task>/<encoder>/L<depth>/<method>/n<examples>/seed<k>-<fingerprint>/",
        (*STUDY, TASK, DEPTH, METHOD, EXAMPLES, SEED, EXPECT),
    ),
    "score-runs": Command(
        "score every run of a study from its recorded predictions",
        "results:score_runs",
        "internal-kd score-runs",
        "predictions and run.json of every complete run",
        "results/<study>/tables/",
        STUDY,
    ),
    "compare-runs": Command(
        "compare the methods of a study by paired tests",
        "results:compare_runs",
        "internal-kd compare-runs",
        "results/<study>/tables/scores.csv, predictions",
        "results/<study>/tables/",
        STUDY,
    ),
    "measure-fidelity": Command(
        "hold students beside their teachers, and every run's confidence beside its accuracy",
        "results:measure_fidelity",
        "internal-kd measure-fidelity",
        "results/<study>/tables/scores.csv, predictions",
        "results/<study>/tables/",
        STUDY,
    ),
    "map-attention": Command(
        "hold the students' attention maps beside their teacher's",
        "results:map_attention",
        "internal-kd map-attention",
        "results/<study>/tables/scores.csv, the weights of teachers and students, work/tokens/ (made where missing)",
        "results/<study>/tables/, results/<study>/figures/attention_maps.json",
        STUDY,
    ),
    "measure-latency": Command(
        "measure on this machine how long a forward pass of each depth of a study takes",
        "exporting:measure_latency",
        "internal-kd measure-latency --again",
        "the encoder's configuration, the lengths of dev examples",
        "results/<study>/tables/latency.csv; `internal-kd run` renews what is made from it",
        (
            *STUDY,
            Option("--again", {"action": "store_true", "help": "also where this machine has measured it already"}),
        ),
    ),
    "export-students": Command(
        "export each task's best student: Hugging Face folder with a card, ONNX, GLUE's submission",
        "exporting:export_students",
        "internal-kd export-students --task rte --method stacked",
        "results/<study>/tables/, the student's and its teacher's model; ONNX needs pip install '.[export]'",
        "results/<study>/export/<task>/",
        (
            *STUDY,
            Option("--task", {"help": "an entry of `tasks` (default: all of the study's)"}),
            Option("--method", {"help": "an entry of `methods` (default: the one with the best mean dev score)"}),
            Option(
                "--depth", {**DEPTH.settings, "required": False, "help": "student layers (default: 6, else the most)"}
            ),
            Option("--examples", {**EXAMPLES.settings, "help": "training-set size or `full` (default: the largest)"}),
        ),
    ),
    "plot-figures": Command(
        "draw a study's figures",
        "results:plot_figures",
        "internal-kd plot-figures",
        "results/<study>/tables/, histories",
        "results/<study>/figures/",
        STUDY,
    ),
    "render-report": Command(
        "write a study's report",
        "results:render_report",
        "internal-kd render-report",
        "results/<study>/tables/, figures/",
        "results/<study>/report.html",
        STUDY,
    ),
    "publish-runs": Command(
        "show a study's runs, tables and figures in MLflow",
        "results:publish_runs",
        "internal-kd publish-runs",
        "every complete run, results/<study>/",
        "MLFLOW_TRACKING_URI, else mlflow.db and mlruns/ in the project root",
        (
            *STUDY,
            Option("--marker", {"metavar": "FILE", "help": "write down here what was published (for the pipeline)"}),
        ),
    ),
    "gc": Command(
        "list, and on request delete, what no study wants any more",
        "gc:collect",
        "internal-kd gc --delete",
        "params.yaml, every overlay in config/, studies started otherwise, and what results were made from",
        "nothing; with --delete it removes folders of data/, work/ and results/runs/",
        (
            PARAMS,
            Option("--delete", {"action": "store_true", "help": "remove what is listed; asks nothing"}),
            Option(
                "--ignore",
                {
                    "action": "append",
                    "default": [],
                    "metavar": "FILE",
                    "help": "an overlay that cannot be planned here and whose runs need not be kept",
                },
            ),
        ),
    ),
    "params": Command(
        "print a study's parameters with its overlays laid over them",
        "merging:params",
        "internal-kd params --overlay config/demo.yaml --write",
        "params.yaml, the overlays",
        "with --write: params.yaml, without its comments",
        (*STUDY, Option("--write", {"action": "store_true", "help": "write params.yaml instead of printing"})),
    ),
    "schema": Command(
        "print the JSON schema of params.yaml",
        "schema:schema",
        "internal-kd schema --write",
        "",
        "with --write: workflow/schemas/params.schema.json",
        (Option("--write", {"action": "store_true", "help": "write the schema file instead of printing"}),),
    ),
}
