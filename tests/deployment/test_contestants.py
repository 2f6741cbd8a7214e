"""What stands beside a timing is what was timed."""

import numpy as np

from internal_kd.deployment.contestants import timed_tokens


def test_tokens_are_those_of_the_batches_that_were_timed() -> None:
    lengths = np.array([10, 20, 30, 40, 50])
    batches = [np.array([0, 1]), np.array([2]), np.array([3]), np.array([4])]
    assert timed_tokens(lengths, batches, 1) == 20
    assert timed_tokens(lengths, batches, 3) == 30
    # A fifth round takes the first batch again.
    assert timed_tokens(lengths, batches, 5) == 30
    assert timed_tokens(lengths, batches, 4) == 35
