"""measure_latency: how long a forward pass of each learner of a study takes on this machine, in fp32 on one thread.

Weights do not matter to the clock, so networks are drawn at random, encoders from the study's encoder's configuration:
nothing needs to have been kept, and every learner of a study is measured in the same minute.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from internal_kd.checksums import Damaged, sha256_text, verified
from internal_kd.errors import UserError
from internal_kd.files import read_json, read_mapping, write_json
from internal_kd.learners.configs import read_config
from internal_kd.learners.learner import InputShape, Learner
from internal_kd.learners.pair import PairLearner
from internal_kd.plan.identity import WORK
from internal_kd.plan.store import is_complete
from internal_kd.plan.study import Study
from internal_kd.report.cells import Cell, cells_of
from internal_kd.report.frames import frame_of
from internal_kd.report.timing import Timing, machine_name, one_thread, take_turns, versions_of

if TYPE_CHECKING:
    import pandas as pd

    from internal_kd.distillation.batches import Batch, Examples
    from internal_kd.learners.learner import Network

# Raised when the same study on the same machine would be measured differently.
RECIPE = 3
REMEMBERED = WORK / "latency"
# Examples in a forward pass: one as it comes, and a batch.
ONE, BATCH = 1, 32
# For each task and batch size; at least 5 rounds are made, whatever they take.
SECONDS = 0.3
DRAWN_BATCHES = 40


def learner_key(learner: Learner) -> str:
    """Return what a learner's speed depends on, as text: its kind and its sizes, not its first weights."""
    sizes = {key: value for key, value in learner.identity().items() if key not in ("kind", "start")}
    return " ".join([learner.kind, *(f"{key}={value}" for key, value in sorted(sizes.items()))])


def measure_latencies(study: Study, *, again: bool = False) -> pd.DataFrame:
    """Return the frame latency: every learner, for one example and for 32, at each task's median dev length.

    Learners take turns, so that a disturbance meets all of them; speed-ups are against the task's teacher. What this
    machine has measured already is taken from ``work/latency`` unless ``again``. Without a task's inputs there are no
    lines, and of encoders none without a configuration. An image counts as one token.
    """
    config, sizes = _config_folder(study), _sizes(study)
    learners = _learners(cells_of(study))
    if not sizes or not learners:
        return frame_of(study, "latency", [])
    machine, versions = machine_name(), versions_of("torch", "transformers")
    text = (config / "config.json").read_text(encoding="utf-8") if config else ""
    what = f"{RECIPE} {text} {list(learners)} {sorted(set(sizes.values()))} {machine} {versions}"
    memory = REMEMBERED / f"{sha256_text(what)[:12]}.json"
    if again or not memory.is_file():
        write_json(memory, [line for size in sorted(set(sizes.values())) for line in _measure(learners, config, size)])
    common: dict[str, Any] = {"threads": 1, "precision": "fp32", "machine": machine, "versions": versions}
    lines = [
        {"task": task, "method": learners[line["learner"]].method.name, "title": learners[line["learner"]].method.title}
        | line
        | {"tokens": size[0] if len(size) == 1 else 1}
        | common
        for task, size in sizes.items()
        for line in read_json(memory)
        if tuple(line["size"]) == size and line["learner"] in learners
    ]
    return frame_of(study, "latency", lines)


def _learners(cells: tuple[Cell, ...]) -> dict[str, Cell]:
    """Return a cell of every learner, teachers first."""
    found: dict[str, Cell] = {}
    for cell in sorted(cells, key=lambda cell: cell.is_student):
        found.setdefault(learner_key(cell.method.learner), cell)
    return found


def _config_folder(study: Study) -> Path | None:
    """Return where the encoder's configuration lies: its own folder, or the model of a run with all layers."""
    whole = (run for run in study.runs if getattr(run.method.learner, "layers", None) == "all")
    encoders = [(inputs.encoder, "") for inputs in study.tasks.values() if inputs.encoder]
    for artefact, part in (*encoders[:1], *((run, "model/") for run in whole)):
        with suppress(UserError):  # not here, or damaged: another one has the same
            verified(artefact.folder, read_mapping(artefact.marker), [f"{part}config.json"])
            return artefact.folder / part
    return None


