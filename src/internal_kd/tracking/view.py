"""How MLflow's page of an experiment opens: saved views with the columns and charts people ask for.

MLflow shows no metric until somebody picks columns. Its UI keeps a view as a tag of the experiment: name, times, and
the state of the page as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

RESULTS, SEEDS, CURVES = "results", "seeds", "curves"
# The tag by which curves are averaged.
ROW = "row"
_TAG = "mlflow.sharedViewState."
_NAME, _SCORE = "attributes.`Run Name`", "tags.`score`"
_WIDTHS = {_NAME: 260, _SCORE: 120, "runDateAndNestInfo": 140, "duration": 90, "tags.`device`": 200}
_WIDTHS |= dict.fromkeys(("params.`depth`", "params.`seed`", "tags.`id`", "tags.`seeds`"), 80)


def views(metrics: Sequence[str], layer_terms: Sequence[str], *, ascending: bool = False) -> dict[str, str]:
    """Return the views of an experiment as its tags.

    "Results" ranks the methods by the main metric, the first, ``ascending`` if a lower score is better; "Seeds" shows
    every training below its method, which MLflow does only in the order of time; "Curves" draws the mean of every
    method's seeds by epoch, that of ``layer_terms`` too.
    """
    main = metrics[0]
    spread = [column for metric in metrics for column in (metric, f"{metric}_std")]
    columns = [*spread, f"{main}_teacher_share", "majority", "encoder_parameters"]
    results = _state(
        [*(f"metrics.`{name}`" for name in columns), "params.`depth`", "tags.`seeds`"],
        order=f"metrics.`{main}`",
        search="tags.level = 'method'",
        ascending=ascending,
    )
    measured = [*metrics, "seconds", "examples_per_second", "peak_memory_gb"]
    seeds = _state(
        [*(f"metrics.`{name}`" for name in measured), "params.`seed`", "tags.`device`", "tags.`fingerprint`"],
        order="attributes.start_time",
        search="",
    )
    # Ordered by time, MLflow would show the methods' runs, which have no curves, instead of those below them.
    curves = _state([], order=f"metrics.`{main}`", search="tags.level = 'run'", ascending=ascending)
    curves |= _charts(main, layer_terms)
    return {
        f"{_TAG}{RESULTS}": _view("Results", 3, results),
        f"{_TAG}{CURVES}": _view("Curves", 2, curves),
        f"{_TAG}{SEEDS}": _view("Seeds", 1, seeds),
    }


def address(base: str, experiment_id: str, view: str = RESULTS) -> str:
    """Return where a view of an experiment lies below the server's address; it opens in the mode for trainings."""
    mode = "&compareRunsMode=CHART" if view == CURVES else ""
    return f"{base}/#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={view}{mode}"


def _view(name: str, time: int, state: dict[str, object]) -> str:
    return json.dumps({"name": name, "createdAt": time, "updatedAt": time, "state": json.dumps(state)})


def _charts(main: str, layer_terms: Sequence[str]) -> dict[str, object]:
    """Return what a page of charts shows first: dev score and loss, then every layer term's mean."""
    metrics = [f"dev/{main}", "train/loss", *(f"train/{term}" for term in layer_terms)]
    charts = [
        {
            "uuid": f"chart-{number}", "type": "LINE", "metricSectionId": "curves", "displayName": name,
            "metricKey": name, "selectedMetricKeys": [name], "runsCountToCompare": 20, "deleted": False,
            "isGenerated": False, "lineSmoothness": 0, "xAxisScaleType": "linear", "scaleType": "linear", "range": {},
            "xAxisKey": "step", "selectedXAxisMetricKey": "", "yAxisKey": "metric", "yAxisExpressions": [],
            "ignoreOutliers": False, "useGlobalXaxisKey": True, "useGlobalLineSmoothing": True,
        }
        for number, name in enumerate(metrics)
    ]  # fmt: skip
    section = {"uuid": "curves", "name": "By epoch", "display": True, "isReordered": True, "deleted": False}
    by_row = {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": ROW}]}
    sections = [section | {"isGenerated": False}]
    # MLflow adds a section for every other metric; an order that somebody has chosen keeps this one first.
    chosen = {"isAccordionReordered": True, "groupBy": by_row}
    return {"compareRunCharts": charts, "compareRunSections": sections, **chosen}


def _state(columns: Sequence[str], *, order: str, search: str, ascending: bool = False) -> dict[str, object]:
    selected = [_SCORE, *columns]
    shown = [_NAME, *selected, "runDateAndNestInfo", "duration"]
    return {
        "searchFilter": search,
        "orderByKey": order,
        "orderByAsc": ascending,
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
