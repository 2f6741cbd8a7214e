"""What the pipeline makes, each thing with its fingerprint, its folder and the file that says it is complete.

Shapes of the tree (see docs/layout.md)::

    data/tasks/<task>-<fp>/            train, dev, ... .parquet   manifest.json
    data/encoders/<name>-<fp>/         config, tokenizer, weights  manifest.json
    work/tokens/<task>-<fp>/           ragged token ids            manifest.json
    work/initial/<encoder>-L<d>-<fp>/  a student before training   manifest.json
    work/teacher_outputs/<task>-<fp>/  recorded internals          recorded-<needs>.json
    results/runs/teachers/<task>/<encoder>/seed<k>-<fp>/
    results/runs/students/<task>/<encoder>/L<d>/<method>/n<examples>/seed<k>-<fp>/
        model/  predictions.parquet  history.jsonl  run.json
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from internal_kd.data import generator
from internal_kd.files import sha256_text
from internal_kd.identity import DATA, RUNS, WORK, fingerprint
from internal_kd.params.sources import DataParams, EncoderParams, FilesEntry, TaskEntry
from internal_kd.params.training import InitializationParams, ResolvedMethod, TrainingParams
from internal_kd.tasks import GLUE

# What an encoder's folder may hold, on the hub as well as locally.
ENCODER_FILES = (
    "config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt", "*.model",
)  # fmt: skip


@dataclass(frozen=True)
class Artefact:
    """Anything with a fingerprint: a step's name and recipe are set by the planner, the rest by its parameters."""

    recipe: int

    step = ""

    def params(self) -> dict[str, Any]:
        """Return the resolved parameters that determine the result."""
        raise TypeError(type(self).__name__)

    def inputs(self) -> dict[str, str]:
        """Return the fingerprints of what the step reads."""
        return {}

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that stand for everything that determines this."""
        return fingerprint(self.step, self.recipe, self.params(), self.inputs())

    @property
    def folder(self) -> Path:
        """Where it lies, relative to the project root."""
        raise TypeError(type(self).__name__)

    @property
    def marker(self) -> Path:
        """The file written last: where it is, everything is."""
        return self.folder / "manifest.json"


@dataclass(frozen=True)
class TaskData(Artefact):
    """A task's examples as verified Parquet.

    ``content`` holds the source files' SHA-256 by name where the source is local, and is empty otherwise;
    ``files`` holds where those files lie on this machine, which is no part of the identity.
    """

    name: str
    entry: TaskEntry
    glue: str | None
    hub: DataParams | None
    content: dict[str, str]
    files: dict[str, Path]

    step = "fetch_task"

    def params(self) -> dict[str, Any]:
        """Return what is fetched: content for local files, id and revision for the hub, the recipe of a generator."""
        if self.entry.source == "generator":
            grammar = self.entry.model_dump(include={"source", "grammar", "train", "dev", "seed"})
            if self.entry.phenomena is not None:
                grammar["phenomena"] = sorted(self.entry.phenomena)
            return {**grammar, "grammar_recipe": generator.RECIPE}
        if self.entry.source == "files":
            # Neither metrics nor licence: they change no example, so they are asked of the parameters when needed.
            kept = {"source", "text", "label", "labels", "type"}
            return {**self.entry.model_dump(include=kept), "content": self.content}
        if self.hub is None:
            return {"source": "glue", "glue": self.glue, "content": self.content}
        hub = {"repository": self.hub.repository, "revision": self.hub.revision}
        return {"source": "glue", "glue": self.glue, **hub}

    @property
    def regression(self) -> bool:
        """Whether labels are values and not classes."""
        if isinstance(self.entry, FilesEntry):
            return self.entry.type == "regression"
        return self.glue is not None and GLUE[self.glue].regression

    @property
    def folder(self) -> Path:
        """``data/tasks/<task>-<fp>``."""
        return DATA / "tasks" / f"{self.name}-{self.fingerprint}"


@dataclass(frozen=True)
class EncoderFiles(Artefact):
    """A pre-trained encoder with its tokenizer. ``content`` and ``path`` as in TaskData."""

    encoder: EncoderParams
    content: dict[str, str]
    path: Path | None

    step = "fetch_encoder"

    def params(self) -> dict[str, Any]:
        """Return id and revision for the hub, content otherwise."""
        if self.encoder.source == "hub":
            return self.encoder.model_dump(include={"source", "id", "revision"})
        return {"content": self.content}

    @property
    def name(self) -> str:
        """The encoder's name in paths."""
        return self.encoder.name

    @property
    def folder(self) -> Path:
        """``data/encoders/<name>-<fp>``."""
        return DATA / "encoders" / f"{self.name}-{self.fingerprint}"


@dataclass(frozen=True)
class TokenizedTask(Artefact):
    """A task's examples as token ids of one encoder."""

    data: TaskData
    encoder: EncoderFiles
    max_length: int

    step = "tokenize_task"

    def params(self) -> dict[str, Any]:
        """Return the longest length."""
        return {"max_length": self.max_length}

    def inputs(self) -> dict[str, str]:
        """Return the task's and the encoder's fingerprints."""
        return {"task": self.data.fingerprint, "encoder": self.encoder.fingerprint}

    @property
    def task(self) -> str:
        """The task's name."""
        return self.data.name

    @property
    def folder(self) -> Path:
        """``work/tokens/<task>-<fp>``."""
        return WORK / "tokens" / f"{self.task}-{self.fingerprint}"


