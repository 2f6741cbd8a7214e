"""Lets the tests of models import tests/tiny_models.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
