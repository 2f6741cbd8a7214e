"""A card states what is true of each way in which a model can have come about, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from exported_study import Exported
from huggingface_hub import ModelCard

from internal_kd.export.card import limits, model_card
from internal_kd.export.choice import Candidate
from internal_kd.export.facts import TORCH, ExportFacts, ScoreLine
from internal_kd.export.words import settings_of, start_text, teacher_text
from internal_kd.params.data import EncoderParams
from internal_kd.plan.runs import Answers, AnswersFile, Ensemble
from internal_kd.tasks.info import ScoreColumn
from trained_study import Trained, run_of

OPTIMISTIC = "Rows were compared on the same dev set"


@pytest.fixture
def facts(exported: Exported) -> ExportFacts:
    """What the export of RTE knew of itself, made a student of two seeds that stands alone at the top."""
    facts = exported.facts["rte"]
    run = run_of(exported.study, "rte", "soft")
    cell = replace(facts.choice.cell, method=run.method, runs=(run, run_of(exported.study, "rte", "soft", 2)))
    rows = (Candidate("3.0 Soft", 0.6, 2, 2, 1000), Candidate("3.5 Stacked", 0.5, 2, 2, 1000))
    choice = replace(
        facts.choice,
        run=run,
        cell=cell,
        candidates=rows,
        values={1: 0.65, 2: 0.55},
        kept=(1, 2),
        rule="dev",
        method_given=False,
    )
    return replace(facts, choice=choice, record={**facts.record, "majority": 0.5})


def text_of(facts: ExportFacts) -> str:
    return " ".join(ModelCard(model_card(facts)).text.split())


def chosen(facts: ExportFacts, **changes: Any) -> ExportFacts:
    return replace(facts, choice=replace(facts.choice, **changes))


def main_line(facts: ExportFacts, **changes: Any) -> ExportFacts:
    return replace(facts, lines=(replace(facts.lines[0], **changes), *facts.lines[1:]))


def test_the_hub_reads_the_header(exported: Exported) -> None:
    card = ModelCard(exported.path("rte", "model/README.md").read_text())
    assert card.data.pipeline_tag == "text-classification" and card.data.library_name == "transformers"
    assert card.data.base_model is None and card.data.license == "mit"
    (result,) = card.data.eval_results
    assert result.metric_type == "accuracy"
    assert result.metric_value == pytest.approx(exported.record("rte")["dev_scores"][TORCH]["accuracy"], abs=1e-6)
    assert (result.dataset_config, result.dataset_split) == ("rte", "validation")


@pytest.mark.parametrize("task", ["judge", "rte"])
def test_a_card_has_what_makes_the_model_again_and_no_gap(exported: Exported, task: str) -> None:
    text = exported.path(task, "model/README.md").read_text()
    run, record = exported.run(task), exported.record(task)
    for part in (
        run.fingerprint, f"--task {task} --run", "Another machine gives other figures", "licence: mit",
        f"learning_rate: {run.method.settings.learning_rate}", exported.facts[task].task.sha256["train"],
    ):  # fmt: skip
        assert part in text, part
    for name in run.method.weights:
        assert f"{name} × " in text
    assert "None" not in text and "nan" not in text and "{{" not in text and "Undefined" not in text
    assert record["choice"]["rule"] in ("dev", "only")


def test_a_row_chosen_among_several_has_an_optimistic_mean(facts: ExportFacts) -> None:
    text = text_of(facts)
    assert "Of 2 rows, 3.0 Soft has the best mean accuracy on the dev set" in text
    assert "number 1 scored highest on the dev set (65.0). The best of 2, picked there, is optimistic" in text
    assert f"{OPTIMISTIC}, so their best mean is also a little optimistic." in text
    assert "dev set of RTE alone, which also chose it." in text
    text = text_of(chosen(facts, rule="only", kept=(1,)))
    assert "Seed 1 is the only one whose weights were kept" in text
    assert f"{OPTIMISTIC}, so their best mean is a little optimistic." in text


def test_a_tie_is_called_a_tie(facts: ExportFacts) -> None:
    first, second = facts.choice.candidates
    text = text_of(
        chosen(
            facts,
            candidates=(first, replace(second, mean=first.mean), replace(second, name="2.0 Alone", mean=first.mean)),
        )
    )
    assert "3.0 Soft is tied with 3.5 Stacked and 2.0 Alone: their mean accuracy on the dev set is the same" in text
    assert "has the best mean" not in text
    assert "is tied" not in text_of(facts)


def test_a_seed_chosen_by_held_out_examples_was_not_chosen_by_the_dev_set(facts: ExportFacts) -> None:
    text = text_of(chosen(facts, rule="held_out", candidates=facts.choice.candidates[:1]))
    assert "scored highest on held-out training examples; the dev set did not choose it" in text
    assert "optimistic" not in text and "which also chose it" not in text


def test_a_method_asked_for_was_not_compared(facts: ExportFacts) -> None:
    text = text_of(chosen(facts, method_given=True, candidates=facts.choice.candidates[:1]))
    assert "The method, 3.0 Soft, was asked for by name." in text and OPTIMISTIC not in text
    text = text_of(chosen(facts, method_given=True, rule="run", candidates=facts.choice.candidates[:1]))
    assert "asked for by its fingerprint" in text and "which also chose it" not in text


def test_rows_without_a_score_are_counted_and_missing_seeds_named(facts: ExportFacts) -> None:
    best, other = facts.choice.candidates
    nothing = Candidate("9.0 New", None, 0, 2, None)
    text = text_of(chosen(facts, candidates=(best, nothing)))
    assert "Of 2 rows, 3.0 Soft is the only one with a mean accuracy on the dev set." in text and OPTIMISTIC not in text
    assert "Not every run was finished: 9.0 New: 0 of 2 seeds." in text
    text = text_of(chosen(facts, candidates=(best, replace(other, seeds=1))))
    assert "Not every run was finished: 3.5 Stacked: 1 of 2 seeds." in text
    assert "Not every run was finished" not in text_of(facts)


@pytest.mark.parametrize(("score", "warned"), [(0.49, True), (0.5, True), (0.51, False)])
def test_a_model_no_better_than_the_majority_class_is_named_as_such(
    facts: ExportFacts, score: float, warned: bool
) -> None:
    text = text_of(main_line(replace(facts, predicts=2), model=score, mean=0.6, majority=0.5))
    words = f"It scores {100 * score:.1f} (accuracy), no better than always predicting the majority class, 50.0."
    assert (words in text) == warned
    assert limits(main_line(replace(facts, predicts=2), model=0.6, mean=0.49, majority=0.5)) != []


def test_a_model_that_predicts_one_class_is_named_as_such(facts: ExportFacts) -> None:
    assert "It predicts the same class for all 40 dev examples" in text_of(replace(facts, predicts=1))
    assert "It predicts the same" not in text_of(replace(facts, predicts=2))


def test_errors_are_worse_the_larger_they_are(facts: ExportFacts) -> None:
    info = replace(facts.task.info, kind="values", labels=(), metrics=("mse",))
    line = ScoreLine(ScoreColumn("mse", "mse", "dev"), 2.0, 2.0, None, None, None, 1, None, 1.0)
    of_values = replace(facts, task=replace(facts.task, info=info), lines=(line,), predicts=9)
    assert any("no better than always predicting the mean" in limit for limit in limits(of_values))
    assert limits(replace(of_values, lines=(replace(line, model=0.5, mean=0.5),))) == []


def test_this_models_scores_are_those_the_folder_gives(facts: ExportFacts) -> None:
    other = main_line(replace(facts, record={**facts.record, "precision": "bf16"}), model=0.8125)
    card = model_card(other)
    (row,) = (line for line in card.splitlines() if line.startswith("| accuracy"))
    assert row.split("|")[2].strip() == "81.2" and "value: 0.8125" in card
    assert "highest on the dev set (65.0, as predicted in bf16 after training)" in text_of(other)
    assert "as predicted in fp32 after training" not in text_of(facts)


def test_a_metric_that_is_not_defined_is_not_filled_in(facts: ExportFacts) -> None:
    undefined = main_line(facts, model=None)
    assert "model-index" not in model_card(undefined) and "accuracy is not defined on the dev set" in text_of(undefined)


def test_a_second_dev_set_has_its_own_count_and_its_recorded_score(facts: ExportFacts) -> None:
    second = replace(
        facts.lines[0], column=ScoreColumn("accuracy_mismatched", "accuracy", "dev_mismatched"), model=0.625
    )
    info = replace(facts.task.info, rows={**facts.task.info.rows, "dev_mismatched": 32})
    sha256 = {**facts.task.sha256, "dev_mismatched": "0" * 64}
    task = replace(facts.task, info=info, sha256=sha256)
    run = replace(facts.run, inputs=replace(facts.run.inputs, data=replace(facts.run.inputs.data, glue="mnli")))
    both = chosen(replace(facts, lines=(*facts.lines, second), task=task), run=run)
    (row,) = (line for line in model_card(both).splitlines() if line.startswith("| accuracy (mismatched)"))
    assert row.split("|")[2].strip() == "62.5"
    assert "On the 40 dev examples (mismatched: 32 others), times 100." in text_of(both)
    assert "mismatched" not in text_of(facts)


@pytest.mark.parametrize(
    ("stated", "license_", "named"),
    [
        ("apache-2.0", "apache-2.0", "apache-2.0"),
        ("not stated", "unknown", "not stated"),
        ("Our Own 1.0", "other", "Our Own 1.0"),
    ],
)
def test_the_licence_is_that_of_the_encoders_own_entry(
    facts: ExportFacts, stated: str, license_: str, named: str
) -> None:
    entry = facts.run.encoder.encoder.model_copy(update={"licence": stated})
    encoder = replace(facts.run.encoder, encoder=entry)
    card = ModelCard(
        model_card(chosen(facts, run=replace(facts.run, inputs=replace(facts.run.inputs, encoder=encoder))))
    )
    assert card.data.license == license_ and f"licence: {named})" in card.text
    assert EncoderParams(name="x", source="folder", path="y").licence == "not stated"


def test_what_users_name_freely_cannot_write_the_card(facts: ExportFacts) -> None:
    info = replace(
        facts.task.info,
        title="A | title\n---\nlicense: evil",
        labels=("<img onerror=x>", "b`c`"),
        licence="mit\n---\nlicense: evil <script>",
    )
    card = ModelCard(model_card(replace(facts, task=replace(facts.task, info=info))))
    assert card.data.license == "mit"
    for part in ("<img", "<script", "\nlicense: evil", "\n---\n"):
        assert part not in card.text, part
    assert "A \\| title --- license: evil" in card.text


def test_every_kind_of_teacher_is_named(trained: Trained) -> None:
    soft, ensemble = trained.run("rte", "soft"), trained.run("rte", "ensemble")
    assert teacher_text(soft) == "1.0 Teacher, seed 1, 4 layers"
    assert teacher_text(trained.run("rte", "finetuned")) == ""
    assert teacher_text(ensemble) == (
        "the mean probabilities of 2 teachers: 1.0 Teacher, seed 1, 4 layers and 1.0 Teacher, seed 2, 4 layers"
    )
    (answers,) = soft.parts
    of_assistant = replace(soft, answers=replace(answers, of=(soft,)))
    assert teacher_text(of_assistant).endswith("2 layers (itself taught by 1.0 Teacher, seed 1, 4 layers)")
    of_file = replace(soft, answers=replace(answers, of=AnswersFile(Path("data/llm.jsonl"), "ab" * 32)))
    assert teacher_text(of_file) == "the file of answers llm.jsonl (SHA-256 abababababab...)"
    assert (
        teacher_text(replace(soft, answers=replace(answers, of=soft.encoder))) == "the pre-trained encoder tiny itself"
    )
    teachers = tuple(trained.run("rte", "teacher", seed) for seed in (1, 2))
    best = replace(soft, answers=replace(answers, of=teachers))
    assert teacher_text(best) == "the best of 2 seeds of 1.0 Teacher by held-out examples"
    mixed = replace(ensemble, answers=Ensemble((answers, of_file.parts[0]), "mean_logits", "none"))
    assert teacher_text(mixed).startswith("the mean logits of 2 teachers: 1.0 Teacher")
    assert isinstance(of_file.answers, Answers)


def test_a_card_names_the_teacher_or_that_there_was_none(facts: ExportFacts, trained: Trained) -> None:
    assert "It was distilled from 1.0 Teacher, seed 1, 4 layers." in text_of(facts)
    assert f"Fingerprint: `{facts.run.teachers[0].fingerprint}`." in text_of(facts)
    alone = text_of(chosen(facts, run=trained.run("rte", "finetuned")))
    assert "fine-tuned on that task without a teacher's answers" in alone
    assert "none; it learned from the gold labels alone" in alone and "Fingerprint" not in alone


def test_first_weights_are_named(trained: Trained) -> None:
    soft, teacher = trained.run("rte", "soft"), trained.run("rte", "teacher")
    assert start_text(teacher) == "all layers of the pre-trained encoder tiny"
    assert start_text(soft) == "layers of the pre-trained encoder tiny, chosen by: first"
    assert soft.first is not None
    assert start_text(replace(soft, first=replace(soft.first, source=teacher))).startswith(
        "layers of 1.0 Teacher, seed 1"
    )


def test_settings_are_those_that_have_an_effect(trained: Trained) -> None:
    soft, stacked = settings_of(trained.run("rte", "soft")), settings_of(trained.run("rte", "stacked"))
    assert soft["learner"]["layers"] == 2 and soft["weights"] == {"soft": 1.0} and soft["temperature"] == 1.0
    assert "curriculum" not in soft and "layer_map" not in soft and "momentum" not in soft
    assert stacked["curriculum"] == "stacked" and stacked["layer_map"] == "uniform" and stacked["epochs_per_layer"] == 1
    assert "teacher" not in settings_of(trained.run("rte", "finetuned"))


def test_values_have_no_classes_to_agree_on(facts: ExportFacts) -> None:
    assert "with the same class for" in text_of(facts)
    info = replace(facts.task.info, kind="values", labels=(), metrics=("mse",))
    line = replace(facts.lines[0], column=ScoreColumn("mse", "mse", "dev"))
    choice = replace(facts.choice, metric="mse")
    of_values = replace(facts, task=replace(facts.task, info=info), lines=(line,), choice=choice)
    text = text_of(replace(of_values, scores={name: {"mse": 1.0} for name in facts.scores}))
    assert "with the same class for" not in text and "that rates pairs of texts" in text and "times 100" not in text
