"""A task as a learner reads it, on disk and memory-mapped: ragged token ids here, pixels and vectors in dense.py.

Each split has ``<split>.idx.npy`` (int64, one per example), ``<split>.labels.npy`` (int64 class index, -1 without a
label; or float32 value, NaN without), ``<split>.offsets.npy`` (int64, one more than examples), ``<split>.ids.npy``
(int32, the token ids of all examples in a row) and, if the encoder tells the two texts of a pair apart,
``<split>.types.npy`` (uint8, as long as ids). For tags an example is a window of a sentence, labels.npy is as long as
ids.npy, and so is ``<split>.words.npy`` (int32): the number of the word whose first piece a token is, -1 for others.
ragged.py makes batches of them. Every array is compared with its recorded SHA-256 once per process.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from internal_kd.checksums import refuse_damaged, verified
from internal_kd.data.dense import DenseExamples
from internal_kd.data.ragged import EncodedExamples, Ragged, TaggedExamples
from internal_kd.errors import UserError
from internal_kd.files import read_mapping
from internal_kd.learners.configs import read_config
from internal_kd.learners.learner import Form, InputShape
from internal_kd.tasks.info import TaskInfo

if TYPE_CHECKING:
    from internal_kd.plan.artefacts import Inputs

UNLABELLED = "unlabelled"


class EncodedTask:
    """A task's inputs on disk.

    Attributes:
        info: the task's facts; with ``of`` as the parameters state them now.
        splits: names of the splits.
        form: how examples are read: tokens, pixels, embeddings or sentences.
        max_length: longest input, in tokens; of token ids alone, as the next two.
        pad_id: the padding token.
        tokenizer: what decides which ids a text becomes; see ``EncoderTokenizer.identity``.

    Example:
        >>> EncodedTask("work/inputs/rte-0123456789ab").split("train").batch([0, 1])  # doctest: +SKIP
    """

    def __init__(self, folder: Path | str) -> None:
        """Read the manifest.

        Raises:
            UserError: the folder has none, or a damaged one.
        """
        self.folder = Path(folder)
        path = self.folder / "manifest.json"
        self._manifest = read_mapping(path)
        try:
            self.info = TaskInfo.from_json(self._manifest["task"])
            self.splits: tuple[str, ...] = tuple(self._manifest["splits"])
            self.form: Form = self._manifest.get("form", "tokens")
            texts = self.form == "tokens"
            self.max_length: int = self._manifest["max_length"] if texts else 0
            self.pad_id: int = self._manifest["pad_id"] if texts else 0
            self.tokenizer: str = self._manifest["tokenizer"] if texts else ""
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is truncated or damaged ({error}): delete it and run again") from None
        self._ragged = cache(self._open)

    @classmethod
    def of(cls, inputs: Inputs) -> EncodedTask:
        """Open planned inputs; metrics and licence of the task may have changed since they were made.

        Raises:
            UserError: as for a folder, or the task's data is not here.
        """
        from internal_kd.data.examples import read_task

        task = cls(inputs.folder)
        task.info = read_task(inputs.data).info
        return task

    def split(self, name: str) -> EncodedExamples | DenseExamples:
        """Return a split's examples.

        Raises:
            UserError: there is no such split.
            Damaged: an array is not what was written.
        """
        return self._examples(name, [name])

    def texts(self, name: str) -> EncodedExamples:
        """Return a split's token ids, of a task that is read as such; errors as ``split``."""
        found = self.split(name)
        assert isinstance(found, EncodedExamples)
        return found

    def training(self) -> EncodedExamples | DenseExamples:
        """Return the examples of train and, after them, of unlabelled if there is such a split; errors as ``split``."""
        names = ["train", *([UNLABELLED] if UNLABELLED in self.splits else [])]
        return self._examples("train", names)

    def _examples(self, name: str, splits: list[str]) -> EncodedExamples | DenseExamples:
        if self.form == "tokens":
            kind = TaggedExamples if self.info.kind == "tags" else EncodedExamples
            return kind(name, [self._ragged(split) for split in splits], self.pad_id)
        return DenseExamples(name, self.form, [self._arrays(split, "idx", "labels", self.form) for split in splits])

    def _open(self, split: str) -> Ragged:
        facts = self._manifest["splits"].get(split, {})
        of_words = ["words"] if "sentences" in facts else []
        types = ["types"] if facts.get("token_type_ids") else []
        part = Ragged(**self._arrays(split, "idx", "labels", "offsets", "ids", *types, *of_words))
        if not part.fits():
            refuse_damaged(self.folder, f"the arrays of {split} do not fit together")
        return part

    def _arrays(self, split: str, *names: str) -> dict[str, np.ndarray]:
        if split not in self.splits:
            raise UserError(f"task {self.info.name} has no split {split!r}; it has {', '.join(self.splits)}")
        files = {name: f"{split}.{name}.npy" for name in names}
        verified(self.folder, self._manifest, files.values())
        return {name: _mapped(self.folder, file) for name, file in files.items()}


def input_shape(inputs: Inputs) -> InputShape:
    """Return what one example is to a learner that starts from nothing.

    Raises:
        UserError: the inputs, or of token ids the encoder's configuration, are not here.
    """
    if inputs.form != "tokens":
        return InputShape(inputs.form, tuple(read_mapping(inputs.marker)["size"]))
    assert inputs.encoder is not None
    return InputShape("tokens", (int(read_config(inputs.encoder.folder)["vocab_size"]),))


def _mapped(folder: Path, name: str) -> np.ndarray:
    try:
        return np.load(folder / name, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        refuse_damaged(folder, f"{name} cannot be read ({error})")
