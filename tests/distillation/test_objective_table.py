"""Every objective in the table, called as a training calls it: a new entry is tested by being entered."""

import inspect
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from internal_kd.distillation import losses
from internal_kd.distillation.declarations import KINDS, Objective
from internal_kd.distillation.objectives import OBJECTIVES
from internal_kd.distillation.recording import as_recorded
from internal_kd.errors import UserError
from internal_kd.registry import resolve

SIZES = {"classes": 4, "width": 8, "heads": 3, "inner": 24}
LEVELS = 4

every_objective = pytest.mark.parametrize("name", OBJECTIVES)
of_labels = pytest.mark.parametrize("name", [name for name in OBJECTIVES if OBJECTIVES[name].reads_labels])


def tensor_of(kind: str, objective: Objective, seed: int, lengths: list[int]) -> Tensor:
    """What a model hands out, (B, ...) or (B, levels, ...)."""
    axes = [max(lengths) if axis == "tokens" else SIZES[axis] for axis in KINDS[kind].axes]
    levels = [LEVELS] if objective.per == "stack" else []
    drawn = torch.randn(len(lengths), *levels, *axes, generator=torch.Generator().manual_seed(seed))
    if kind == "path_log_likelihood":  # of a tree whose paths all end in one leaf
        return drawn.log_softmax(-1)
    if kind != "attention":
        return drawn
    return drawn.masked_fill(~reality(lengths)[:, None, None], -1e30).log_softmax(-1)


def reality(lengths: list[int]) -> Tensor:
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def padding_of(tensor: Tensor, kind: str, lengths: list[int]) -> Tensor:
    """Where a tensor of this kind is padding, broadcast to its shape."""
    real = torch.ones_like(tensor, dtype=torch.bool)
    axes = KINDS[kind].axes
    for place, axis in enumerate(axes):
        if axis == "tokens":
            at = tensor.ndim - len(axes) + place
            real = real & reality(lengths).view(len(lengths), *(-1 if i == at else 1 for i in range(1, tensor.ndim)))
    return ~real


class Call:
    """One call of an objective on drawn tensors."""

    def __init__(self, name: str, lengths: list[int], equal: bool = False) -> None:
        self.objective, self.lengths = OBJECTIVES[name], lengths
        kinds = self.objective.kinds
        theirs = self.objective.teacher_kinds or kinds
        self.student = [tensor_of(kind, self.objective, seed, lengths) for seed, kind in enumerate(kinds)]
        self.teacher = [tensor_of(kind, self.objective, 100 + seed, lengths) for seed, kind in enumerate(theirs)]
        if equal:
            self.teacher = [side.clone() for side in self.student]
        self.labels = torch.arange(len(lengths)) % SIZES["classes"]
        self.settings: dict[str, Any] = {"temperature": 2.0}

    def loss(self) -> Tensor:
        """The value as `DistillationLoss` adds it up; the student's tensors get gradients."""
        self.student = [side.detach().requires_grad_() for side in self.student]
        tensors: list[Tensor] = []
        for ours, theirs in zip(self.student, self.teacher, strict=True):
            tensors += [ours, theirs] if self.objective.teacher else [ours]
        if self.objective.per_token:
            tensors.append(reality(self.lengths).long())
        if self.objective.reads_labels:
            tensors.append(self.labels)
        named = {key: self.settings[key] for key in self.objective.settings}
        torch.manual_seed(0)  # as the loop seeds before every step
        value = resolve(self.objective.function)(*tensors, **named, **self.objective.with_options({}))
        return torch.stack(value).sum() if isinstance(value, tuple) else value

    def gradients(self, loss: Tensor) -> list[Tensor]:
        """By tensor of the student."""
        return list(torch.autograd.grad(loss, self.student, allow_unused=True, materialize_grads=True))

    def example(self, which: int) -> "Call":
        """One example without its padding."""
        single = Call.__new__(Call)
        single.objective, single.lengths = self.objective, [self.lengths[which]]
        single.settings = self.settings
        single.labels = self.labels[which : which + 1]
        single.student, single.teacher = (
            [self.cropped(side, kind, which) for side, kind in zip(sides, self.objective.kinds, strict=True)]
            for sides in (self.student, self.teacher)
        )
        return single

    def cropped(self, tensor: Tensor, kind: str, which: int) -> Tensor:
        tensor = tensor.detach()[which : which + 1]
        axes = KINDS[kind].axes
        for place, axis in enumerate(axes):
            if axis == "tokens":
                tensor = tensor.narrow(tensor.ndim - len(axes) + place, 0, self.lengths[which])
        return tensor


@every_objective
def test_options_have_the_defaults_of_the_function(name: str) -> None:
    objective = OBJECTIVES[name]
    parameters = inspect.signature(resolve(objective.function)).parameters
    assert {*objective.settings, *objective.options} <= set(parameters)
    for option, value in objective.options.items():
        # The function by itself is the definition: the authors' weights of its parts belong to the objective.
        known = {1.0, value} if option.endswith("_weight") else {value}
        assert parameters[option].default in (inspect.Parameter.empty, *known)


@every_objective
def test_the_documentation_names_a_source(name: str) -> None:
    documentation = inspect.getdoc(resolve(OBJECTIVES[name].function)) or ""
    assert documentation.splitlines()[0].endswith(".")
    assert "Source: " in documentation or name == "hard"


