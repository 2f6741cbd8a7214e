"""The model card: what a stranger must know of a model before using it, from what was measured and nothing else.

The template has the prose; here are the values that it names.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from internal_kd.distillation.curricula import Schedule
from internal_kd.export.card_header import NOT_STATED, header, model_name
from internal_kd.export.facts import ExportFacts, ScoreLine
from internal_kd.export.model_folder import Agreement, is_encoder
from internal_kd.export.onnx import EXTRA
from internal_kd.export.words import settings_of, start_text, teacher_text
from internal_kd.plan.runs import Run
from internal_kd.report import words
from internal_kd.tasks.tags import types_of

TEMPLATES = Path(__file__).with_name("templates")


def model_card(facts: ExportFacts) -> str:
    """Return ``README.md`` of an exported folder.

    What users name freely (titles, labels, licences) stands in it on one line, without markup of its own.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_one_line,
        autoescape=False,
    )
    return str(ModelCard(environment.get_template("card.md.j2").render(values_of(facts))))


class _AsItIs(str):
    """Text that is not the user's: kept with its lines."""


def _one_line(value: Any) -> Any:
    if not isinstance(value, str) or isinstance(value, _AsItIs):
        return value
    # A single space may be the template's own; what a value has besides is not.
    text = re.sub(r"\s+", " ", value)
    for character, replacement in (
        ("&", "&amp;"),
        ("<", "&lt;"),
        (">", "&gt;"),
        ("|", "\\|"),
        ("`", "'"),
        ("[", "\\["),
    ):
        text = text.replace(character, replacement)
    return text


# What a network that plain transformers does not open takes, by the form of its inputs.
READS = {
    "pixels": '{"pixels": images}  # (B, height, width, channels) uint8',
    "tokens": '{"input_ids": ids, "attention_mask": mask}  # of the tokenizer in this folder',
    "embeddings": '{"embeddings": vectors}  # (B, tokens, width), the encoder\'s input embeddings, root mean square 1',
    "sentences": '{"sentences": vectors}  # (B, width), the encoder\'s mean state over tokens',
}


def values_of(facts: ExportFacts) -> dict[str, Any]:
    """Return everything that the template names."""
    run, choice, record, info = facts.run, facts.choice, facts.record, facts.task.info
    # A part of a run is what was trained as a whole.
    trained = run.first if run.method.learner.kind == "subnetwork" and isinstance(run.first, Run) else run
    return {
        "facts": facts,
        "run": run,
        "choice": choice,
        "record": record,
        "task": info,
        "words": words,
        "header": _AsItIs(header(facts)),
        "name": model_name(run),
        "plain": is_encoder(run),
        "model_type": facts.encoder["model_type"] if is_encoder(run) else run.method.learner.kind,
        "blocks": getattr(run.method.learner, "has_blocks", False),
        "reads": READS[run.inputs.form],
        "does": _does(facts),
        "taught": teacher_text(trained),
        "finished": run.method.learner.kind == "finished",
        "example": _AsItIs('{"text": "...", "text_pair": "..."}' if info.texts == 2 else '"..."'),
        "row": choice.candidates[0].name,
        "compared": (compared := len(choice.compared)),
        "scores": [_score_cells(line, len(choice.cell.runs)) for line in facts.lines],
        "shares": all(words.is_share(line.column.name) for line in facts.lines),
        "dev_sets": _dev_sets(facts),
        "limits": limits(facts),
        "chosen_on_dev": (compared > 1 and not choice.method_given) or choice.rule == "dev",
        "trained_on": _trained_on(trained),
        "licence": (run.encoder.encoder.licence if run.encoder else "") or NOT_STATED,
        "teacher_fingerprints": _AsItIs(words.joined(f"`{teacher.fingerprint}`" for teacher in trained.teachers)),
        "start": start_text(run),
        "losses": _losses(trained),
        "curriculum": _curriculum(trained),
        "settings": _AsItIs(
            yaml.safe_dump(settings_of(trained), sort_keys=False, allow_unicode=True, width=100).rstrip()
        ),
        "same_class": lambda found: _same_class(facts, found),
        "extra": EXTRA,
        "formats": _formats(facts),
        "commit": _commit(facts),
        "package_versions": ", ".join(f"{name} {number}" for name, number in record["versions"].items()),
    }


