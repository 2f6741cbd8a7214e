"""Cheap blocks: how large they are, how close to their source they begin, and that a plain model computes the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from internal_kd.errors import UserError
from internal_kd.learners.blocks import multiplied_out
from internal_kd.learners.families import FAMILIES, encoder_layers, layer_parts
from internal_kd.learners.learner import Network, parse_learner
from internal_kd.learners.weights import save_classifier
from tiny_models import tiny_batch, tiny_classifier

families = pytest.mark.parametrize("family", list(FAMILIES))
CHEAP: list[dict[str, Any]] = [
    {"rank": 8},
    {"groups": 4},
    {"rank": 16, "groups": 4, "inner": 32},
    {"shared_keys": 2},
    {"kept_heads": 1, "shared_keys": 2},
    {"rank": 8, "shared_keys": 4, "start": {"from": "teacher", "slice": "random"}},
]


def build(source: Any, seed: int = 0, **values: Any) -> Network:
    return parse_learner({"start": "teacher"} | values).build(source, 2, seed)


def size_of(module: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def logits(network: Network) -> torch.Tensor:
    return network.read(tiny_batch([6, 2]))["logits", 0]


@families
@pytest.mark.parametrize("values", CHEAP, ids=str)
def test_multiplied_out_a_model_is_plain_and_computes_the_same(family: str, values: dict, tmp_path: Path) -> None:
    source = tiny_classifier(family)
    network = build(source, **values)
    network.save(tmp_path / "cheap")
    loaded = parse_learner(values).load(tmp_path / "cheap", 2)
    assert logits(loaded).equal(logits(network))
    save_classifier(multiplied_out(loaded.module), tmp_path / "plain")  # type: ignore[arg-type]
    plain, info = AutoModelForSequenceClassification.from_pretrained(tmp_path / "plain", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert torch.allclose(plain.eval()(**tiny_batch([6, 2])).logits, logits(network), atol=1e-5)
    assert logits(loaded).equal(logits(network))  # what was multiplied out is a copy


@pytest.mark.parametrize(
    ("values", "weights"),
    [
        # Width 32, 64 neurons: what the table of blocks.py states, and two biases.
        ({"rank": 8}, 2 * 8 * (32 + 64)),
        ({"groups": 4}, 2 * 32 * 64 // 4 + 32 * 32),
        ({"rank": 16, "groups": 4}, 2 * 16 * (32 + 64 // 4)),
        ({"rank": 16, "groups": 4, "inner": 32}, 2 * 16 * (32 + 32 // 4)),
    ],
)
def test_feed_forward_maps_have_the_weights_that_are_stated(values: dict, weights: int) -> None:
    network = build(tiny_classifier(), **values)
    inner = values.get("inner", 64)
    for part in zip(layer_parts(network.module, "inner"), layer_parts(network.module, "output"), strict=True):
        assert sum(map(size_of, part)) == weights + inner + 32


def test_shared_keys_and_queries_are_one_map_and_count_once() -> None:
    source = tiny_classifier()
    network, full = build(source, shared_keys=2), build(source)
    saved = network.count_parameters().encoder, full.count_parameters().encoder
    assert saved[1] - saved[0] == 2 * 2 * (32 * 32 + 32)  # of two layers queries and keys
    captured = network.read(tiny_batch([5]), frozenset(("queries", layer) for layer in (1, 2)))
    states = network.read(tiny_batch([5]), frozenset(("hidden", layer) for layer in (0, 1)))
    of_first = layer_parts(source, "query")[0]
    for layer in (1, 2):  # each layer's own, though the map is one
        assert torch.allclose(captured["queries", layer], of_first(states["hidden", layer - 1]), atol=1e-5)


def test_the_most_important_heads_are_left_and_as_many_weights_as_they_have() -> None:
    source = tiny_classifier()
    with torch.no_grad():
        for output in layer_parts(source, "attention_output"):
            output.weight[:, :16] = 0  # what the first two of four heads write
    network = build(source, kept_heads=2)
    assert torch.allclose(logits(network), source(**tiny_batch([6, 2])).logits, atol=1e-5)
    saved = build(source).count_parameters().encoder - network.count_parameters().encoder
    assert saved == 4 * (4 * 32 * 16 + 3 * 16)  # four maps of four layers, biases but the output's
    with pytest.raises(UserError, match="kept_heads"):
        build(source, kept_heads=5)


def test_a_rank_begins_with_the_best_approximation() -> None:
    source = tiny_classifier()
    full, less, drawn = (
        build(source, rank=rank, start={"from": "teacher", "slice": how})
        for rank, how in ((32, "importance"), (8, "importance"), (8, "random"))
    )
    assert torch.allclose(logits(full), source(**tiny_batch([6, 2])).logits, atol=1e-4)
    for layer in range(4):
        true = layer_parts(source, "inner")[layer].weight
        errors = [(layer_parts(n.module, "inner")[layer].multiplied_out().weight - true).norm() for n in (less, drawn)]
        singular = torch.linalg.svdvals(true)
        assert errors[0].item() == pytest.approx(singular[8:].norm().item(), rel=1e-4) and errors[1] > errors[0]


def test_what_is_drawn_comes_from_the_seed() -> None:
    first, again, other = (build(tiny_classifier(), seed, groups=4) for seed in (1, 1, 2))
    assert logits(first).equal(logits(again)) and not logits(first).equal(logits(other))


def test_a_student_is_cut_out_of_a_cheap_source_as_out_of_a_plain_one(tmp_path: Path) -> None:
    source = build(tiny_classifier(), rank=8, shared_keys=2)
    source.save(tmp_path)
    for given in (tmp_path, source.module):
        student = build(given, layers=2, width=16)
        plain = build(multiplied_out(source.module), layers=2, width=16)  # type: ignore[arg-type]
        assert logits(student).equal(logits(plain))
    assert len(encoder_layers(source.module)) == 4  # type: ignore[arg-type]
