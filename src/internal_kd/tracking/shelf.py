"""The runs of one experiment in MLflow: what is there already, what is added, completed, replaced and deleted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from internal_kd.checksums import sha256_file
from internal_kd.tracking.names import IDENTITY, LIVE, LOSS
from internal_kd.tracking.runs import RunContent
from internal_kd.tracking.store import log_points, made_here

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

DIGEST = "digest"
FILES = "files"
PARENT = "mlflow.parentRunId"


@dataclass
class Shelf:
    """The runs of one experiment that this project put there.

    Attributes:
        written: how many were created or completed.
        known: those that were there, by identity.
        kept: the ids of those that show what they should, by identity.
    """

    client: MlflowClient
    experiment: str
    written: int = 0
    known: dict[str, list[Run]] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for run in made_here(self.client, self.experiment):
            self.known.setdefault(run.data.tags.get(IDENTITY, ""), []).append(run)

    def put(self, content: RunContent, files: Mapping[str, tuple[Path, ...]] | None = None) -> str:
        """Make sure that a run shows this content, and return its id."""
        there = self.known.get(content.identity, [])
        same = [
            run for run in there if run.data.tags.get(DIGEST) == content.digest and not _has_other_files(run, files)
        ]
        if same:
            chosen = same[0].info.run_id
            shown = "" if _lost_its_files(same[0]) else same[0].data.tags.get(FILES, "")
            self._attach(chosen, shown, files)
        else:
            begun = next((run for run in there if self._is_beginning_of(run, content)), None)
            chosen = self._complete(begun, content) if begun else self._create(content)
            self._attach(chosen, "", files)
            self._finish(chosen, content)
            self.written += 1
        self.kept[content.identity] = chosen
        return chosen

    def gather(self, parent: str, seeds: Iterable[str]) -> None:
        """Put the runs of single seeds under their method's."""
        above = {run.info.run_id: run.data.tags.get(PARENT) for runs in self.known.values() for run in runs}
        for seed in seeds:
            if above.get(seed) != parent:
                self.client.set_tag(seed, PARENT, parent)

    def clear(self, planned: frozenset[str]) -> int:
        """Delete what was replaced and what is no longer planned, and return how many runs that was.

        What is planned and not finished here stays.
        """
        others = {run.info.run_id: identity for identity, run in self._all()}
        others = {number: identity for number, identity in others.items() if number not in self.kept.values()}
        gone = {number: name for number, name in others.items() if name in self.kept or name not in planned}
        for _, run in self._all():
            above = run.data.tags.get(PARENT, "")
            away = run.info.run_id in others and run.info.run_id not in gone
            # A seed finished elsewhere moves to its method's new run: below a deleted one nobody would see it.
            if away and (parent := self.kept.get(gone.get(above, ""))):
                self.client.set_tag(run.info.run_id, PARENT, parent)
        for run_id in gone:
            self.client.delete_run(run_id)
        return len(gone)

    def _all(self) -> Iterator[tuple[str, Run]]:
        return ((identity, run) for identity, runs in self.known.items() for run in runs)

    def _create(self, content: RunContent) -> str:
        from mlflow.entities import Param

        run = self.client.create_run(
            self.experiment, start_time=content.started, tags=content.tags, run_name=content.name
        )
        self.client.log_batch(run.info.run_id, params=[Param(*item) for item in content.params.items()])
        log_points(self.client, run.info.run_id, content.metrics)
        return run.info.run_id

    def _is_beginning_of(self, run: Run, content: RunContent) -> bool:
        """Whether a live run shows a part of this very training: the same losses, only not all of them."""
        if LIVE not in run.data.tags:
            return False
        losses = {point.step: point.value for point in content.metrics if point.name == LOSS}
        return all(losses.get(step) == value for step, value in self._losses(run))

    def _complete(self, run: Run, content: RunContent) -> str:
        """Add what a live run is missing; its address stays the same for those who are looking at it."""
        from mlflow.entities import RunTag

        run_id = run.info.run_id
        there = {step for step, _ in self._losses(run)}
        self.client.log_batch(run_id, tags=[RunTag(*item) for item in content.tags.items()])
        log_points(self.client, run_id, [point for point in content.metrics if point.step not in there])
        return run_id

    def _losses(self, run: Run) -> list[tuple[int, float]]:
        return [(point.step, point.value) for point in self.client.get_metric_history(run.info.run_id, LOSS)]

    def _attach(self, run_id: str, attached: str, files: Mapping[str, tuple[Path, ...]] | None) -> None:
        if files is None or _described(files) == attached:
            return
        for folder, paths in files.items():
            for path in paths:
                self.client.log_artifact(run_id, str(path), folder or None)
        self.client.set_tag(run_id, FILES, _described(files))

    def _finish(self, run_id: str, content: RunContent) -> None:
        """Set a run's state; the digest comes last and means that everything is there."""
        if content.status == "RUNNING":
            self.client.update_run(run_id, status="RUNNING")
        else:
            self.client.set_terminated(run_id, content.status, content.finished)
        if not content.is_live and LIVE in self.client.get_run(run_id).data.tags:
            self.client.delete_tag(run_id, LIVE)
        self.client.set_tag(run_id, DIGEST, content.digest)


def _described(files: Mapping[str, tuple[Path, ...]]) -> str:
    return " ".join(f"{folder}/{p.name}:{sha256_file(p)[:8]}" for folder, paths in files.items() for p in paths)


def _has_other_files(run: Run, files: Mapping[str, tuple[Path, ...]] | None) -> bool:
    """Whether a run shows a file that no longer exists: MLflow's clients cannot delete single files."""
    shown = {part.rpartition(":")[0] for part in run.data.tags.get(FILES, "").split()}
    return files is not None and not shown <= {f"{folder}/{p.name}" for folder, paths in files.items() for p in paths}


def _lost_its_files(run: Run) -> bool:
    """Whether a run's artefacts lay in a folder of this machine that is gone, for example in a copy without it."""
    place = Path(run.info.artifact_uri.removeprefix("file://"))
    return place.is_absolute() and not place.is_dir()
