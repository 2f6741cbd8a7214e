"""Specialists (Hinton et al. 2015, section 5): copies of a generalist, each for classes that are often confused.

A specialist keeps the generalist's head. Its own classes have their logits; all others together are its dustbin class,
whose logit, the logarithm of their summed exponentials, they share. So cross-entropy is that of a net with one dustbin
class, up to a constant, and its answers have as many columns as anybody's. Importing this module imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from internal_kd.errors import UserError
from internal_kd.fields import Count, Name, Positive
from internal_kd.files import read_mapping, write_json
from internal_kd.learners.learner import (
    LOGITS,
    Captured,
    Form,
    Learner,
    Network,
    ParameterCount,
    Shape,
    Source,
    Wanted,
    check_wanted,
    parse_learner,
)

if TYPE_CHECKING:
    from torch import Tensor

STATE = "specialist.json"
HELD_OUT = "predictions_held_out.parquet"
_STARTS = 20


class SpecialistLearner(Learner):
    """A generalist's copy that is trained on a few classes, half of the time, and on examples of all others.

    The classes are grouped by k-means on the columns of the covariance matrix of the generalist's predictions on its
    held-out examples; a specialist has those nearest to the centre of its group, so that subsets overlap. [ours] A
    generalist that is sure of itself hardly confuses classes, so its predictions are softened first and columns count
    by their direction: else all groups but one are single classes. Several specialists answer together with the
    generalist as a teacher with `combine: specialists`.

    Example:
        >>> SpecialistLearner(of="teacher", clusters=8, size=20, number=3).short_name
        'specialist3of8'
    """

    kind: Literal["specialist"] = "specialist"
    of: Name = Field(
        description="the generalist, a method with `select.hold_out`: its run of the same seed, else its first"
    )
    clusters: Count = Field(8, description="groups that the classes are divided into")
    size: Annotated[Count, Field(ge=2)] = Field(20, description="classes of a specialist")
    number: Count = Field(1, description="which group, from 1")
    temperature: Positive = Field(4.0, description="of the predictions by which classes are grouped")

    @model_validator(mode="after")
    def _is_one_of_them(self) -> SpecialistLearner:
        if self.number > self.clusters:
            raise ValueError(f"`number` {self.number} is not one of {self.clusters} clusters")
        return self

    @property
    def short_name(self) -> str:
        """Return ``specialist3of8``."""
        return f"specialist{self.number}of{self.clusters}"

    @property
    def starts_from(self) -> str:
        """Return the generalist's method."""
        return self.of

    def identity(self) -> dict[str, Any]:
        """Return the kind and the group; the generalist counts by its fingerprint."""
        return self.model_dump(mode="json", exclude={"of"})

    def form(self, images: bool) -> Form:
        """Return how it reads a task; planning gives it the generalist's inputs."""
        return "pixels" if images else "tokens"

    def shape(self, source: Shape) -> Shape:
        """Return the generalist's sizes; layers of a specialist cannot be compared."""
        return Shape(source.layers, source.width, source.heads, source.inner, source.family, self.hands_out)

    def build(
        self, source: Source, outputs: int, seed: int, *, labels: Sequence[str] = (), kind: str = "classes"
    ) -> SpecialistNetwork:
        """Return the generalist with the classes of this group; ``source`` is the folder of its run.

        Raises:
            UserError: the generalist kept no examples aside, or there are not more than ``size`` classes.
        """
        if not isinstance(source, Path) or not (source / HELD_OUT).is_file():
            raise UserError(
                f"{self.of!r} kept no examples aside, by which classes are grouped; give it select.hold_out"
            )
        if self.size >= outputs:
            raise UserError(f"size: {self.size} of {outputs} classes leave none for the dustbin class; name fewer")
        import pandas as pd
        from scipy.special import softmax

        logits = pd.read_parquet(source / HELD_OUT).filter(like="logit_").to_numpy(float)
        softened = softmax(logits / self.temperature, axis=1)
        subset = class_subsets(softened, self.clusters, self.size)[self.number - 1]
        return SpecialistNetwork(_open(source / "model", outputs, labels), subset)

    def load(self, folder: Path, outputs: int, *, labels: Sequence[str] = ()) -> SpecialistNetwork:
        """Return a finished specialist, in eval mode, as `Learner.load` does."""
        state = read_mapping(Path(folder) / STATE, "train the run again")
        return SpecialistNetwork(_open(Path(folder), outputs, labels), state["subset"], state["factor"])


