"""What a scout's predictions say of training examples: scores to prune by, as pure functions.

Each takes the scout's logits (epochs, examples, classes) on the training set after every epoch, and the labels
(examples,), and returns a score for every example, larger where ``order: high`` takes it first. There is no ``grand``:
the norm of a loss's gradient at the outputs is `el2n` (Paul et al. 2021, section 2), and the gradient of all weights
takes a backward pass for every example of an early epoch.
"""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax, softmax


def el2n(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the length of the error softmax(z) - onehot(y) after the last epoch given; high is hard.

    Source: Paul, Ganguli, Dziugaite 2021, Deep Learning on a Data Diet (arXiv 2107.07075), section 2.

    Example:
        >>> el2n(np.array([[[0.0, 0.0], [9.0, -9.0]]]), np.array([0, 0])).round(3).tolist()
        [0.707, 0.0]
    """
    error = softmax(logits[-1].astype(np.float64), axis=-1)
    error[np.arange(len(labels)), labels] -= 1
    return np.linalg.norm(error, axis=-1)


def loss(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the cross-entropy with the gold label after the last epoch given; high is hard."""
    return -log_softmax(logits[-1].astype(np.float64), axis=-1)[np.arange(len(labels)), labels]


def confidence(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the probability of the gold label, its mean over epochs; high is easy.

    Source: Swayamdipta et al. 2020, Dataset Cartography (arXiv 2009.10795), section 2.
    """
    return softmax(logits.astype(np.float64), axis=-1)[:, np.arange(len(labels)), labels].mean(0)


def forgetting(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return how often an example that was right after an epoch is wrong after the next; high is hard.

    An example that was never right gets the number of epochs, more than any other can reach. The paper looks at an
    example whenever it is in a batch; here all are looked at after every epoch.
    Source: Toneva et al. 2019, An Empirical Study of Example Forgetting (arXiv 1812.05159), section 3.

    Example:
        >>> right, wrong = [1.0, 0.0], [0.0, 1.0]
        >>> forgetting(np.array([[right, wrong], [wrong, wrong], [right, wrong]]), np.array([0, 0])).tolist()
        [1.0, 3.0]
    """
    right = logits.argmax(-1) == labels
    forgotten = (right[:-1] & ~right[1:]).sum(0)
    return np.where(right.any(0), forgotten, len(right)).astype(np.float64)


def herding(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return minus the place at which each example is picked for its class; high is central.

    Examples are picked one by one, so that the mean of those picked stays nearest to the mean of their class. What is
    averaged are the scout's logits after the last epoch given. Time grows with the square of a class's examples.
    Source: Rebuffi et al. 2017, iCaRL (arXiv 1611.07725), algorithm 4, after Welling 2009.
    """
    found = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        centred = logits[-1][members].astype(np.float64)
        centred -= centred.mean(0)
        squares, total = (centred**2).sum(-1), np.zeros(centred.shape[1])
        for place in range(len(members)):
            # The distance of (total + x) to 0, without the part that all share.
            picked = int((squares + 2 * centred @ total).argmin())
            found[members[picked]] = -place
            total += centred[picked]
            squares[picked] = np.inf
    return found
