"""Record a frozen teacher: its logits, [CLS] states and attention on every training example, once for all students."""

from __future__ import annotations

from typing import TYPE_CHECKING

from internal_kd.artefacts import TeacherOutputs
from internal_kd.files import publish_folder, require_space, staging_folder, write_json
from internal_kd.identity import plain
from internal_kd.models.layers import layer_map
from internal_kd.params.study import MachineParams

if TYPE_CHECKING:
    import numpy as np

    from internal_kd.data.tokens import TokenSplit
    from internal_kd.distillation.teacher_outputs import TeacherOutputsWriter
    from internal_kd.distillation.teachers import ComputedTeacher, Wanted

# Raised when the same parameters and inputs give another result.
RECIPE = 1

BATCH_SIZE = 32


def record_teacher(outputs: TeacherOutputs, machine: MachineParams) -> None:
    """Write ``work/teacher_outputs/...``; attention maps beyond the disk budget are left for training to compute.

    Raises:
        UserError: the teacher's weights are missing, the disk is full, or memory runs out with one example at a time.
    """
    import numpy as np

    from internal_kd.data.tokens import TokenStore
    from internal_kd.distillation.hardware import choose_hardware
    from internal_kd.distillation.teacher_outputs import TeacherOutputsWriter, attention_bytes
    from internal_kd.distillation.teachers import ComputedTeacher, Wanted
    from internal_kd.models.classifiers import freeze_teacher, load_classifier

    hardware = choose_hardware(outputs.teacher.training.precision)
    tokens = TokenStore(outputs.teacher.tokens.folder)
    split = tokens.split("train")
    model = freeze_teacher(load_classifier(outputs.teacher.folder / "model", tokens.classes))
    hardware.place(model)
    depth, heads = model.config.num_hidden_layers, model.config.num_attention_heads
    needed = sorted({layer for student, strategy in outputs.needs for layer in layer_map(strategy, depth, student)})
    lengths = np.asarray(split.lengths)
    attention = affordable_layers(needed, attention_bytes(lengths, heads), machine.disk_budget_gb)
    states = 2 * model.config.hidden_size * len(lengths) * len(needed)
    needed_bytes = attention_bytes(lengths, heads) * len(attention) + states
    require_space(outputs.folder, needed_bytes, f"the teacher's outputs on {outputs.task}")
    with staging_folder(outputs.folder) as staged:
        writer = TeacherOutputsWriter(
            staged,
            np.asarray(split.idx),
            lengths,
            classes=tokens.classes,
            width=model.config.hidden_size,
            heads=heads,
            cls_layers=needed,
            attention_layers=attention,
        )
        wanted = Wanted(True, tuple(needed), tuple(attention))
        _record(split, lengths, ComputedTeacher(model, hardware), wanted, writer)
        files = {path.name: {"bytes": path.stat().st_size} for path in sorted(staged.glob("*.npy"))}
        record = {
            "fingerprint": outputs.fingerprint,
            "recipe": outputs.recipe,
            "params": plain(outputs.params()),
            "inputs": outputs.inputs(),
            "cls_layers": needed,
            "attention_layers": attention,
            "attention_left_to_training": [layer for layer in needed if layer not in attention],
            "files": files,
        }
        write_json(staged / outputs.marker.name, record)
        publish_folder(staged, outputs.folder, outputs.marker.name)


def affordable_layers(layers: list[int], bytes_each: int, budget_gb: float) -> list[int]:
    """Return the layers whose attention fits the budget, highest first kept: they are the dearest to compute anew."""
    gigabyte = 10**9
    wanted, room = len(layers), int(budget_gb * gigabyte // max(1, bytes_each))
    size = f"{wanted * bytes_each / gigabyte:.2f} GB for the attention of {wanted} layers"
    if room >= wanted:
        print(f"recording {size} (budget {budget_gb:g} GB)", flush=True)
        return layers
    print(
        f"{size} exceed machine.disk_budget_gb of {budget_gb:g}: recording {room} layers, "
        f"the other {wanted - room} are computed while training",
        flush=True,
    )
    return layers[wanted - room :]


def _record(
    split: TokenSplit, lengths: np.ndarray, teacher: ComputedTeacher, wanted: Wanted, writer: TeacherOutputsWriter
) -> None:
    import numpy as np

    from internal_kd.distillation.hardware import in_micro_batches

    def record(rows: np.ndarray) -> None:
        writer.write(rows, teacher.outputs(split.batch(rows), wanted))

    in_micro_batches(np.argsort(-lengths, kind="stable"), BATCH_SIZE, record)
    writer.flush()
