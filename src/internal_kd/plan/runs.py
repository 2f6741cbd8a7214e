"""Runs, and what they rest on besides data: first weights, and the answers that they listen to."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from internal_kd.checksums import sha256_text
from internal_kd.errors import UserError
from internal_kd.learners.learner import Learner, Shape
from internal_kd.params.method import SelectParams
from internal_kd.params.resolve import Method
from internal_kd.plan.artefacts import Artefact, Encoder, Inputs
from internal_kd.plan.identity import RUNS, WORK


@dataclass(frozen=True)
class AnswersFile:
    """A user's file of answers; ``content`` is its SHA-256, ``occurrences`` how entities are found in texts."""

    path: Path
    content: str
    occurrences: Literal["all", "first"] = "all"


@dataclass(frozen=True)
class ScoresFile:
    """A user's file of scores of training examples; ``content`` is its SHA-256."""

    path: Path
    content: str


@dataclass(frozen=True)
class Need:
    """What one method reads of a teacher, in the words of its parameters: layers are numbered once a teacher is loaded.

    Attributes:
        terms: the terms that ask a teacher.
        options: those of the terms, as JSON.
        layer_map: as the method has it.
        layers: the student's depth, ``all``, or None for a learner without layers.
        select: the examples it is trained on.
        accepts_weak: whether it listens to a teacher that is no better than the majority class.
    """

    terms: tuple[str, ...]
    options: str
    layer_map: str | tuple[int | None, ...]
    layers: int | str | None
    select: SelectParams
    accepts_weak: bool


@dataclass(frozen=True)
class Answers(Artefact):
    """What a frozen teacher answers about every training example: logits and, where asked for, its internals.

    ``of`` is one run; several, where the best by held-out examples answers; the pre-trained encoder; or a file.
    ``needs`` says how much of it is recorded, not what the values are: it names the folder and does not count.
    """

    of: tuple[Run, ...] | Encoder | AnswersFile
    inputs: Inputs
    needs: frozenset[Need] = field(default=frozenset(), compare=False)

    step = "record_answers"

    def params(self) -> dict[str, Any]:
        """Return the content of a file; a run or an encoder says it all."""
        if not isinstance(self.of, AnswersFile):
            return {}
        return {"file": self.of.content, **({"occurrences": "first"} if self.of.occurrences == "first" else {})}

    def reads(self) -> dict[str, Artefact]:
        """Return the teachers and what they are fed with."""
        if isinstance(self.of, AnswersFile):
            return {"data": self.inputs.data}
        if isinstance(self.of, Encoder):
            return {"encoder": self.of, "inputs": self.inputs}
        return {"inputs": self.inputs, **{f"teacher{i}": run for i, run in enumerate(self.of)}}

    @property
    def runs(self) -> tuple[Run, ...]:
        """The runs that may answer; none for an encoder or a file."""
        return self.of if isinstance(self.of, tuple) else ()

    @property
    def task(self) -> str:
        """The task's name."""
        return self.inputs.task

    @cached_property
    def folder(self) -> Path:
        """``work/answers/<task>-<fp>/<needs>``: a study that needs more of the same teacher records beside it."""
        needs = sha256_text(repr(sorted(self.needs, key=repr)))[:8]
        return WORK / "answers" / f"{self.task}-{self.fingerprint}" / needs

    @property
    def label(self) -> str:
        """A name for people."""
        return f"answers of {self.who}"

    @property
    def who(self) -> str:
        """Who answers, for people."""
        if isinstance(self.of, tuple):
            return " or ".join(run.label for run in self.of)
        return str(self.of.path) if isinstance(self.of, AnswersFile) else self.of.name


@dataclass(frozen=True)
class Ensemble:
    """Several teachers whose answers are combined while a student trains; each is recorded alone."""

    parts: tuple[Answers, ...]
    combine: Literal["mean_probabilities", "mean_logits", "specialists"]
    internals: str

    @property
    def who(self) -> str:
        """Who answers, for people."""
        how = "the combination" if self.combine == "specialists" else "the mean"
        return f"{how} of {', '.join(part.who for part in self.parts)}"


@dataclass(frozen=True)
class FirstWeights(Artefact):
    """A learner before its training: embeddings, some layers and, if the source has them, pooler and head.

    ``source`` is set if the weights come from a run; ``seed`` if they, or a part of them, are random.
    """

    encoder: Encoder
    learner: Learner
    source: Run | None
    seed: int | None

    step = "initialize_student"

    def params(self) -> dict[str, Any]:
        """Return the learner, and the seed of random weights."""
        return {"learner": self.learner.identity(), **({"seed": self.seed} if self.seed is not None else {})}

    def reads(self) -> dict[str, Artefact]:
        """Return the encoder and the run that the weights come from."""
        return {"encoder": self.encoder, **({"source": self.source} if self.source else {})}

    @cached_property
    def folder(self) -> Path:
        """``work/initial/<encoder>-<shape>-<fp>``."""
        return WORK / "initial" / f"{self.encoder.name}-{self.learner.short_name}-{self.fingerprint}"


