"""Models, update rules and probes by kind: one file is enough, and plans import nothing heavy for it."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest
from pydantic import ValidationError

from analysis.runs.panels import probes_of
from analysis.specs import SegmentSpec
from analysis.specs.kinds import MODELS, PROBES, RULES, kinds, numbers_of, read_numbers
from sharpflat.errors import InputError
from tests.specs import probes
from tests.unit.test_segment import spec

ALL = [(package, kind) for package in (MODELS, RULES, PROBES) for kind in kinds(package)]


def test_kinds_are_files() -> None:
    assert {"adam", "muon", "sam", "sgd"} < set(kinds(RULES))
    assert {"loss", "rates", "snapshots", "spectrum", "test", "tracks"} < set(kinds(PROBES))
    assert {"mlp", "transformer", "valley"} < set(kinds(MODELS))


@pytest.mark.parametrize(("package", "kind"), ALL)
def test_a_kind_has_its_code_beside_its_numbers(package: str, kind: str) -> None:
    module = import_module(f"analysis.{package}.{kind}")
    assert numbers_of(package, kind) is module.Numbers
    assert hasattr(module, {MODELS: "build", RULES: "Rule", PROBES: "Probe"}[package])
    if package != PROBES:
        assert module.Numbers.model_fields["kind"].default == kind


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(InputError, match=r"unknown rule 'tiger'; there is no analysis/rules/tiger\.py"):
        read_numbers(RULES, {"kind": "tiger", "learning_rate": 1, "batch_size": None})
    with pytest.raises(InputError, match=r"unknown probe '\.\./loss'"):
        probes(**{"../loss": 1})


def test_all_kinds_are_imported_without_a_heavy_library() -> None:
    code = f"""
import sys
from importlib import import_module
for package, kind in {ALL!r}:
    import_module(f"analysis.{{package}}.{{kind}}")
assert not {{"torch", "numpy", "xarray"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_specification_goes_through_json() -> None:
    made = spec(probes=probes(loss=2, spectrum={"every": 3, "tolerance": 0.1}))
    plain = made.model_dump(mode="json")
    spectrum = {"every": 3, "tolerance": 0.1, "next_tolerance": 0.01, "ema_factor": 0.9}
    assert plain["probes"] == {"loss": {"every": 2}, "spectrum": spectrum}
    assert SegmentSpec.model_validate(plain) == made
    with pytest.raises(ValidationError, match="tolerence"):
        SegmentSpec.model_validate(plain | {"probes": {"spectrum": {"every": 3, "tolerence": 0.1}}})


def test_archived_specifications_are_understood() -> None:
    """Before probes were kinds, their intervals were separate from their numbers."""
    before = {"loss": 10, "test": 50, "spectrum": 20, "rates": None, "snapshots": 5}
    numbers = {"tolerance": 0.1, "rates_tolerance": 1e-4, "ema_factor": 0.9}
    assert probes_of({"probes": before | numbers}) == {
        "loss": {"every": 10},
        "test": {"every": 50},
        "spectrum": {"every": 20, "tolerance": 0.1, "ema_factor": 0.9},
        "snapshots": {"every": 5},
    }
    quiet = probes_of({"probes": before | numbers | {"spectrum": None, "rates": 4}})
    assert quiet["rates"] == {"every": 4, "tolerance": 1e-4}
    assert "spectrum" not in quiet
    now = spec().model_dump(mode="json")
    assert probes_of(now) == now["probes"]
