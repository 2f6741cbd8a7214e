"""``internal-kd params``: a study's parameters in one piece, for DVC, which knows params.yaml and no overlays."""

from __future__ import annotations

import argparse

import yaml

from internal_kd.files import write_text
from internal_kd.params import merge, parse_params, read_yaml


def params(options: argparse.Namespace) -> int:
    """Print the parameters with the overlays laid over them, or write them in the place of the first file."""
    values = read_yaml(options.params)
    for overlay in options.overlay:
        values = merge(values, read_yaml(overlay))
    parse_params(values, " + ".join([options.params, *options.overlay]))
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)
    if options.write:
        write_text(options.params, text)
        print(options.params)
    else:
        print(text, end="")
    return 0
