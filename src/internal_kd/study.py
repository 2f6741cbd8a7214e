"""The planner: from parameters to the exact runs a study wants, before anything is computed.

``plan_study`` is the only place where parameters become artefacts. Snakemake's rules, every sub-command, the tables
and MLflow all ask it, so they name the same run by the same fingerprint.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from internal_kd.artefacts import (
    ENCODER_FILES,
    EncoderFiles,
    InitialStudent,
    Run,
    StudentRun,
    TaskData,
    TeacherOutputs,
    TeacherRun,
    TokenizedTask,
)
from internal_kd.data.encoder_files import read_config
from internal_kd.errors import UserError
from internal_kd.feasibility import (
    check_climb,
    check_distinct,
    check_examples,
    check_generated,
    check_layers,
    check_lengths,
)
from internal_kd.identity import RESULTS, ContentHashes, plain
from internal_kd.params import Params
from internal_kd.params.sources import EncoderParams, FilesEntry, GlueEntry
from internal_kd.params.training import ResolvedMethod, TrainingParams, resolve_method
from internal_kd.sources import ENCODERS, TASKS, Content, name_of_encoder, name_of_task, recall
from internal_kd.steps import (
    fetch_encoder,
    fetch_task,
    initialize_student,
    record_teacher,
    tokenize_task,
    train_student,
    train_teacher,
)
from internal_kd.tasks import GLUE


@dataclass(frozen=True)
class Study:
    """The runs a study wants, in the order of its tables."""

    params: Params
    tasks: dict[str, TokenizedTask]
    methods: dict[str, ResolvedMethod]
    teachers: tuple[TeacherRun, ...]
    students: tuple[StudentRun, ...]

    @property
    def name(self) -> str:
        """The study's name."""
        return self.params.study.name

    @property
    def folder(self) -> Path:
        """``results/<study>``."""
        return RESULTS / self.name

    @property
    def runs(self) -> tuple[Run, ...]:
        """Teachers, then students."""
        return (*self.teachers, *self.students)

    def as_yaml(self) -> str:
        """Return the parameters in one piece: by themselves, or laid over any params.yaml, they mean this study."""
        params = plain(self.params)
        params["study"]["tasks"] = list(self.tasks)
        for kind, wanted in (("tasks", self.tasks), ("methods", self.methods)):
            params[kind] = {name: entry for name, entry in params[kind].items() if name in wanted}
        for method in params["methods"].values():
            if method["compare_with"] is not None:
                method["compare_with"] = [name for name in method["compare_with"] if name in self.methods]
        return yaml.safe_dump(params, sort_keys=False, allow_unicode=True, width=120)

    @cached_property
    def by_fingerprint(self) -> dict[str, Run]:
        """Every wanted run by its fingerprint."""
        return {run.fingerprint: run for run in self.runs}


def plan_study(params: Params) -> Study:
    """Work out every run a study wants.

    Raises:
        UserError: a local source is missing, a depth, layer map or length does not suit the encoder, a subset is
            larger than its task, or two names stand for one training.
    """
    hashes = ContentHashes()
    encoder = plan_encoder(params.encoder, hashes)
    names = tuple(params.tasks) if params.study.tasks is None else params.study.tasks
    tasks = {name: _plan_task(params, name, encoder, hashes) for name in names}
    methods = {name: resolve_method(name, params.methods[name], params.student) for name in params.study.methods}
    config, layers = _look_at(encoder)
    if layers is not None:
        check_layers(params, encoder.name, layers, methods)
    if config is not None:
        check_lengths(params, tasks, config)
    check_examples(params, tasks)
    teachers = tuple(_plan_teacher(params, tokens, seed) for tokens in tasks.values() for seed in params.teacher.seeds)
    students = tuple(run for tokens in tasks.values() for run in _plan_students(params, tokens, methods))
    for run in students:
        check_climb(run)
    check_distinct(tasks, students, layers)
    return Study(params, tasks, methods, teachers, students)


def plan_encoder(encoder: EncoderParams, hashes: ContentHashes) -> EncoderFiles:
    """Work out which encoder is meant; a local one is identified by the content of its files.

    Raises:
        UserError: the folder or package is not there and never was fetched, or holds no configuration or no
            safetensors weights.
    """
    if encoder.source == "hub":
        return EncoderFiles(fetch_encoder.RECIPE, encoder, {}, None)
    try:
        path = encoder_path(encoder)
    except UserError:
        if content := recall(ENCODERS, name_of_encoder(encoder)):
            return EncoderFiles(fetch_encoder.RECIPE, encoder, content, Path(str(encoder.path or encoder.package)))
        raise
    found = sorted({file for pattern in ENCODER_FILES for file in path.glob(pattern)})
    if not (path / "config.json").is_file():
        raise UserError(f"encoder.path: {path} holds no config.json; give the folder of a saved Hugging Face encoder")
    if not any(file.suffix == ".safetensors" for file in found):
        raise UserError(f"encoder.path: {path} holds no .safetensors weights; convert them with save_pretrained")
    return EncoderFiles(fetch_encoder.RECIPE, encoder, hashes.of_files(found, path, "encoder"), path)


