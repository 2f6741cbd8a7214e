"""The commands on a study's results: cheap, from recorded predictions and, for attention, from weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from internal_kd.command_line.commands import (
    LOG,
    STUDY,
    Option,
    Options,
    as_typed,
    command,
    output_in,
    study_of,
    study_offline,
)
from internal_kd.errors import UserError

if TYPE_CHECKING:
    from internal_kd.plan.study import Study

RESULTS = "results/<study>/"


@command(
    *STUDY,
    Option("--page", action="store_true", help="the page alone, from tables and figures that are there"),
    Option(
        "--compare", nargs=2, metavar=("A", "B"),
        help="print what moved from A to B instead: studies, commits, or <commit>:<study>",
    ),
    example="internal-kd report --overlay config/demo.yaml",
    reads="every complete run", writes=f"{RESULTS}tables/, figures/, report.html",
)  # fmt: skip
def report(options: Options) -> int:
    """Make tables, figures and report of the runs that are there; what is missing is a named gap."""
    if options.compare:
        return _compare(options)
    from internal_kd.report import make
    from internal_kd.running.results import evaluating, record_results
    from internal_kd.tracking.names import links_of

    study = study_offline(options)
    if options.page:
        make.render(study, links_of(study))
    else:
        _make_token_ids(study)
        make.measure_latency(study)
        _map_attention(study)
        with evaluating(study):
            make.make_report(study, links_of(study))
    record_results(study)
    return _list_outputs(study, *(("report",) if options.page else ()))


def _compare(options: Options) -> int:
    from internal_kd.params import load_params
    from internal_kd.report.studies import compare_studies, compared_text

    a, b = options.compare
    params = load_params(options.params or "params.yaml", options.overlay)
    print(compared_text(a, b, compare_studies(a, b, params.study.name, params.analysis.alpha)))
    return 0


@command(*STUDY, example="internal-kd evaluate", reads="every complete run", writes=f"{RESULTS}frames/, tables/")
def evaluate(options: Options) -> int:
    """Score the runs of a study and compare its methods."""
    from internal_kd.report import make
    from internal_kd.running.results import evaluating

    study = study_offline(options)
    with evaluating(study):
        make.evaluate(study)
    return _list_outputs(study, "evaluate")


@command(*STUDY, example="internal-kd plot", reads=f"{RESULTS}frames/", writes=f"{RESULTS}figures/")
def plot(options: Options) -> int:
    """Draw the figures of a study."""
    from internal_kd.report.make import plot as plot_study

    study = study_offline(options)
    plot_study(study)
    return _list_outputs(study, "plot")


@command(*STUDY, example="internal-kd map-attention", reads="weights that were kept, token ids (made if missing)",
         writes=f"{RESULTS}")  # fmt: skip
def map_attention(options: Options) -> int:
    """Compare the students' attention maps with their teachers'."""
    from internal_kd.running.results import forget_results

    study = study_offline(options)
    forget_results(study)
    _map_attention(study)
    return _list_outputs(study, "map_attention")


@command(
    *STUDY,
    Option("--again", action="store_true", help="also if this machine has measured it already"),
    example="internal-kd measure-latency --again",
    reads="the encoder's configuration, the lengths of dev examples", writes=f"{RESULTS}tables/latency.csv",
)  # fmt: skip
def measure_latency(options: Options) -> int:
    """Measure on this machine how long a forward pass of each learner of a study takes."""
    from internal_kd.report.make import measure_latency as measure_study
    from internal_kd.running.results import forget_results

    study = study_offline(options)
    forget_results(study)
    _make_token_ids(study)
    measure_study(study, again=options.again)
    return _list_outputs(study, "measure_latency")


@command(*STUDY, example="internal-kd show --overlay config/demo.yaml", reads=f"{RESULTS}tables/main.md")
def show(options: Options) -> int:
    """Print a study's main table and where its report is."""
    from internal_kd.running.results import is_current
    from internal_kd.running.status import look, summary

    study = study_of(options, or_last=True)
    try:
        print((study.folder / "tables/main.md").read_text(encoding="utf-8"))
    except OSError:
        state = look(study)
        way_out = "`internal-kd report{}` makes them of these" if state.done else "start it with `internal-kd run{}`"
        raise UserError(
            f"study {study.name!r} has no tables yet ({summary(state)}): {way_out.format(as_typed(options))}"
        ) from None
    print(f"report: {study.folder / 'report.html'}\n{summary(look(study))}")
    if not is_current(study):
        print(
            "the tables are older than the runs, the parameters or the program: `internal-kd report` makes them again"
        )
    return 0