def _open(folder: Path, outputs: int, labels: Sequence[str]) -> Network:
    """Return the network in a run's ``model/``, whatever kind of learner it is."""
    described = read_mapping(folder / "config.json", "train the run again").get("learner", {})
    return parse_learner(described).load(folder, outputs, labels=labels)


def class_subsets(probabilities: np.ndarray, clusters: int, size: int) -> np.ndarray:
    """Return the classes of every group, (clusters, size), ascending.

    K-means of the columns of the covariance matrix (the paper's, in one batch), each of length 1 [ours]; of every
    centre the nearest columns.

    Args:
        probabilities: a generalist's, (examples, classes).

    Raises:
        UserError: there are fewer classes than clusters.

    Example:
        >>> class_subsets(np.array([[0.5, 0.5, 0, 0], [0.4, 0.6, 0, 0], [0, 0, 0.7, 0.3], [0, 0, 0.3, 0.7]]), 2, 2)[0]
        array([0, 1])
    """
    from scipy.cluster.vq import kmeans2
    from scipy.spatial.distance import cdist

    classes = probabilities.shape[1]
    if clusters > classes:
        raise UserError(f"clusters: {clusters} are more than the {classes} classes; name fewer")
    columns = np.cov(probabilities, rowvar=False)
    columns = columns / np.maximum(np.linalg.norm(columns, axis=1, keepdims=True), np.finfo(float).tiny)
    # From one start it may end in a grouping that the processor's rounding decides.
    started = [kmeans2(columns, clusters, minit="++", seed=seed)[0] for seed in range(_STARTS)]
    distances = min((cdist(centres, columns) for centres in started), key=lambda found: (found.min(0) ** 2).sum())
    return np.sort(np.argsort(distances, axis=1, kind="stable")[:, :size], axis=1)


class SpecialistNetwork(Network):
    """A generalist's network whose classes outside of a subset share one logit.

    Attributes:
        factor: how much more often than in the data the subset's classes were trained on; in eval mode its logarithm
            is added to the dustbin's logit, which takes it back.
    """

    hands_out = frozenset({"logits"})
    layers = width = heads = 0

    def __init__(self, generalist: Network, subset: Sequence[int] | np.ndarray, factor: float = 1.0) -> None:
        """Take a network, which is trained in place, and the numbers of its classes."""
        self._generalist, self.module, self.factor = generalist, generalist.module, factor
        self.subset: tuple[int, ...] = tuple(int(number) for number in subset)

    def read(self, batch: Mapping[str, Tensor], wanted: Wanted = LOGITS) -> Captured:
        """Return the logits, as `Network.read` describes."""
        import torch

        check_wanted(wanted, 0, self.hands_out, "a specialist")
        logits = self._generalist.read(batch)["logits", 0].float()
        inside = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
        inside[list(self.subset)] = True
        others = logits.shape[-1] - len(self.subset)
        shared = logits.masked_fill(inside, -math.inf).logsumexp(-1, keepdim=True) - math.log(others)
        if not self.module.training:
            shared = shared + math.log(self.factor)
        return {("logits", 0): torch.where(inside, logits, shared)}

    def choose(self, positions: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
        """Return the positions of all examples of the subset and of as many others, drawn from the seed."""
        own = np.isin(labels, self.subset)
        if own.all() or not own.any():
            raise UserError("learner: the training examples are all of a specialist's classes, or none is; select more")
        count = min(own.sum(), (~own).sum())
        others = np.random.default_rng(seed).choice(positions[~own], count, replace=False)
        self.factor = float((~own).sum() / count)
        return np.sort(np.concatenate([positions[own], others]))

    def constrain(self) -> None:
        """Put the weights back into their limits."""
        self._generalist.constrain()

    def save(self, folder: Path) -> None:
        """Write the network as the generalist is written, and the subset."""
        self._generalist.save(folder)
        write_json(folder / STATE, {"subset": list(self.subset), "factor": self.factor})

    def count_parameters(self) -> ParameterCount:
        """Count the generalist's parameters."""
        return self._generalist.count_parameters()
