"""docs/notebook.ipynb runs from top to bottom; here with a tiny random encoder and a few examples."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from docs.pages import ROOT
from tiny_models import PAD, VOCABULARY, tiny_classifier

CELLS = [
    cell for cell in json.loads((ROOT / "docs/notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    if cell["cell_type"] == "code"
]  # fmt: skip


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A tiny encoder with a tokenizer of single letters."""
    words = {chr(97 + n - 2) if n >= 2 else f"[{n}]": n for n in range(28)} | {
        f"w{n}": n for n in range(28, VOCABULARY)
    }
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[0]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = tmp_path / "encoder"
    tiny_classifier(layers=4).save_pretrained(folder)
    pad = next(word for word, number in words.items() if number == PAD)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[0]", pad_token=pad).save_pretrained(folder)
    return folder


def test_the_notebook_runs(encoder: Path, project: Path) -> None:
    names: dict[str, Any] = {}
    for cell in CELLS:
        exec(cell["source"], names)
        if "parameters" in cell["metadata"].get("tags", ()):
            names |= {"encoder": encoder, "layers": 2, "epochs": 3, "seeds": (1, 2), "train_size": 32, "dev_size": 16}
    assert [len(result.history) for _, result in names["stacked"]] == [3, 3]
    assert (project / "student/model.safetensors").is_file() and names["student"].config.num_hidden_layers == 2


def test_the_notebook_is_kept_without_outputs() -> None:
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in CELLS)


def test_its_parameters_can_be_replaced() -> None:
    assert [number for number, cell in enumerate(CELLS) if "parameters" in cell["metadata"].get("tags", ())] == [0]
