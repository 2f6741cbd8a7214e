"""What a study's soft decision trees have learned: leaves that are used, filters, the paths of some examples.

A tree's weights are read, and the dev examples as it reads them; without either there is nothing to tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from internal_kd.plan.runs import Run
from internal_kd.plan.store import WEIGHTS, is_complete, verified_folder
from internal_kd.report.cells import Cell
from internal_kd.report.results import StudyResults
from internal_kd.report.scoring import Lines
from internal_kd.tasks.info import TaskInfo

if TYPE_CHECKING:
    from torch import Tensor

    from internal_kd.distillation.batches import Examples
    from internal_kd.learners.soft_tree import SoftTree

Array = np.ndarray
KIND = "soft_tree"
# Levels of filters that the picture of a tree shows, and examples whose paths are shown.
LEVELS = 4
SHOWN_PATHS = 6
# Words that explain a decision, and examples that are read at a time.
SHOWN_WORDS = 4
_AT_ONCE = 200


def tree_lines(results: StudyResults) -> dict[str, Lines]:
    """Return the tables trees and tree_pictures; the latter shows one tree a task."""
    found: dict[str, Lines] = {"trees": [], "tree_pictures": []}
    shown = {cell.task: cell for cell in reversed(_cells(results))}
    shown |= {cell.task: cell for cell in reversed(_cells(results)) if cell.runs[0].parts}
    for cell in _cells(results):
        for place, done in enumerate(results.finished(cell)):
            if read := _Read.of(done.run, results.task(cell).info):
                name = cell.columns() | {"seed": done.run.seed}
                found["trees"].append(name | read.facts())
                if shown[cell.task] is cell and not place:
                    found["tree_pictures"] += [name | panel for panel in read.pictures()]
    return found


def _cells(results: StudyResults) -> list[Cell]:
    return [cell for cell in results.cells if cell.method.learner.kind == KIND]


class _Read:
    """A tree, and what it computes of the dev examples, some at a time: a deep tree has many thousand nodes.

    Attributes:
        reached, leaf_shares: mean probabilities (nodes,), (leaves,).
        chosen, surest, by_mean: the most probable leaf, its probability, the answer of the mean over leaves, (N,).
        distributions: of the leaves, (leaves, C).
    """

    def __init__(self, run: Run, info: TaskInfo, tree: SoftTree, dev: Examples) -> None:
        import torch

        self.run, self.info, self.depth, self._tree, self._dev = run, info, tree.depth, tree, dev
        with torch.no_grad():
            self.distributions = tree.head().exp().numpy()
            self.weights = tree.gates.weight.numpy()
        chosen, surest, by_mean = list[Array](), list[Array](), list[Array]()
        sums = [np.zeros(2**tree.depth - 1), np.zeros(2**tree.depth)]
        for start in range(0, len(dev), _AT_ONCE):
            _, (reached, leaves, _) = self._computed(np.arange(start, min(start + _AT_ONCE, len(dev))))
            chosen.append(leaves.argmax(axis=1))
            surest.append(leaves.max(axis=1))
            by_mean.append((leaves @ self.distributions).argmax(axis=1))
            for total, part in zip(sums, (reached, leaves), strict=True):
                total += part.sum(axis=0, dtype=float)
        self.reached, self.leaf_shares = (total / len(dev) for total in sums)
        self.chosen, self.surest, self.by_mean = map(np.concatenate, (chosen, surest, by_mean))
        self.labels = np.asarray(dev.labels)
        self.predicted = self.distributions[self.chosen].argmax(axis=1)

    @classmethod
    def of(cls, run: Run, info: TaskInfo) -> _Read | None:
        """Return a finished run's tree; None without its weights or without the task's inputs."""
        if not (run.folder / WEIGHTS).is_file() or not is_complete(run.inputs):
            return None
        from internal_kd.data.inputs import EncodedTask

        network: Any = run.method.learner.load(verified_folder(run, "model"), info.outputs)
        return cls(run, info, network.module, EncodedTask(run.inputs.folder).split("dev"))

    def _computed(self, positions: Array) -> tuple[dict[str, Tensor], list[Array]]:
        """Return some dev examples, and the probabilities of nodes, of leaves and of going right about each."""
        import torch

        batch = self._dev.batch(positions)
        with torch.no_grad():
            return batch, [part.exp().numpy() for part in self._tree.paths(*self._given(batch))]

    def _given(self, batch: dict[str, Tensor]) -> list[Tensor]:
        from internal_kd.learners.small_networks import TAKES

        return [batch[name] for name in TAKES[self.run.inputs.form]]

    def facts(self) -> dict[str, Any]:
        """Return the line of the table trees; shares are in percent."""
        return {
            "leaves": len(self.leaf_shares),
            "leaves_used": len(np.unique(self.chosen)),
            "filters": self.depth,
            "right_by_leaf": 100 * float((self.predicted == self.labels).mean()),
            "right_by_mean": 100 * float((self.by_mean == self.labels).mean()),
            "readings_agree": 100 * float((self.predicted == self.by_mean).mean()),
            "path_probability": 100 * float(self.surest.mean()),
        }

    def pictures(self) -> Lines:
        """Return the panels of the two figures of a tree: row, column, heading, and an image or words."""
        return [{"picture": "filters"} | panel for panel in self._filters()] + [
            {"picture": "paths"} | panel for panel in self._paths()
        ]

    def _filters(self) -> Iterator[dict[str, Any]]:
        """Yield the filters of the upper levels with the share of examples that come there, then what lies below."""
        levels = min(LEVELS, self.depth)
        for node in range(2**levels - 1):
            level = int(np.log2(node + 1))
            column = (2 * (node + 1 - 2**level) + 1) * 2 ** (levels - level) // 2
            yield self._gate(node) | {"row": level, "column": column, "heading": _percent(self.reached[node])}
        below = self.leaf_shares.reshape(2**levels, -1)
        answers = np.einsum("sl,slc->sc", below, self.distributions.reshape(2**levels, -1, self.distributions.shape[1]))
        for column, answer in enumerate(answers):
            heading = _percent(answer.sum())
            yield {"row": levels, "column": column, "heading": heading, "words": self._answers(answer / answer.sum())}

    def _paths(self) -> Iterator[dict[str, Any]]:
        """Yield a row for some examples, of as many classes as there are: the example, its decisions, its leaf."""
        for row, example in enumerate(self._chosen_examples()):
            gold, said = self.info.labels[self.labels[example]], self.info.labels[self.predicted[example]]
            batch, (_, _, rightward) = self._computed(np.array([example]))
            features = self._tree.features(*self._given(batch))[0].numpy()
            pixels = self._image(features) if self.run.inputs.form == "pixels" else None
            yield {"row": row, "column": 0, "heading": f"{gold}, read as {said}", "image": pixels}
            leaf, node = int(self.chosen[example]), 0
            for level in range(self.depth):
                right = leaf >> (self.depth - 1 - level) & 1
                taken = rightward[0, node] if right else 1 - rightward[0, node]
                heading = f"{'right' if right else 'left'} {_percent(taken)}"
                towards = features * (1 if right else -1)
                yield self._gate(node, towards) | {"row": row, "column": level + 1, "heading": heading}
                node = 2 * node + 1 + right
            words = self._answers(self.distributions[leaf])
            yield {"row": row, "column": self.depth + 1, "heading": "leaf", "words": words}

    def _gate(self, node: int, towards: Array | float = 1.0) -> dict[str, Any]:
        """Return a node's filter: an image of pixels, or the words with the largest weights."""
        if self.run.inputs.form == "pixels":
            return {"image": self._image(self.weights[node])}
        return {"words": self._words(self.weights[node] * towards)}

    def _image(self, values: Array) -> list[list[float]]:
        """Return values (pixels,) as rows, the mean over channels."""
        rows: list[list[float]] = values.reshape(self._tree.features.size).mean(axis=2).tolist()
        return rows

    def _answers(self, shares: Array) -> str:
        best = [c for c in np.argsort(-shares)[:2] if shares[c] > 0.1]
        return "\n".join(f"{self.info.labels[c]} {_percent(shares[c])}" for c in best)

    def _chosen_examples(self) -> list[int]:
        wrong = np.flatnonzero(self.predicted != self.labels)[:1].tolist()
        right = np.flatnonzero(self.predicted == self.labels)
        firsts = [int(right[self.labels[right] == c][0]) for c in np.unique(self.labels[right])]
        spread = firsts[:: max(1, len(firsts) // (SHOWN_PATHS - 1))][: SHOWN_PATHS - 1]
        return [*spread, *wrong]

    def _words(self, weights: Array) -> str:
        """Return the word pieces with the largest positive weights; empty for what reads no words."""
        if self.run.inputs.form != "tokens":
            return ""
        from internal_kd.data.tokenizers import load_tokenizer, token_texts

        encoder = self.run.reader
        tokenizer = load_tokenizer(encoder.folder, encoder.name, self.run.inputs.max_length)
        best = [int(token) for token in np.argsort(-weights)[: 2 * SHOWN_WORDS] if weights[token] > 0]
        kept = [token for token in best if token not in tokenizer.special_ids][:SHOWN_WORDS]
        return "\n".join(token_texts(tokenizer.tokenizer, kept))


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
