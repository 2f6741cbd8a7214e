"""How large tasks and encoders are: as they lie on disk, else as published, else not known.

Nothing here imports torch; what is only assumed says so, so that an estimate can say it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from internal_kd.artefacts import EncoderFiles, TokenizedTask
from internal_kd.errors import UserError
from internal_kd.feasibility import known_rows
from internal_kd.files import read_json
from internal_kd.params.sources import GlueEntry

BYTES_PER_WEIGHT = 4  # fp32

# Train and dev examples of the official files (MNLI: both dev sets), and the mean number of BERT's uncased tokens of
# an example, counted on these files (QQP: on 10,000 of its rows); None was not counted.
GLUE_SIZES: dict[str, tuple[int, int, float | None]] = {
    "cola": (8_551, 1_043, 11.3),
    "sst2": (67_349, 872, 13.3),
    "mrpc": (3_668, 408, 53.2),
    "stsb": (5_749, 1_500, None),
    "qqp": (363_846, 40_430, 30.8),
    "mnli": (392_702, 19_647, None),
    "qnli": (104_743, 5_463, None),
    "rte": (2_490, 277, 70.2),
    "wnli": (635, 71, None),
}
# An example is taken to fill this share of tokens.max_length where nothing is known of its length.
ASSUMED_FILLING = 0.5
# The mean of squared lengths over the square of the mean, as in the tasks counted above.
ASSUMED_SPREAD = 1.1


@dataclass(frozen=True)
class TaskSize:
    """A task's examples. ``length``: mean tokens; ``squares``: sum of squared lengths over the training set.

    ``source`` says where the lengths come from: "tokens" (exact), "published" or "assumed".
    """

    train: int
    dev: int
    length: float
    squares: float
    source: str


@dataclass(frozen=True)
class EncoderShape:
    """What decides an encoder's size and cost. ``inner`` is the width of the feed-forward part."""

    layers: int
    width: int
    inner: int
    heads: int
    vocabulary: int
    positions: int
    types: int

    @property
    def per_layer(self) -> int:
        """Parameters of one layer: attention, feed-forward part, two layer norms."""
        return 4 * self.width * (self.width + 1) + 2 * self.width * self.inner + self.inner + 5 * self.width

    def parameters(self, depth: int) -> int:
        """Parameters of a model of ``depth`` layers with embeddings and pooler, its head left out."""
        rows = self.vocabulary + self.positions + self.types + 2
        return rows * self.width + depth * self.per_layer + self.width * (self.width + 1)

    def model_bytes(self, depth: int) -> int:
        """Bytes of the weights of such a model."""
        return BYTES_PER_WEIGHT * self.parameters(depth)


# The paper's encoder, so that its study can be estimated before anything is downloaded.
KNOWN_ENCODERS = {"google-bert/bert-base-uncased": EncoderShape(12, 768, 3072, 12, 30_522, 512, 2)}


def shape_of(encoder: EncoderFiles) -> EncoderShape | None:
    """Return an encoder's shape from its configuration, here or at its local source; None where none is known."""
    for folder in (encoder.folder, encoder.path):
        if folder is not None and (config := _read(folder / "config.json")):
            return _shape(config)
    return KNOWN_ENCODERS.get(encoder.encoder.id or "") if encoder.encoder.source == "hub" else None


def _shape(config: dict[str, Any]) -> EncoderShape | None:
    names = {
        "layers": ("num_hidden_layers", "n_layers"),
        "width": ("hidden_size", "dim"),
        "inner": ("intermediate_size", "hidden_dim"),
        "heads": ("num_attention_heads", "n_heads"),
        "vocabulary": ("vocab_size",),
        "positions": ("max_position_embeddings",),
    }
    found = {name: next((config[key] for key in keys if key in config), None) for name, keys in names.items()}
    if not all(isinstance(value, int) and value > 0 for value in found.values()):
        return None
    types = config.get("type_vocab_size", 0)
    return EncoderShape(**found, types=types if isinstance(types, int) else 0)  # type: ignore[arg-type]


def size_of_task(tokens: TokenizedTask) -> TaskSize | None:
    """Return a task's size: counted where it is tokenised, else from its rows; None where not even those are known."""
    return _tokenized(tokens) or _untokenized(tokens)


def _tokenized(tokens: TokenizedTask) -> TaskSize | None:
    import numpy as np

    try:
        splits = _read(tokens.marker)["splits"]
        train = splits["train"]
        dev = sum(facts["rows"] for name, facts in splits.items() if name.startswith("dev"))
        offsets = np.load(tokens.folder / "train.offsets.npy", mmap_mode="r", allow_pickle=False)
        squares = float(np.square(np.diff(offsets).astype(np.float64)).sum())
        return TaskSize(train["rows"], dev, train["tokens"] / train["rows"], squares, "tokens")
    except (KeyError, TypeError, OSError, ValueError, ZeroDivisionError):
        return None


def _untokenized(tokens: TokenizedTask) -> TaskSize | None:
    counts, published = _rows(tokens), None
    entry = tokens.data.entry
    if isinstance(entry, GlueEntry) and tokens.data.glue:
        published = GLUE_SIZES[tokens.data.glue][2]
    if counts is None:
        return None
    length = min(published or ASSUMED_FILLING * tokens.max_length, 0.85 * tokens.max_length)
    squares = ASSUMED_SPREAD * length**2 * counts[0]
    return TaskSize(*counts, length, squares, "published" if published else "assumed")


def _rows(tokens: TokenizedTask) -> tuple[int, int] | None:
    """Return training and dev examples, from the fetched copy, the generator's parameters or the published sizes."""
    if rows := known_rows(tokens.data):
        return rows
    entry = tokens.data.entry
    if isinstance(entry, GlueEntry) and entry.folder is None and tokens.data.glue:
        return GLUE_SIZES[tokens.data.glue][:2]
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path)
    except (UserError, OSError):
        return {}
    return value if isinstance(value, dict) else {}
