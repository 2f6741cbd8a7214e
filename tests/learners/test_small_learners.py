"""Perceptrons, convolutional networks and soft trees: what their descriptions promise of the networks."""

from __future__ import annotations

import math

import pytest
import torch

from internal_kd.errors import UserError
from internal_kd.learners.learner import InputShape, Network, parse_learner
from internal_kd.learners.soft_tree import SoftTree

DIGITS = InputShape("pixels", (28, 28, 1))


def built(**learner: object) -> Network:
    return parse_learner(learner).build(DIGITS, 10, seed=1)


def tree(depth: int = 3, features: int = 4, outputs: int = 3, beta: float = 1.0) -> SoftTree:
    torch.manual_seed(0)
    return SoftTree(InputShape("sentences", (features,)), depth, outputs, beta)


def test_sizes_are_those_of_the_papers() -> None:
    # Hinton et al. 2015: 784-1200-1200-10 and 784-800-800-10, here without the last layer.
    assert built(kind="mlp", widths=[1200, 1200]).count_parameters().total == 785 * 1200 + 1201 * 1200
    assert built(kind="mlp").count_parameters().total == 785 * 800 + 801 * 800
    # Frosst and Hinton 2017: a filter for each of 2^8 - 1 inner nodes.
    assert built(kind="soft_tree", depth=8).count_parameters().total == 785 * 255


def test_max_norm_limits_the_weights_into_every_hidden_unit_and_nothing_else() -> None:
    network = built(kind="mlp", widths=[20], max_norm=0.5)
    with torch.no_grad():
        for weight in network.module.parameters():
            weight.mul_(10)
    head = network.module.head.weight.clone()
    network.constrain()
    assert network.module.body[0].weight.norm(dim=1).max() <= 0.5 + 1e-6
    assert torch.equal(network.module.head.weight, head)


def test_a_cnn_refuses_texts_and_images_that_are_too_small() -> None:
    with pytest.raises(UserError, match="texts"):
        parse_learner({"kind": "cnn"}).form(images=False)
    with pytest.raises(UserError, match="3x9"):
        parse_learner({"kind": "cnn"}).build(InputShape("pixels", (3, 9, 1)), 10, seed=1)


def test_an_encoder_refuses_images() -> None:
    with pytest.raises(UserError, match="images"):
        parse_learner({}).form(images=True)


def test_a_tree_too_deep_for_memory_is_refused() -> None:
    with pytest.raises(UserError, match="depth"):
        parse_learner({"kind": "soft_tree", "depth": 40})


@pytest.mark.parametrize(
    ("learner", "named"),
    [
        ({"kind": "soft_tree", "depth": 16}, "learner.depth"),
        ({"kind": "mlp", "widths": [10**6, 10**6]}, "learner.widths"),
        ({"kind": "distilled_set", "network": {"kind": "mlp", "widths": [10**6, 10**6]}}, "learner.network"),
    ],
)
def test_weights_that_no_memory_holds_are_refused_before_they_are_made(learner: dict[str, object], named: str) -> None:
    with pytest.raises(UserError, match=named):
        parse_learner(learner).build(InputShape("tokens", (10**7,)), 10, seed=1)


def test_words_are_read_as_which_occur() -> None:
    module = parse_learner({"kind": "mlp", "widths": []}).build(InputShape("tokens", (7,)), 2, seed=1).module
    ids, mask = torch.tensor([[3, 5, 3, 0], [6, 0, 0, 0]]), torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]])
    assert module.features(ids, mask).tolist() == [[0, 0, 0, 1, 0, 1, 0], [0, 0, 0, 0, 0, 0, 1]]


# Soft trees


def test_path_probabilities_are_the_products_of_the_decisions() -> None:
    network, given = tree(2), torch.randn(5, 4)
    reached, leaves, _ = network.paths(given)
    p = torch.sigmoid(given @ network.gates.weight.T + network.gates.bias)
    expected = torch.stack(
        [(1 - p[:, 0]) * (1 - p[:, 1]), (1 - p[:, 0]) * p[:, 1], p[:, 0] * (1 - p[:, 2]), p[:, 0] * p[:, 2]], dim=1
    )
    assert torch.allclose(leaves.exp(), expected, atol=1e-6)
    assert torch.allclose(reached.exp(), torch.stack([torch.ones(5), 1 - p[:, 0], p[:, 0]], dim=1), atol=1e-6)


