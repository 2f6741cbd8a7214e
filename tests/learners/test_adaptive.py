"""Adaptive encoders: ranking changes no answer, a pass is a sub-network, and a sub-network is a model of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_every_learner import CPU, Drawn
from transformers import AutoModelForSequenceClassification

from internal_kd.distillation.curricula import CurriculumState, stages_of
from internal_kd.distillation.loop import train
from internal_kd.distillation.loss import DistillationLoss
from internal_kd.distillation.optimizing import TrainingParams
from internal_kd.distillation.terms import terms_of
from internal_kd.errors import UserError
from internal_kd.learners.adaptive import kept_layers
from internal_kd.learners.blocks import multiplied_out
from internal_kd.learners.capture import EncoderNetwork
from internal_kd.learners.families import FAMILIES, encoder_layers, family_of, layer_parts
from internal_kd.learners.learner import Shape, parse_learner
from internal_kd.learners.subnetworks import AdaptiveNetwork, importance
from internal_kd.learners.weights import save_classifier
from tiny_models import tiny_batch, tiny_classifier

families = pytest.mark.parametrize("family", list(FAMILIES))
EVERYTHING = frozenset({("logits", 0), *(("hidden", layer) for layer in range(5)), ("cls", 4)})
PARTS = [(1.0, 0.5), (0.5, 1.0), (0.25, 0.75)]
EXAMPLES = Drawn("tokens", "classes")


def adaptive(family: str = "bert", **values: Any) -> AdaptiveNetwork:
    """Without dropout, so that train mode computes what eval mode does."""
    values = {"kind": "adaptive", "widths": [1, 0.5, 0.25], "depths": [1, 0.75, 0.5]} | values
    source = tiny_classifier(family, labels=3, hidden_dropout=0.0, attention_dropout=0.0)
    return parse_learner(values).build(source, 3, seed=1)  # type: ignore[return-value]


def batches() -> Any:
    return (EXAMPLES.batch(np.arange(at, at + 12)) for at in (0, 12))


def read(network: Any) -> dict[Any, torch.Tensor]:
    with torch.no_grad():
        return network.read(tiny_batch([6, 3, 9]), EVERYTHING)


def at(network: AdaptiveNetwork, width: float, depth: float) -> dict[Any, torch.Tensor]:
    network.module.train()
    network.current = network.sizes.index((width, depth))
    found = read(network)
    network.module.eval()
    return found


def assert_same(one: dict[Any, torch.Tensor], other: dict[Any, torch.Tensor]) -> None:
    for key, values in one.items():
        assert torch.allclose(values, other[key], atol=1e-5), key


@families
def test_ranked_it_computes_the_same_and_importance_descends(family: str) -> None:
    network = adaptive(family)
    before = read(network)
    unranked = importance(network, batches())
    network.begin(batches)
    assert_same(before, read(network))
    for layer, was in zip(importance(network, batches()), unranked, strict=True):
        for of, found in layer.items():
            assert torch.allclose(found, was[of].sort(descending=True).values, rtol=1e-3, atol=1e-5), of


def test_a_heads_importance_is_the_gradient_of_its_mask() -> None:
    network = adaptive()
    found = importance(network, [EXAMPLES.batch(np.arange(8))])
    masks = [torch.ones(4, requires_grad=True) for _ in range(4)]
    for output, mask in zip(layer_parts(network.module, "attention_output"), masks, strict=True):
        output.register_forward_pre_hook(lambda _, given, mask=mask: (given[0] * mask.repeat_interleave(8), *given[1:]))
    batch = EXAMPLES.batch(np.arange(8))
    F.cross_entropy(network.read(batch)["logits", 0], batch["labels"]).backward()
    for mask, layer in zip(masks, found, strict=True):
        assert torch.allclose(layer["heads"], mask.grad.abs(), rtol=1e-3, atol=1e-6)


def test_values_are_ranked_by_squared_error() -> None:
    network = parse_learner({"kind": "adaptive"}).build(tiny_classifier(labels=1), 1, seed=1)
    assert isinstance(network, EncoderNetwork)
    found = importance(network, [Drawn("tokens", "values").batch(np.arange(8))])
    assert all(scores.min() >= 0 and scores.max() > 0 for layer in found for scores in layer.values())


@families
@pytest.mark.parametrize(("width", "depth"), PARTS)
def test_a_pass_is_the_encoder_with_the_rest_zeroed_and_layers_skipped(family: str, width: float, depth: float) -> None:
    network, zeroed = adaptive(family), adaptive(family)
    names = family_of(family)
    with torch.no_grad():
        for layer in encoder_layers(zeroed.module):
            layer.get_submodule(names.attention_output).weight[:, int(32 * width) :] = 0
            layer.get_submodule(names.output).weight[:, int(64 * width) :] = 0
    kept = kept_layers(4, depth)
    for number, layer in enumerate(encoder_layers(zeroed.module)):
        if number not in kept:
            layer.register_forward_hook(lambda _, given, __: given[0])
    found = at(network, width, depth)
    assert_same(found, read(zeroed))
    for number in set(range(4)) - set(kept):
        assert found["hidden", number + 1].equal(found["hidden", number])


@pytest.mark.parametrize("most", [8, 3])
def test_a_step_adds_up_the_gradients_of_all_sub_networks_whatever_fits_into_memory(most: int) -> None:
    network, alone = adaptive(), adaptive()
    loss = DistillationLoss(network, terms_of({"hard": 1.0}, kind="classes", outputs=3, settings={}), None, CPU)
    compute = loss.compute

    def in_little_memory(part: Any, *given: Any) -> Any:
        if len(part) > most:
            raise torch.OutOfMemoryError("as a GPU would say")
        return compute(part, *given)

    loss.compute = in_little_memory  # type: ignore[method-assign]
    result = train(
        network, loss, examples=EXAMPLES, positions=np.arange(8), seed=3,
        hardware=CPU, curriculum=CurriculumState(stages_of("all", "top", ())), log=lambda line: None,
        training=TrainingParams(
            epochs=1, batch_size=8, learning_rate=0.1, optimizer="sgd", momentum=0.0, weight_decay=0.0,
            warmup_share=0.0, max_gradient_norm=1e9,
        ),
    )  # fmt: skip
    batch, before = EXAMPLES.batch(np.arange(8)), {n: w.detach().clone() for n, w in alone.module.named_parameters()}
    total = {name: torch.zeros_like(weight) for name, weight in before.items()}
    alone.module.train()
    for alone.current in range(9):
        alone.module.zero_grad()
        F.cross_entropy(alone.read(batch)["logits", 0], batch["labels"]).backward()
        for name, weight in alone.module.named_parameters():
            total[name] += 0 if weight.grad is None else weight.grad
    for name, weight in network.module.named_parameters():
        assert torch.allclose(weight, before[name] - 0.1 * total[name], atol=1e-5), name
    assert (network.passes, result.micro_batch_size) == (9, 8 if most == 8 else 2)


@families
@pytest.mark.parametrize(("width", "depth"), PARTS)
def test_a_sub_network_is_a_smaller_model_that_plain_transformers_opens(
    family: str, width: float, depth: float, tmp_path: Path
) -> None:
    network = adaptive(family)
    network.begin(batches)
    expected = at(network, width, depth)["logits", 0]
    network.save(tmp_path / "run/model")
    part = parse_learner({"kind": "subnetwork", "of": "adaptive", "width": width, "depth": depth})
    built = part.build(tmp_path / "run", 3, seed=1)
    batch = tiny_batch([6, 3, 9])
    assert torch.allclose(built.read(batch)["logits", 0], expected, atol=1e-5)
    built.save(tmp_path / "part")
    assert part.load(tmp_path / "part", 3).read(batch)["logits", 0].equal(built.read(batch)["logits", 0])
    save_classifier(multiplied_out(built.module), tmp_path / "plain")  # type: ignore[arg-type]
    plain, info = AutoModelForSequenceClassification.from_pretrained(tmp_path / "plain", output_loading_info=True)
    assert not any(info.values())
    assert torch.allclose(plain.eval()(**batch).logits, expected, atol=1e-5)
    # The maps of its layers have their shares of weights and biases; LayerNorms and output biases are complete.
    kept, layers = width * (4 * 32 * 32 + 3 * 32 + 2 * 32 * 64 + 64) + 6 * 32, len(kept_layers(4, depth))
    per_layer = sum(weight.numel() for weight in encoder_layers(built.module)[0].parameters())
    assert (built.layers, per_layer) == (layers, kept)


def test_first_weights_of_an_adaptive_run_are_not_ranked_again(tmp_path: Path) -> None:
    network = adaptive()
    network.begin(batches)
    network.save(tmp_path)
    again = parse_learner({"kind": "adaptive", "start": "width_adaptive"}).build(tmp_path, 3, seed=1)
    again.begin(lambda: pytest.fail("looked at the examples"))
    assert again.module.state_dict().keys() == network.module.state_dict().keys()
    # An encoder that starts there is trained otherwise: an adaptive one that starts from it is ranked.
    plain = parse_learner({"start": "adaptive"}).build(tmp_path, 3, seed=1)
    fresh = parse_learner({"kind": "adaptive"}).build(plain.module, 3, seed=1)
    looked: list[int] = []
    fresh.begin(lambda: looked.append(1) or batches())  # type: ignore[func-returns-value]
    assert looked


def test_kept_layers_are_the_papers() -> None:
    assert kept_layers(12, 0.5) == (0, 2, 4, 6, 8, 10)
    assert kept_layers(12, 0.75) == (0, 1, 2, 4, 5, 6, 8, 9, 10)
    for layers in range(1, 25):
        for depth in np.linspace(0.5, 1, 26):
            kept = kept_layers(layers, float(depth))
            assert len({*kept}) == len(kept) and all(0 <= layer < layers for layer in kept)


@pytest.mark.parametrize(
    ("values", "key"),
    [({"widths": [0.5]}, "widths"), ({"widths": [1, 1.5]}, "widths"), ({"depths": [1, 0]}, "depths"),
     ({"widths": [1, 0.5, 0.5]}, "0.5 twice"), ({"depths": []}, "depths"), ({"rank": 4}, "cheap blocks")],
)  # fmt: skip
def test_shares_that_cannot_be_are_refused(values: dict[str, Any], key: str) -> None:
    with pytest.raises(UserError, match=key):
        parse_learner({"kind": "adaptive", **values})


@pytest.mark.parametrize(
    ("values", "words"),
    [({"widths": [1, 0.1]}, "width 0.1"), ({"depths": [1, 0.1]}, "depth 0.1"), ({"depths": [1, 0.6, 0.55]}, "depths")],
)
def test_sub_networks_that_are_empty_or_equal_are_refused(values: dict[str, Any], words: str) -> None:
    learner = parse_learner({"kind": "adaptive", **values})
    for refuse in (lambda: learner.shape(Shape(4, 32, 4, 64)), lambda: learner.build(tiny_classifier(), 2, seed=1)):
        with pytest.raises(UserError, match=words):
            refuse()


def test_it_reads_texts_and_hands_out_no_attention() -> None:
    with pytest.raises(UserError, match="images"):
        parse_learner({"kind": "adaptive"}).form(images=True)
    with pytest.raises(UserError, match="attention"):
        adaptive().read(tiny_batch([4]), frozenset({("attention", 1)}))
