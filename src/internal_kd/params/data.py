"""Where data and encoders come from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from internal_kd.fields import (
    Count,
    FilePath,
    Frozen,
    Integer,
    Name,
    Revision,
    Seed,
    Sha256,
    Share,
    Text,
    Whole,
    unique,
)
from internal_kd.params.method import MethodParams
from internal_kd.tasks.metrics import METRICS


class DataParams(Frozen):
    """Where GLUE comes from: the hub at a pinned revision, or a local folder in the official layout."""

    repository: Text = Field("nyu-mll/glue", description="hub data set")
    revision: Revision = Field("bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c", description="its pinned commit")
    root: FilePath | None = Field(None, description="a local GLUE folder (CoLA/, RTE/, ...); used instead of the hub")


class OnHub(Frozen):
    """Files of a hub data set at a pinned commit, instead of local ones."""

    repository: Text | None = Field(None, description="hub data set, whose files the paths then name")
    revision: Revision | None = Field(None, description="its commit, 40 hexadecimal digits")

    @model_validator(mode="after")
    def _is_pinned(self) -> OnHub:
        if (self.repository is None) != (self.revision is None):
            raise ValueError("`repository` and `revision` belong together")
        return self


class TaskCommon(Frozen):
    """What every task may have: texts without labels, and training values of its own."""

    unlabelled: FilePath | Count | None = Field(
        None,
        description="a file of more texts, without labels: answered by the teacher, trained on by every term but "
        "`hard`; of a generated task also their number",
    )
    defaults: MethodParams = Field(MethodParams(), description="laid over `defaults` for this task")
    methods: dict[Name, MethodParams] = Field(
        default_factory=dict, description="laid over the entries of `methods` for this task"
    )

    @model_validator(mode="after")
    def _texts_are_in_a_file(self) -> TaskCommon:
        if isinstance(self.unlabelled, int) and not isinstance(self, GeneratorEntry):
            raise ValueError(f"`unlabelled: {self.unlabelled}` is a number; name a file of texts")
        return self


class GlueEntry(TaskCommon):
    """A GLUE task; `glue` names it when the entry is called otherwise."""

    source: Literal["glue"] = "glue"
    glue: Literal["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"] | None = None
    folder: FilePath | None = Field(None, description="subfolder of data.root, when not the official name")


class SplitParams(Frozen):
    """A dev set taken out of the training file."""

    dev: Annotated[Share, Field(gt=0, lt=1)] = Field(description="share of the sentences")
    by: Literal["text", "first_entity"] = Field(
        "text", description="what stays together: equal texts, or sentences about what their first entity names"
    )
    seed: Seed = 0


def _columns(value: Any) -> Any:
    """Columns of a table of words are numbers; elsewhere a column is a name."""
    if isinstance(value, list | tuple):
        return [_columns(entry) for entry in value]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class FilesEntry(TaskCommon, OnHub):
    """Your own data: CSV, TSV, JSON Lines or Parquet files with named columns; for tags, tables of words too."""

    source: Literal["files"]
    train: FilePath
    dev: FilePath | None = Field(
        None,
        description="file with dev examples: every score in the tables is on these; left out only where `split` takes "
        "them out of the training file",
    )
    test: FilePath | None = None
    split: SplitParams | None = Field(None, description="tags: a dev set taken out of the training file")
    text: Annotated[tuple[Text, ...], BeforeValidator(_columns), AfterValidator(unique)] = Field(
        ("text",), min_length=1, max_length=2,
        description="one or two text columns; for tags the column of tokens, or of a table of words its number",
    )  # fmt: skip
    label: Annotated[Text, BeforeValidator(_columns)] = Field(
        "label",
        description="the label's column; for tags that of tags, spans or entities, or its number (-1: the last)",
    )
    labels: Annotated[tuple[str | Integer, ...], Field(min_length=1), AfterValidator(unique)] | None = Field(
        None, description="classes in order, or types of entities; found when absent"
    )
    kind: Literal["classes", "values", "tags"] = Field(
        "classes", description="values: numbers to predict (regression); tags: entities in sentences"
    )
    cleaned: bool = Field(
        False, description="tags: repair by rule what would else be refused, as in an LLM's tables, and count it"
    )
    metrics: Annotated[tuple[Name, ...], AfterValidator(unique)] = Field(
        (),
        description=f"of {', '.join(METRICS)}, or of a plugin; the first is the main one; asked when scoring, moves no "
        "run",
    )
    licence: str = "not stated"

    @property
    def sources(self) -> dict[str, str]:
        """The path of every split that is given."""
        given = {"train": self.train, "dev": self.dev, "test": self.test}
        return {split: path for split, path in given.items() if path is not None}

    @model_validator(mode="after")
    def _is_consistent(self) -> FilesEntry:
        if self.label in self.text:
            raise ValueError(f"column {self.label!r} is the label and among `text`: a model would read the answer")
        if self.kind == "values" and self.labels:
            raise ValueError("a task of `values` has no `labels`")
        if self.kind == "classes" and self.labels and len(self.labels) < 2:
            raise ValueError("`labels` lists one class; a task has two or more")
        if (self.dev is None) == (self.split is None):
            raise ValueError("give one of `dev` and `split`: what scores are on")
        for name, default in (("split", None), ("cleaned", False)):
            if self.kind != "tags" and getattr(self, name) != default:
                raise ValueError(f"`{name}` is for tasks of `tags`")
        if self.kind == "tags" and len(self.text) > 1:
            raise ValueError("a task of `tags` has one text column")
        return self


class GeneratorEntry(TaskCommon):
    """Built-in grammar-based English: works without any download."""

    source: Literal["generator"]
    grammar: Literal["acceptability", "entailment"]
    phenomena: Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(unique)] | None = Field(
        None, description="contrasts of the grammar, such as agreement; all of them when left out"
    )
    train: Count = 4000
    dev: Count = 1000
    seed: Seed = 0


class ImagesEntry(TaskCommon, OnHub):
    """Images with a class each: IDX files, folders with a folder of PNGs for each class, or Parquet files.

    There is no dev set unless one is named: hold training images out with `select.hold_out` to choose by, and scores
    are of the test set.
    """

    source: Literal["images"]
    train: FilePath = Field(description="an IDX file of images, a folder with a folder of PNGs a class, or Parquet")
    dev: FilePath | None = Field(None, description="the same; what scores are on")
    test: FilePath | None = Field(None, description="the same, instead of `dev`; tables then say `test set`")
    image: Text = Field("image", description="the image's column in Parquet")
    label: Text = Field("label", description="the label's column in Parquet")
    labels: Annotated[tuple[str | Integer, ...], Field(min_length=2), AfterValidator(unique)] | None = Field(
        None, description="classes in order; found when absent"
    )
    shifted: Whole = Field(
        0, description="scores are also on copies of its images, each moved by up to so many pixels; 0: no copies"
    )
    metrics: Annotated[tuple[Name, ...], AfterValidator(unique)] = Field(
        (), description="the first is the main one; accuracy if left out"
    )
    licence: str = "not stated"

    @model_validator(mode="after")
    def _names_what_is_scored(self) -> ImagesEntry:
        if (self.dev is None) == (self.test is None):
            raise ValueError("give one of `dev` and `test`: what scores are on")
        if self.unlabelled is not None:
            raise ValueError("`unlabelled` is for texts")
        return self

    @property
    def sources(self) -> dict[str, str]:
        """The path of every split."""
        return {"train": self.train, "dev": self.scored}

    @property
    def scored(self) -> str:
        """The images that scores are on."""
        return str(self.dev or self.test)

    @property
    def scored_on(self) -> str:
        """What people call them."""
        return "dev set" if self.dev else "test set"


TaskEntry = Annotated[GlueEntry | FilesEntry | GeneratorEntry | ImagesEntry, Field(discriminator="source")]
# Entries of a user's own, whose metrics and licence are asked when they are needed.
OWN = (FilesEntry, ImagesEntry)


class EncoderParams(Frozen):
    """The pre-trained encoder: from the hub, a local folder, or a Python package that carries weights.

    Keys of another source are ignored, so that an overlay may change the source alone.
    """

    name: Name
    source: Literal["hub", "folder", "package"] = "hub"
    id: Text | None = Field(None, description="hub model id")
    revision: Revision | None = Field(None, description="hub commit, 40 hexadecimal digits")
    path: FilePath | None = Field(None, description="local folder with config.json, tokenizer and safetensors")
    package: Text | None = Field(None, description="importable Python package")
    folder: FilePath = Field(".", description="folder inside the package")
    sha256: Sha256 | None = Field(None, description="of model.safetensors, checked when given")
    vocab_sha256: Sha256 | None = Field(None, description="of vocab.txt, checked for a hub source when given")
    layers: Count | None = Field(None, description="checked when given; lets a plan be refused before a download")
    licence: str = "not stated"

    @model_validator(mode="after")
    def _source_is_complete(self) -> EncoderParams:
        needed = {"hub": ("id", "revision"), "folder": ("path",), "package": ("package",)}[self.source]
        for field in needed:
            if getattr(self, field) is None:
                raise ValueError(f"source {self.source!r} needs `{field}`")
        return self
