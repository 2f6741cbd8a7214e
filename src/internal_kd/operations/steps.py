"""The sub-commands that make one artefact each."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from internal_kd.artefacts import Artefact, StudentRun
from internal_kd.errors import UserError
from internal_kd.operations.catalogue import Catalogue
from internal_kd.operations.making import make
from internal_kd.params import load_params
from internal_kd.study import plan_study


def fetch_task(options: argparse.Namespace) -> int:
    """Fetch a task's examples."""
    return _make(options, lambda study: study.data(options.task))


def fetch_encoder(options: argparse.Namespace) -> int:
    """Fetch the pre-trained encoder."""
    return _make(options, lambda study: study.encoder())


def tokenize_task(options: argparse.Namespace) -> int:
    """Tokenise a task."""
    return _make(options, lambda study: study.tokens(options.task))


def train_teacher(options: argparse.Namespace) -> int:
    """Fine-tune a teacher."""
    return _make(options, lambda study: study.teacher(options.task, options.seed))


def record_teacher(options: argparse.Namespace) -> int:
    """Record a teacher."""
    return _make(options, lambda study: study.outputs(options.task))


def initialize_student(options: argparse.Namespace) -> int:
    """Make a student's first weights."""
    return _make(
        options, lambda study: study.student(options.task, options.depth, options.method, options.seed).initial
    )


def train_student(options: argparse.Namespace) -> int:
    """Train a student."""
    return _make(options, lambda study: _student(study, options))


def _student(study: Catalogue, options: argparse.Namespace) -> StudentRun:
    examples = getattr(options, "examples", None)
    return study.student(options.task, options.depth, options.method, options.seed, examples)


def _make(options: argparse.Namespace, choose: Callable[[Catalogue], Artefact]) -> int:
    catalogue = Catalogue(plan_study(load_params(options.params, options.overlay)))
    artefact = choose(catalogue)
    if options.expect not in (None, artefact.fingerprint):
        raise UserError(
            f"{artefact.folder} is meant, but {options.expect} was planned: the program or a local source has changed "
            "since; start again"
        )
    made = make(artefact, catalogue)
    print(f"{artefact.folder} is {'complete' if made else 'complete already: nothing to do'}")
    return 0
