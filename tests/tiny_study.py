"""A complete study in miniature: this project's Snakefile and parameters, a generated task and a random encoder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from internal_kd.checksums import describe_files
from internal_kd.files import write_json
from internal_kd.params import load_params, merge, parse_params, read_yaml
from internal_kd.plan.artefacts import Artefact
from internal_kd.plan.runs import Run
from internal_kd.plan.study import Study, plan_study

ROOT = Path(__file__).parents[1]
PIPELINE = ("Snakefile", "workflow", "profiles", "params.yaml")
OVERLAY = "tiny.yaml"
MODEL_FILES = ("model/config.json", "model/model.safetensors")
CONFIG = {
    "model_type": "bert",
    "num_hidden_layers": 4,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 32,
}
VALUES: dict[str, Any] = {
    "study": {
        "name": "tiny",
        "tasks": ["judge"],
        "methods": ["teacher", "finetuned", "soft", "stacked"],
        "seeds": [1, 2],
    },
    "tasks": {"judge": {"source": "generator", "grammar": "acceptability", "train": 64, "dev": 48}},
    "encoder": {"name": "tiny", "source": "folder", "path": "encoder", "layers": 4, "licence": "none"},
    "defaults": {
        "learner": {"layers": 2},
        # A random encoder learns nothing in so few steps.
        "teacher": {"of": "teacher", "seed": 1, "weak": "accept"},
        "max_length": 24,
        "epochs": 3,
        "batch_size": 16,
        "epochs_per_layer": 1,
        "precision": "fp32",
    },
    "methods": {"teacher": {"epochs": 1}},
}


def make_project(folder: Path, **changes: Any) -> Path:
    """Copy the pipeline into a folder and lay a tiny study over it; the encoder's files are empty shells."""
    for name in PIPELINE:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        else:
            shutil.copyfile(source, folder / name)
    write_overlay(folder, **changes)
    encoder = folder / "encoder"
    encoder.mkdir()
    (encoder / "config.json").write_text(json.dumps(CONFIG))
    (encoder / "model.safetensors").write_bytes(b"weights")
    return folder


def write_overlay(folder: Path, **changes: Any) -> None:
    """Write the tiny study's overlay, with changes laid over it."""
    (folder / OVERLAY).write_text(yaml.safe_dump(merge(VALUES, changes)))


def make_encoder(folder: Path) -> None:
    """Save a random BERT of 4 layers and width 32, with a tokenizer that knows the generated words."""
    import torch
    from tokenizers import Tokenizer, normalizers, pre_tokenizers
    from tokenizers.models import WordLevel
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    from internal_kd.generator import generate

    texts = [example.text_a for example in generate("acceptability", train=500, dev=50, seed=0)["train"]]
    lower = pre_tokenizers.Whitespace()
    words = sorted({word for text in texts for word, _ in lower.pre_tokenize_str(text.lower())})
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: number for number, word in enumerate([*special, *words])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = lower
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ends)
    names = dict(zip(("pad", "unk", "cls", "sep", "mask"), special, strict=True))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{f"{name}_token": token for name, token in names.items()}
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    shutil.rmtree(folder, ignore_errors=True)
    BertModel(config).save_pretrained(folder)
    fast.save_pretrained(folder)


def planned(*files: str | Path, **changes: Any) -> Study:
    """Plan params.yaml of this project with overlays and changes laid over it; no file of its encoder is needed."""
    values = read_yaml(ROOT / "params.yaml")
    for file in files:
        values = merge(values, read_yaml(file))
    return plan_study(parse_params(merge(values, changes)))


def plan_here() -> Study:
    """Plan the tiny study of the current directory."""
    return plan_study(load_params("params.yaml", [OVERLAY]))


def run_of(study: Study, method: str, seed: int = 1) -> Run:
    """Return a method's run of a study of one task."""
    return next(run for run in study.runs if (run.method.name, run.seed) == (method, seed))


def complete(*artefacts: Artefact, seconds: float = 60.0) -> None:
    """Write what makes artefacts count as complete, without doing their work."""
    for artefact in artefacts:
        names = ["predictions.parquet", "history.jsonl"] if artefact.marker.name == "run.json" else ["content"]
        names += MODEL_FILES if isinstance(artefact, Run) and artefact.teaches else ()
        for name in names:
            (artefact.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (artefact.folder / name).write_text(f"{name} of {artefact.fingerprint}")
        record = {"fingerprint": artefact.fingerprint, "recipe": artefact.recipe, "seconds": seconds}
        write_json(artefact.marker, record | {"files": describe_files(artefact.folder, names)})


def snakemake(*arguments: str, check: bool = True, overlay: str | Path = OVERLAY) -> subprocess.CompletedProcess[str]:
    """Run Snakemake on the tiny study of the current directory; stdout and stderr come back as one text."""
    command = [sys.executable, "-m", "snakemake", *arguments, "--cores", "2", "--configfile", str(overlay)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment())
    if check and done.returncode != 0:
        raise AssertionError(done.stdout)
    return done


def environment() -> dict[str, str]:
    """The surroundings of a child: one thread, no profile of the user's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SNAKEMAKE_", "SLURM_"))}
    return kept | {"OMP_NUM_THREADS": "1"}


def planned_jobs(output: str) -> dict[str, int]:
    """Return how many jobs of each rule a dry run announces; nothing to do is an empty mapping."""
    counts: dict[str, int] = {}
    lines = iter(output.splitlines())
    for line in lines:
        if line.startswith("job ") and "count" in line:
            next(lines)
            for row in lines:
                if row.startswith("total"):
                    return counts
                name, count = row.split()
                counts[name] = int(count)
    return counts


def wait_until(reached: Callable[[], object]) -> None:
    """Wait for something that another process does, however busy the machine is; the test's timeout is the end."""
    while not reached():
        time.sleep(0.02)
