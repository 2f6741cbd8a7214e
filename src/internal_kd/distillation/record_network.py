"""Record a network once for all students: its answers about some examples, and the internals they compare with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from internal_kd.distillation.answers import Live
from internal_kd.distillation.batches import Examples, rows_of
from internal_kd.distillation.hardware import Hardware, in_micro_batches
from internal_kd.distillation.recording import RecordingWriter
from internal_kd.distillation.recording_size import Sizes
from internal_kd.learners.learner import Network, Wanted
from internal_kd.learners.rows import row_ids

BATCH_SIZE = 32


def sizes_of(network: Network, outputs: int) -> Sizes:
    """Return the sizes of the axes of what a network hands out."""
    return {"classes": outputs, "width": network.width, "inner": network.width, "heads": network.heads}


def record_network(
    network: Network,
    examples: Examples,
    positions: np.ndarray,
    wanted: Wanted,
    outputs: int,
    folder: Path,
    hardware: Hardware,
) -> None:
    """Write the recording of a frozen network into an empty folder, longest examples first: memory peaks early.

    Raises:
        UserError: memory runs out with one example at a time.
    """
    lengths = np.asarray(examples.lengths)[positions]
    ids = np.asarray(examples.idx)[positions]
    rows = rows_of(examples, positions) if hasattr(examples, "rows_of") else None
    writer = RecordingWriter(folder, ids, lengths, wanted, sizes_of(network, outputs), rows)
    live = Live(network, hardware)

    def record(places: np.ndarray) -> None:
        batch = {name: tensor.to(hardware.device) for name, tensor in examples.batch(positions[places]).items()}
        writer.write(places, live.answers(batch, writer.wanted), row_ids(batch).cpu().numpy())

    if writer.wanted:  # of a teacher of several, internals may come from another
        in_micro_batches(np.argsort(-lengths, kind="stable"), BATCH_SIZE, record)
    writer.flush()
