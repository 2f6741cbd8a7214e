"""``python -m bench`` (``make bench``): measure, print the tables, write them into docs/explanation/performance.md."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.contestants import GROUPS
from bench.page import measured_part, put_into
from bench.promises import measure
from bench.rounds import ROOT, run_in_turn
from bench.workload import Workload, make_workload

# Comparison first: it has the most rounds, so that a disturbance of minutes is seen as spread.
MINUTES = {"comparison": 9.0, "objectives": 4.0, "ablation": 3.0, "bf16": 1.0}
ROUNDS = {"comparison": 5, "objectives": 3, "ablation": 3, "bf16": 5}
# Some objectives need three classes.
CLASSES = 3
PEERS = ("textbrewer", "torchdistill")


def main() -> None:
    """Read the arguments and do everything."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--peers", type=Path, help="Python of the peers' environment; without it they are left out")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of each contestant")
    parser.add_argument("--steps", type=int, help="of a round; fewer on a machine that is busy")
    parser.add_argument("--rounds", type=int, help="at most this many")
    parser.add_argument("--groups", nargs="*", choices=[*GROUPS, "promises"], help="only these; no page is written")
    parser.add_argument(
        "--quick", action="store_true", help="fewer, shorter rounds of the comparison; no page is written"
    )
    parser.add_argument("--scratch", type=Path, default=ROOT / "work/bench")
    given = parser.parse_args()
    results = _measure(given)
    part = measured_part(results)
    print(part)
    if not (given.quick or given.groups):
        put_into(ROOT / "docs/explanation/performance.md", part)


def _measure(given: argparse.Namespace) -> dict[str, Any]:
    import torch

    from internal_kd.distillation.hardware import choose_hardware

    hardware = choose_hardware("auto")
    gpu = hardware.device.type == "cuda"
    # A GPU takes milliseconds a step: only more of them can be timed.
    workload = Workload(examples=16_000, steps=50, pool=250, warm_up=10) if gpu else Workload()
    workload = replace(workload, steps=given.steps or workload.steps, rounds=given.rounds or workload.rounds)
    if given.quick:
        workload = replace(workload, steps=max(1, workload.steps // 2), rounds=3)
    folder = given.scratch / "files"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    results = _facts(given, workload, hardware.name if gpu else None)
    torch.set_num_threads(given.threads)
    groups = _groups(given, bf16=hardware.precision == "bf16")
    for group in groups:
        if group == "promises":
            print("memory, command line, planning", flush=True)
            results["promises"] = measure(folder, given.threads)
        else:
            results |= _compete(group, workload, folder, given, hardware.device)
        _keep(results, given.scratch)
    shutil.rmtree(folder)
    return results


def _groups(given: argparse.Namespace, bf16: bool) -> list[str]:
    """Return what is measured: by default everything that this machine can do."""
    if given.groups or given.quick:
        return given.groups or ["comparison"]
    return [*(group for group in GROUPS if group != "bf16" or bf16), "promises"]


def _compete(group: str, workload: Workload, folder: Path, given: argparse.Namespace, device: Any) -> dict[str, Any]:
    """Let a group's contestants run in turn; return what they report and facts of their workload."""
    import numpy as np

    from bench.contestants import INTERNAL
    from bench.objectives import names, recorded, turns
    from bench.ours import record
    from internal_kd.distillation.hardware import Hardware

    print(f"{group}: {', '.join(c.name for c in GROUPS[group])}", flush=True)
    every = group == "objectives"
    workload = replace(workload, classes=CLASSES) if every else workload
    folder = folder / f"{workload.classes}_classes"
    if not folder.exists():
        make_workload(workload, folder)
        record(workload, folder, Hardware(device, "fp32"), names() if every else (*INTERNAL, "hidden_mse"))
    lengths = np.diff(np.load(folder / "inputs/train.offsets.npy"))
    rounds = min(workload.rounds, ROUNDS[group])
    found: dict[str, Any] = {"lengths": {"mean": float(lengths.mean()), "longest": int(lengths.max())}}
    found[group] = run_in_turn(GROUPS[group], folder, given.peers, given.threads, rounds, MINUTES[group])
    if every:
        found |= {"turns": turns(), "recorded": recorded(workload, lengths)}
    shutil.rmtree(folder / "recorded_again", ignore_errors=True)
    return found


def _keep(results: dict[str, Any], scratch: Path) -> None:
    """Write what has been measured so far: a later group may fail."""
    (scratch / "results.json").write_text(json.dumps(results, indent=1))


def _facts(given: argparse.Namespace, workload: Workload, gpu: str | None) -> dict[str, Any]:
    import psutil

    from internal_kd.params import parse_params, read_yaml

    defaults = parse_params(read_yaml(ROOT / "params.yaml")).defaults
    pins = dict(
        line.split("==") for line in (ROOT / "bench/requirements-peers.txt").read_text().split() if "==" in line
    )
    versions = {"Python": platform.python_version(), "torch": version("torch"), "transformers": version("transformers")}
    return {
        "machine": {
            "gpu": gpu,
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "threads": given.threads,
            "memory_gb": psutil.virtual_memory().total / 1e9,
            "system": platform.system(),
            "load": os.getloadavg()[0],
        },
        "versions": versions | ({name: pins[name] for name in PEERS} if given.peers else {}),
        "command": _command(given),
        "day": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "workload": asdict(workload),
        "curriculum": {"epochs": defaults.epochs, "epochs_per_layer": defaults.epochs_per_layer},
    }


def _command(given: argparse.Namespace) -> str:
    default = {"threads": os.cpu_count() or 1, "steps": None, "rounds": None}
    own = [f"--{name} {getattr(given, name)}" for name, usual in default.items() if getattr(given, name) != usual]
    return f'make bench ARGS="{" ".join(own)}"' if own else "make bench"


def _cpu() -> str:
    described = Path("/proc/cpuinfo")
    if described.exists():
        for line in described.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
