"""measure_latency: how long a forward pass of each learner of a study takes on this machine, in fp32 on one thread.

Weights do not matter to the clock, so networks are drawn at random, encoders from the study's encoder's configuration:
nothing needs to have been kept, and every learner of a task is measured in the same minute.
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
from internal_kd.learners.adaptive import SubnetworkLearner
from internal_kd.learners.learner import Learner
from internal_kd.learners.pair import PairLearner
from internal_kd.plan.identity import WORK
from internal_kd.plan.runs import Run
from internal_kd.plan.store import is_complete
from internal_kd.plan.study import Study
from internal_kd.report.cells import cells_of
from internal_kd.report.frames import frame_of
from internal_kd.report.timing import Timing, machine_name, one_thread, take_turns, versions_of

if TYPE_CHECKING:
    import pandas as pd

    from internal_kd.distillation.batches import Batch, Examples
    from internal_kd.learners.learner import Network
    from internal_kd.tasks.info import TaskInfo

# Raised when the same study on the same machine would be measured differently.
RECIPE = 6
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
    """Return the frame latency: every learner of a task, on one dev example and on 32.

    Learners take turns, so that a disturbance meets all of them; speed-ups are against the task's teacher. What this
    machine has measured already is taken from ``work/latency`` unless ``again``. Where a learner's inputs are not here
    it has no lines, and of encoders none without a configuration.
    """
    config, machine, versions = _config_folder(study), machine_name(), versions_of("torch", "transformers")
    text = (config / "config.json").read_text(encoding="utf-8") if config else ""
    common: dict[str, Any] = {"threads": 1, "precision": "fp32", "machine": machine, "versions": versions}
    lines: list[dict[str, Any]] = []
    for task in study.tasks:
        runs: dict[str, Run] = {}
        # Teachers first.
        for cell in sorted((cell for cell in cells_of(study) if cell.task == task), key=lambda cell: cell.is_student):
            inputs = cell.runs[0].inputs
            if is_complete(inputs) and is_complete(inputs.data):
                runs.setdefault(learner_key(cell.method.learner), cell.runs[0])
        what = [(key, run.inputs.fingerprint) for key, run in runs.items()]
        memory = REMEMBERED / f"{sha256_text(f'{RECIPE} {text} {what} {machine} {versions}')[:12]}.json"
        if again or not memory.is_file():
            write_json(memory, _measure(runs, config))
        for line in read_json(memory):
            method = runs[line["learner"]].method
            lines.append({"task": task, "method": method.name, "title": method.title, **line, **common})
    return frame_of(study, "latency", lines)


def _config_folder(study: Study) -> Path | None:
    """Return where the encoder's configuration lies: its own folder, or the model of a run of the encoder's sizes."""
    whole = (run for run in study.runs if run.encoder and run.method.learner.identity().keys() <= {"start"})
    encoders = [(inputs.encoder, "") for inputs in study.tasks.values() if inputs.encoder]
    for artefact, part in (*encoders[:1], *((run, "model/") for run in whole)):
        with suppress(UserError):  # not here, or damaged: another one has the same
            verified(artefact.folder, read_mapping(artefact.marker), [f"{part}config.json"])
            return artefact.folder / part
    return None


def _measure(runs: Mapping[str, Run], config: Path | None) -> list[dict[str, Any]]:
    """Return the timings of learners, each on the dev examples as it reads them."""
    from internal_kd.data.inputs import EncodedTask

    networks, readers = {}, {}
    for key, run in runs.items():
        try:
            data = EncodedTask.of(run.inputs)
            network, dev = _drawn(run, config, data.info), data.split("dev")
        except Damaged as damaged:
            print(f"warning: {damaged}", file=sys.stderr, flush=True)
            continue
        if network is not None:
            networks[key], readers[key] = network, (network.read, dev)
    multiply_adds = {key: _multiply_adds(network, readers[key][1]) for key, network in networks.items()}
    return [
        {"learner": line.contestant, "layers": networks[line.contestant].layers, "batch": line.batch,
         "tokens": line.tokens, "multiply_adds": multiply_adds[line.contestant], **asdict(line.timing)}
        for line in time_contestants(readers, seconds=SECONDS)
    ]  # fmt: skip


def _multiply_adds(network: Network, examples: Examples) -> int:
    """Return those of products with weights, for an example of median length; attention's own products are left out."""
    from torch.utils.flop_counter import FlopCounterMode

    middle = np.argsort(examples.lengths, kind="stable")[len(examples) // 2]
    with one_thread(), FlopCounterMode(display=False) as counter:
        network.read(examples.batch(np.array([middle])))
    return int(counter.get_total_flops()) // 2


def _drawn(run: Run, config: Path | None, info: TaskInfo) -> Network | None:
    """Return a network of a run's learner with random weights; of a pair the first, which its runs predict with.

    None for what cannot be drawn, as a finished model.
    """
    from internal_kd.data.inputs import input_shape

    learner: Any = run.method.learner
    learner = learner.of[0] if isinstance(learner, PairLearner) else learner
    if isinstance(learner, SubnetworkLearner):
        whole = _drawn(run.first, config, info) if isinstance(run.first, Run) else None
        return learner.taken_from(whole) if whole else None
    if "start" in getattr(type(learner), "model_fields", {}):
        learner = learner.model_copy(update={"start": type(learner).model_validate({"start": "random"}).start})
    source = input_shape(run.inputs) if learner.starts_from == "nothing" else config
    try:
        return learner.build(source, info.outputs, seed=0, kind=info.kind) if source else None
    except (UserError, KeyError):
        return None


@dataclass(frozen=True)
class LatencyLine:
    """The timing of one contestant at one batch size; ``tokens`` is the median length of the timed batches."""

    contestant: str
    batch: int
    tokens: int
    timing: Timing


def time_contestants(
    contestants: Mapping[str, tuple[Callable[[Batch], object], Examples]], *, seconds: float = 5.0
) -> list[LatencyLine]:
    """Time forward passes of several models in turns; all see the same examples in every round.

    Args:
        contestants: of each model a function from a batch, and the examples as it reads them; speed-ups are against the
            first. Batches of one and of 32 are drawn at random, always the same ones.
        seconds: for each batch size; at least 5 rounds are made.
    """
    drawn, lines = np.random.default_rng(0), []
    for size in (ONE, BATCH) if contestants else ():
        (_, first), *_ = contestants.values()
        picks = [drawn.choice(len(first), size=min(size, len(first)), replace=False) for _ in range(DRAWN_BATCHES)]
        passes = []
        for ask, examples in contestants.values():
            batches = [examples.batch(positions) for positions in picks]
            passes.append(lambda number, ask=ask, batches=batches: ask(batches[number % len(batches)]))
        with one_thread():
            timings = take_turns(passes, seconds=seconds)
        longest = [int(first.lengths[picks[number % len(picks)]].max()) for number in range(timings[0].rounds)]
        tokens = int(np.median(longest))
        lines += [LatencyLine(name, size, tokens, timing) for name, timing in zip(contestants, timings, strict=True)]
    return lines
