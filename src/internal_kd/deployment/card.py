"""The model card: what a stranger must know of a student before using it, from what was measured and nothing else."""

from __future__ import annotations

import json

from internal_kd.analysis.cells import seeds_text
from internal_kd.analysis.layout import metric_title, millions, shown
from internal_kd.analysis.predictions import SPLITS
from internal_kd.analysis.text_tables import TextTable, markdown
from internal_kd.deployment.card_header import header, model_name
from internal_kd.deployment.choice import Choice, sample_std
from internal_kd.deployment.contestants import ONNX, ONNX_INT8, TORCH
from internal_kd.deployment.facts import ExportFacts
from internal_kd.deployment.model_folder import Agreement
from internal_kd.deployment.onnx_files import EXTRA, FP32, INT8
from internal_kd.identity import plain


def model_card(facts: ExportFacts) -> str:
    """Return ``README.md`` of an exported folder."""
    sections = (_summary, _choice, _scores, _data, _method, _speed, _limits, _again)
    return "\n".join([header(facts), *(section(facts) for section in sections)])


def _summary(facts: ExportFacts) -> str:
    run, task = facts.choice.run, facts.task
    does = "rates" if task.regression else "sorts"
    into = "" if task.regression else f" into {', '.join(task.labels)}"
    of = "pairs of texts" if task.text_columns == 2 else "texts"
    encoder, layers = facts.study.params.encoder.name, facts.encoder["layers"]
    teacher = f"a teacher of {layers} layers: {encoder}, fine-tuned on the same task"
    origin = "It was fine-tuned on that task without a teacher."
    if run.outputs is not None:
        origin = f"It was distilled from {teacher}."
    elif run.initial.teacher is not None:
        origin = f"It was fine-tuned on that task, starting from weights of {teacher}."
    text = '{"text": "...", "text_pair": "..."}' if task.text_columns == 2 else '"..."'
    return f"""# {model_name(facts)}

An encoder of {run.depth} layers (type `{facts.encoder["model_type"]}`, {_parameters(facts)}) that {does} {of}{into}: \
{task.title}. {origin}

```python
from transformers import pipeline

classify = pipeline("text-classification", model="path/to/this/folder", truncation=True)
classify([{text}])
```

It was trained on at most {run.tokens.max_length} tokens; `truncation=True` cuts longer texts there, as in training.
"""


def _parameters(facts: ExportFacts) -> str:
    encoder, total = (millions(facts.record[f"{name}_parameters"]) for name in ("encoder", "total"))
    return f"{encoder} parameters without embeddings, {total} with them"


def _choice(facts: ExportFacts) -> str:
    choice = facts.choice
    metric, seeds = metric_title(choice.metric), len(choice.values)
    seed = f"Seed {choice.run.seed} is the only one with weights, so no seed was chosen by its score."
    if choice.kept > 1:
        precision = facts.record["precision"]
        seed = (
            f"Of its {seeds} seeds{'' if choice.kept == seeds else f', {choice.kept} of them with weights at hand,'} "
            f"number {choice.run.seed} scored highest there: {shown(choice.metric, choice.value)}"
            f"{'' if precision == 'fp32' else f', as predicted in {precision} after training'}. Picking the best of "
            f"{choice.kept} on the dev set is optimistic: what to expect of another seed is the mean, "
            f"{shown(choice.metric, choice.summary.mean)}."
        )
    if _picked_method(choice):
        also = "also " if choice.kept > 1 else ""
        seed += f" Methods were compared by the same dev set, so their best mean is {also}a little optimistic."
    missing = f" Not every run was finished; seeds of those wanted: {choice.unfinished}." if choice.unfinished else ""
    return f"""## How it was chosen

{_chosen(choice, metric)} {seed}{missing}
"""


def _chosen(choice: Choice, metric: str) -> str:
    title, methods = choice.cell.title, len(choice.candidates)
    if choice.method_given:
        return f"The method, {title}, was asked for by name."
    if methods == 1:
        return f"The study has one method at this depth and training-set size, {title}."
    if not _picked_method(choice):
        return f"Of {methods} methods at this depth, {title} is the only one with a mean {metric} on the dev set."
    others = methods - len(choice.compared)
    without = f", {others} of them without a score" if others else ""
    return f"Of {methods} methods at this depth{without}, {title} has the best mean {metric} on the dev set."


