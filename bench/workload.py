"""The same random teacher, student, examples and batches for every contestant.

What reads them needs no package but numpy, torch and transformers; internal_kd makes them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

CLS, SEP, PAD, FIRST_WORD = 101, 102, 0, 999


@dataclass(frozen=True)
class Workload:
    """Sizes of the models, of the examples and of a round.

    Lengths are log-normal with mean ``mean_length``, cut at ``longest``; words follow Zipf's law. A pool of ``pool``
    batches is dealt out into rounds of ``steps`` steps, each with about the same number of padded tokens; ``rounds`` of
    them are run.
    """

    examples: int = 8000
    mean_length: float = 24.0
    spread: float = 0.55
    longest: int = 128
    vocabulary: int = 30522
    width: int = 384
    heads: int = 12
    teacher_layers: int = 12
    student_layers: int = 6
    classes: int = 2
    batch_size: int = 32
    warm_up: int = 2
    steps: int = 4
    rounds: int = 5
    pool: int = 48
    seed: int = 0

    @property
    def matched(self) -> tuple[int, ...]:
        """The teacher layer that each student layer learns from."""
        times = self.teacher_layers // self.student_layers
        return tuple(times * layer for layer in range(1, self.student_layers + 1))


def make_workload(workload: Workload, folder: Path) -> None:
    """Write teacher/, student/, inputs/ (as `internal_kd.data.inputs` reads them) and batches.json into a folder."""
    for name, layers in (("teacher", workload.teacher_layers), ("student", workload.student_layers)):
        _make_model(workload, layers, folder / name)
    lengths = _make_inputs(workload, folder / "inputs")
    _write(folder / "batches.json", _batches(workload, lengths))
    _write(folder / "workload.json", asdict(workload))


def read_workload(folder: Path) -> Workload:
    """Read the sizes back."""
    return Workload(**json.loads((folder / "workload.json").read_text()))


def read_batches(folder: Path, kind: str) -> list[list[int]]:
    """Return the warm-up's batches, then those of all rounds, then one more, as positions; kind: bucketed, shuffled."""
    return json.loads((folder / "batches.json").read_text())[kind]


def load_model(folder: Path, **settings: str) -> nn.Module:
    """Load the teacher or the student as any user of transformers loads one, in eval mode."""
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True, **settings).eval()


class Corpus:
    """The examples, for contestants that do not read them through internal_kd."""

    def __init__(self, folder: Path) -> None:
        """Take the workload's folder."""
        self._offsets = np.load(folder / "inputs/train.offsets.npy")
        self._ids = np.load(folder / "inputs/train.ids.npy")

    def batch(self, positions: list[int], length: int | None = None) -> dict[str, Tensor]:
        """Return input_ids and attention_mask (batch, length), padded to ``length`` or to the longest example."""
        import torch

        rows = [torch.from_numpy(self._ids[self._offsets[p] : self._offsets[p + 1]]).long() for p in positions]
        length = length or max(len(row) for row in rows)
        ids = torch.full((len(rows), length), PAD)
        mask = torch.zeros((len(rows), length), dtype=torch.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row
            mask[place, : len(row)] = 1
        return {"input_ids": ids, "attention_mask": mask}


def _make_model(workload: Workload, layers: int, folder: Path) -> None:
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(workload.seed)
    config = BertConfig(
        vocab_size=workload.vocabulary,
        hidden_size=workload.width,
        num_hidden_layers=layers,
        num_attention_heads=workload.heads,
        intermediate_size=4 * workload.width,
        # Wider than BERT's 0.02, so that untrained attention is far from uniform and no loss is zero.
        initializer_range=0.1,
    )
    config.num_labels = workload.classes
    BertForSequenceClassification(config).save_pretrained(folder)


def _make_inputs(workload: Workload, folder: Path) -> np.ndarray:
    rng = np.random.Generator(np.random.PCG64(workload.seed))
    centre = np.log(workload.mean_length) - workload.spread**2 / 2
    drawn = np.rint(rng.lognormal(centre, workload.spread, workload.examples))
    lengths = np.clip(drawn, 4, workload.longest).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    words = workload.vocabulary - FIRST_WORD
    shares = 1.0 / (np.arange(words) + 2.7)
    ids = (FIRST_WORD + rng.choice(words, offsets[-1], p=shares / shares.sum())).astype(np.int32)
    ids[offsets[:-1]], ids[offsets[1:] - 1] = CLS, SEP
    folder.mkdir(parents=True)
    arrays = {"idx": np.arange(workload.examples), "labels": rng.integers(0, workload.classes, workload.examples)}
    for name, array in (arrays | {"offsets": offsets, "ids": ids}).items():
        np.save(folder / f"train.{name}.npy", array)
    _describe(workload, folder)
    return lengths


def _describe(workload: Workload, folder: Path) -> None:
    """Write the manifest with which internal_kd reads the arrays."""
    from internal_kd.checksums import describe_files
    from internal_kd.tasks.info import TaskInfo

    labels = tuple(map(str, range(workload.classes)))
    task = TaskInfo("bench", "Bench", "classes", labels, ("accuracy",), 1, {"train": workload.examples})
    manifest = {"task": task.to_json(), "max_length": workload.longest, "pad_id": PAD, "tokenizer": "none"}
    manifest |= {"splits": {"train": {"token_type_ids": False}}, "data_sha256": {"train": "generated"}}
    names = [path.name for path in folder.glob("*.npy")]
    _write(folder / "manifest.json", manifest | {"files": describe_files(folder, names)})


def _batches(workload: Workload, lengths: np.ndarray) -> dict[str, list[list[int]]]:
    """Cut a pool of examples into batches, by length as internal_kd does and by chance, and deal them out."""
    from internal_kd.distillation.batches import LengthBuckets

    size, parts = workload.batch_size, workload.pool // workload.steps
    count = parts * workload.steps * size
    order = np.random.Generator(np.random.PCG64([workload.seed, 1])).permutation(count)
    kinds = {
        "bucketed": [batch.tolist() for batch in LengthBuckets(lengths[:count], size, workload.seed).epoch(0)],
        "shuffled": [order[at : at + size].tolist() for at in range(0, count, size)],
    }
    made = {}
    for kind, batches in kinds.items():
        dealt = deal(batches, [int(lengths[batch].max()) for batch in batches], parts)[
            : workload.rounds * workload.steps
        ]
        # Each part ends with its shortest batches: enough to warm up on.
        made[kind] = dealt[-workload.warm_up :] + dealt + dealt[-1:]
    return made


def deal(batches: list[list[int]], lengths: list[int], rounds: int) -> list[list[int]]:
    """Order batches so that each of ``rounds`` equal parts holds about the same number of padded tokens.

    The longest first, each to the part that has least and is not yet full.
    """
    room = len(batches) // rounds
    parts: list[list[int]] = [[] for _ in range(rounds)]
    loads = [0] * rounds
    for number in sorted(range(len(batches)), key=lambda number: -lengths[number]):
        part = min((p for p in range(rounds) if len(parts[p]) < room), key=lambda p: loads[p])
        parts[part].append(number)
        loads[part] += lengths[number]
    return [batches[number] for part in parts for number in part]


def _write(path: Path, values: object) -> None:
    path.write_text(json.dumps(values))
