"""Where an encoder's first weights come from, and what a narrower one keeps."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification, BertForMaskedLM, PreTrainedModel

from internal_kd.errors import UserError
from internal_kd.learners.capture import network_of
from internal_kd.learners.encoder import EncoderLearner
from internal_kd.learners.families import FAMILIES, encoder_layers, layer_parts
from internal_kd.learners.learner import Network, parse_learner
from internal_kd.learners.weights import save_classifier
from tiny_models import tiny_batch, tiny_classifier, tiny_config

families = pytest.mark.parametrize("family", list(FAMILIES))


def build(source: object, outputs: int = 2, seed: int = 0, **values: object) -> Network:
    return parse_learner({"start": "teacher"} | values).build(source, outputs, seed)  # type: ignore[arg-type]


def layer_weights(model: torch.nn.Module, layer: int) -> list[torch.Tensor]:
    return list(encoder_layers(model)[layer - 1].state_dict().values())  # type: ignore[arg-type]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return len(first) == len(second) and all(a.equal(b) for a, b in zip(first, second, strict=True))


def weights(model: torch.nn.Module, part: str) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in model.state_dict().items() if part in name}


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A pre-trained encoder as it is found in public: masked-LM weights, fp16, no classification head."""
    torch.manual_seed(0)
    BertForMaskedLM(tiny_config()).half().save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


# Depth


@families
@pytest.mark.parametrize(
    ("layers", "expected"), [("first", (1, 2)), ("every_other", (2, 4)), ("last", (3, 4)), ([1, 3], (1, 3))]
)
def test_a_student_has_the_chosen_layers_and_everything_around_them(family: str, layers, expected) -> None:
    source = tiny_classifier(family)
    network = build(source, layers=2, start={"from": "teacher", "layers": layers})
    student = network.module
    assert network.layers == student.config.num_hidden_layers == len(encoder_layers(student)) == 2
    for layer, origin in enumerate(expected, start=1):
        assert same(layer_weights(student, layer), layer_weights(source, origin))
    around = [n for n in student.state_dict() if ".layer." not in n]
    assert any("embeddings" in name for name in around) and any("classifier" in name for name in around)
    assert all(student.state_dict()[name].equal(source.state_dict()[name]) for name in around)


@families
@pytest.mark.parametrize("start", [{}, {"slice": "random"}])
def test_a_slice_of_full_size_is_the_source(family: str, start: dict) -> None:
    source, batch = tiny_classifier(family), tiny_batch([6, 2])
    network = build(source, layers=4, width=32, heads=4, inner=64, start={"from": "teacher"} | start)
    assert network.read(batch)["logits", 0].equal(source(**batch).logits)


@families
def test_a_student_can_be_saved_and_loaded_at_its_size(family: str, tmp_path) -> None:
    learner, batch = parse_learner({"layers": 3, "width": 24, "start": "teacher"}), tiny_batch([6, 2])
    network = learner.build(tiny_classifier(family), 2, 0, labels=("no", "yes"))
    network.save(tmp_path)
    loaded = learner.load(tmp_path, 2)
    assert (loaded.layers, loaded.width) == (3, 24) and loaded.module.config.id2label == {0: "no", 1: "yes"}
    assert loaded.read(batch)["logits", 0].equal(network.read(batch)["logits", 0])


def test_training_a_student_leaves_its_frozen_teacher_alone() -> None:
    teacher = tiny_classifier()
    before = [weight.clone() for weight in teacher.parameters()]
    network_of(teacher).freeze()
    student = build(teacher, layers=2).module.train()
    assert student.training and all(weight.requires_grad for weight in student.parameters())
    with torch.no_grad():
        for weight in student.parameters():
            weight.add_(1.0)
    assert same(list(teacher.parameters()), before) and len(encoder_layers(teacher)) == 4


def test_a_student_is_fp32_whatever_its_source() -> None:
    for values in ({"layers": 2}, {"width": 16}, {"start": "random"}):
        student = build(tiny_classifier().half(), **values).module
        assert {weight.dtype for weight in student.parameters()} == {torch.float32} and not student.training


# Heads


def test_from_the_pre_trained_encoder_the_head_is_drawn_from_the_seed(encoder: Path) -> None:
    learner = EncoderLearner(layers=2, width=16)
    first, again, other = (learner.build(encoder, 3, seed).module for seed in (1, 1, 2))
    assert same(list(first.state_dict().values()), list(again.state_dict().values()))
    assert not first.classifier.weight.equal(other.classifier.weight)
    assert same(list(weights(first, "layer.").values()), list(weights(other, "layer.").values()))
    assert first.config.num_labels == 3


