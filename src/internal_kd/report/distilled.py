"""What a study's distilled sets have learned: their examples, as images or as the nearest words, and their labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from internal_kd.plan.runs import Run
from internal_kd.plan.store import WEIGHTS, verified_folder
from internal_kd.report.results import StudyResults
from internal_kd.report.scoring import Lines

Array = np.ndarray
KIND = "distilled_set"


def distilled_lines(results: StudyResults) -> Lines:
    """Return the table distilled_examples: those of the first seed of every row that learned them."""
    lines: Lines = []
    for cell in results.cells:
        learner: Any = cell.method.learner
        learned = learner.kind == KIND and learner.source == "learned"
        runs = [done.run for done in results.finished(cell)] if learned else []
        run = next((run for run in runs if (run.folder / WEIGHTS).is_file()), None)
        if run is not None:
            info = results.task(cell).info
            network: Any = learner.load(verified_folder(run, "model"), info.outputs)
            name = cell.columns() | {"seed": run.seed}
            lines += [name | line for line in _examples(run, network.module, info.labels)]
    return lines


def _examples(run: Run, module: Any, labels: tuple[str, ...]) -> Lines:
    inputs, targets = module.inputs.detach().numpy(), module.targets.detach().numpy()
    lines: Lines = []
    for step, (examples, answers) in enumerate(zip(inputs, targets, strict=True)):
        words = _nearest_words(run, examples) if run.inputs.form == "embeddings" else [""] * len(examples)
        for number, (example, answer) in enumerate(zip(examples, answers, strict=True)):
            shown = {"label": _label_text(answer, labels), "answer": answer.tolist(), "words": words[number]}
            image = _image(example, module.features.size) if run.inputs.form == "pixels" else None
            lines.append({"step": step, "example": number, "image": image, **shown})
    return lines


def _image(example: Array, size: tuple[int, ...]) -> list[list[float]]:
    """Return an example, flat or (channels, height, width), as rows, the mean over channels; size as `InputShape`'s."""
    rows: list[list[float]] = (
        example.reshape(size).mean(axis=2) if example.ndim == 1 else example.mean(axis=0)
    ).tolist()
    return rows


def _label_text(answer: Array, labels: tuple[str, ...]) -> str:
    """Return the classes that matter in a label, the largest first: ``3 0.92, 8 -0.15``."""
    order = np.argsort(-np.abs(answer))[:3]
    kept = [c for c in order if abs(answer[c]) > 0.05 * abs(answer[order[0]])]
    return ", ".join(f"{labels[c] if labels else 'value'} {answer[c]:.2f}" for c in kept)


def _nearest_words(run: Run, examples: Array) -> list[str]:
    """Return for each example (n, D) the word pieces whose vectors point most nearly the same way."""
    from internal_kd.data.tokenizers import load_tokenizer, token_texts
    from internal_kd.learners.weights import word_vectors

    encoder = run.reader
    tokenizer = load_tokenizer(encoder.folder, encoder.name, run.inputs.max_length)
    table = word_vectors(verified_folder(encoder))
    table /= np.linalg.norm(table, axis=1, keepdims=True).clip(1e-9)
    table[list(tokenizer.special_ids)] = 0
    return [" ".join(token_texts(tokenizer.tokenizer, (table @ e.T).argmax(axis=0).tolist())) for e in examples]
