"""Learners that start from nothing: a perceptron, convolutional networks, a soft decision tree, a distilled set.

They read images as pixels, and texts as the words that occur in them, as the encoder's word vectors in a row or as its
sentence vectors. They have no layers to compare. Importing this module imports no torch.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from internal_kd.errors import UserError
from internal_kd.fields import Count, Positive, Share
from internal_kd.files import read_mapping
from internal_kd.learners.learner import OF_TREES, Form, InputShape, Learner, Network, Shape, Source, parse_learner

if TYPE_CHECKING:
    from internal_kd.learners.small_networks import FeedForward, SmallModule

# Gates and leaves of a tree of this depth, for a single example: deeper ones fill any memory.
DEEPEST_TREE = 16


class SmallLearner(Learner):
    """What the learners of this module share."""

    starts_from: ClassVar[str] = "nothing"
    draws: ClassVar[bool] = True
    grows_by: ClassVar[str]  # the parameter that makes it larger

    def identity(self) -> dict[str, Any]:
        """Return its kind and the fields that are not defaults."""
        return {"kind": self.kind, **self.model_dump(mode="json", exclude_defaults=True, exclude={"kind"})}

    def shape(self, source: Shape) -> Shape:
        """Return its sizes, whatever the source: it has no layers."""
        return Shape(0, None, None, None, self.kind, self.hands_out)

    def build(
        self, source: Source, outputs: int, seed: int, *, labels: Sequence[str] = (), kind: str = "classes"
    ) -> Network:
        """Return a network for inputs of the shape ``source``, as `Learner.build` does."""
        from internal_kd.learners.small_networks import SmallNetwork
        from internal_kd.learners.weights import seeded

        if not isinstance(source, InputShape):
            raise UserError(f"a {self.kind} is built from the shape of its inputs")
        self.check_inputs(source)
        self._check_memory(source, outputs)
        with seeded(seed):
            module = self.module(source, outputs)
        return SmallNetwork(module.eval(), self.model_dump(mode="json"), source, labels)

    def load(self, folder: Path, outputs: int, *, labels: Sequence[str] = ()) -> Network:
        """Return a finished network, in eval mode, as `Learner.load` does."""
        from internal_kd.learners.small_networks import SmallNetwork, read_weights

        inputs, names, weights = read_weights(Path(folder), outputs)
        module = self.module(inputs, outputs)
        try:
            module.load_state_dict(weights)
        except RuntimeError as error:
            raise UserError(f"{folder} holds another {self.kind} than this ({str(error).splitlines()[0]})") from None
        return SmallNetwork(module.eval(), self.model_dump(mode="json"), inputs, labels or names)

    def _check_memory(self, inputs: InputShape, outputs: int) -> None:
        """Refuse weights that this machine cannot train: itself, gradients and an optimizer's two means are four."""
        import psutil
        import torch

        with torch.device("meta"):  # sizes without numbers
            module = self.module(inputs, outputs)
        needed, there = 4 * sum(each.nbytes for each in module.state_dict().values()), psutil.virtual_memory().total
        if needed > there:
            raise UserError(
                f"learner.{self.grows_by}: the weights of this {self.kind} take {needed / 1e9:,.1f} GB to train, and "
                f"this machine has {there / 1e9:,.1f} GB of memory; make it smaller"
            )

    @abstractmethod
    def module(self, inputs: InputShape, outputs: int) -> SmallModule:
        """Return the torch module, its weights drawn from torch's random state."""


def open_network(folder: Path | str) -> Network:
    """Return the network in a folder, as a run keeps it in ``model/`` and an export hands it on, in eval mode.

    Raises:
        UserError: the folder cannot be read, or holds another kind of model.

    Example:
        >>> network = open_network("results/mnist/export/mnist/model")  # doctest: +SKIP
        >>> network.read({"pixels": images})["logits", 0].shape  # (B, height, width, channels) uint8  # doctest: +SKIP
        torch.Size([32, 10])
    """
    config = read_mapping(Path(folder) / "config.json", "give the folder of an exported model")
    if not isinstance(config.get("learner"), dict) or not config.get("labels"):
        raise UserError(f"{folder} is not a saved perceptron, convolutional network or soft tree")
    return parse_learner(config["learner"]).load(Path(folder), len(config["labels"]))


