"""One option names overlays in every command."""

import argparse

import pytest

from internal_kd.running.overlays import OVERLAY_FLAGS, OVERLAY_SETTINGS, spread_overlays


@pytest.mark.parametrize("flag", OVERLAY_FLAGS)
@pytest.mark.parametrize("given", [["a.yaml", "b.yaml"], ["a.yaml", "--overlay", "b.yaml"]])
def test_overlays_may_follow_one_option_or_several(flag: str, given: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(*OVERLAY_FLAGS, **OVERLAY_SETTINGS)
    parser.add_argument("run", nargs="?")
    options = parser.parse_args(spread_overlays([flag, *given, "4f2a"]))
    assert options.overlay == ["a.yaml", "b.yaml"] and options.run == "4f2a"


def test_a_target_after_overlays_stays_a_target() -> None:
    assert spread_overlays(["--cores", "2", "--configfile", "a.yaml", "all"])[-1] == "all"
