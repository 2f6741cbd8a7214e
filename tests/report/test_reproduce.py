"""The command in the report makes the study that the report is about."""

import re
import shlex

import made_runs

from internal_kd.params import load_params
from internal_kd.plan.study import plan_study


def test_the_command_plans_the_same_runs(in_demo):
    command = re.search(r"<pre>(internal-kd run .*?)</pre>", in_demo.page)[1]
    *_, flag, path = shlex.split(command)
    assert flag == "--overlay"
    again = plan_study(load_params(made_runs.ROOT / "params.yaml", [path]))
    assert [run.fingerprint for run in again.runs] == [run.fingerprint for run in in_demo.study.runs]
