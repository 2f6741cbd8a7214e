"""The examples in docstrings are true."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import internal_kd.distillation as package


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(package.__path__)])
def test_examples_give_what_they_say(name: str) -> None:
    module = import_module(f"{package.__name__}.{name}")
    assert doctest.testmod(module).failed == 0
