"""Nothing is unpickled, no code comes with data, nobody listens to the network."""

from __future__ import annotations

import ast
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from internal_kd.data.tokens import TokenStore
from internal_kd.distillation.checkpoints import CheckpointFolder, read_tensors
from internal_kd.distillation.teacher_outputs import TeacherOutputsReader
from internal_kd.errors import UserError
from internal_kd.files import read_json, write_json
from internal_kd.models.classifiers import load_classifier, save_classifier
from internal_kd.steps.fetch_encoder import fetch_encoder
from planned import planned_encoder
from tiny_models import tiny_classifier
from tiny_study import ROOT, make_encoder

SOURCES = sorted((ROOT / "src").rglob("*.py"))
UNPICKLING = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"}


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
        if name == "np.load":
            assert keywords["allow_pickle"] == "False"
        if name.endswith(".from_pretrained"):
            assert keywords["trust_remote_code"] == "False" and keywords["local_files_only"] == "True"
        if name == "yaml.load":
            assert keywords["Loader"] == "_UniqueKeys"


def test_nobody_listens_to_the_network() -> None:
    """No command starts a server beyond a socket of the file system; the documents name no address but loopback."""
    files = [*SOURCES, ROOT / "Makefile", *(ROOT / "workflow").rglob("*.smk"), *(ROOT / "docs").glob("*.md")]
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"0\.0\.0\.0|--host[ =](?!127\.0\.0\.1|localhost)|AF_INET|HTTPServer|socketserver", text)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "training_args.bin"])
def test_pickled_weights_beside_or_instead_of_safetensors_are_never_opened(project: Path, name: str) -> None:
    folder = project / "model"
    save_classifier(tiny_classifier(), folder)
    with (folder / name).open("wb") as handle:
        pickle.dump(Malice(), handle)
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


def test_code_that_comes_with_an_encoder_is_neither_copied_nor_run(project: Path) -> None:
    make_encoder(project / "encoder")
    code = "from pathlib import Path\nPath('pwned').touch()\n"
    (project / "encoder/modeling_evil.py").write_text(code)
    with (project / "encoder/pytorch_model.bin").open("wb") as handle:
        pickle.dump(Malice(), handle)
    config = read_json(project / "encoder/config.json")
    write_json(project / "encoder/config.json", config | {"auto_map": {"AutoConfig": "modeling_evil.Evil"}})
    files = planned_encoder(source="folder", path="encoder")
    fetch_encoder(files)
    assert not {path.suffix for path in files.folder.iterdir()} & {".py", ".bin"}
    load_classifier(files.folder, 2)


def test_a_checkpoint_with_pickles_is_refused(project: Path) -> None:
    step = project / "checkpoints/step-3"
    step.mkdir(parents=True)
    write_json(step / "training.json", {"step": 3, "book": {}, "micro_batch_size": 1, "random": {}})
    write_json(step / "trainer_state.json", {})
    names = ("model", "optimizer", "random")
    for name in names:
        save_file({"a": torch.zeros(1)}, step / f"{name}.safetensors")
    assert CheckpointFolder(step.parent, 1.0).newest() == step
    for name in names:
        torch.save(Malice(), step / f"{name}.safetensors")
        with pytest.raises(UserError, match="cannot be read"):
            read_tensors(step, name)
        assert CheckpointFolder(step.parent, 1.0).newest() is None


def test_arrays_of_pickled_objects_are_refused(project: Path) -> None:
    tokens = {
        "task": "t", "labels": [], "classes": 2, "regression": False, "metrics": [], "max_length": 8, "pad_id": 0,
        "splits": {"train": {"token_type_ids": False}}, "data_sha256": {},
    }  # fmt: skip
    for folder in (project / "tokens", project / "outputs"):
        folder.mkdir()
        write_json(folder / "manifest.json", tokens)
        for name in ("train.idx", "train.labels", "train.offsets", "train.ids", "ids", "lengths", "logits"):
            np.save(folder / f"{name}.npy", np.array([Malice()], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="no array"):
        TokenStore(project / "tokens").split("train")
    with pytest.raises(UserError):
        TeacherOutputsReader(project / "outputs")
