"""How much memory a training of row 3.3 holds: ``python -m bench.memory <folder> <examples> <epochs> <threads>``.

The student is small, so that what grows with the data would show; the recorded teacher is a file of zeros. The last
line printed is the most bytes that this process held. That grows with the number of steps too: the allocator keeps a
little more for every new shape of a batch. So trainings to be compared take the same number of steps.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.contestants import INTERNAL
from bench.workload import Workload, make_workload, read_workload


def main() -> None:
    """Make the files in another process, whose memory does not count here, then train."""
    folder, (examples, epochs, threads) = Path(sys.argv[1]), map(int, sys.argv[2:5])
    if sys.argv[5:] == ["files"]:
        _make_files(folder, examples)
        return
    folder.mkdir()
    subprocess.run([sys.executable, "-m", "bench.memory", *sys.argv[1:5], "files"], check=True, stdout=sys.stderr)
    _train(folder, epochs, threads)
    from bench.pace import process_memory

    print(process_memory())


def _make_files(folder: Path, examples: int) -> None:
    import numpy as np

    from bench.objectives import terms_for
    from internal_kd.distillation.recording import RecordingWriter
    from internal_kd.distillation.terms import asked_of_teacher

    workload = Workload(examples=examples, width=32, heads=2, teacher_layers=2, student_layers=2)
    make_workload(workload, folder)
    lengths = np.diff(np.load(folder / "inputs/train.offsets.npy"))
    (folder / "recorded").mkdir()
    wanted = asked_of_teacher(terms_for(workload, INTERNAL))
    sizes = {"classes": workload.classes, "width": workload.width, "heads": workload.heads}
    RecordingWriter(folder / "recorded", np.arange(examples), lengths, wanted, sizes).flush()


def _train(folder: Path, epochs: int, threads: int) -> None:
    import numpy as np
    import torch

    from bench.objectives import terms_for
    from internal_kd.data.inputs import EncodedTask
    from internal_kd.distillation.answers import Recorded
    from internal_kd.distillation.curricula import CurriculumState, stages_of
    from internal_kd.distillation.hardware import Hardware
    from internal_kd.distillation.loop import train
    from internal_kd.distillation.loss import DistillationLoss
    from internal_kd.distillation.optimizing import TrainingParams
    from internal_kd.distillation.recording import RecordingReader
    from internal_kd.distillation.terms import compared_layers
    from internal_kd.learners.capture import network_of
    from internal_kd.learners.weights import load_classifier

    torch.set_num_threads(threads)
    workload, hardware = read_workload(folder), Hardware(torch.device("cpu"), "fp32")
    examples = EncodedTask(folder / "inputs").split("train")
    network = network_of(load_classifier(folder / "student", workload.classes))
    terms = terms_for(workload, INTERNAL)
    answers = Recorded(RecordingReader(folder / "recorded"), None, hardware)
    train(
        network,
        DistillationLoss(network, terms, answers, hardware),
        examples=examples,
        positions=np.arange(len(examples)),
        curriculum=CurriculumState(stages_of("all", "top", compared_layers(terms))),
        training=TrainingParams(epochs=epochs, batch_size=workload.batch_size),
        seed=0,
        hardware=hardware,
    )


if __name__ == "__main__":
    main()