@dataclass(frozen=True)
class Run(Artefact):
    """A training: a teacher's or a student's."""

    tokens: TokenizedTask
    seed: int

    @property
    def task(self) -> str:
        """The task's name."""
        return self.tokens.task

    @property
    def encoder(self) -> EncoderFiles:
        """The pre-trained encoder."""
        return self.tokens.encoder

    @cached_property
    def marker(self) -> Path:
        """``run.json``, written last."""
        return self.folder / "run.json"

    @property
    def label(self) -> str:
        """A name for people."""
        raise TypeError(type(self).__name__)

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie while it trains: by fingerprint, so they never cross parameters."""
        return WORK / "checkpoints" / self.fingerprint


@dataclass(frozen=True)
class TeacherRun(Run):
    """The pre-trained encoder fine-tuned on a task: row 1.0."""

    training: TrainingParams

    step = "train_teacher"

    def params(self) -> dict[str, Any]:
        """Return the training parameters and the seed."""
        return {**self.training.model_dump(), "seed": self.seed}

    def inputs(self) -> dict[str, str]:
        """Return the fingerprints of the tokens and the encoder."""
        return {"tokens": self.tokens.fingerprint, "encoder": self.encoder.fingerprint}

    @property
    def label(self) -> str:
        """A name for people."""
        return f"{self.task} | teacher | s{self.seed}"

    @cached_property
    def folder(self) -> Path:
        """``results/runs/teachers/<task>/<encoder>/seed<k>-<fp>``."""
        return RUNS / "teachers" / self.task / self.encoder.name / f"seed{self.seed}-{self.fingerprint}"


@dataclass(frozen=True)
class TeacherOutputs(Artefact):
    """What a frozen teacher says about every training example: logits, [CLS] states, attention of matched layers.

    ``needs`` lists the (student depth, layer map) pairs whose teacher layers are wanted. It says how much is
    recorded, not what the values are, so it names the marker and is no part of the fingerprint.
    """

    teacher: TeacherRun
    needs: tuple[tuple[int, str | tuple[int, ...]], ...]

    step = "record_teacher"

    def params(self) -> dict[str, Any]:
        """Return nothing: the teacher says it all."""
        return {}

    def inputs(self) -> dict[str, str]:
        """Return the teacher's fingerprint."""
        return {"teacher": self.teacher.fingerprint}

    @property
    def task(self) -> str:
        """The task's name."""
        return self.teacher.task

    @property
    def folder(self) -> Path:
        """``work/teacher_outputs/<task>-<fp>``."""
        return WORK / "teacher_outputs" / f"{self.task}-{self.fingerprint}"

    @property
    def marker(self) -> Path:
        """``recorded-<hash of needs>.json``: a study with other layers adds to the same folder."""
        return self.folder / f"recorded-{sha256_text(repr(sorted(self.needs, key=repr)))[:8]}.json"


@dataclass(frozen=True)
class InitialStudent(Artefact):
    """A student before training: embeddings, some layers and, where the source has them, pooler and head.

    ``teacher`` is set when the source is the fine-tuned teacher, ``seed`` when the weights are random.
    """

    encoder: EncoderFiles
    depth: int
    initialization: InitializationParams
    teacher: TeacherRun | None
    seed: int | None

    step = "initialize_student"

    def params(self) -> dict[str, Any]:
        """Return depth, source and layers; random weights have no layers to choose but a seed."""
        chosen: dict[str, Any] = {"depth": self.depth, "source": self.initialization.source}
        return chosen | ({"seed": self.seed} if self.seed is not None else {"layers": self.initialization.layers})

    def inputs(self) -> dict[str, str]:
        """Return the fingerprints of the encoder and, where it is the source, the teacher."""
        source = {"teacher": self.teacher.fingerprint} if self.teacher else {}
        return {"encoder": self.encoder.fingerprint, **source}

    @property
    def folder(self) -> Path:
        """``work/initial/<encoder>-L<depth>-<fp>``."""
        return WORK / "initial" / f"{self.encoder.name}-L{self.depth}-{self.fingerprint}"


@dataclass(frozen=True)
class StudentRun(Run):
    """A student taught by one method. ``outputs`` is None for a method without a teacher."""

    method: ResolvedMethod
    depth: int
    examples: int | Literal["full"]
    initial: InitialStudent
    outputs: TeacherOutputs | None

    step = "train_student"

    def params(self) -> dict[str, Any]:
        """Return the method's own parameters, depth, examples and seed."""
        return {**self.method.identity(), "depth": self.depth, "examples": self.examples, "seed": self.seed}

    def inputs(self) -> dict[str, str]:
        """Return the fingerprints of the tokens, the first weights and, for a taught student, the teacher's outputs."""
        taught = {"teacher_outputs": self.outputs.fingerprint} if self.outputs else {}
        return {"tokens": self.tokens.fingerprint, "initial": self.initial.fingerprint, **taught}

    @property
    def label(self) -> str:
        """A name for people."""
        size = "" if self.examples == "full" else f" | n{self.examples}"
        return f"{self.task} | L{self.depth} | {self.method.name}{size} | s{self.seed}"

    @cached_property
    def folder(self) -> Path:
        """``results/runs/students/<task>/<encoder>/L<depth>/<method>/n<examples>/seed<k>-<fp>``."""
        base = RUNS / "students" / self.task / self.encoder.name / f"L{self.depth}" / self.method.name
        return base / f"n{self.examples}" / f"seed{self.seed}-{self.fingerprint}"