def _sizes(study: Study) -> dict[str, tuple[int, ...]]:
    """Return, of every task whose inputs are here, (median dev length,) of texts or (height, width, channels)."""
    from internal_kd.data.inputs import EncodedTask, input_shape

    found = {}
    for name, inputs in study.tasks.items():
        if is_complete(inputs) and is_complete(inputs.data):
            try:
                lengths = EncodedTask.of(inputs).split("dev").lengths
                found[name] = input_shape(inputs).size if inputs.form == "pixels" else (int(np.median(lengths)),)
            except Damaged as damaged:
                print(f"warning: {damaged}", file=sys.stderr, flush=True)
    return found


def _drawn(learner: Learner, config: Path | None, size: tuple[int, ...]) -> Network | None:
    """Return a learner's network with random weights; of a pair the first, which its runs predict with.

    None for one that cannot be drawn, such as a finished model, or that does not read inputs of this size.
    """
    drawn: Any = learner.of[0] if isinstance(learner, PairLearner) else learner
    if "start" in getattr(type(drawn), "model_fields", {}):
        drawn = drawn.model_copy(update={"start": type(drawn).model_validate({"start": "random"}).start})
    try:
        form = drawn.form(len(size) > 1)
        if drawn.starts_from != "nothing":
            return drawn.build(config, 2, seed=0) if config else None
        if form != "pixels":
            facts = read_config(config) if config else {}
            size = (int(facts["vocab_size" if form == "tokens" else "hidden_size"]),)
        return drawn.build(InputShape(form, size), 2, seed=0)
    except (UserError, KeyError):
        return None


def _measure(cells: Mapping[str, Cell], config: Path | None, size: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return the timings of every learner on inputs of one size."""
    drawn = {key: _drawn(cell.method.learner, config, size) for key, cell in cells.items()}
    networks = {key: network for key, network in drawn.items() if network is not None}
    lines = []
    with one_thread():
        for batch in (ONE, BATCH) if networks else ():
            passes = [_forward(network, [_inputs(network, batch, size)]) for network in networks.values()]
            timings = take_turns(passes, seconds=SECONDS)
            lines += [
                {"learner": key, "layers": network.layers, "size": size, "batch": batch, **asdict(timing)}
                for (key, network), timing in zip(networks.items(), timings, strict=True)
            ]
    return lines


def _inputs(network: Network, batch: int, size: tuple[int, ...]) -> Batch:
    """Return random inputs of a network."""
    import torch

    shape = getattr(network, "inputs", None)
    if shape is not None and shape.form != "tokens":
        drawn = torch.zeros(batch, *shape.size)
        return {shape.form: drawn.to(torch.uint8) if shape.form == "pixels" else drawn}
    # Ids that every vocabulary has.
    ids = torch.randint(100, (batch, size[0]), generator=torch.Generator().manual_seed(size[0]))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _forward(network: Network, batches: list[Batch]) -> Callable[[int], object]:
    return lambda number: network.read(batches[number % len(batches)])


# Named contestants on real examples, for the card of an exported student


@dataclass(frozen=True)
class LatencyLine:
    """The timing of one contestant at one batch size; ``tokens`` is the median length of the timed batches."""

    contestant: str
    batch: int
    tokens: int
    timing: Timing


def time_contestants(
    contestants: Mapping[str, Callable[[Batch], object]], examples: Examples, *, seconds: float = 5.0
) -> list[LatencyLine]:
    """Time forward passes of several models in turns; all see the same examples in every round.

    Args:
        contestants: a function from a batch for each model; the first is what speed-ups are against.
        examples: of which batches of one and of 32 are drawn at random, always the same ones.
        seconds: for each batch size; at least 5 rounds are made.
    """
    drawn, lines = np.random.default_rng(0), []
    for size in (ONE, BATCH):
        picks = [
            drawn.choice(len(examples), size=min(size, len(examples)), replace=False) for _ in range(DRAWN_BATCHES)
        ]
        batches = [examples.batch(positions) for positions in picks]
        passes = [
            lambda number, ask=ask, batches=batches: ask(batches[number % len(batches)]) for ask in contestants.values()
        ]
        with one_thread():
            timings = take_turns(passes, seconds=seconds)
        longest = [int(examples.lengths[picks[number % len(picks)]].max()) for number in range(timings[0].rounds)]
        tokens = int(np.median(longest))
        lines += [LatencyLine(name, size, tokens, timing) for name, timing in zip(contestants, timings, strict=True)]
    return lines
