"""The profiles for clusters name every rule that they have to."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RULES = "\n".join(path.read_text() for path in sorted((ROOT / "workflow/rules").glob("*.smk")))


def rules_running_models() -> set[str]:
    """Rules that go through the queue and whose kind of job is given a GPU by params.yaml."""
    machine = yaml.safe_load((ROOT / "params.yaml").read_text())["machine"]
    blocks = re.findall(r"^localrules:\n((?:    \w+,\n)+)", RULES, re.MULTILINE)
    local = {name.strip(" ,") for block in blocks for name in block.splitlines()}
    found = re.findall(r'^rule (\w+):\n(?:.*\n)*?        \*\*PLAN\.resources\("(\w+)"\)', RULES, re.MULTILINE)
    return {rule for rule, kind in found if rule not in local and machine.get(kind, {}).get("gpu")}


def test_every_rule_that_asks_for_a_gpu_goes_to_the_gpu_partition() -> None:
    asked = yaml.safe_load((ROOT / "profiles/slurm-gpu/profile.yaml").read_text())["set-resources"]
    assert {"train_teacher", "distill_labels", "distill_internals", "record_answers"} <= rules_running_models()
    assert asked.keys() == rules_running_models()
    assert all(resources["slurm_partition"] == "gpu" for resources in asked.values())


@pytest.mark.parametrize(
    "profile", sorted(ROOT.glob("profiles/slurm*/profile.yaml")), ids=lambda path: path.parent.name
)
def test_a_clusters_jobs_have_further_attempts_that_ask_for_more(profile: Path) -> None:
    assert yaml.safe_load(profile.read_text())["retries"] >= 1


@pytest.mark.parametrize("rule", sorted(rules_running_models()))
def test_the_page_on_clusters_lists_what_goes_through_the_queue(rule: str) -> None:
    assert f"`{rule}`" in (ROOT / "docs/how-to/slurm.md").read_text().partition("## What runs where")[2]