def test_no_gradient_of_a_tree_is_so_small_that_processors_slow_down() -> None:
    network, tiny = tree(8, beta=20.0), torch.finfo(torch.float32).tiny
    for given in torch.randn(20, 1, 4):
        network.zero_grad()
        network.hand_out([given], frozenset({("path_log_likelihood", 0)}))["path_log_likelihood", 0].sum().backward()
        slopes = network.gates.bias.grad.abs()
        assert slopes.any() and not ((slopes > 0) & (slopes < tiny)).any()


def test_a_deep_tree_with_hard_decisions_stays_finite() -> None:
    network = tree(12, beta=1e3)
    leaves = network.paths(torch.randn(3, 4))[1]
    assert torch.isfinite(leaves).all() and torch.allclose(leaves.logsumexp(1), torch.zeros(3), atol=1e-3)


def test_it_predicts_by_its_most_probable_leaf() -> None:
    network, given = tree(), torch.randn(6, 4)
    leaves = network.paths(given)[1].argmax(1)
    assert torch.equal(network(given), network.head()[leaves])


def test_even_gates_cost_the_least_and_the_penalty_halves_with_each_level() -> None:
    network = tree(3)
    with torch.no_grad():
        network.gates.weight.zero_()
        network.gates.bias.zero_()
    found = network.hand_out([torch.randn(8, 4)], frozenset({("imbalance", 0)}))["imbalance", 0]
    # 2^level nodes of strength 2^-level, each log 2: log 2 a level.
    assert found.shape == (8,) and found.mean().item() == pytest.approx(3 * math.log(2), rel=1e-5)
    with torch.no_grad():
        network.gates.bias.fill_(2.0)
    network.reached.zero_(), network.right.zero_()
    assert network.hand_out([torch.randn(8, 4)], frozenset({("imbalance", 0)}))["imbalance", 0].mean() > found.mean()


def test_the_penalty_pulls_uneven_gates_back() -> None:
    network, given = tree(3), torch.randn(64, 4)
    with torch.no_grad():
        network.gates.bias.fill_(1.0)
    for _ in range(300):
        penalty = network.hand_out([given], frozenset({("imbalance", 0)}))["imbalance", 0].mean()
        network.zero_grad()
        penalty.backward()
        with torch.no_grad():
            for weight in network.gates.parameters():
                weight -= 0.5 * weight.grad
    assert penalty.item() == pytest.approx(3 * math.log(2), abs=0.05)


def test_moving_averages_move_in_training_alone() -> None:
    network, wanted = tree(), frozenset({("imbalance", 0)})
    network.eval().hand_out([torch.randn(4, 4)], wanted)
    assert not network.reached.any()
    network.train().hand_out([torch.randn(4, 4)], wanted)
    assert network.reached.all()


def test_a_text_cnn_answers_by_the_best_window_wherever_it_stands_and_refuses_images() -> None:
    learner = parse_learner({"kind": "text_cnn", "filters": 2, "spans": [2], "dropout": 0.0})
    network = learner.build(InputShape("embeddings", (8, 3)), 2, seed=1)
    texts = torch.zeros(2, 8, 3)
    texts[0, 1:3], texts[1, 5:7] = torch.eye(2, 3), torch.eye(2, 3)
    first, moved = network.read({"embeddings": texts.half()})["logits", 0]
    torch.testing.assert_close(first, moved)
    filters = network.module.body[0].spans[0]
    windows = [texts[0, at : at + 2].T for at in range(7)]
    best = torch.stack([torch.relu((filters.weight * window).sum((1, 2)) + filters.bias) for window in windows]).amax(0)
    torch.testing.assert_close(first, network.module.head(best))
    with pytest.raises(UserError, match="images"):
        learner.form(images=True)


def test_a_distilled_set_counts_its_examples_labels_and_steps_alone() -> None:
    network = built(kind="distilled_set", examples=10)
    assert network.count_parameters().total == 10 * 784 + 10 * 10 + 3


