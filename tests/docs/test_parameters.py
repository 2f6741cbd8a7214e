"""Every YAML block of the pages is a part of params.yaml that can be planned, and the Python next to it runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml

from docs.pages import ROOT, Block, all_blocks
from internal_kd.distillation.curricula import CURRICULA
from internal_kd.distillation.objectives import OBJECTIVES
from internal_kd.learners.families import FAMILIES
from internal_kd.learners.learner import LEARNERS
from internal_kd.params import merge, parse_params, read_yaml
from internal_kd.plan.study import plan_study
from internal_kd.tasks.metrics import METRICS, score
from tiny_models import tiny_classifier

REGISTRIES = (OBJECTIVES, CURRICULA, LEARNERS, METRICS)
TABLES = {
    "datasets/tickets-train.csv": ("subject", "body", "queue"),
    "datasets/tickets-dev.csv": ("subject", "body", "queue"),
    "datasets/tickets-more.csv": ("subject", "body"),
    "datasets/pairs-train.parquet": ("first", "second", "score"),
    "datasets/pairs-dev.parquet": ("first", "second", "score"),
    "data/more.csv": ("sentence1", "sentence2"),
}


def plugins() -> list[Block]:
    """Python blocks that begin with the name of a file of the reader's."""
    return [block for block in all_blocks("python") if re.match(r"# my_\w+\.py\n", block.text)]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with the files that the pages name; afterwards the registries are what they were."""
    folder = tmp_path_factory.mktemp("project")
    for name, columns in TABLES.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        table = pd.DataFrame(
            [[0.5 if c == "score" else f"{c} {n}" for c in columns] for n in range(3)], columns=columns
        )
        table.to_parquet(path) if path.suffix == ".parquet" else table.to_csv(path, index=False)
    for split in ("train", "dev"):
        (folder / f"datasets/leaves/{split}/oak").mkdir(parents=True)
        (folder / f"datasets/leaves/{split}/oak/001.png").write_bytes(b"")  # planning does not look inside
    for name in ("species-train.jsonl", "species-dev.jsonl", "species-texts.jsonl"):
        (folder / "datasets" / name).write_text('{"tokens": ["Newts"], "tags": ["B-SPECIES"]}\n')
    for name in ("entities-train.conll", "entities-dev.conll"):
        (folder / "datasets" / name).write_text("Newts B-SPECIES\n")
    (folder / "data/llm.jsonl").write_text('{"text_a": "a", "text_b": "b", "label": "entailment"}\n')
    classes = {
        "models/ours": ("not_equivalent", "equivalent"),
        "models/demo-teacher/model": ("entailment", "not_entailment"),
    }
    for name in ("models/ours", "models/legal-bert", "models/demo-teacher/model"):
        model = tiny_classifier(layers=12)
        model.config.id2label = dict(enumerate(classes.get(name, ("LABEL_0", "LABEL_1"))))
        model.save_pretrained(folder / name)
        (folder / name / "tokenizer.json").write_text("{}")
    (folder / "papers").symlink_to(ROOT / "papers")
    (folder / "glue/QQP-10k").mkdir(parents=True)
    for split in ("train", "dev"):
        (folder / f"glue/QQP-10k/{split}.tsv").write_text("question1\tquestion2\tis_duplicate\na\tb\t0\n")
    for block in plugins():
        (folder / block.text.splitlines()[0].removeprefix("# ")).write_text(block.text)
    before = [dict(registry._entries) for registry in REGISTRIES]
    families = dict(FAMILIES)
    yield folder
    for registry, entries in zip(REGISTRIES, before, strict=True):
        registry._entries.clear()
        registry._entries.update(entries)
    FAMILIES.clear()
    FAMILIES.update(families)


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    return project


@pytest.mark.parametrize("block", all_blocks("yaml"), ids=lambda block: block.name)
def test_a_yaml_block_can_be_planned(block: Block, here: Path) -> None:
    text = block.text.replace("/data/glue", str(here / "glue"))
    study = plan_study(parse_params(merge(read_yaml(ROOT / "params.yaml"), yaml.safe_load(text)), block.name))
    assert study.runs


@pytest.mark.parametrize("block", plugins(), ids=lambda block: block.name)
def test_a_plugin_of_the_pages_can_be_imported(block: Block, here: Path) -> None:
    from internal_kd.plugins import load_plugins

    load_plugins([Path(block.text.splitlines()[0].removeprefix("# "))])


def test_the_objective_of_the_page_is_a_loss(here: Path) -> None:
    import torch

    from internal_kd.plugins import load_plugins
    from internal_kd.registry import resolve

    load_plugins([Path("my_losses.py")])
    loss = resolve(OBJECTIVES["hidden_l1"].function)
    states, mask = torch.randn(2, 3, 4), torch.tensor([[1, 1, 0], [1, 0, 0]])
    assert loss(states, states, mask) == 0 and loss(states, states + 1, mask) == pytest.approx(1.0)


def test_the_metric_of_the_page_is_balanced_accuracy(here: Path) -> None:
    from internal_kd.plugins import load_plugins

    load_plugins([Path("my_metrics.py")])
    found = score([0, 0, 0, 1, 2, 2], [0, 1, 0, 1, 2, 0], "balanced_accuracy")
    assert found == pytest.approx((2 / 3 + 1 + 1 / 2) / 3)