@command(
    *STUDY,
    Option("--task", help="an entry of `tasks` (default: all of the study's)"),
    Option("--method", help="an entry of `methods` (default: the one with the best mean dev score)"),
    Option("--run", metavar="FINGERPRINT", help="one run, instead of the best"),
    Option("--point", action="extend", nargs="+", default=[], metavar="KEY=VALUE",
           help="values of varied keys, such as learner.layers=3"),
    Option("--to", metavar="FOLDER", help="another place than results/<study>/export/"),
    example="internal-kd export --task rte --method stacked",
    reads="the chosen run's model and its teacher's; ONNX needs pip install '.[export]'",
    writes=f"{RESULTS}export/<task>/",
)  # fmt: skip
def export(options: Options) -> int:
    """Export each task's best student: Hugging Face folder with a card, ONNX, GLUE's submission."""
    from internal_kd.export.export import export_students
    from internal_kd.running.leases import lease_gpu

    study = study_offline(options)
    point = dict(_key_and_value(each) for each in options.point)
    with lease_gpu(study.params.machine.jobs_per_gpu):
        made = export_students(
            study,
            task=options.task,
            method=options.method,
            run=options.run,
            point=point,
            to=Path(options.to) if options.to else None,
            say=_say,
        )
    print(*made, sep="\n")
    return 0


@command(
    Option("what", metavar="FINGERPRINT|FOLDER", help="a finished run of the study, with its weights"),
    Option("file", metavar="FILE", help="written as JSON Lines: a name that ends in .jsonl"),
    *STUDY,
    Option("--form", choices=("logits", "probabilities"), default="logits", help="what stands for a class"),
    example="internal-kd answers 4f2a91c07d3e data/teacher.jsonl --overlay config/demo.yaml",
    reads="the run's model, token ids", writes="FILE, for `teacher: {answers: FILE}` in any study of the same task",
)  # fmt: skip
def answers(options: Options) -> int:
    """Write what a run answers about all training examples of its task, as a file that can teach."""
    from internal_kd.export.answers import export_answers
    from internal_kd.plan.runs import Run
    from internal_kd.running.leases import lease_gpu
    from internal_kd.running.make import find

    study = study_offline(options)
    run = find(study, options.what)
    if not isinstance(run, Run):
        raise UserError(f"{run.folder} is not a run: only runs have answers; `internal-kd runs` lists them")
    with lease_gpu(study.params.machine.jobs_per_gpu):
        number = export_answers(run, Path(options.file), form=options.form)
    print(f"{options.file}: {number} answers")
    return 0


@command(
    *STUDY,
    Option("--follow", action="store_true", help="go on, with the epochs of trainings, until every run is finished"),
    LOG,
    example="internal-kd publish-runs --follow",
    reads=f"every complete run, {RESULTS}",
    writes="MLFLOW_TRACKING_URI, else mlflow.db and mlruns/ in the project root",
)  # fmt: skip
def publish_runs(options: Options) -> int:
    """Show a study's runs, tables and figures in MLflow."""
    with output_in(options.log) as tell:
        from internal_kd.files import write_text
        from internal_kd.running.results import published_path, recorded_key
        from internal_kd.tracking.publishing import publish_runs as publish

        study = study_of(options)
        key = recorded_key(study)
        for line in publish(study, follow=options.follow).lines():
            tell(line)
        write_text(published_path(study), f"{key}\n")
    return 0


def _make_token_ids(study: Study) -> None:
    """Make the token ids that are missing, as in a clone that pulled its runs, if their data are here."""
    from internal_kd.running.make import inputs_of, make, problem_for_readers

    for inputs in {run.inputs.fingerprint: run.inputs for run in study.runs}.values():
        if not any(problem_for_readers(needed) for needed in inputs_of(inputs)):
            make(inputs, study)


def _map_attention(study: Study) -> None:
    """Compare attention maps, with the token ids that this needs made if they are missing."""
    from internal_kd.report.make import map_attention
    from internal_kd.running.leases import lease_gpu

    _make_token_ids(study)
    with lease_gpu(study.params.machine.jobs_per_gpu):
        map_attention(study)


def _key_and_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--point {text}: give KEY=VALUE, such as learner.layers=3")
    return key, value


def _say(line: str) -> None:
    print(line, file=sys.stderr if line.startswith("warning") else sys.stdout, flush=True)


def _list_outputs(study: Study, *steps: str) -> int:
    from internal_kd.report.make import outputs

    for step, paths in outputs(study).items():
        if not steps or step in steps:
            print(*paths, sep="\n")
    return 0
