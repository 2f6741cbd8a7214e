"""The commands that make a study and show how far it is."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from shutil import get_terminal_size
from typing import Any

from internal_kd.command_line.commands import LOG, STUDY, Option, Options, as_typed, command, output_in, study_of


@command(
    Option(
        "arguments", nargs=argparse.REMAINDER, metavar="SNAKEMAKE-ARGUMENT",
        help="passed on to snakemake, except --overlay FILE and --no-wait; without --cores, all cores are used; more "
        "arguments may be in the environment variable INTERNAL_KD_RUN",
    ),
    example="internal-kd run --cores 8 --resources gpu=2 --overlay config/demo.yaml",
    reads="params.yaml and the overlays", writes="what is missing of the study; at the end results/<study>/report.html",
)  # fmt: skip
def run(options: Options) -> int:
    """Run the pipeline: Snakemake, with what a killed run left cleared away and the progress shown."""
    from internal_kd.params import load_params
    from internal_kd.plan.study import plan_study
    from internal_kd.running.environment import prepare_environment
    from internal_kd.running.run import run as run_snakemake
    from internal_kd.running.status import look, summary

    known: dict[Path, Any] = {}

    def progress(params: Path) -> str | None:
        before = known.get(params)
        known[params] = look(before.study if before else plan_study(load_params(params)), before)
        bar = f"{known[params].bar}  " if sys.stderr.isatty() else ""
        return bar + summary(known[params])

    prepare_environment()
    return run_snakemake(options.arguments, progress)


@command(
    *STUDY,
    Option("--watch", type=float, metavar="SECONDS", help="show it again and again until all runs are done"),
    Option("--json", action="store_true", help="print it as JSON"),
    example="internal-kd status --overlay config/demo.yaml --watch 30",
    reads="run.json of every run, work/progress/; works while the pipeline runs",
)
def status(options: Options) -> int:
    """Show what of a study is done, running, broken and left, how long the rest takes and what it writes.

    Without a study, the one that was started last.
    """
    from internal_kd.held import describe as who
    from internal_kd.running import status as states
    from internal_kd.running.project import at_work

    study, state, shown = study_of(options, or_last=True), None, 0
    terminal = sys.stdout.isatty()
    while True:
        state = states.look(study, before=state)
        if options.json:
            print(json.dumps(states.as_json(state), indent=2), flush=True)
        else:
            working = at_work()
            lines = [*states.describe(state), *([f"  at work: {who(working)}"] if working else [])]
            if terminal:
                lines[:0] = [state.bar]
                # With --watch, in the place of what was printed before.
                print(f"\x1b[{shown}F\x1b[J" if shown else "", end="")
                shown = sum(1 + (len(line) - 1) // get_terminal_size().columns for line in lines)
            print("\n".join(lines), flush=True)
        if options.watch is None or state.finished:
            return 0
        time.sleep(max(1.0, options.watch))


@command(
    *STUDY,
    Option("--json", action="store_true", help="print a list of objects"),
    example="internal-kd runs --overlay config/demo.yaml --json",
    reads="params.yaml, run.json of every run",
)
def runs(options: Options) -> int:
    """List the runs of a study: fingerprint, task, method, learner, seed, teacher, state, folder."""
    from internal_kd.running.check import refuse_answers
    from internal_kd.running.listing import runs_of, table_of

    study = study_of(options)
    refuse_answers(study)
    print(json.dumps(runs_of(study), indent=2) if options.json else table_of(study))
    return 0


@command(
    Option("what", metavar="FINGERPRINT|FOLDER", help="a fingerprint, the beginning of one, or a folder of the study"),
    *STUDY,
    LOG,
    example="internal-kd make 4f2a91c07d3e --overlay config/demo.yaml",
    reads="the inputs of what is made", writes="its folder",
)  # fmt: skip
def make(options: Options) -> int:
    """Make one thing: a task's data, an encoder, token ids, first weights, answers or a run."""
    with output_in(options.log) as tell:
        from internal_kd.plan.artefacts import Data
        from internal_kd.plan.runs import Run
        from internal_kd.running.check import data_warnings
        from internal_kd.running.make import find, score_line
        from internal_kd.running.make import make as make_artefact

        study = study_of(options)
        artefact = find(study, options.what)
        made = make_artefact(artefact, study, as_typed(options))
        print(f"{artefact.folder} is {'complete' if made else 'complete already: nothing to do'}")
        if made and isinstance(artefact, Run):
            tell(score_line(artefact))
        # What is the matter with GLUE is known, and nothing that its readers can correct.
        for line in data_warnings(artefact) if made and isinstance(artefact, Data) and artefact.glue is None else ():
            tell(f"warning: {line}")
    return 0


@command(
    *STUDY,
    example="internal-kd check --overlay config/demo.yaml",
    reads="params.yaml, local data, encoders, files of answers; downloads nothing",
    writes="the copies in data/ and token ids in work/inputs/ that a run starts from",
)
def check(options: Options) -> int:
    """Look at a study's data, encoder, teachers and answers, and at this machine, without training anything.

    Prints rows and class shares, lengths, what is suspicious and what the study needs; ends with 1 if it cannot run.
    """
    from internal_kd.running.check import check as look_at

    found = look_at(study_of(options))
    print(*found.facts, sep="\n")
    for kind, lines in (("warning", found.warnings), ("error", found.errors)):
        for line in lines:
            print(f"{kind}: {line}")
    return 1 if found.errors else 0