def test_from_a_finished_run_pooler_and_head_are_kept_where_outputs_agree(tmp_path: Path) -> None:
    teacher = tiny_classifier(labels=3)
    save_classifier(teacher, tmp_path)
    kept, pretrained = build(tmp_path, 3).module, EncoderLearner().build(tmp_path, 3, 0).module
    assert kept.classifier.weight.equal(teacher.classifier.weight)
    assert kept.bert.pooler.dense.weight.equal(teacher.bert.pooler.dense.weight)
    assert not pretrained.classifier.weight.equal(teacher.classifier.weight)
    for source in (tmp_path, teacher):  # a run of another task
        drawn = build(source, 5)
        assert drawn.module.classifier.weight.shape == (5, 32)
        assert drawn.module.bert.pooler.dense.weight.equal(teacher.bert.pooler.dense.weight)
        assert drawn.read(tiny_batch([3]))["logits", 0].shape == (1, 5)


# Random weights


@families
def test_random_weights_come_from_the_seed_and_from_nothing_else(family: str, tmp_path: Path) -> None:
    source = tiny_classifier(family)
    save_classifier(source, tmp_path)
    (tmp_path / "model.safetensors").unlink()  # its config is enough
    torch.manual_seed(11)
    state = torch.get_rng_state()
    first, again, other = (build(tmp_path, layers=2, start="random", seed=seed).module for seed in (1, 1, 2))
    from_model = build(source, layers=2, start="random", seed=1).module
    assert torch.get_rng_state().equal(state)
    assert same(list(first.state_dict().values()), list(again.state_dict().values()))
    assert same(list(first.state_dict().values()), list(from_model.state_dict().values()))
    assert not same(layer_weights(first, 1), layer_weights(other, 1))
    assert not same(layer_weights(first, 1), layer_weights(source, 1))
    # Drawn as the architecture asks: weights of the config's spread, neutral layer norms.
    drawn = torch.cat([w.flatten() for w in layer_weights(first, 1) if w.ndim == 2])
    assert drawn.std().item() == pytest.approx(first.config.initializer_range, rel=0.1)
    norms = [w for n, w in first.named_parameters() if "norm.weight" in n.lower()]
    assert norms and all(norm.eq(1).all() for norm in norms)


def test_random_weights_may_be_larger_than_the_source() -> None:
    network = build(tiny_classifier(), layers=5, width=48, heads=3, start="random")
    assert (network.layers, network.width, network.heads) == (5, 48, 3)
    assert network.read(tiny_batch([4]))["logits", 0].shape == (1, 2)


@families
def test_the_top_layers_are_drawn_again_and_the_others_stay(family: str) -> None:
    source = tiny_classifier(family)
    student = build(source, layers=3, start={"from": "teacher", "reinitialize": 2}).module
    assert same(layer_weights(student, 1), layer_weights(source, 1))
    assert not any(same(layer_weights(student, layer), layer_weights(source, layer)) for layer in (2, 3))
    for part, stays in (("embeddings", True), ("pooler", False)):
        ours, theirs = weights(student, part), weights(source, part)
        drawn = [name for name in ours if not ours[name].equal(theirs[name])]
        assert not drawn if stays else len(drawn) == len(ours)


# Width


def indices_of(part: torch.Tensor, whole: torch.Tensor) -> list[int]:
    """Where the entries of ``part`` stand in ``whole``, both of one axis, all entries distinct."""
    return [int((whole == entry).nonzero().item()) for entry in part]


