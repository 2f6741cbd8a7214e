"""Where data and encoders come from: which files are meant, what they held when they were fetched.

Runs on local data or a local encoder are identified by its content. A clone that pulled the fetched copy need not have
the source: ``data/tasks/sources.json`` and ``data/encoders/sources.json`` lie beside the copies, travel with them, and
record for every source, by the words of the parameters that name it, what it held.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from internal_kd.errors import UserError, named
from internal_kd.files import read_mapping, read_text, write_json
from internal_kd.learners.configs import read_config, shape_of_config
from internal_kd.learners.learner import Shape
from internal_kd.params import Params
from internal_kd.params.data import OWN, DataParams, EncoderParams, FilesEntry, GlueEntry, ImagesEntry, TaskEntry
from internal_kd.plan.artefacts import ENCODER_FILES, Data, Encoder
from internal_kd.plan.identity import DATA, ContentHashes
from internal_kd.plan.recipes import RECIPES
from internal_kd.plan.store import problem_with
from internal_kd.tasks.glue import GLUE
from internal_kd.tasks.metrics import check_metrics

TASKS = DATA / "tasks/sources.json"
ENCODERS = DATA / "encoders/sources.json"

# By name in the artefact (a split, a file of the encoder): the file's SHA-256.
Content = dict[str, str]


def plan_data(params: Params, name: str, hashes: ContentHashes) -> Data:
    """Work out which examples a task means; local ones are identified by the content of their files.

    Raises:
        UserError: a file or folder is not there and was never fetched, or a metric is unknown or does not fit.
    """
    entry = params.tasks[name]
    if isinstance(entry, OWN):
        _check_metrics(entry, f"tasks.{name}.metrics")
    files: dict[str, Path] = {}
    content: Content | None = None
    hub, glue = None, None
    if isinstance(entry, OWN) and entry.repository and entry.revision:
        hub = DataParams(repository=entry.repository, revision=entry.revision)
    elif isinstance(entry, FilesEntry):
        files = {split: Path(path) for split, path in entry.sources.items()}
    elif isinstance(entry, ImagesEntry):
        files = image_files(entry)
    elif isinstance(entry, GlueEntry):
        glue = entry.glue or name
        if params.data.root is None:
            if entry.folder is not None:
                raise UserError(f"tasks.{name}.folder: a folder inside data.root, which is not set; set data.root too")
            hub = params.data
        else:
            folder = Path(params.data.root) / (entry.folder or GLUE[glue].title)
            content = None if folder.is_dir() else _read(TASKS).get(_name_of_task(entry, folder))
            files = _glue_files(folder, glue, content)
    if isinstance(entry.unlabelled, str):
        files["unlabelled"] = Path(entry.unlabelled)
    if content is None and files and not any(path.exists() for path in files.values()):
        content = _read(TASKS).get(_name_of_task(entry, files[next(iter(files))].parent))
    if content is None:
        of = hashes.of_path if isinstance(entry, ImagesEntry) else hashes.of_file
        content = {split: of(path, f"tasks.{name}") for split, path in files.items()}
    return Data(RECIPES["fetch_task"], name, entry, glue, hub, content, files)


def _check_metrics(entry: FilesEntry | ImagesEntry, where: str) -> None:
    # Not while parameters are read: a plugin's metrics are known by now.
    kind = entry.kind if isinstance(entry, FilesEntry) else "classes"
    with named(where):
        check_metrics(entry.metrics, kind)


def plan_encoder(encoder: EncoderParams, hashes: ContentHashes, where: str) -> Encoder:
    """Work out which encoder, or which fine-tuned model, is meant; errors name the parameter ``where``.

    Raises:
        UserError: the folder or package is not there and was never fetched, or has no configuration or no safetensors
            weights.
    """
    recipe = RECIPES["fetch_encoder"]
    if encoder.source == "hub":
        return Encoder(recipe, encoder, {}, None)
    try:
        path = _encoder_path(encoder, where)
    except UserError:
        if content := _read(ENCODERS).get(_name_of_encoder(encoder)):
            return Encoder(recipe, encoder, content, Path(str(encoder.path or encoder.package)))
        raise
    found = sorted({file for pattern in ENCODER_FILES for file in path.glob(pattern)})
    if not (path / "config.json").is_file():
        raise UserError(f"{where}: {path} has no config.json; give the folder of a saved Hugging Face model")
    if not any(file.suffix == ".safetensors" for file in found):
        raise UserError(f"{where}: {path} has no .safetensors weights; convert them with save_pretrained")
    return Encoder(recipe, encoder, hashes.of_files(found, path, where), path)


def config_of(encoder: Encoder) -> dict[str, Any] | None:
    """Return an encoder's ``config.json``, from its source or from the fetched copy; None where neither is here.

    Raises:
        UserError: that of the source cannot be read, or names code to run.
    """
    for folder in (encoder.path, encoder.folder):
        if folder is not None and (folder / "config.json").is_file():
            try:
                return read_config(folder)
            except UserError:
                if folder == encoder.path:
                    raise
    return None


def vocabulary_of(encoder: Encoder) -> frozenset[tuple[str, int]] | None:
    """Return an encoder's tokens and their ids, from its source or its fetched copy; None where neither is here."""
    for folder in (encoder.path, encoder.folder):
        for path in (folder / "tokenizer.json", folder / "vocab.txt") if folder else ():
            if path.is_file():
                return _tokens_in(path.resolve(), path.stat().st_mtime_ns)
    return None


