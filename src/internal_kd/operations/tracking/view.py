"""How MLflow's table of runs opens: saved views of every experiment, with the columns people ask for.

MLflow shows no metric until somebody picks columns. Its UI keeps a view as a tag of the experiment: name, times, and
the state of the page as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

RESULTS = "results"
SEEDS = "seeds"
_TAG = "mlflow.sharedViewState."
_NAME = "attributes.`Run Name`"
_WIDTHS = {_NAME: 240, "runDateAndNestInfo": 140, "duration": 90, "tags.`title`": 240, "tags.`device`": 200}
_WIDTHS |= dict.fromkeys(("params.`depth`", "params.`seed`", "tags.`id`", "tags.`seeds`"), 80)


def views(metrics: Sequence[str]) -> dict[str, str]:
    """Return the views as tags of an experiment; ``metrics`` are the task's, the main one first.

    "Results" ranks the methods by the main metric; "Seeds" shows every training below its method, which MLflow does
    only in the order of time.
    """
    main = metrics[0]
    spread = [column for metric in metrics for column in (metric, f"{metric}_std")]
    spread[2:2] = [f"{main}_teacher_share", f"{main}_teacher_share_std"]
    results = _state(
        [*(f"metrics.`{name}`" for name in [*spread, "encoder_parameters"]), "params.`depth`"],
        ["id", "title", "seeds"],
        order=f"metrics.`{main}`",
        search="tags.level = 'method'",
    )
    measured = [*metrics, "seconds", "examples_per_second", "peak_memory_gb"]
    seeds = _state(
        [*(f"metrics.`{name}`" for name in measured), "params.`seed`"],
        ["id", "title", "device", "fingerprint"],
        order="attributes.start_time",
        search="",
    )
    return {f"{_TAG}{RESULTS}": _view("Results", 2, results), f"{_TAG}{SEEDS}": _view("Seeds", 1, seeds)}


def address(base: str, experiment_id: str) -> str:
    """Return where an experiment's results lie below the server's address; it opens in the mode for trainings."""
    return f"{base}/#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={RESULTS}"


def _view(name: str, time: int, state: dict[str, object]) -> str:
    return json.dumps({"name": name, "createdAt": time, "updatedAt": time, "state": json.dumps(state)})


def _state(columns: Sequence[str], tags: Sequence[str], *, order: str, search: str) -> dict[str, object]:
    selected = [*columns, *(f"tags.`{name}`" for name in tags)]
    shown = [_NAME, "runDateAndNestInfo", "duration", *selected]
    return {
        "searchFilter": search,
        "orderByKey": order,
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": selected,
        "columnOrder": shown,
        "columnWidths": {column: _WIDTHS.get(column, 150) for column in shown},
        "runsHiddenMode": "FIRST_20_RUNS",
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": False,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }
