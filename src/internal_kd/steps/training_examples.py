"""Which examples a run trains on: those chosen, those held out, and copies of the chosen with masked tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from internal_kd.data.dense import DenseExamples
from internal_kd.data.ragged import EncodedExamples
from internal_kd.data.tokenizers import load_tokenizer
from internal_kd.distillation.batches import Examples
from internal_kd.distillation.masked_copies import Copy, WithMaskedCopies
from internal_kd.distillation.selectors import select
from internal_kd.errors import UserError
from internal_kd.params.method import SelectParams
from internal_kd.plan.artefacts import Inputs


def training_positions(
    examples: EncodedExamples | DenseExamples,
    chosen: SelectParams,
    names: tuple[str, ...],
    scores: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the examples that are trained on, unlabelled ones included, and of those held out.

    Args:
        scores: of the labelled examples, if they are chosen by score.

    Raises:
        UserError: a class that is chosen or dropped is not one of ``names``, nothing is left, or a class has no example
            left.
    """
    labelled = np.flatnonzero(examples.labelled)
    seen = None
    if named := chosen.classes or chosen.drop_classes:
        if unknown := [name for name in named if name not in names]:
            raise UserError(f"select: the task has no class {unknown[0]!r}; it has {', '.join(names)}")
        of_named = np.isin(np.asarray(examples.labels)[labelled], [names.index(name) for name in named])
        seen = of_named if chosen.classes else ~of_named
    found = select(
        np.asarray(examples.idx)[labelled],
        np.asarray(examples.labels)[labelled],
        by=chosen.by, keep=chosen.keep, hold_out=chosen.hold_out, seen=seen, scores=scores, order=chosen.order,
    )  # fmt: skip
    if scores is not None and chosen.keep != "full":
        labels = np.asarray(examples.labels)[labelled]
        emptied = np.setdiff1d(labels if seen is None else labels[seen], labels[found.train])
        _say_emptied([names[label] for label in emptied], chosen)
    return np.concatenate([labelled[found.train], np.flatnonzero(~examples.labelled)]), labelled[found.held_out]


def _say_emptied(classes: Sequence[str], chosen: SelectParams) -> None:
    if not classes:
        return
    line = f"select.keep: {chosen.keep} by {chosen.by} leaves no example of {', '.join(map(repr, classes))}"
    if chosen.empty_classes == "refuse":
        raise UserError(f"{line}; keep more, or accept it with `empty_classes: accept`")
    print(f"warning: {line}", flush=True)


def with_copies(
    examples: EncodedExamples | DenseExamples, inputs: Inputs, chosen: Sequence[tuple[np.ndarray, tuple[Copy, ...]]]
) -> tuple[Examples, list[np.ndarray]]:
    """Return the examples, masked copies included, and the positions of what is chosen of them.

    ``chosen`` has positions of originals, each with those of their copies that are chosen too; the tokenizer of
    ``inputs`` knows the mask token.

    Raises:
        UserError: there are to be copies, and the tokenizer has no mask token.
    """
    copies = sorted({copy for _, copies in chosen for copy in copies})
    if not copies:
        return examples, [positions for positions, _ in chosen]
    assert inputs.encoder is not None and isinstance(examples, EncodedExamples)
    tokenizer = load_tokenizer(inputs.encoder.folder, inputs.encoder.name, inputs.max_length)
    if tokenizer.mask_id is None:
        raise UserError(
            f"select.masked_copies: the tokenizer of {inputs.encoder.name} has no mask token; leave masked_copies out"
        )
    copied = WithMaskedCopies(examples, copies, tokenizer.mask_id, tokenizer.special_ids)
    return copied, [copied.positions(*one) for one in chosen]
