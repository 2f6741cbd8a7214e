"""How long a training has taken, over all the attempts it took."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any


class Clock:
    """The time of one training, counted on where its checkpoint left off.

    What lies between two attempts does not count, nor what an attempt that was killed did after its last checkpoint.

    Attributes:
        started: when the first attempt began.
    """

    def __init__(self) -> None:
        """Start."""
        self.started = datetime.now(UTC)
        self._here, self._before = time.monotonic(), 0.0

    @property
    def seconds(self) -> float:
        """The time taken so far, earlier attempts included."""
        return self._before + time.monotonic() - self._here

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"started": self.started.isoformat(), "seconds": self.seconds}

    def resume(self, state: dict[str, Any] | None, trained: float) -> None:
        """Count on from a checkpoint; ``trained`` is how many seconds its epochs say they took, scoring left out.

        A checkpoint without a clock, as they were once written, tells no more than that: it is the least the earlier
        attempts took, and the first of them began at least so long ago.
        """
        if state is None:
            self._before, self.started = trained, self.started - timedelta(seconds=trained)
        else:
            self._before, self.started = float(state["seconds"]), datetime.fromisoformat(state["started"])
