"""What a reader must know to read the figures of a report: which students they show, and what their marks stand for."""

from __future__ import annotations

from collections.abc import Mapping

from internal_kd.analysis.attention_figures import caption_of_kl, caption_of_maps, read_head_maps, read_shown
from internal_kd.analysis.built import ATTENTION_FIGURES, attention_figures, figure_names
from internal_kd.analysis.figures import shown_depth, shown_size
from internal_kd.analysis.layout import examples_text, layers_text
from internal_kd.analysis.predictions import TaskFacts
from internal_kd.analysis.sweeps import MOST_BANDS
from internal_kd.study import Study

INTERVAL = "95 % interval over examples and, where there are several, seeds"


def captions_of(study: Study) -> dict[str, str]:
    """Return the captions of a study's figures by name, those of the attention figures left out."""
    layers, trained = f"Students of {layers_text(shown_depth(study))}", f"trained on {_size(study, None)}"
    students = f"{layers} {trained}."
    shown = {
        "main": (
            f"{students} Every seed (circles), the mean (diamond) and its {INTERVAL}; the dashed line is the teacher's "
            "mean."
        ),
        "learning": (
            f"{students} Dev score and internal losses per epoch: mean over seeds, from least to largest as a band. A "
            "curriculum has no dev score while only layers are trained; a bar marks the start of a stage."
        ),
        "reliability": (
            f"{students} Accuracy against confidence (the highest softmax probability) on the dev set, seeds pooled, "
            "in 15 bins of equal width; a mark's size is the share of the examples, bins of fewer than 10 are left "
            "out. Of the rows that learn internal representations the one with the highest mean score. Below the "
            "diagonal a model is overconfident."
        ),
        "depth": (
            f"Students {trained}: score against encoder parameters and against the measured median time of a "
            "forward pass of one example (with quartiles; torch, fp32, one thread); the star is the teacher. Ringed, "
            f"on the grey steps: what nothing else beats in score without being slower. {_bands(study)}"
        ),
        "size": (
            f"{layers}: score against the number of training examples; the dashed line is the "
            f"teacher's mean. {_bands(study)}"
        ),
    }
    return {name: shown[name] for name in figure_names(study) if name in shown}


def attention_captions_of(study: Study, facts: Mapping[str, TaskFacts]) -> dict[str, str]:
    """Return the captions of a study's attention figures by name.

    Raises:
        UserError: a table they speak of is missing or not whole.
    """
    depth = layers_text(shown_depth(study))
    students = {
        task: f"students of {depth} trained on {_size(study, one.rows.get('train'))}" for task, one in facts.items()
    }
    over_heads, side_by_side = (attention_figures(study, kind) for kind in ATTENTION_FIGURES)
    captions = {
        name: caption_of_kl(facts[task].title, students[task], read_head_maps(study, task))
        for name, task in over_heads.items()
    }
    return captions | {
        name: caption_of_maps(facts[task].title, students[task], read_shown(study, task))
        for name, task in side_by_side.items()
    }


def _size(study: Study, rows: int | None) -> str:
    return examples_text(shown_size(study), rows)


def _bands(study: Study) -> str:
    if len(study.methods) <= MOST_BANDS:
        return f"Bands: {INTERVAL}."
    return f"No bands, for those of more than {MOST_BANDS} methods would hide each other: cells.csv has the intervals."
