"""Studies whose artefacts and results count as complete, without anything having been computed."""

from internal_kd.plan.study import Study
from internal_kd.report.make import outputs
from internal_kd.running.results import evaluating, record_results
from tiny_study import complete


def complete_everything(study: Study) -> None:
    """Complete all artefacts of a study, scratch included, and its results."""
    complete(*study.artefacts.values())
    complete_results(study)


def complete_results(study: Study) -> None:
    """Write a study's results as if they had been made from the runs that are there."""
    for path in (path for paths in outputs(study).values() for path in paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("content")
    with evaluating(study):
        pass
    record_results(study)