class ReadsTexts(SmallLearner):
    """A learner that reads texts too."""

    features: Literal["words", "sentences"] = Field(
        "words",
        description="of a text: which of the encoder's word pieces occur, or the mean of the pre-trained encoder's "
        "last hidden states; images are pixels",
    )

    def form(self, images: bool) -> Form:
        """Return how it reads a task, as `Learner.form` does."""
        return "pixels" if images else "sentences" if self.features == "sentences" else "tokens"


class MLPLearner(ReadsTexts):
    """A multilayer perceptron with ReLU.

    Example:
        >>> MLPLearner(widths=(800, 800)).short_name
        'mlp800x800'
    """

    grows_by: ClassVar[str] = "widths"
    kind: Literal["mlp"] = "mlp"
    widths: Annotated[tuple[Count, ...], Field(max_length=20)] = Field((800, 800), description="of the hidden layers")
    dropout: Annotated[Share, Field(lt=1)] = Field(0.0, description="of hidden units")
    input_dropout: Annotated[Share, Field(lt=1)] = Field(0.0, description="of inputs")
    max_norm: Positive | None = Field(
        None, description="largest norm of the weights into a hidden unit, kept after every step (Hinton et al. 2012)"
    )

    @property
    def short_name(self) -> str:
        """Return ``mlp800x800``."""
        return "mlp" + "x".join(map(str, self.widths))

    def module(self, inputs: InputShape, outputs: int) -> FeedForward:
        """Return the torch module."""
        from internal_kd.learners.small_networks import mlp

        return mlp(inputs, self.widths, outputs, self.dropout, self.input_dropout, self.max_norm)


class CNNLearner(SmallLearner):
    """A convolutional network like LeNet-5: blocks of a 5x5 convolution, ReLU and 2x2 maxima, then a hidden layer."""

    grows_by: ClassVar[str] = "dense"
    kind: Literal["cnn"] = "cnn"
    channels: Annotated[tuple[Count, ...], Field(min_length=1, max_length=6)] = Field(
        (16, 32), description="of the convolutions"
    )
    dense: Count = Field(128, description="width of the hidden layer")
    dropout: Annotated[Share, Field(lt=1)] = Field(0.0, description="of the hidden layer")

    @property
    def short_name(self) -> str:
        """Return ``cnn16x32``."""
        return "cnn" + "x".join(map(str, self.channels))

    def form(self, images: bool) -> Form:
        """Return ``pixels``; texts are refused."""
        if not images:
            raise UserError("kind: a cnn reads images, and this is a task of texts; choose an mlp or a soft_tree")
        return "pixels"

    def check_inputs(self, inputs: InputShape) -> None:
        """Refuse images that are too small to be halved by every convolution."""
        if min(inputs.size[:2]) < 2 ** len(self.channels):
            raise UserError(
                f"learner.channels: {len(self.channels)} convolutions halve the image each, and it has "
                f"{inputs.size[0]}x{inputs.size[1]} pixels; name fewer"
            )

    def module(self, inputs: InputShape, outputs: int) -> FeedForward:
        """Return the torch module."""
        from internal_kd.learners.small_networks import cnn

        return cnn(inputs, self.channels, self.dense, outputs, self.dropout)


class TextCNNLearner(SmallLearner):
    """A convolutional network over the encoder's frozen word vectors (Kim 2014): the largest answer of each filter.

    It reads the encoder's input embeddings, scaled to a root mean square of 1, zeros after the last token.
    """

    grows_by: ClassVar[str] = "filters"
    kind: Literal["text_cnn"] = "text_cnn"
    filters: Count = Field(100, description="of each span")
    spans: Annotated[tuple[Count, ...], Field(min_length=1, max_length=10)] = Field(
        (3, 4, 5), description="neighbouring tokens that a filter reads"
    )
    dropout: Annotated[Share, Field(lt=1)] = Field(0.0, description="of the filters' answers")

    @property
    def short_name(self) -> str:
        """Return ``textcnn100``."""
        return f"textcnn{self.filters}"

    def form(self, images: bool) -> Form:
        """Return ``embeddings``; images are refused."""
        if images:
            raise UserError("kind: a text_cnn reads texts, and this is a task of images; choose a cnn or an mlp")
        return "embeddings"

    def module(self, inputs: InputShape, outputs: int) -> FeedForward:
        """Return the torch module."""
        from internal_kd.learners.small_networks import text_cnn

        return text_cnn(inputs, self.filters, self.spans, outputs, self.dropout)