def encoder_path(encoder: EncoderParams) -> Path:
    """Return where a local encoder lies.

    Raises:
        UserError: the folder or the package is not there.
    """
    if encoder.source == "folder":
        path = Path(str(encoder.path))
        if not path.is_dir():
            raise UserError(f"encoder.path: {path} is no folder; give the folder of a saved Hugging Face encoder")
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


def _plan_task(params: Params, name: str, encoder: EncoderFiles, hashes: ContentHashes) -> TokenizedTask:
    entry = params.tasks[name]
    files: dict[str, Path] = {}
    content: Content | None = None
    glue = hub = None
    if isinstance(entry, FilesEntry):
        files = {split: Path(p) for split, p in (("train", entry.train), ("dev", entry.dev), ("test", entry.test)) if p}
        if not any(path.exists() for path in files.values()):
            content = recall(TASKS, name_of_task(entry, None))
    elif isinstance(entry, GlueEntry):
        glue = entry.glue or name
        if params.data.root is None:
            if entry.folder is not None:
                raise UserError(
                    f"tasks.{name}.folder: {entry.folder!r} is a folder inside data.root, which is null (the hub); "
                    "give data.root, or leave `folder` out"
                )
            hub = params.data
        else:
            folder = Path(params.data.root) / (entry.folder or GLUE[glue].folder)
            content = None if folder.is_dir() else recall(TASKS, name_of_task(entry, folder))
            files = _glue_files(folder, glue, content)
    else:
        check_generated(name, entry)
    content = content or {split: hashes.of_file(path, f"tasks.{name}") for split, path in files.items()}
    data = TaskData(fetch_task.RECIPE, name, entry, glue, hub, content, files)
    length = entry.max_length or params.tokens.max_length
    return TokenizedTask(tokenize_task.RECIPE, data, encoder, length)


def _glue_files(folder: Path, glue: str, recalled: Content | None) -> dict[str, Path]:
    task = GLUE[glue]
    if recalled is None and not folder.is_dir():
        raise UserError(
            f"data.root: {folder.parent} holds no folder {folder.name}; give the folder that holds "
            f"{task.folder}/train.tsv"
        )
    files = {split: folder / layout.file for split, layout in task.splits.items()}
    if recalled is not None:
        return {split: files[split] for split in recalled}
    # GLUE's test files carry no labels and are needed for submissions only.
    return {split: path for split, path in files.items() if path.exists() or not split.startswith("test")}


def _plan_teacher(params: Params, tokens: TokenizedTask, seed: int) -> TeacherRun:
    fields = {field: getattr(params.teacher, field) for field in TrainingParams.model_fields}
    fields["epochs"] = params.tasks[tokens.task].teacher_epochs or fields["epochs"]
    return TeacherRun(train_teacher.RECIPE, tokens, seed, TrainingParams(**fields))


def _plan_students(params: Params, tokens: TokenizedTask, methods: dict[str, ResolvedMethod]) -> list[StudentRun]:
    study = params.study
    teacher = _plan_teacher(params, tokens, params.teacher.teaching_seed)
    needs = {(d, m.settings.layer_map) for m in methods.values() if m.layer_terms for d in study.depths}
    outputs = TeacherOutputs(record_teacher.RECIPE, teacher, tuple(sorted(needs, key=repr)))
    epochs = params.tasks[tokens.task].student_epochs
    students = []
    for depth in study.depths:
        for common in methods.values():
            method = common.with_epochs(epochs, own=params.methods[common.name].epochs)
            for examples in study.examples:
                for seed in study.seeds:
                    initial = _plan_initial(tokens.encoder, depth, method, teacher, seed)
                    taught = outputs if method.needs_teacher else None
                    run = StudentRun(train_student.RECIPE, tokens, seed, method, depth, examples, initial, taught)
                    students.append(run)
    return students


def _plan_initial(
    encoder: EncoderFiles, depth: int, method: ResolvedMethod, teacher: TeacherRun, seed: int
) -> InitialStudent:
    chosen = method.settings.initialization
    return InitialStudent(
        initialize_student.RECIPE,
        encoder,
        depth,
        chosen,
        teacher if chosen.source == "teacher" else None,
        seed if chosen.source == "random" else None,
    )


def _look_at(encoder: EncoderFiles) -> tuple[dict[str, Any] | None, int | None]:
    """Return an encoder's ``config.json``, where it is at hand, and the number of layers, where it is known."""
    stated = encoder.encoder.layers
    if encoder.path is not None and (encoder.path / "config.json").is_file():
        config, layers = read_config(encoder.path / "config.json")
        return config, layers or stated
    try:
        # Of a source that is not here, the hub's included, there may be the copy; a broken one is fetched again.
        config, layers = read_config(encoder.folder / "config.json")
    except UserError:
        return None, stated
    return config, layers or stated
