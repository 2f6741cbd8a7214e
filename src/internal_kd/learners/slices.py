"""Students: the source's architecture with fewer layers, filled from the source's layers or from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

from transformers import PreTrainedModel

from internal_kd.models.classifiers import seeded
from internal_kd.models.families import layers_path
from internal_kd.models.layers import choose_layers


def initialize_student(
    source: PreTrainedModel, depth: int, layers: str | Sequence[int], *, seed: int = 0
) -> PreTrainedModel:
    """Return a student of ``depth`` layers in eval mode, initialised from ``source`` (encoder or fine-tuned teacher).

    layers: ``first``, ``every_other``, ``last``, ``spread`` or a list copies those of the source's layers together
    with its embeddings, pooler and head; ``random`` draws every weight from ``seed``.
    Raises UserError when the student is deeper than the source or the layers do not fit.
    """
    if layers == "random":
        choose_layers("first", source.config.num_hidden_layers, depth)  # the depth is checked all the same
        return random_student(source, depth, seed)
    return student_from(source, depth, choose_layers(layers, source.config.num_hidden_layers, depth))


def student_from(source: PreTrainedModel, depth: int, layers: tuple[int, ...]) -> PreTrainedModel:
    """Return a student whose layer l is a copy of source layer ``layers[l - 1]``, everything else copied as it is.

    Weights are fp32 and shared with nothing. Raises UserError when ``layers`` does not fit depth and source.
    """
    chosen = choose_layers(layers, source.config.num_hidden_layers, depth)
    student = random_student(source, depth, seed=0)
    prefix, weights = f"{layers_path(source)}.", source.state_dict()
    student.load_state_dict({name: weights[_source_name(name, prefix, chosen)] for name in student.state_dict()})
    return student


def random_student(source: PreTrainedModel, depth: int, seed: int) -> PreTrainedModel:
    """Return a student of the source's shape with every weight drawn from ``seed``, in eval mode and fp32."""
    config = deepcopy(source.config)
    config.num_hidden_layers = depth
    with seeded(seed):
        student = type(source)(config)
    return student.float().eval()


def _source_name(name: str, prefix: str, layers: tuple[int, ...]) -> str:
    """Translate a student's weight name, layers counted from 0, to the name of its source."""
    if not name.startswith(prefix):
        return name
    layer, rest = name.removeprefix(prefix).split(".", 1)
    return f"{prefix}{layers[int(layer)] - 1}.{rest}"