def _picked_method(choice: Choice) -> bool:
    return not choice.method_given and len(choice.compared) > 1


def _scores(facts: ExportFacts) -> str:
    choice, numbers = facts.choice, facts.numbers
    teacher = next(cell for cell in numbers.cells if cell.task == facts.task.task and cell.is_teacher)
    lines = []
    for name, _, _ in numbers.facts[facts.task.task].scored:
        values = [s.value for s in numbers.scores.get((*choice.cell.key, name), []) if s.value is not None]
        summary = numbers.summaries.get((*choice.cell.key, name))
        above = numbers.summaries.get((*teacher.key, name))
        spread = f" ± {shown(name, sample_std(values))}" if len(values) > 1 else ""
        interval = "–"
        if summary is not None and summary.low is not None:
            interval = f"{shown(name, summary.low)} to {shown(name, summary.high)}"
        seeds = seeds_text(len(values), len(choice.cell.runs))
        mean = f"{shown(name, summary.mean if summary else None)}{spread} ({seeds})"
        of_teacher = f"{shown(name, above.mean)} ({seeds_text(above.seeds, len(teacher.runs))})" if above else "–"
        lines.append((metric_title(name), shown(name, facts.dev_score(name)), mean, interval, of_teacher))
    table = TextTable(
        ("metric", f"this model (seed {choice.run.seed})", "its method", "95 % interval of that", "teacher"),
        tuple(lines),
        "lrrrr",
        (
            f"{_dev_sets(facts)} Its method: mean ± sample standard deviation over seeds (number of seeds), as "
            "predicted after training, with the 95 % interval over examples, and over seeds where there are several. "
            "Teacher: mean over its seeds (number).",
        ),
    )
    return f"## Scores\n\n{markdown(table)}"


def _dev_sets(facts: ExportFacts) -> str:
    rows = {split: facts.task.splits[split]["rows"] for split in SPLITS.values() if split in facts.task.splits}
    examples, computed = f"On the {rows.pop('dev')} dev examples", "This model: as this folder computes, in fp32"
    for count in rows.values():
        examples += f" (mismatched: {count} others)"
        computed += f" (mismatched: as predicted in {facts.record['precision']} after training)"
    return f"{examples}, times 100. {computed}."


def _data(facts: ExportFacts) -> str:
    rows = [(split, str(known["rows"]), f"`{known['sha256']}`") for split, known in facts.task.splits.items()]
    table = TextTable(("split", "examples", "SHA-256 of the Parquet file"), tuple(rows), "lrl")
    trained = facts.choice.run.examples
    used = "all training examples" if trained == "full" else f"a fixed subset of {trained} training examples"
    return f"""## Data

{facts.task.title}, from {facts.task.source}; licence: {facts.task.licence}. The student saw {used}.

{markdown(table)}"""


def _method(facts: ExportFacts) -> str:
    run = facts.choice.run
    method, settings = run.method, run.method.settings
    weights = ", ".join(f"{name} × {weight:g}" for name, weight in method.weights.items())
    teacher = f"The teacher is seed {facts.teacher.seed} of row 1.0 (fingerprint `{facts.teacher.fingerprint}`)."
    taught = "No teacher: this method learns from the gold labels alone. The teacher below is for comparison."
    if run.outputs is not None:
        taught = teacher
    elif run.initial.teacher is not None:
        taught = f"{teacher} It gave the first weights; from there this method learns from the gold labels alone."
    curriculum = "all terms in every epoch"
    if method.curriculum != "all":
        curriculum = (
            f"{method.curriculum}, at most {settings.epochs_per_layer} epochs per layer, classification "
            f"{'at all times' if method.classification == 'always' else 'after the last layer'}"
        )
    encoder, start = facts.study.params.encoder, settings.initialization
    layers = "" if start.source == "random" else f"; layers: {json.dumps(plain(start.layers))}"
    return f"""## Teacher and method

{taught} The encoder is {encoder.name} ({facts.encoder["source"]}; licence: {encoder.licence}). The student's first \
weights: {start.source}{layers}.

Method {method.id}, {method.title}: losses {weights}; curriculum: {curriculum}. After Aguilar et al., "Knowledge \
Distillation from Internal Representations", AAAI 2020. All that determined the training:

```json
{json.dumps(facts.record["params"], indent=2, ensure_ascii=False)}
```

The model after the last epoch counts ({facts.record["device"]}, {facts.record["precision"]}). This folder computes in \
fp32; on the {facts.as_predicted.examples} dev examples its logits are within {facts.as_predicted.largest:.2g} of \
those recorded after training{_same_class(facts, facts.as_predicted)}.
"""


