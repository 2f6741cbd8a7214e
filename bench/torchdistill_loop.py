"""torchdistill's DistillationBox, driven as its text classification example drives it."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from bench.contestants import Contestant
from bench.losses import attention_kl, cls_cosine
from bench.pace import Pace, device
from bench.workload import Corpus, load_model, read_batches, read_workload


def run(contestant: Contestant, folder: Path, pace: Pace) -> None:
    """Train until the pace ends it."""
    matched, corpus = read_workload(folder).matched, Corpus(folder)
    # With fused attention the attention modules return no maps to its hooks.
    teacher, student = (load_model(folder / who, attn_implementation="eager") for who in ("teacher", "student"))
    box = _box(teacher, student, matched, fused=contestant.variant == "best")

    def loss(batch: dict[str, Tensor]) -> Tensor:
        batch = {name: tensor.to(device()) for name, tensor in batch.items()}
        return box.forward_process(batch, targets=batch["attention_mask"])

    batches = [corpus.batch(positions) for positions in read_batches(folder, contestant.batches)]
    with torch.no_grad():
        pace.first_loss(float(loss(corpus.batch(read_batches(folder, "bucketed")[0]))))
    box.pre_epoch_process(epoch=0)
    for batch in pace.over(batches):
        box.post_forward_process(loss=loss(batch))


class _AttentionKL(nn.Module):
    def __init__(self, student: str, teacher: str) -> None:
        super().__init__()
        self._student, self._teacher = student, teacher

    def forward(self, student: Any, teacher: Any, targets: Tensor) -> Tensor:
        return attention_kl(student[self._student]["output"][1], teacher[self._teacher]["output"][1], targets)


class _ClsCosine(nn.Module):
    def __init__(self, student: str, teacher: str) -> None:
        super().__init__()
        self._student, self._teacher = student, teacher

    def forward(self, student: Any, teacher: Any, targets: Tensor) -> Tensor:
        return cls_cosine(student[self._student]["output"], teacher[self._teacher]["output"])


def _box(teacher: nn.Module, student: nn.Module, matched: tuple[int, ...], fused: bool) -> Any:
    stand_in_for_torchvision()
    from torchdistill.core.distillation import get_distillation_box
    from torchdistill.losses.mid_level import KDLoss
    from torchdistill.losses.registry import register_mid_level_loss

    register_mid_level_loss(_AttentionKL)
    register_mid_level_loss(_ClsCosine)

    terms: dict[str, Any] = {
        "soft": {"criterion": KDLoss("classifier", "output", "classifier", "output", 1.0, 0.0, 1.0), "weight": 1.0}
    }
    for layer, above in enumerate(matched, start=1):
        for name, module in (("_AttentionKL", "layer.{}.attention.self"), ("_ClsCosine", "layer.{}")):
            paths = {"student": _path(module, layer), "teacher": _path(module, above)}
            terms[f"{name} {layer}"] = {"criterion": {"key": name, "kwargs": paths}, "weight": 1.0}
    how = "forward_batch_only_as_kwargs"
    config = {
        "num_epochs": 1,
        "teacher": {"forward_proc": how, "requires_grad": False, "forward_hook": _hooks(matched)},
        "student": {"forward_proc": how, "forward_hook": _hooks(range(1, len(matched) + 1))},
        "optimizer": {
            "key": "AdamW",
            "kwargs": {"lr": 2e-5, "weight_decay": 0.01, "fused": fused},
            "max_grad_norm": 1.0,
        },
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": terms}},
    }
    return get_distillation_box(teacher, student, {}, config, device(), None, False, 1)


def _hooks(layers: Any) -> dict[str, list[str]]:
    modules = ("layer.{}", "layer.{}.attention.self")
    return {"output": ["classifier", *(_path(module, layer) for layer in layers for module in modules)]}


def _path(module: str, layer: int) -> str:
    return f"bert.encoder.{module.format(layer - 1)}"


def stand_in_for_torchvision() -> None:
    """torchdistill imports torchvision's models, which often do not fit a CPU build of torch; no BERT needs them."""
    names = {
        "torchvision": (), "torchvision.datasets": (), "torchvision.models": (),
        "torchvision.models.densenet": ("_DenseBlock", "_Transition"),
        "torchvision.models.resnet": ("BasicBlock", "conv1x1"),
    }  # fmt: skip
    for name, classes in names.items():
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        module.__path__ = []
        for cls in classes:
            setattr(module, cls, type(cls, (nn.Module,), {}))
        sys.modules[name] = module
    for name in list(names)[1:]:
        parent, _, child = name.rpartition(".")
        setattr(sys.modules[parent], child, sys.modules[name])
