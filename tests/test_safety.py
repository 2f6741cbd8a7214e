"""Nothing is unpickled, no code comes with data or models, nothing listens on the network."""

from __future__ import annotations

import ast
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from data_plans import planned_encoder
from internal_kd.checksums import describe_files
from internal_kd.data.inputs import EncodedTask
from internal_kd.data.tokenizers import load_tokenizer
from internal_kd.distillation.checkpoints import STATE, TENSORS, CheckpointFolder, read_tensors
from internal_kd.distillation.recording import RecordingReader
from internal_kd.errors import UserError
from internal_kd.files import read_json, write_json
from internal_kd.learners.finished import FinishedModel
from internal_kd.learners.weights import load_classifier, save_classifier
from internal_kd.steps.fetch import fetch_encoder
from internal_kd.tasks.info import TaskInfo
from tiny_models import tiny_classifier
from tiny_study import ROOT, make_encoder

SOURCES = sorted((ROOT / "src").rglob("*.py"))
UNPICKLING = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"}
# The one place that runs files of the user's: those that their own params.yaml names under `plugins`.
PLUGINS = "internal_kd/plugins.py"
CODE = "from pathlib import Path\nPath('pwned').touch()\n"


class Malice:
    """Leaves a file behind wherever it is unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("pwned").absolute(),))


@pytest.fixture(autouse=True)
def nothing_ran(project: Path):
    yield
    assert not (project / "pwned").exists()


def calls(tree: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_unpickles_evaluates_or_trusts_remote_code(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not UNPICKLING & {name.split(".")[0] for name in names}
    for call in calls(tree):
        name, keywords = ast.unparse(call.func), {word.arg: ast.unparse(word.value) for word in call.keywords}
        assert name not in ("torch.load", "eval", "exec", "pd.read_pickle", "yaml.unsafe_load", "yaml.full_load")
        assert keywords.get("shell") != "True" and keywords.get("trust_remote_code") in (None, "False")
        assert not name.endswith(".exec_module") or str(path).endswith(PLUGINS)
        if name == "np.load":
            assert keywords["allow_pickle"] == "False"
        if name.endswith((".from_pretrained", ".from_config")):
            assert keywords["trust_remote_code"] == "False"
        if name.endswith(".from_pretrained"):
            assert keywords["local_files_only"] == "True"
        if name == "yaml.load":
            assert keywords["Loader"] == "_StrictLoader"


def test_nothing_listens_on_the_network() -> None:
    """No command opens more than a socket of the file system; the documents name no address but loopback."""
    files = [*SOURCES, ROOT / "Makefile", ROOT / "README.md"]
    files += [*(ROOT / "workflow").rglob("*.smk"), *(ROOT / "docs").rglob("*.md")]
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"0\.0\.0\.0|--host[ =](?!127\.0\.0\.1|localhost)|AF_INET|HTTPServer|socketserver", text)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "training_args.bin"])
def test_pickled_weights_beside_or_instead_of_safetensors_are_never_opened(project: Path, name: str) -> None:
    folder = project / "model"
    save_classifier(tiny_classifier(), folder)
    (folder / name).write_bytes(pickle.dumps(Malice()))
    load_classifier(folder, 2)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="safetensors"):
        load_classifier(folder, 2)


def test_a_pickle_called_safetensors_is_refused(project: Path) -> None:
    folder = project / "model"
    save_classifier(tiny_classifier(), folder)
    (folder / "model.safetensors").write_bytes(pickle.dumps(Malice()))
    with pytest.raises(UserError, match="cannot be read"):
        load_classifier(folder, 2)


def test_code_beside_an_encoder_is_neither_copied_nor_run(project: Path) -> None:
    encoder = project / "encoder"
    make_encoder(encoder)
    for name in ("modeling_evil.py", "tokenization_evil.py"):
        (encoder / name).write_text(CODE)
    (encoder / "pytorch_model.bin").write_bytes(pickle.dumps(Malice()))
    named = {"auto_map": {"AutoTokenizer": ["tokenization_evil.Evil", "tokenization_evil.Evil"]}}
    write_json(encoder / "tokenizer_config.json", read_json(encoder / "tokenizer_config.json") | named)
    files = planned_encoder(source="folder", path="encoder")
    fetch_encoder(files)
    assert not {path.suffix for path in files.folder.iterdir()} & {".py", ".bin"}
    load_classifier(files.folder, 2)
    load_tokenizer(files.folder, "encoder", 16)


@pytest.mark.parametrize("key", ["AutoConfig", "AutoModel", "AutoModelForSequenceClassification"])
def test_a_model_that_names_code_of_its_own_is_refused(project: Path, key: str) -> None:
    folder = project / "model"
    save_classifier(tiny_classifier(), folder)
    (folder / "modeling_evil.py").write_text(CODE)
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | {"auto_map": {key: "modeling_evil.Evil"}})
    for load in (load_classifier, FinishedModel().load):
        with pytest.raises(UserError, match="auto_map"):
            load(folder, 2)


def test_a_checkpoint_with_pickles_is_refused(project: Path) -> None:
    step = project / "checkpoints/step-3"
    step.mkdir(parents=True)
    names = [f"{name}.safetensors" for name in TENSORS]

    def describe() -> None:
        write_json(step / STATE, {"step": 3, "files": describe_files(step, names)})

    for name in names:
        save_file({"a": torch.zeros(1)}, step / name)
    describe()
    checkpoints = CheckpointFolder(step.parent, 1.0)
    assert checkpoints.newest() == step
    for name in TENSORS:
        torch.save(Malice(), step / f"{name}.safetensors")
        assert checkpoints.newest() is None
        # Nor with a checksum that fits it.
        describe()
        with pytest.raises(UserError, match="cannot be read"):
            read_tensors(step, name)


def test_arrays_of_pickled_objects_are_refused(project: Path) -> None:
    inputs, answers = project / "inputs", project / "answers"
    for folder, names in (
        (inputs, [f"train.{kind}.npy" for kind in ("idx", "labels", "offsets", "ids")]),
        (answers, ["ids.npy", "lengths.npy", "logits.npy"]),
    ):
        folder.mkdir()
        for name in names:
            np.save(folder / name, np.array([Malice()], dtype=object), allow_pickle=True)
        task = TaskInfo("t", "T", "classes", ("no", "yes"), ("accuracy",), 1, {"train": 1}).to_json()
        manifest = {"task": task, "splits": {"train": {"token_type_ids": False}}, "max_length": 8, "pad_id": 0}
        manifest |= {"tokenizer": "t", "data_sha256": {}, "files": describe_files(folder, names)}
        (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"idx\.npy cannot be read"):
        EncodedTask(inputs).split("train")
    with pytest.raises(UserError, match=r"ids\.npy"):
        RecordingReader(answers)