@families
@pytest.mark.parametrize("slice", ["importance", "random"])
def test_every_matrix_and_norm_keeps_the_same_residual_dimensions(family: str, slice: str) -> None:
    source = tiny_classifier(family)
    with torch.no_grad():
        for name, weight in source.named_parameters():  # every entry tells where it came from
            weight.copy_(torch.rand(weight.shape) + ("norm" in name.lower()))
    network = build(source, width=24, heads=4, inner=40, start={"from": "teacher", "slice": slice})
    student, gain = network.module, (32 / 24) ** 0.5
    found = set()
    for layer in range(4):
        ours, theirs = ({p: layer_parts(m, p)[layer] for p in PARTS} for m in (student, source))
        rows = {p: indices_of(ours[p].bias, theirs[p].bias) for p in PARTS}
        residual = rows["output"]
        found.add(tuple(residual))
        assert rows["attention_output"] == residual and rows["query"] == rows["key"] and len(residual) == 24
        for part in ("query", "key", "value", "inner"):
            expected = theirs[part].weight[rows[part]][:, residual] * gain
            assert torch.allclose(ours[part].weight, expected)
        assert torch.equal(ours["output"].weight, theirs["output"].weight[residual][:, rows["inner"]])
        assert torch.equal(
            ours["attention_output"].weight, theirs["attention_output"].weight[residual][:, rows["value"]]
        )
        # Six of each head's eight dimensions, head by head.
        assert (
            [row // 8 for row in rows["query"]]
            == [row // 8 for row in rows["value"]]
            == [h for h in range(4) for _ in range(6)]
        )
        norms = [
            [layer_[n] for n in layer_ if "norm" in n.lower()]
            for layer_ in (encoder_layers(student)[layer].state_dict(), encoder_layers(source)[layer].state_dict())
        ]
        assert len(norms[0]) == 4 and all(torch.equal(a, b[residual]) for a, b in zip(*norms, strict=True))
    assert len(found) == 1
    if family != "electra":  # its narrow embeddings are projected, below
        for name, weight in weights(student, "embeddings.").items():
            assert torch.equal(weight, weights(source, "embeddings.")[name][..., residual]), name


PARTS = ("query", "key", "value", "attention_output", "inner", "output")


def test_electras_projection_of_its_embeddings_is_cut_and_the_embeddings_stay() -> None:
    source = tiny_classifier("electra")
    student = build(source, width=24).module
    kept = indices_of(student.electra.embeddings_project.bias, source.electra.embeddings_project.bias)
    assert torch.equal(student.electra.embeddings_project.weight, source.electra.embeddings_project.weight[kept])
    assert student.electra.embeddings.word_embeddings.weight.equal(source.electra.embeddings.word_embeddings.weight)
    with pytest.raises(UserError, match="width 16"):
        build(source, width=16)


def test_an_electra_whose_embeddings_are_as_wide_as_its_layers_has_them_cut() -> None:
    config = tiny_config("electra")
    config.embedding_size = config.hidden_size
    network = build(AutoModelForSequenceClassification.from_config(config), width=16)
    assert network.module.config.embedding_size == 16 and not hasattr(network.module.electra, "embeddings_project")
    assert network.read(tiny_batch([4]))["logits", 0].shape == (1, 2)


def scaled(model: PreTrainedModel, part: str, rows: slice, factor: float) -> None:
    with torch.no_grad():
        for module in layer_parts(model, part):
            module.weight[rows] *= factor


@families
def test_the_important_heads_neurons_and_dimensions_are_kept(family: str) -> None:
    source = tiny_classifier(family)
    scaled(source, "query", slice(8, 32), 100.0)  # heads 2 to 4
    with torch.no_grad():
        for module in layer_parts(source, "output"):
            module.weight[:, 10:42] *= 100.0
        for name, weight in source.named_parameters():
            if "norm" in name.lower() and name.endswith("weight") and len(weight) == 32:
                weight[8:] = 10.0
    student = build(source, width=24, heads=3, inner=32).module
    for layer in range(4):
        ours, theirs = ({p: layer_parts(m, p)[layer].bias for p in PARTS} for m in (student, source))
        assert indices_of(ours["query"], theirs["query"]) == list(range(8, 32))
        assert indices_of(ours["inner"], theirs["inner"]) == list(range(10, 42))
        assert indices_of(ours["output"], theirs["output"]) == list(range(8, 32))


@families
@settings(max_examples=15)
@given(
    heads=st.integers(1, 4),
    head_width=st.integers(1, 8),
    inner=st.integers(1, 64),
    layers=st.integers(1, 4),
    slice_=st.sampled_from(["importance", "random"]),
)
def test_any_smaller_size_computes(
    family: str, heads: int, head_width: int, inner: int, layers: int, slice_: str
) -> None:
    if family == "electra" and heads * head_width == 16:
        return
    start = {"from": "teacher", "layers": "spread", "slice": slice_}
    network = build(
        tiny_classifier(family), layers=layers, width=heads * head_width, heads=heads, inner=inner, start=start
    )
    captured = network.read(tiny_batch([5, 3]), frozenset({("logits", 0), ("hidden", layers), ("attention", 1)}))
    assert captured["hidden", layers].shape == (2, 5, heads * head_width)
    assert captured["attention", 1].shape == (2, heads, 5, 5)
    assert all(values.isfinite().all() for values in captured.values())


def test_a_random_slice_depends_on_the_seed_and_an_important_one_does_not() -> None:
    source = tiny_classifier()

    def cut(slice_: str, seed: int) -> torch.Tensor:
        return build(source, seed=seed, width=16, start={"from": "teacher", "slice": slice_}).module.classifier.weight

    assert cut("random", 1).equal(cut("random", 1)) and not cut("random", 1).equal(cut("random", 2))
    assert cut("importance", 1).equal(cut("importance", 2))


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"layers": 5}, "deeper"),
        ({"layers": 3, "start": {"layers": "every_other"}}, "divides"),
        ({"layers": 2, "start": {"layers": [1, 5]}}, "1 to 4"),
        ({"width": 30}, "width 30: 4 heads do not divide it"),
        ({"width": 64}, "width 64"),
    ],
)
def test_sizes_that_do_not_fit_the_source_are_refused(values: dict, named: str) -> None:
    with pytest.raises(UserError, match=named):
        build(tiny_classifier(), **values)
