"""The registry of objectives: what a term may read where it applies."""

import pytest

from internal_kd.distillation.objectives import OBJECTIVES, Objective
from internal_kd.errors import UserError


@pytest.mark.parametrize(
    ("level", "reads"), [("layer", "logits"), ("layer", "labels"), ("output", "attention"), ("output", "cls")]
)
def test_a_term_that_its_level_cannot_feed_is_refused_in_one_line(level, reads):
    with pytest.raises(
        UserError, match=rf"objective own:loss: a {level} term cannot read '{reads}'; it reads"
    ) as refused:
        Objective(level, reads, "own:loss")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_every_objective_is_a_function_that_is_there(name):
    assert callable(OBJECTIVES[name].resolve())
