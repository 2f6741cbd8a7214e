"""Typed parameters: what params.yaml may say, checked before anything runs.

``Params`` is the one description of a study. Unknown keys are refused with the nearest known one, values out of
range with the bound. ``load_params`` lays overlays over params.yaml; the workflow reads its own in the same way.
"""

from internal_kd.params.reading import load_params, merge, parse_params, read_merged, read_yaml, with_nulls
from internal_kd.params.study import Params

__all__ = ["Params", "load_params", "merge", "parse_params", "read_merged", "read_yaml", "with_nulls"]