class SoftTreeLearner(ReadsTexts):
    """A soft binary decision tree (Frosst and Hinton 2017): each inner node is one filter, each leaf one distribution.

    Its terms are ``tree_hard`` or ``tree_soft``, and ``tree_balance``. It predicts by the leaf with the greatest path
    probability.
    """

    hands_out: ClassVar[frozenset[str]] = frozenset({"logits"}) | OF_TREES
    grows_by: ClassVar[str] = "depth"
    kind: Literal["soft_tree"] = "soft_tree"
    depth: Annotated[Count, Field(le=DEEPEST_TREE)] = Field(
        8, description="inner nodes on the way to a leaf, one of 2^depth"
    )
    inverse_temperature: Positive = Field(
        1.0, description="beta of p = sigmoid(beta (x w + b)): larger ones decide harder"
    )

    @property
    def short_name(self) -> str:
        """Return ``tree8``."""
        return f"tree{self.depth}"

    def identity(self) -> dict[str, Any]:
        """Return its kind, the fields that are not defaults, and a number, raised when a seed gives another tree."""
        return {**super().identity(), "recipe": 2}

    def module(self, inputs: InputShape, outputs: int) -> SmallModule:
        """Return the torch module."""
        from internal_kd.learners.soft_tree import SoftTree

        return SoftTree(inputs, self.depth, outputs, self.inverse_temperature)


class DistilledSetLearner(SmallLearner):
    """A few synthetic examples that teach a network in a few steps (Sucholutsky and Schonlau 2021).

    Its parameters are the examples, their labels and the sizes of the steps; it predicts as the network that they
    teach. Train it in fp32, without weight decay.

    Example:
        >>> DistilledSetLearner(examples=5).short_name
        'set5'
    """

    grows_by: ClassVar[str] = "network"
    kind: Literal["distilled_set"] = "distilled_set"
    network: Annotated[CNNLearner | TextCNNLearner | MLPLearner, Field(discriminator="kind")] = Field(
        CNNLearner(channels=(6, 16), dense=84), description="who is taught: `{kind: cnn, ...}`, a text_cnn or an mlp"
    )
    source: Literal["learned", "random", "mean", "nearest"] = Field(
        "learned",
        description="of the examples: learned ones start as noise; real ones at random, class means or the real ones "
        "nearest to them stay as they are, and only the sizes of the steps are trained",
    )
    examples: Count = Field(10, description="synthetic examples of one step, the first of the first class, and so on")
    steps: Count = Field(1, description="each with examples of its own, one after the other")
    epochs: Count = Field(3, description="times that all steps are gone through")
    step_size: Positive = Field(0.02, description="of every step at the start; trained")
    step_size_rate: Positive = Field(1.0, description="learning rate of the step sizes, over that of the examples")
    labels: Literal["soft", "hard"] = Field("soft", description="soft: trained too; hard: one class each")
    first_weights: Literal["fixed", "redrawn"] = Field(
        "fixed", description="of the network; redrawn for every batch, so that the examples suit any"
    )

    @property
    def short_name(self) -> str:
        """Return ``set10``, the number of examples in all, and their source."""
        return f"set{self.examples * self.steps}{'' if self.source == 'learned' else self.source}"

    def identity(self) -> dict[str, Any]:
        """Return its kind, the network's identity and the fields that are not defaults."""
        return {**super().identity(), "network": self.network.identity()}

    def form(self, images: bool) -> Form:
        """Return how the network reads a task."""
        return self.network.form(images)

    def check_inputs(self, inputs: InputShape) -> None:
        """Refuse inputs that are too small for the network."""
        self.network.check_inputs(inputs)

    def module(self, inputs: InputShape, outputs: int) -> SmallModule:
        """Return the torch module."""
        from internal_kd.learners.distilled_set import DistilledSet

        return DistilledSet(
            self.network.module(inputs, outputs), examples=self.examples, steps=self.steps, epochs=self.epochs,
            step_size=self.step_size, step_size_rate=self.step_size_rate, source=self.source,
            soft=self.labels == "soft" and self.source == "learned", redraw=self.first_weights == "redrawn",
        )  # fmt: skip