@every_objective
def test_the_overview_names_what_compares_the_examples_of_a_batch(name: str) -> None:
    named = f"`{OBJECTIVES[name].function.partition(':')[2]}`" in (losses.__doc__ or "")
    assert named is OBJECTIVES[name].across_batch


@every_objective
def test_equal_models_cost_nothing(name: str) -> None:
    if OBJECTIVES[name].teacher and name != "beta_smoothing":  # of its teacher it reads an order alone
        assert Call(name, [5, 3, 1], equal=True).loss().item() == pytest.approx(0.0, abs=1e-6)


@every_objective
def test_neither_padding_nor_batch_mates_count(name: str) -> None:
    call = Call(name, [6, 4, 1, 2])
    value = call.loss()
    gradients = call.gradients(value)
    singles = [call.example(b).loss().item() for b in range(4)]
    assert (value.item() == pytest.approx(math.fsum(singles) / 4, rel=1e-4)) is not call.objective.across_batch
    for sides in (call.student, call.teacher):
        sides[:] = [
            side.detach().masked_fill(padding_of(side, kind, call.lengths), math.nan)
            for side, kind in zip(sides, call.objective.kinds, strict=True)
        ]
    with_junk = call.loss()
    assert with_junk.item() == pytest.approx(value.item(), rel=1e-5)
    for found, expected in zip(call.gradients(with_junk), gradients, strict=True):
        assert torch.allclose(found, expected, atol=1e-6)


@every_objective
def test_micro_batches_have_the_gradients_of_the_batch_unless_it_compares_its_examples(name: str) -> None:
    call = Call(name, [6, 4, 1, 2])
    gradients = call.gradients(call.loss())
    for which in range(4):
        single = call.example(which)
        for found, expected, kind in zip(single.gradients(single.loss()), gradients, call.objective.kinds, strict=True):
            if not call.objective.across_batch:
                assert torch.allclose(found / 4, call.cropped(expected, kind, which), atol=1e-6, rtol=1e-4)


@every_objective
def test_recorded_answers_cost_what_computed_ones_do_to_16_bit_rounding(name: str) -> None:
    call = Call(name, [6, 4, 1, 2])
    computed, recorded = call.loss(), []
    for kind, side in zip(call.objective.kinds, call.teacher, strict=True):
        recorded.append(as_recorded(kind, side).float())
    call.teacher = recorded
    assert call.loss().item() == pytest.approx(computed.item(), rel=5e-3, abs=1e-5)


@every_objective
@pytest.mark.parametrize("lengths", [[1], [2], [1, 1, 1]])
def test_one_or_two_tokens_are_enough(name: str, lengths: list[int]) -> None:
    call = Call(name, lengths)
    value = call.loss()
    assert value.isfinite() and all(gradient.isfinite().all() for gradient in call.gradients(value))


@every_objective
def test_only_students_learn(name: str) -> None:
    call = Call(name, [5, 3, 4])
    for side in call.teacher:
        side.requires_grad_()
    call.loss().backward()
    assert all(side.grad is None for side in call.teacher)
    for kind, side in zip(call.objective.kinds, call.student, strict=True):
        assert (side.grad is not None and bool(side.grad.abs().sum() > 0)) is (kind != "peer_logits")


@every_objective
def test_half_precision_is_computed_in_single(name: str) -> None:
    call = Call(name, [5, 3])
    call.student, call.teacher = ([side.half() for side in sides] for sides in (call.student, call.teacher))
    value = call.loss()
    call.student, call.teacher = ([side.float() for side in sides] for sides in (call.student, call.teacher))
    assert value.dtype == torch.float32 and value.item() == pytest.approx(call.loss().item(), rel=1e-6)


@of_labels
@pytest.mark.parametrize("label", [SIZES["classes"], -1, -100])
def test_a_label_that_is_not_a_class_is_named(name: str, label: int) -> None:
    call = Call(name, [2, 2])
    call.labels[1] = label
    with pytest.raises(UserError, match=f"label {label} "):
        call.loss()


@of_labels
def test_labels_of_another_batch_are_refused(name: str) -> None:
    call = Call(name, [2, 2])
    call.labels = call.labels[:1]
    with pytest.raises(UserError, match=r"\(1,\)"):
        call.loss()


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if "temperature" in OBJECTIVES[name].settings])
@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_that_is_not_positive_is_named(name: str, temperature: float) -> None:
    call = Call(name, [2, 2])
    call.settings = {"temperature": temperature}
    with pytest.raises(UserError, match=f"temperature is {temperature}"):
        call.loss()


# The weights of mutual_weighted move with the student, and are constants in its first derivative.
@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name != "mutual_weighted"])
def test_a_second_derivative_is_right_or_refused(name: str) -> None:
    call = Call(name, [5, 3, 4])
    at = call.student[0]
    direction = torch.randn(at.shape, generator=torch.Generator().manual_seed(1))

    def slope(moved: float, **graph: bool) -> Tensor:
        call.student[0] = at + moved * direction
        (gradient,) = torch.autograd.grad(call.loss(), call.student[:1], materialize_grads=True, **graph)
        return gradient

    expected = (slope(1e-2).square().sum() - slope(-1e-2).square().sum()) / 2e-2
    try:
        squared = slope(0.0, create_graph=True).square().sum()
    except UserError:
        return
    found = torch.zeros(())
    if squared.requires_grad:
        (second,) = torch.autograd.grad(squared, call.student[:1], materialize_grads=True)
        found = (second * direction).sum()
    assert found.item() == pytest.approx(expected.item(), rel=0.02, abs=1e-5)
