"""What the pipeline makes, each thing with its fingerprint, its folder and the file that marks it complete.

Shapes of the tree (docs/reference/files.md)::

    data/tasks/<task>-<fp>/            train, dev, ... .parquet   manifest.json
    data/encoders/<name>-<fp>/         config, tokenizer, weights  manifest.json
    work/inputs/<task>-<fp>/           token ids or pixels         manifest.json
    work/initial/<encoder>-<shape>-<fp>/  first weights of a learner  manifest.json
    work/answers/<task>-<fp>/<needs>/  recorded answers            manifest.json
    results/runs/<task>/<method>/<variant>/seed<k>-<fp>/
        model/  predictions.parquet  history.jsonl  run.json
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from internal_kd import generator
from internal_kd.learners.learner import Form
from internal_kd.params.data import DataParams, EncoderParams, FilesEntry, ImagesEntry, TaskEntry
from internal_kd.plan.identity import DATA, WORK, fingerprint
from internal_kd.tasks.glue import GLUE

# What an encoder's folder may hold, on the hub as well as locally.
ENCODER_FILES = (
    "config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt", "*.model",
)  # fmt: skip


@dataclass(frozen=True)
class Artefact:
    """Anything with a fingerprint. ``recipe`` is the version of the step that makes it."""

    recipe: int

    step = ""

    def params(self) -> dict[str, Any]:
        """Return the resolved parameters that determine the result."""
        raise TypeError(type(self).__name__)

    def reads(self) -> dict[str, Artefact]:
        """Return what the step reads, by role."""
        return {}

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that stand for everything that determines this."""
        inputs = {role: artefact.fingerprint for role, artefact in self.reads().items()}
        return fingerprint(self.step, self.recipe, self.params(), inputs)

    @property
    def folder(self) -> Path:
        """Where it lies, relative to the project root."""
        raise TypeError(type(self).__name__)

    @property
    def marker(self) -> Path:
        """The file written last: if it exists, everything does."""
        return self.folder / "manifest.json"

    @property
    def label(self) -> str:
        """A name for people."""
        return self.folder.name


@dataclass(frozen=True)
class Data(Artefact):
    """A task's examples as verified Parquet.

    ``content`` maps the local source files to their SHA-256 and is empty for other sources; ``files`` says where those
    files lie on this machine, which does not count.
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
        more: dict[str, Any] = {"unlabelled": self.content["unlabelled"]} if "unlabelled" in self.content else {}
        if self.entry.source == "generator":
            grammar = self.entry.model_dump(include={"source", "grammar", "train", "dev", "seed"})
            if self.entry.phenomena is not None:
                grammar["phenomena"] = sorted(self.entry.phenomena)
            if isinstance(self.entry.unlabelled, int):
                more = {"unlabelled": self.entry.unlabelled}
            return {**grammar, "grammar_recipe": generator.RECIPE, **more}
        if self.entry.source == "files":
            # Neither metrics nor licence: they change no example, so the parameters are asked when they are needed.
            return {
                **self.entry.model_dump(include={"source", "text", "label", "labels", "kind"}),
                **({"cleaned": True} if self.entry.cleaned else {}),
                **({"split": self.entry.split.model_dump()} if self.entry.split else {}),
                **self._origin(self.entry),
            }
        if isinstance(self.entry, ImagesEntry):
            return self._params_of_images(self.entry)
        if self.hub is None:
            return {"source": "glue", "glue": self.glue, "content": self.content}
        return {
            "source": "glue",
            "glue": self.glue,
            "repository": self.hub.repository,
            "revision": self.hub.revision,
            **more,
        }

    def _params_of_images(self, entry: ImagesEntry) -> dict[str, Any]:
        stated = entry.model_dump(include={"image", "label", "labels", "shifted"}, exclude_defaults=True)
        return {"source": "images", "scored_on": entry.scored_on, **stated, **self._origin(entry)}

    def _origin(self, entry: FilesEntry | ImagesEntry) -> dict[str, Any]:
        """Return what tells a user's own examples from others: the content of files, or the hub's pinned paths."""
        content = {"content": self.content} if self.content else {}
        on_hub = {} if self.hub is None else {**self.hub.model_dump(exclude={"root"}), **entry.sources}
        return {**content, **on_hub}

    @property
    def images(self) -> bool:
        """Whether its examples are images."""
        return isinstance(self.entry, ImagesEntry)

    @property
    def kind(self) -> str:
        """The task's kind: classes or values."""
        if isinstance(self.entry, FilesEntry):
            return self.entry.kind
        return GLUE[self.glue].kind if self.glue is not None else "classes"

    @cached_property
    def folder(self) -> Path:
        """``data/tasks/<task>-<fp>``."""
        return DATA / "tasks" / f"{self.name}-{self.fingerprint}"


@dataclass(frozen=True)
class Encoder(Artefact):
    """A pre-trained encoder, or a model that somebody fine-tuned, with its tokenizer.

    ``content`` and ``path`` as ``content`` and ``files`` of Data.
    """

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
        """Its name in paths."""
        return self.encoder.name

    @cached_property
    def folder(self) -> Path:
        """``data/encoders/<name>-<fp>``."""
        return DATA / "encoders" / f"{self.name}-{self.fingerprint}"


@dataclass(frozen=True)
class Inputs(Artefact):
    """A task's examples as a learner reads them: token ids of an encoder, its word or sentence vectors, or pixels.

    Pixels have no encoder, and no longest length.
    """

    data: Data
    encoder: Encoder | None
    max_length: int = 0
    form: Form = "tokens"

    step = "encode_task"

    def params(self) -> dict[str, Any]:
        """Return the form, and of texts the longest length."""
        length = {"max_length": self.max_length} if self.encoder else {}
        return length if self.form == "tokens" else {"form": self.form, **length}

    def reads(self) -> dict[str, Artefact]:
        """Return the examples, the encoder and, for its vectors, the token ids."""
        read: dict[str, Artefact] = {"data": self.data}
        if self.encoder is not None:
            read["encoder"] = self.encoder
        return read | ({"tokens": self.tokens} if self.form in ("sentences", "embeddings") else {})

    @property
    def tokens(self) -> Inputs:
        """The same texts as token ids."""
        return Inputs(self.recipe, self.data, self.encoder, self.max_length)

    @property
    def task(self) -> str:
        """The task's name."""
        return self.data.name

    @cached_property
    def folder(self) -> Path:
        """``work/inputs/<task>-<fp>``."""
        return WORK / "inputs" / f"{self.task}-{self.fingerprint}"


def everything_below(artefacts: Iterator[Artefact] | tuple[Artefact, ...]) -> dict[str, Artefact]:
    """Return the artefacts and all that they rest on, by fingerprint."""
    found: dict[str, Artefact] = {}
    waiting = list(artefacts)
    while waiting:
        artefact = waiting.pop()
        if artefact.fingerprint not in found:
            found[artefact.fingerprint] = artefact
            waiting.extend(artefact.reads().values())
    return found
