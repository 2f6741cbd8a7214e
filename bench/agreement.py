"""``python -m bench.agreement``: our losses and the peers', on one batch without padding, where theirs are right.

Runs in the peers' environment with this project on the path; a peer that is not installed is left out::

    PYTHONPATH=src:. work/bench/peers/bin/python -m bench.agreement

Not compared, because the peers' differ by intent or by mistake: anything with padding (TextBrewer averages over the
tokens of the batch, torchdistill over padding too), TextBrewer's attention losses without a mask (scores below zero are
dropped), and what the peers do not have (MiniLM, CKD, DKD).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from internal_kd.distillation import losses

TOLERANCE = 1e-5
BATCH, HEADS, LENGTH, WIDTH, CLASSES, TEMPERATURE = 8, 4, 10, 24, 5, 2.0
Pair = tuple[str, float, float]


def main() -> None:
    """Print every comparison; end with 1 if one is off by more than ``TOLERANCE`` of the peer's value."""
    off = 0
    for peer, pairs in (("textbrewer", with_textbrewer), ("torchdistill", with_torchdistill)):
        if find_spec(peer) is None:
            print(f"{peer} is not installed here")
            continue
        for name, ours, theirs in pairs():
            difference = abs(ours - theirs) / abs(theirs)
            off += difference > TOLERANCE
            print(f"{peer:14}{name:24}{ours:12.7f}{theirs:12.7f}{difference:10.1e}")
    sys.exit(1 if off else 0)


def drawn(seed: int, *shape: int) -> Tensor:
    """Random numbers; even seeds are the student's."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def with_textbrewer() -> Iterator[Pair]:
    """Yield the name of a loss, our value and TextBrewer's, in our units."""
    from textbrewer import losses as theirs

    hidden = drawn(0, BATCH, LENGTH, WIDTH), drawn(1, BATCH, LENGTH, WIDTH)
    scores = drawn(2, BATCH, HEADS, LENGTH, LENGTH), drawn(3, BATCH, HEADS, LENGTH, LENGTH)
    student, teacher = drawn(4, BATCH, CLASSES), drawn(5, BATCH, CLASSES)
    mask = torch.ones(BATCH, LENGTH)

    def cross_entropy(side: Tensor) -> Tensor:
        return theirs.kd_ce_loss(side, teacher, TEMPERATURE)

    yield (
        "soft_label_loss",
        float(losses.soft_label_loss(student, teacher, TEMPERATURE)),
        # Cross-entropy without T^2.
        float(TEMPERATURE**2 * (cross_entropy(student) - cross_entropy(teacher))),
    )
    yield "hidden_mse", float(losses.hidden_mse(*hidden, mask)), float(theirs.hid_mse_loss(*hidden, mask))
    yield "hidden_cosine", float(losses.hidden_cosine(*hidden, mask)), float(theirs.cos_loss(*hidden, mask))
    cls = hidden[0][:, 0], hidden[1][:, 0]
    # Summed over the width.
    yield "patient_cls", float(losses.patient_cls(*cls)), float(theirs.pkd_loss(*cls)) / WIDTH
    attention = float(theirs.att_mse_loss(*scores, mask))
    yield "attention_score_mse", float(losses.attention_score_mse(*scores, mask)), attention


def with_torchdistill() -> Iterator[Pair]:
    """Yield the name of a loss, our value and torchdistill's, in our units."""
    from bench.torchdistill_loop import stand_in_for_torchvision

    stand_in_for_torchvision()
    from torchdistill.losses import mid_level

    student, teacher = drawn(4, BATCH, CLASSES), drawn(5, BATCH, CLASSES)
    cls = drawn(6, BATCH, WIDTH), drawn(7, BATCH, 2 * WIDTH)
    maps = drawn(8, BATCH, HEADS, LENGTH, LENGTH).log_softmax(-1), drawn(9, BATCH, 2, LENGTH, LENGTH).log_softmax(-1)
    soft = _value(mid_level.KDLoss("", "", "", "", TEMPERATURE, alpha=0.0), student, teacher)
    # Without T^2.
    yield "soft_label_loss", float(losses.soft_label_loss(student, teacher, TEMPERATURE)), TEMPERATURE**2 * soft
    # Times T^2, although a correlation does not shrink as T grows.
    dist = _value(mid_level.DISTLoss("", "", "", "", 2.0, 0.5, TEMPERATURE), student, teacher) / TEMPERATURE**2
    yield "dist", float(losses.dist(student, teacher, TEMPERATURE, 2.0, 0.5)), dist
    distance, angle = losses.rkd(*cls, angle_weight=1.0)
    rkd = mid_level.RKDLoss("", "", 1.0, 1.0, "mean")
    yield "rkd distance", float(distance), float(rkd.compute_rkd_distance_loss(cls[1], cls[0]))
    yield "rkd angle", float(angle), float(rkd.compute_rkd_angle_loss(cls[1], cls[0]))
    # Heads and queries are its channels, keys its positions.
    channels = [side.exp().reshape(BATCH, -1, LENGTH, 1) for side in maps]
    pairs = {"pair": {who: {"io": "", "path": ""} for who in ("student", "teacher")}}
    transfer = _value(mid_level.ATLoss(pairs, "code"), *channels)
    yield "attention_transfer", float(losses.attention_transfer(*maps, torch.ones(BATCH, LENGTH))), transfer


def _value(loss: nn.Module, student: Tensor, teacher: Tensor) -> float:
    """A loss of modules' outputs, found by path and by kind of output; both are empty here."""
    return float(loss({"": {"": student}}, {"": {"": teacher}}))


if __name__ == "__main__":
    main()
