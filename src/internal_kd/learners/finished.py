"""A model that somebody fine-tuned, as a teacher: its classes are matched with the task's by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from internal_kd.errors import UserError
from internal_kd.fields import FilePath, Revision, Text
from internal_kd.learners.configs import read_config
from internal_kd.learners.learner import EVERYTHING, Form, Learner, Network, Shape, Source

# Of texts, and of tokens (tags).
HEADS = ("ForSequenceClassification", "ForTokenClassification")
_GENERIC = re.compile(r"^label[ _-]?\d+$", re.IGNORECASE)


class FinishedModel(Learner):
    """A fine-tuned sequence classifier in transformers' layout: config.json, safetensors, tokenizer.

    Example:
        >>> teacher = FinishedModel().load(Path("models/ours"), 2, labels=("negative", "positive"))  # doctest: +SKIP
        >>> teacher.read(batch)["logits", 0]  # columns: negative, positive  # doctest: +SKIP
    """

    kind: Literal["finished"] = "finished"
    folder: FilePath | None = Field(None, description="where it lies")
    hub: Text | None = Field(None, description="its id on the hub")
    revision: Revision | None = Field(None, description="its commit on the hub, 40 hexadecimal digits")
    labels: tuple[str, ...] | None = Field(
        None, description="the task's classes in the model's own order, if it has no names or other names for them"
    )

    @property
    def hands_out(self) -> frozenset[str]:
        """Return what a model of a known family hands out; ``shape_of(folder).hands_out`` is exact for a folder."""
        return EVERYTHING

    @property
    def short_name(self) -> str:
        """Return a short text for paths and tables."""
        return "finished"

    @property
    def starts_from(self) -> str:
        """Return where its weights come from: its own folder, which stands in an encoder's place."""
        return "encoder"

    def identity(self) -> dict[str, Any]:
        """Return the kind and the order of classes, where it was given; the files are an input of their own."""
        return self.model_dump(mode="json", exclude_none=True, include={"kind", "labels"})

    def form(self, images: bool) -> Form:
        """Return ``tokens``; images are refused."""
        if images:
            raise UserError(
                f"{self.folder or self.hub} reads texts, and this is a task of images; name a method in `of`"
            )
        return "tokens"

    def shape(self, source: Shape) -> Shape:
        """Return the sizes of the model, which are those of its folder."""
        return source

    def order(self, folder: Path, labels: Sequence[str], kind: str = "classes") -> tuple[int, ...]:
        """Return the model's column of each of the task's classes; (0,) for values. Reads config.json alone.

        Raises:
            UserError: the model has another head, or its classes are not the task's.
        """
        return column_order(read_config(folder), labels, self.labels, str(folder), HEADS[kind == "tags"])

    def load(
        self, folder: Path, outputs: int, *, labels: Sequence[str] | None = None, kind: str = "classes"
    ) -> Network:
        """Return the model in eval mode and fp32, its logits in the task's order of classes.

        The rows of its head are permuted, so a saved copy has the task's order and names. No code from the folder is
        run.

        Args:
            labels: the task's classes; () for values; None for a copy that has the task's order already.

        Raises:
            UserError: as `order`, or the weights cannot be read or are not those of a fine-tuned classifier.
        """
        import torch

        from internal_kd.learners.capture import network_of
        from internal_kd.learners.weights import head_of, load_finished, name_labels

        if labels is None:
            return network_of(load_finished(folder, outputs))
        order = self.order(folder, labels, kind)
        model = load_finished(folder, len(order))
        if order != tuple(range(len(order))):
            head, rows = head_of(model), list(order)
            with torch.no_grad():
                for weight in head.parameters():
                    weight.copy_(weight[rows])
        name_labels(model, labels)
        return network_of(model)

    def build(
        self, source: Source, outputs: int, seed: int, *, labels: Sequence[str] = (), kind: str = "classes"
    ) -> Network:
        """Return the model in ``source``, a folder, whatever the seed, as `load` does."""
        if not isinstance(source, str | Path):
            raise UserError("a finished model is loaded from a folder")
        return self.load(Path(source), outputs, labels=labels, kind=kind)


def column_order(
    config: Mapping[str, Any], labels: Sequence[str], given: Sequence[str] | None, where: str, head: str = HEADS[0]
) -> tuple[int, ...]:
    """Return the model's column of each of the task's classes.

    Names match whatever their case, and spaces, underscores and hyphens are alike.

    Args:
        labels: the task's classes; () for values.
        given: the task's classes in the model's own order, which replace the names in the config.
        head: how the name of its class should end.

    Raises:
        UserError: another head, values in place of classes or the reverse, or other classes.

    Example:
        >>> config = {"id2label": {"0": "Not Entailment", "1": "entailment"}}
        >>> column_order(config, ("entailment", "not_entailment"), None, "models/ours")
        (1, 0)
    """
    heads = config.get("architectures") or []
    if heads and not any(str(name).endswith(head) for name in heads):
        raise UserError(f"{where} is a {heads[0]}; for this task a teacher has to be a model {head}")
    own = _own_labels(config)
    if not labels:
        if len(own) != 1:
            raise UserError(f"{where} has {len(own)} classes ({_listed(own)}), but the task's labels are numbers")
        return (0,)
    if config.get("problem_type") == "multi_label_classification" or len(own) == 1:
        what = "one output" if len(own) == 1 else "independent classes (multi_label_classification)"
        raise UserError(f"{where} has {what}, but the task has the classes {_listed(labels)}")
    if given is not None and len(given) != len(own):
        raise UserError(f"labels name {len(given)} classes ({_listed(given)}), but {where} has {len(own)}")
    names = list(own if given is None else given)
    if given is None and all(_GENERIC.match(name) for name in names) and set(names) != set(labels):
        raise UserError(
            f"{where} has no names for its classes ({_listed(names)}); give its order, for example "
            f"labels: [{', '.join(labels)}]"
        )
    return _matched(names, labels, where)


def _matched(names: Sequence[str], labels: Sequence[str], where: str) -> tuple[int, ...]:
    for form in (str, _folded):
        columns = {form(name): column for column, name in enumerate(names)}
        wanted = [form(label) for label in labels]
        if len(columns) == len(names) and set(columns) == set(wanted) and len(names) == len(labels):
            return tuple(columns[name] for name in wanted)
    raise UserError(
        f"{where} has the classes {_listed(names)}, but the task has {_listed(labels)}; if they mean the same, give "
        "the task's names in the model's order as labels"
    )


def _own_labels(config: Mapping[str, Any]) -> list[str]:
    stated = config.get("id2label")
    if isinstance(stated, Mapping) and stated:
        try:
            return [str(stated[key]) for key in sorted(stated, key=int)]
        except (TypeError, ValueError):
            pass
    outputs = config.get("num_labels", 2)
    return [f"LABEL_{column}" for column in range(outputs if type(outputs) is int else 2)]


def _folded(label: str) -> str:
    return re.sub(r"[\s_-]+", "_", label.strip()).casefold()


def _listed(labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:10])
    return shown if len(labels) <= 10 else f"{shown}, ... ({len(labels)} in all)"
