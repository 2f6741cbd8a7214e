"""The networks of learners that start from nothing, how they read a batch, and their files."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from internal_kd.errors import UserError
from internal_kd.files import read_mapping
from internal_kd.learners.learner import LOGITS, Captured, InputShape, Network, ParameterCount, Wanted, check_wanted

WEIGHTS = "model.safetensors"
# What a network takes of a batch, by the form of its inputs.
TAKES = {
    "pixels": ("pixels",),
    "sentences": ("sentences",),
    "embeddings": ("embeddings",),
    "tokens": ("input_ids", "attention_mask"),
}


class Features(nn.Module):
    """One example as numbers: pixels between 0 and 1, vectors as they are, or which words occur.

    ``forward`` takes pixels (B, height, width, channels) uint8, or sentence vectors (B, D), or word vectors (B, n, D),
    or token ids and mask (B, n); it returns (B, *shape).

    Attributes:
        shape: (features,), of images that are not flattened (channels, height, width), of word vectors (n, D).
    """

    def __init__(self, inputs: InputShape, *, flat: bool = True) -> None:
        super().__init__()
        self.form, self.size, self.flat = inputs.form, inputs.size, flat
        self.shape: tuple[int, ...] = (inputs.features,) if flat else inputs.size
        if inputs.form == "pixels" and not flat:
            self.shape = (*inputs.size[2:], *inputs.size[:2])

    def forward(self, first: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the features of a batch."""
        if self.form in ("sentences", "embeddings"):
            return first.float()
        if self.form == "tokens":
            assert mask is not None
            occurs = torch.zeros(first.shape[0], self.size[0], device=first.device)
            return occurs.scatter(1, first, mask.to(occurs.dtype))
        scaled = first.float() / 255
        return scaled.flatten(1) if self.flat else scaled.permute(0, 3, 1, 2)


class SmallModule(nn.Module):
    """A network whose classification head is the submodule ``head``."""

    head: nn.Module

    def hand_out(self, given: Sequence[Tensor], wanted: Wanted) -> Captured:
        """Return what is asked for of a batch; a plain network has logits alone."""
        return {("logits", 0): self(*given)}

    def begin(self, batches: Callable[[], Iterable[tuple[Sequence[Tensor], Tensor]]]) -> None:
        """See what the network reads of the training examples and their labels (B,), before training."""

    def constrain(self) -> None:
        """Put the weights back into their limits after a step."""

    @abstractmethod
    def forward(self, *given: Tensor) -> Tensor:
        """Return logits (B, C)."""


class FeedForward(SmallModule):
    """Features, a body, a linear head.

    Args:
        max_norm: of the weights into a unit of the body's linear layers; None: no limit.
    """

    features: Features
    head: nn.Linear

    def __init__(
        self, features: Features, body: nn.Module, width: int, outputs: int, max_norm: float | None = None
    ) -> None:
        super().__init__()
        self.features, self.body, self.head = features, body, nn.Linear(width, outputs)
        self._limited = [part for part in body.modules() if isinstance(part, nn.Linear)] if max_norm else []
        self._max_norm = max_norm

    def forward(self, *given: Tensor) -> Tensor:
        """Return logits (B, C)."""
        return self.head(self.body(self.features(*given)))

    @torch.no_grad()
    def constrain(self) -> None:
        """Scale the weights into a unit down to the largest norm."""
        for layer in self._limited:
            layer.weight.copy_(torch.renorm(layer.weight, 2, 0, float(self._max_norm or 0)))