def test_a_distilled_set_teaches_by_steps_of_gradient_descent_and_learns_through_them() -> None:
    learner = parse_learner(
        {"kind": "distilled_set", "network": {"kind": "mlp", "widths": [4]}, "examples": 3, "epochs": 2}
    )
    module = learner.build(InputShape("sentences", (5,)), 3, seed=1).module
    network, sizes = module.head["first"], module.step_sizes()
    weights = [weight.clone().requires_grad_() for weight in network.parameters()]
    for size in sizes.tolist():
        first, bias, last, bias_of_last = weights
        logits = torch.relu(module.inputs[0] @ first.T + bias) @ last.T + bias_of_last
        loss = -(module.targets[0] * logits.log_softmax(-1)).sum(-1).mean()
        weights = [w - size * g for w, g in zip(weights, torch.autograd.grad(loss, weights), strict=True)]
        weights = [weight.detach().requires_grad_() for weight in weights]
    for weight, taught in zip(weights, module.head["taught"].parameters(), strict=True):
        torch.testing.assert_close(weight, taught)
    module.train()
    module(torch.randn(2, 5)).square().sum().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in (module.inputs, module.targets, module.raw_step_sizes))


def test_step_sizes_begin_as_asked_and_learn_at_a_rate_of_their_own() -> None:
    moved = []
    for rate in (1.0, 0.1):
        module = built(kind="distilled_set", step_size=0.3, step_size_rate=rate).module
        torch.testing.assert_close(module.step_sizes(), torch.full((3,), 0.3))
        optimizer = torch.optim.AdamW([module.raw_step_sizes], lr=0.01, weight_decay=0)
        module.step_sizes().sum().backward()
        optimizer.step()
        moved.append(0.3 - module.step_sizes()[0].item())
    assert moved[0] == pytest.approx(10 * moved[1], rel=0.05)


@pytest.mark.parametrize("source", ["random", "mean", "nearest"])
def test_real_examples_are_chosen_by_class_and_the_step_sizes_alone_are_trained(source: str) -> None:
    learner = {"kind": "distilled_set", "source": source, "examples": 4, "network": {"kind": "mlp", "widths": [4]}}
    network = parse_learner(learner).build(InputShape("sentences", (2,)), 2, seed=1)
    vectors = torch.tensor([[0.0, 0.0], [1.0, 0.0], [5.0, 0.0], [0.0, 7.0], [0.0, 8.0], [0.0, 12.0]])
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    batches = [{"sentences": vectors[at], "labels": labels[at]} for at in (slice(0, 4), slice(4, 6))]
    network.begin(lambda: batches)
    found = network.module.inputs[0]
    expected = {
        "mean": [[2.0, 0.0], [0.0, 9.0]] * 2,
        "nearest": [[1.0, 0.0], [0.0, 8.0], [0.0, 0.0], [0.0, 7.0]],
    }
    if source == "random":
        assert set(map(tuple, found[0::2].tolist())) < set(map(tuple, vectors[:3].tolist()))
        assert len({tuple(one) for one in found.tolist()}) == 4 and not found[1::2, 0].any()
    else:
        assert found.tolist() == expected[source]
    trained = [name for name, weight in network.module.named_parameters() if weight.requires_grad]
    assert trained == ["raw_step_sizes"]


def test_every_step_has_real_examples_of_its_own() -> None:
    learner = {"kind": "distilled_set", "source": "nearest", "examples": 1, "steps": 2}
    network = parse_learner({**learner, "network": {"kind": "mlp", "widths": [4]}}).build(
        InputShape("sentences", (1,)), 2, seed=1
    )
    vectors, labels = torch.tensor([[0.0], [1.0], [5.0], [9.0]]), torch.tensor([0, 0, 0, 1])
    network.begin(lambda: [{"sentences": vectors, "labels": labels}])
    assert network.module.inputs.flatten().tolist() == [1.0, 0.0]


def test_too_few_real_examples_of_a_class_are_refused() -> None:
    network = parse_learner(
        {"kind": "distilled_set", "source": "random", "examples": 4, "network": {"kind": "mlp", "widths": [4]}}
    ).build(InputShape("sentences", (2,)), 2, seed=1)
    with pytest.raises(UserError, match="class 1"):
        network.begin(lambda: [{"sentences": torch.zeros(3, 2), "labels": torch.tensor([0, 0, 1])}])


def test_redrawn_first_weights_differ_from_batch_to_batch_and_hard_labels_stay() -> None:
    network = built(
        kind="distilled_set", first_weights="redrawn", labels="hard", network={"kind": "mlp", "widths": [8]}
    )
    assert network.module.targets.requires_grad is False
    network.module.train()
    images = torch.zeros(1, 28, 28, 1, dtype=torch.uint8)
    assert not torch.equal(network.module(images), network.module(images))
    network.module.eval()
    assert torch.equal(network.module(images), network.module(images))
