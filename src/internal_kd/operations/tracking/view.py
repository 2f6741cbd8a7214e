"""How MLflow's table of runs opens: the saved view "Results" of every experiment, with the columns people ask for.

MLflow shows no metric until somebody picks columns. Its UI keeps a view as a tag of the experiment: name, times, and
the state of the page as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

KEY = "results"
TAG = f"mlflow.sharedViewState.{KEY}"


def results_view(metrics: Sequence[str]) -> str:
    """Return the tag's value: best first by the main metric, seeds folded under their method.

    ``metrics`` are the task's, the main one first.
    """
    shown = [column for metric in metrics for column in (metric, f"{metric}_std")]
    shown.insert(2, f"{metrics[0]}_teacher_share")
    columns = ["params.`depth`", *(f"metrics.`{name}`" for name in [*shown, "encoder_parameters"]), "tags.`seeds`"]
    state = {
        "searchFilter": "",
        "orderByKey": f"metrics.`{metrics[0]}`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": ["tags.`id`", "tags.`title`", *columns],
        "columnOrder": [],
        "columnWidths": {},
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
    return json.dumps({"name": "Results", "createdAt": 1, "updatedAt": 1, "state": json.dumps(state)})


def address(base: str, experiment_id: str) -> str:
    """Return where an experiment's view lies below the server's address; it opens in the mode for trainings."""
    return f"{base}/#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={KEY}"