def mlp(
    inputs: InputShape,
    widths: Sequence[int],
    outputs: int,
    dropout: float,
    input_dropout: float,
    max_norm: float | None,
) -> FeedForward:
    """Return a multilayer perceptron; arguments as `MLPLearner`'s."""
    parts: list[nn.Module] = [nn.Dropout(input_dropout)] if input_dropout else []
    width = inputs.features
    for wide in widths:
        parts += [nn.Linear(width, wide), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
        width = wide
    return FeedForward(Features(inputs), nn.Sequential(*parts), width, outputs, max_norm)


def cnn(inputs: InputShape, channels: Sequence[int], dense: int, outputs: int, dropout: float) -> FeedForward:
    """Return a convolutional network; arguments as `CNNLearner`'s."""
    height, width, depth = inputs.size
    parts: list[nn.Module] = []
    for wide in channels:
        parts += [nn.Conv2d(depth, wide, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
        height, width, depth = height // 2, width // 2, wide
    parts += [nn.Flatten(), nn.Linear(height * width * depth, dense), nn.ReLU(), nn.Dropout(dropout)]
    return FeedForward(Features(inputs, flat=False), nn.Sequential(*parts), dense, outputs)


class _Convolutions(nn.Module):
    """Filters over every few neighbouring word vectors (B, n, D); the largest answer of each, (B, spans * filters)."""

    def __init__(self, width: int, filters: int, spans: Sequence[int]) -> None:
        super().__init__()
        self.spans = nn.ModuleList([nn.Conv1d(width, filters, span, padding=span // 2) for span in spans])

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the answers of a batch."""
        return torch.cat([F.relu(span(vectors.transpose(1, 2))).amax(dim=-1) for span in self.spans], dim=1)


def text_cnn(inputs: InputShape, filters: int, spans: Sequence[int], outputs: int, dropout: float) -> FeedForward:
    """Return a convolutional network for texts; arguments as `TextCNNLearner`'s."""
    body = nn.Sequential(_Convolutions(inputs.size[1], filters, spans), nn.Dropout(dropout))
    return FeedForward(Features(inputs, flat=False), body, filters * len(spans), outputs)


class SmallNetwork(Network):
    """A network without layers that others could compare with.

    Attributes:
        described: its learner, as params.yaml describes it.
    """

    module: SmallModule
    layers = width = heads = 0

    def __init__(
        self, module: SmallModule, described: Mapping[str, Any], inputs: InputShape, labels: Sequence[str] = ()
    ) -> None:
        self.module, self.described, self.inputs, self.labels = module, described, inputs, tuple(labels)
        self.hands_out = getattr(module, "hands_out", frozenset({"logits"}))

    def read(self, batch: Mapping[str, Tensor], wanted: Wanted = LOGITS) -> Captured:
        """Return what is asked for, as `Network.read` describes."""
        check_wanted(wanted, 0, self.hands_out, f"a {self.described['kind']}")
        return self.module.hand_out([batch[name] for name in TAKES[self.inputs.form]], wanted)

    def begin(self, batches: Callable[[], Iterable[Mapping[str, Tensor]]]) -> None:
        """Show the module the training examples, as `Network.begin` describes."""
        takes = TAKES[self.inputs.form]
        self.module.begin(lambda: (([batch[name] for name in takes], batch["labels"]) for batch in batches()))

    def constrain(self) -> None:
        """Put the weights back into their limits after a step."""
        self.module.constrain()

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors."""
        folder.mkdir(parents=True, exist_ok=True)
        config: dict[str, Any] = {
            "model_type": self.described["kind"],
            "learner": dict(self.described),
            "inputs": {"form": self.inputs.form, "size": list(self.inputs.size)},
            "labels": list(self.labels),
        }
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.module.state_dict().items()}
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
        # safetensors writes for the owner alone, whatever the umask.
        (folder / WEIGHTS).chmod((folder / "config.json").stat().st_mode)

    def count_parameters(self) -> ParameterCount:
        """Count parameters without the head."""
        total = sum(w.numel() for name, w in self.module.named_parameters() if not name.startswith("head."))
        return ParameterCount(total, total)


def read_weights(folder: Path, outputs: int) -> tuple[InputShape, tuple[str, ...], dict[str, Tensor]]:
    """Return what `SmallNetwork.save` wrote: the shape of inputs, the names of the classes, the weights.

    Raises:
        UserError: a file is missing or damaged, or there are classes of another number.
    """
    config = read_mapping(folder / "config.json", "train the run again")
    try:
        inputs = InputShape(config["inputs"]["form"], tuple(config["inputs"]["size"]))
        labels = tuple(config["labels"])
        weights = load_file(folder / WEIGHTS)
    except (KeyError, TypeError, OSError, SafetensorError) as error:
        raise UserError(f"{folder} cannot be read ({error}); train the run again") from None
    if labels and len(labels) != outputs:
        raise UserError(f"{folder} has {len(labels)} classes, but {outputs} are needed")
    return inputs, labels, weights
