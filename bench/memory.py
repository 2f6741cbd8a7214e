"""How much memory a training of row 3.3 holds: ``python -m bench.memory <folder> <examples> <epochs> <threads>``.

The student is small, so that what grows with the data would show; the recorded teacher is a file of zeros. The last
line printed is the most this process held, in bytes. That grows with the number of steps too: the allocator keeps a
little more for every new shape of a batch. So trainings to be compared take the same number of steps.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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

    from internal_kd.distillation.teacher_outputs import TeacherOutputsWriter

    workload = Workload(examples=examples, width=32, heads=2, teacher_layers=2, student_layers=2)
    make_workload(workload, folder)
    lengths = np.diff(np.load(folder / "tokens/train.offsets.npy"))
    (folder / "recorded").mkdir()
    TeacherOutputsWriter(
        folder / "recorded", np.arange(examples), lengths, classes=2, width=workload.width, heads=workload.heads,
        cls_layers=workload.matched, attention_layers=workload.matched,
    ).flush()  # fmt: skip


def _train(folder: Path, epochs: int, threads: int) -> None:
    import numpy as np
    import torch

    from bench.ours import WEIGHTS, NoScorer
    from internal_kd.data.tokens import TokenStore
    from internal_kd.distillation.curricula import Climb, stages_of
    from internal_kd.distillation.hardware import Hardware
    from internal_kd.distillation.loss_terms import DistillationLoss
    from internal_kd.distillation.teacher_outputs import TeacherOutputsReader
    from internal_kd.distillation.teachers import RecordedTeacher
    from internal_kd.distillation.trainer import train
    from internal_kd.models.classifiers import load_classifier
    from internal_kd.params.training import TrainingParams

    torch.set_num_threads(threads)
    workload, hardware = read_workload(folder), Hardware(torch.device("cpu"), "fp32")
    split = TokenStore(folder / "tokens").split("train")
    model = load_classifier(folder / "student", 2)
    teacher = RecordedTeacher(TeacherOutputsReader(folder / "recorded"), None, hardware)
    train(
        model,
        DistillationLoss(model, teacher, WEIGHTS, workload.matched, 1.0, hardware),
        split=split,
        positions=np.arange(len(split)),
        climb=Climb(stages_of("all", "top", workload.student_layers), 1, 0.0),
        training=TrainingParams(epochs=epochs, batch_size=workload.batch_size),
        seed=0,
        hardware=hardware,
        scratch=folder / "scratch",
        checkpoint_minutes=1e6,
        scorer=NoScorer(),
        report=lambda progress: None,
    )


if __name__ == "__main__":
    main()
