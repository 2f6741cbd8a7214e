"""Predictions on GLUE's hidden test sets, in the files its server takes."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from internal_kd.data.glue_files import LABELS_IN_WORDS
from internal_kd.files import replacing
from internal_kd.tasks.glue import GLUE
from internal_kd.tasks.info import TaskInfo
from internal_kd.tasks.kinds import KINDS

ARCHIVE = "submission.zip"
_SAME_DATE = (1980, 1, 1, 0, 0, 0)


def submission_files(glue: str | None, info: TaskInfo) -> dict[str, str]:
    """Return ``{test split: file name}``; nothing for a task that is not GLUE's own or has no test split."""
    if glue is None or info.title != GLUE[glue].title:
        return {}
    names = {"test": f"{info.title}.tsv"}
    if glue == "mnli":
        names = {"test": "MNLI-m.tsv", "test_mismatched": "MNLI-mm.tsv"}
    return {split: name for split, name in names.items() if split in info.rows}


def submission_text(glue: str, idx: Sequence[int] | np.ndarray, logits: np.ndarray) -> str:
    """Return a file's content: header ``index  prediction``, then one line per example, by its number.

    RTE, QNLI and MNLI take words, the other classifications the number of the class, STS-B a score from 0 to 5. ``idx``
    are the examples' own numbers, (examples,), whose order counts; logits (examples, outputs).
    """
    task = GLUE[glue]
    order = np.argsort(np.asarray(idx), kind="stable")
    predicted = KINDS[task.kind].predicted(np.asarray(logits)[order])
    if task.labels:
        words = [task.labels[k] if glue in LABELS_IN_WORDS else str(k) for k in predicted]
    else:
        low, high = task.label_range or (-np.inf, np.inf)
        words = [f"{value:.3f}" for value in np.clip(predicted, low, high)]
    lines = ["index\tprediction", *(f"{number}\t{word}" for number, word in enumerate(words))]
    return "\n".join(lines) + "\n"


def write_archive(path: Path, files: Mapping[str, Path]) -> None:
    """Pack ``{name: file}`` into one archive: the same bytes for the same files."""
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, file in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, _SAME_DATE), file.read_bytes(), zipfile.ZIP_DEFLATED)
