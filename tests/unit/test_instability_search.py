"""The search for the learning rate at which Bulk-SGD's sharpness explodes, and the numbers that the document gives."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("instability_rates", ROOT / "benchmarks/instability_rates.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_search_doubles_and_then_bisects(script):
    tried = []

    def explodes(rate: float) -> bool:
        tried.append(rate)
        return rate > 0.9

    below, above = script.search(explodes)
    assert tried[:5] == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert len(tried) == 9
    assert below <= 0.9 < above
    assert above / below == pytest.approx(2 ** (1 / 16), rel=0.01)
    assert script.search(lambda rate: False) == (0.1 * 2**8, math.inf)


def test_what_counts_as_an_explosion(script):
    start = {"sharpness": 10.0, "loss": 0.1}
    calm = {"diverged": False, "sharpness_max": 99.0, "loss_max": 0.99}
    assert not script.exploded(calm, start)
    for change in ({"diverged": True}, {"sharpness_max": 101.0}, {"loss_max": 1.01}):
        assert script.exploded(calm | change, start)


def test_the_page_has_the_measured_numbers(script):
    found = json.loads((ROOT / "docs/benchmarks/instability.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs/full-size/zs-mlp.md").read_text(encoding="utf-8")
    assert f"explodes at {found['smallest_with']:g} and not at {found['largest_without']:g}" in page
    for rate, runs in found["rates"].items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| {rate} | {2 / float(rate):.1f} |")]
        assert ("explodes" in row) == script.exploded(runs["Bulk-SGD"], found["at_switch"])
        assert ("diverges" in row) == runs["SGD"]["diverged"]
        assert "explodes" in row or f"{runs['Bulk-SGD']['loss']:.4f}" in row
