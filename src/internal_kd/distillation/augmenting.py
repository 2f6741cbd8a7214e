"""Training examples changed at random as they are read, the same way whenever a step is computed again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from internal_kd.fields import Frozen, Whole

if TYPE_CHECKING:
    from internal_kd.distillation.batches import Batch

# Parts the draws of a step from those of its dropout.
_STREAM = 0x5EED


class Augment(Frozen):
    """How the images of a training are changed; scores and recorded answers are about the images as they are."""

    shift: Whole = Field(
        0, description="pixels that an image moves by in either direction at most, drawn for every step; 0 comes in"
    )


def augmented(batch: Batch, augment: Augment, seed: int, step: int) -> Batch:
    """Return a training batch changed at random; what is drawn follows from the seed and the step alone.

    Args:
        batch: ``pixels`` (B, height, width, channels) uint8, and whatever else it carries.
        step: counted from 0 over the whole training.
    """
    if not augment.shift or "pixels" not in batch:
        return batch
    import torch

    drawn = np.random.Generator(np.random.PCG64([seed, step, _STREAM]))
    pixels = shifted(batch["pixels"].numpy(), augment.shift, drawn)
    return {**batch, "pixels": torch.from_numpy(pixels)}


def shifted(images: np.ndarray, most: int, drawn: np.random.Generator) -> np.ndarray:
    """Return images (N, height, width, channels), each moved by up to ``most`` pixels down and right or up and left.

    Example:
        >>> shifted(np.ones((1, 2, 2, 1), np.uint8), 0, np.random.default_rng(0)).ravel().tolist()
        [1, 1, 1, 1]
    """
    count, height, width, _ = images.shape
    rows, columns = drawn.integers(0, 2 * most + 1, size=(2, count))
    padded = np.pad(images, ((0, 0), (most, most), (most, most), (0, 0)))
    down = (rows[:, None] + np.arange(height))[:, :, None]
    right = (columns[:, None] + np.arange(width))[:, None, :]
    return padded[np.arange(count)[:, None, None], down, right]