@dataclass(frozen=True)
class Run(Artefact):
    """A training, or a finished model taken as it is: a learner, its examples, its terms and whom it listens to.

    ``first`` is None if the learner starts from the encoder as it is, and a run if it starts from that run as it is;
    ``answers`` is None if no term asks a teacher. ``scored_by`` are the scouts, or the file, whose scores choose its
    examples. ``shape`` is that of its network, as far as it is known before the encoder is fetched; ``teaches`` says
    that others listen to it, so that its weights are needed, ``scouts`` that its predictions on the training set are.
    None of these three counts: they follow from the rest, or change no number.
    """

    method: Method
    inputs: Inputs
    first: FirstWeights | Run | None
    answers: Answers | Ensemble | None
    seed: int
    scored_by: tuple[Run, ...] | ScoresFile = ()
    shape: Shape = field(default=Shape(), compare=False)
    teaches: bool = field(default=False, compare=False)
    scouts: bool = field(default=False, compare=False)

    step = "train"

    def params(self) -> dict[str, Any]:
        """Return the method's own parameters, how answers are combined, and the seed."""
        ensemble = isinstance(self.answers, Ensemble)
        combine = {"combine": self.answers.combine, "internals": self.answers.internals} if ensemble else {}  # type: ignore[union-attr]
        scores = {"scores": self.scored_by.content} if isinstance(self.scored_by, ScoresFile) else {}
        return {**self.method.identity, **combine, **scores, **self._taught(), "seed": self.seed}

    def _taught(self) -> dict[str, Any]:
        """What becomes of a teacher's answers, or the teacher itself where it is an average of the run's weights."""
        teacher = self.method.teacher
        if teacher is None or not (teacher.average or teacher.control):
            return {}
        if teacher.average:
            return {"average": teacher.average}
        return {"control": teacher.control, "control_temperature": self.method.settings.temperature}

    def reads(self) -> dict[str, Artefact]:
        """Return the inputs, the first weights and the answers."""
        needed: dict[str, Artefact] = {"inputs": self.inputs}
        if self.encoder is not None:
            needed["encoder"] = self.encoder
        if self.first is not None:
            needed["first"] = self.first
        needed |= {f"scout{i}": run for i, run in enumerate(self.scouting_runs)}
        return needed | {f"answers{i}": part for i, part in enumerate(self.parts)}

    @property
    def scouting_runs(self) -> tuple[Run, ...]:
        """The runs whose predictions choose its examples."""
        return self.scored_by if isinstance(self.scored_by, tuple) else ()

    @property
    def parts(self) -> tuple[Answers, ...]:
        """The answers it listens to, one by one."""
        if self.answers is None:
            return ()
        return self.answers.parts if isinstance(self.answers, Ensemble) else (self.answers,)

    @property
    def source(self) -> Run:
        """The run that a learner starts from which takes this one as it is."""
        return self

    @property
    def teachers(self) -> tuple[Run, ...]:
        """The runs it listens to; several for an ensemble, or where the best is chosen later."""
        return tuple(run for part in self.parts for run in part.runs)

    @property
    def task(self) -> str:
        """The task's name."""
        return self.inputs.task

    @property
    def encoder(self) -> Encoder | None:
        """The encoder that reads its texts; None for images."""
        return self.inputs.encoder

    @property
    def reader(self) -> Encoder:
        """The encoder of a run that reads texts.

        Raises:
            UserError: it reads images.
        """
        if self.encoder is None:
            raise UserError(f"{self.label} reads images, without an encoder")
        return self.encoder

    @property
    def depth(self) -> int | None:
        """Its layers; None for a learner without layers, or of an encoder that nobody has seen yet."""
        return self.shape.layers or None

    @property
    def examples(self) -> str:
        """How many training examples it sees, as text: a number, a share, or ``full``."""
        return str(self.method.settings.select.keep)

    @property
    def label(self) -> str:
        """A name for people."""
        return f"{self.task} {self.method.name} {self.method.variant} s{self.seed}"

    @cached_property
    def folder(self) -> Path:
        """``results/runs/<task>/<method>/<variant>/seed<k>-<fp>``."""
        return RUNS / self.task / self.method.name / self.method.variant / f"seed{self.seed}-{self.fingerprint}"

    @cached_property
    def marker(self) -> Path:
        """``run.json``, written last."""
        return self.folder / "run.json"

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie while it trains: by fingerprint, so they never cross parameters."""
        return WORK / "checkpoints" / self.fingerprint

    @property
    def rule(self) -> str:
        """The rule of the workflow that makes it."""
        if self.method.layer_terms:
            return "distill_internals"
        if self.answers is None and (self.teaches or self.first is None):
            return "train_teacher"
        return "distill_labels"
