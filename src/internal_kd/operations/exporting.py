"""The sub-commands that measure students and hand them on: study-level, from models that are there."""

from __future__ import annotations

import argparse
import os
import sys

from internal_kd.errors import UserError, nearest
from internal_kd.operations.leases import lease_gpu
from internal_kd.params import load_params
from internal_kd.study import plan_study

OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def measure_latency(options: argparse.Namespace) -> int:
    """Measure how long models of the study's depths take here."""
    os.environ.update(OFFLINE)
    from internal_kd.deployment import measure_latency as measuring

    study = plan_study(load_params(options.params, options.overlay))
    print(measuring.measure_latency(study, again=options.again))
    return 0


def export_students(options: argparse.Namespace) -> int:
    """Export the best student of every task; without the packages for ONNX, say how to get them."""
    os.environ.update(OFFLINE)
    study = plan_study(load_params(options.params, options.overlay))
    if options.task is not None and options.task not in study.tasks:
        known = list(study.tasks)
        raise UserError(
            f"unknown task {options.task!r}{nearest(options.task, known)}; the study has {', '.join(known)}"
        )
    with lease_gpu(study.params.machine.jobs_per_gpu):
        from internal_kd.deployment.exported import Wish
        from internal_kd.deployment.onnx_files import EXTRA, missing_packages
        from internal_kd.deployment.students import export_students as export

        wish = Wish(options.method, options.depth, options.examples)
        for path in export(study, wish, [options.task] if options.task else [], _tell):
            print(path)
        if missing := missing_packages():
            print(f"warning: no ONNX files: {', '.join(missing)} missing; {EXTRA}, then again", file=sys.stderr)
    return 0


def _tell(line: str) -> None:
    print(line, file=sys.stderr if line.startswith("warning") else sys.stdout)