def _same_class(facts: ExportFacts, found: Agreement) -> str:
    return "" if facts.task.regression else f", with the same class for {100 * found.same:.1f} % of the examples"


def _speed(facts: ExportFacts) -> str:
    timed = [
        (
            line.contestant, str(line.batch), str(line.tokens), f"{line.timing.median_ms:.2f}",
            f"{line.timing.low_ms:.2f} to {line.timing.high_ms:.2f}", f"{line.timing.speed_up:.2f}×",
            str(line.timing.rounds),
        )
        for line in facts.latency
    ]  # fmt: skip
    header_ = ("model", "batch", "tokens", "median, ms", "quartiles", "speed-up over the teacher", "rounds")
    speed = TextTable(
        header_,
        tuple(timed),
        "lrrrrrr",
        (
            f"One forward pass on one thread of: {facts.machine} ({facts.versions}). The models took turns on the same "
            "dev examples, drawn at random; tokens: the median length of a batch. Another machine gives other figures.",
        ),
    )
    sizes = {TORCH: sum(size for name, size in facts.files.items() if name.startswith("model/"))}
    if facts.onnx is not None:
        sizes |= {ONNX: facts.files[f"onnx/{FP32}"], ONNX_INT8: facts.files[f"onnx/{INT8}"]}
    metrics = list(next(iter(facts.scores.values())))
    lines = [
        (name, f"{sizes[name] / 1e6:.1f}", *(shown(metric, values[metric], 2) for metric in metrics))
        for name, values in facts.scores.items()
    ]
    formats = TextTable(("model", "MB", *(metric_title(m) for m in metrics)), tuple(lines), "lr" + "r" * len(metrics))
    onnx = f"ONNX files were not made: they need {EXTRA}.\n"
    if facts.onnx is not None:
        held, rounded = facts.onnx.fp32, facts.onnx.int8
        onnx = (
            f"`../onnx/{FP32}` is the same graph for ONNX Runtime: its logits are within {held.largest:.1g} of torch's "
            f"on all {held.examples} dev examples. `../onnx/{INT8}` has 8-bit weights and quantises activations per "
            f"batch: in batches of 32 of like length its logits are within {rounded.largest:.2g} of torch's"
            f"{_same_class(facts, rounded)}. What it answers also depends on the processor: 8-bit products are summed "
            f"otherwise on one without instructions for them. Made with {facts.onnx.versions}.\n"
        )
    return f"## Size and speed\n\n{markdown(speed)}\n{onnx}\nOn the whole dev set:\n\n{markdown(formats)}"


def _limits(facts: ExportFacts) -> str:
    chose = ", which also chose it" if _picked_method(facts.choice) or facts.choice.kept > 1 else ""
    return f"""## Limits

- It was tested on the dev set of {facts.task.title} alone{chose}. How it does on other texts was not measured.
- It has what biases its encoder and its data have; neither was examined for them.
- Texts beyond {facts.choice.run.tokens.max_length} tokens lose their end.
"""


def _again(facts: ExportFacts) -> str:
    run, record = facts.choice.run, facts.record
    dirty = " with changes not committed" if record.get("git_dirty") else ""
    commit = f"git commit `{record['git_commit']}`{dirty}" if record.get("git_commit") else "git commit not known"
    sized = f" --examples {run.examples}"
    return f"""## How to make it again

With internal-kd at {commit}, and the study's parameters, which lie beside this folder as `params.yaml`:

```bash
internal-kd run --configfile params.yaml
internal-kd export-students --params params.yaml --task {run.task} --method {run.method.name} --depth {run.depth}{sized}
```

This is run `{run.fingerprint}` ({run.label}), finished {record["finished"]}, with {_versions(record["versions"])}.
"""


def _versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())