def limits(facts: ExportFacts) -> list[str]:
    """Return what is wrong with a model, most serious first; empty for one that learned something."""
    found, info, main = [], facts.task.info, facts.lines[0]
    if facts.predicts == 1:
        what = {"values": "the same value", "tags": "O"}.get(info.kind, "the same class")
        found.append(
            f"It predicts {what} for all {facts.as_predicted.examples} dev examples: it has learned nothing useful."
        )
    for who, value in (("It scores", main.model), ("The mean of its row is", main.mean)):
        if value is None or main.majority is None or words.is_better(main.column.name, value - main.majority):
            continue
        floor = "the mean" if info.kind == "values" else "the majority class"
        name = main.column.name
        found.append(
            f"{who} {words.shown(name, value)} ({words.metric_title(name)}), no better than always predicting {floor}, "
            f"{words.shown(name, main.majority)}."
        )
    if main.model is None:
        found.append(f"Its {words.metric_title(main.column.name)} is not defined on the dev set.")
    return found


def _does(facts: ExportFacts) -> str:
    info = facts.task.info
    if info.kind == "tags":
        return f"finds {words.joined(types_of(info.labels))} in texts"
    what = {0: "images", 1: "texts"}.get(info.texts, "pairs of texts")
    if not info.labels:
        return f"rates {what}"
    labels = words.joined(info.labels[:20]) if len(info.labels) <= 20 else f"{len(info.labels)} classes"
    return f"sorts {what} into {labels}"


def _score_cells(line: ScoreLine, planned: int) -> dict[str, str]:
    name = line.column.name
    return {
        "metric": words.metric_title(name),
        "model": words.shown(name, line.model),
        "mean": f"{words.with_spread(name, line.mean, line.std)} ({words.seeds_of(line.seeds, planned)})",
        "interval": words.interval(name, line.low, line.high, line.seeds),
        "teacher": words.shown(name, line.teacher),
        "majority": words.shown(name, line.majority),
    }


def _dev_sets(facts: ExportFacts) -> str:
    rows = facts.task.info.rows
    second = f" (mismatched: {rows['dev_mismatched']} others)" if "dev_mismatched" in rows else ""
    return f"the {rows['dev']} dev examples{second}"


def _trained_on(run: Run) -> str:
    select, rows = run.method.settings.select, "training examples"
    if run.method.learner.kind == "finished":
        return f"none of its {rows} here"
    keep = {"full": f"all {rows}"}.get(str(select.keep), f"{select.keep} of its {rows}")
    if isinstance(select.keep, float):
        keep = f"{100 * select.keep:g} % of its {rows}"
    aside = f"; {100 * select.hold_out:g} % of them were held out" if select.hold_out else ""
    more = ", and texts without labels" if "unlabelled" in run.inputs.data.content else ""
    copies = f", {select.masked_copies} copies of each with masked tokens" if select.masked_copies else ""
    return f"{keep}{copies}{more}{aside}"


def _losses(run: Run) -> str:
    def weight(value: float | Schedule) -> str:
        return f"{value.start:g} to {value.end:g}" if isinstance(value, Schedule) else f"{value:g}"

    return ", ".join(f"{name} × {weight(value)}" for name, value in run.method.weights.items())


def _curriculum(run: Run) -> str:
    settings = run.method.settings
    if not isinstance(settings.course, str):
        return words.count(len(settings.course), "phase")
    if settings.course == "all":
        return "all terms in every epoch"
    when = "at all times" if settings.classification == "always" else "after the last layer"
    return (
        f"{settings.course}, at most {words.count(settings.epochs_per_layer, 'epoch')} per layer, classification {when}"
    )


def _same_class(facts: ExportFacts, found: Agreement) -> str:
    if facts.task.info.kind == "values":
        return ""
    return f", with the same class for {100 * found.same:.1f} % of the examples"


def _formats(facts: ExportFacts) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "megabytes": f"{facts.sizes[name] / 1e6:.1f}",
            "scores": [
                words.shown(metric, value, 2) if value is not None else words.DASH for metric, value in values.items()
            ],
        }
        for name, values in facts.scores.items()
    ]


def _commit(facts: ExportFacts) -> str:
    record = facts.record
    if not record.get("git_commit"):
        return "a commit that is not known"
    dirty = " with changes that were not committed" if record.get("git_dirty") else ""
    return f"git commit {record['git_commit']}{dirty}"