@lru_cache(maxsize=8)  # hundreds of thousands of tokens, asked for by every run
def _tokens_in(path: Path, _changed: int) -> frozenset[tuple[str, int]]:
    if path.suffix == ".txt":
        return frozenset((token, number) for number, token in enumerate(read_text(path).splitlines()))
    tokens = (read_mapping(path).get("model") or {}).get("vocab") or {}
    if isinstance(tokens, list):  # Unigram's, with scores
        tokens = {token: number for number, (token, _) in enumerate(tokens)}
    return frozenset(tokens.items())


def shape_of(encoder: Encoder) -> Shape:
    """Return the sizes of an encoder as far as they are known: from its configuration, else as stated.

    Raises:
        UserError: its configuration cannot be, or has another number of layers than was stated.
    """
    stated, config = encoder.encoder.layers, config_of(encoder)
    if config is None:
        return Shape(layers=stated)
    shape = shape_of_config(config, f"{encoder.name}/config.json")
    if stated is not None and shape.layers not in (None, stated):
        raise UserError(f"encoder.layers: {stated} was given, but {encoder.name} has {shape.layers}")
    return shape


def remember(source: Data | Encoder) -> None:
    """Write down what a local source held, once the copy of it is complete."""
    if isinstance(source, Encoder):
        memory, name = ENCODERS, None if source.path is None else _name_of_encoder(source.encoder)
    elif source.files:
        memory, name = TASKS, _name_of_task(source.entry, next(iter(source.files.values())).parent)
    else:
        return
    if name is None or problem_with(source):
        return
    known = _read(memory)
    if known.get(name) != source.content:
        write_json(memory, dict(sorted({**known, name: source.content}.items())))


def check_available(named: str, files: Mapping[str, Path]) -> None:
    """Refuse to fetch from a source that is only remembered.

    Raises:
        UserError: a file is not there.
    """
    for path in files.values():
        if not path.exists():
            raise UserError(
                f"{named}: {path} is not here, and neither is the copy once fetched from it; `dvc pull data` brings "
                "the copy, or put the source there"
            )


def _encoder_path(encoder: EncoderParams, where: str) -> Path:
    if encoder.source == "folder":
        path = Path(str(encoder.path))
        if not path.is_dir():
            raise UserError(f"{where}: {path} is not a folder; give the folder of a saved Hugging Face model")
        return path
    try:
        spec = find_spec(str(encoder.package))
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"encoder.package: {encoder.package!r} is not installed; pip install it, or choose another source"
        )
    return Path(spec.submodule_search_locations[0]) / encoder.folder


def _glue_files(folder: Path, glue: str, recalled: Content | None) -> dict[str, Path]:
    task = GLUE[glue]
    if recalled is None and not folder.is_dir():
        raise UserError(
            f"data.root: {folder.parent} has no folder {folder.name}; give the folder that contains "
            f"{task.title}/train.tsv"
        )
    files = {split: folder / layout.file for split, layout in task.splits.items()}
    if recalled is not None:
        return {split: path for split, path in files.items() if split in recalled}
    # GLUE's test files carry no labels and are needed for submissions only.
    return {split: path for split, path in files.items() if path.exists() or not split.startswith("test")}


def image_files(entry: ImagesEntry) -> dict[str, Path]:
    """Return the files of a task of images, here or on the hub; that of an IDX file's labels is ``<split> labels``."""
    files = {}
    for split, given in entry.sources.items():
        path = files[split] = Path(given)
        if "idx3" in path.name and not path.is_dir():
            labels = path.name.replace("images", "labels").replace("idx3", "idx1")
            files[f"{split} labels"] = path.with_name(labels)
    return files


def _name_of_encoder(encoder: EncoderParams) -> str:
    if encoder.source == "folder":
        return f"folder {encoder.path}"
    return f"package {encoder.package} {encoder.folder}"


def _name_of_task(entry: TaskEntry, folder: Path) -> str:
    more = f", {entry.unlabelled}" if entry.unlabelled else ""
    if isinstance(entry, FilesEntry):
        return f"files {', '.join(entry.sources.values())}{more}"
    if isinstance(entry, ImagesEntry):
        return f"images {', '.join(entry.sources.values())}"
    return f"{entry.source} {folder}{more}"


def _read(memory: Path) -> dict[str, Content]:
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
