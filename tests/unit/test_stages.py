"""What a cluster's jobs ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis.execution.resources import Needs, Stages
from analysis.plan.yaml import load_yaml, validate
from sharpflat.errors import InputError

OURS = Path(__file__).resolve().parents[2] / "workflow/profiles/slurm/stages.yaml"


def asked(needs: Needs, refreshes: float, attempt: int) -> dict[str, Any]:
    found = needs.resources(refreshes, 1.5e9)
    return {name: value(None, attempt) if callable(value) else value for name, value in found.items()}


def test_memory_and_time_grow_with_the_attempt_and_nothing_else_does() -> None:
    needs = Needs(mem_mb=3000, runtime=10, gpu=2, slurm_partition="fast")
    assert asked(needs, 500, 1) == {"mem_mb": 3000, "runtime": 10, "gpu": 2, "slurm_partition": "fast"}
    assert asked(needs, 500, 3) == {"mem_mb": 9000, "runtime": 30, "gpu": 2, "slurm_partition": "fast"}


def test_expected_work_lengthens_the_time() -> None:
    needs = Needs(runtime=10, refreshes_per_minute=50)
    assert asked(needs, 500, 1)["runtime"] == 20
    assert asked(needs, 500, 2)["runtime"] == 40


def test_memory_is_as_estimated_and_nothing_more_is_asked_for_unless_it_is_given() -> None:
    assert asked(Stages().energies, 500, 1) == {"mem_mb": 1500, "runtime": 60, "gpu": 1}
    assert asked(Stages().energies, 500, 2) == {"mem_mb": 3000, "runtime": 120, "gpu": 1}


def test_the_tables_that_come_with_the_profile() -> None:
    (stages,) = (validate(content, Stages, "stages") for content in load_yaml(OURS).values())
    assert load_yaml(OURS).keys() == {"stages"}
    for needs in (stages.segments, stages.energies):
        assert asked(needs, 0, 1)["gpu"] == 1
        assert asked(needs, 2000, 1)["runtime"] <= 24 * 60


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"segmnts": {}}, 'stages: segmnts: unknown key; did you mean "segments"?'),
        ({"energies": {"mem_bm": 1}}, 'stages: energies.mem_bm: unknown key; did you mean "mem_mb"?'),
        ({"energies": {"runtime": "2h"}}, "stages: energies.runtime: found '2h'; input should be a valid integer"),
        ({"energies": {"gpu": -1}}, "stages: energies.gpu: found -1; "),
    ],
)
def test_a_mistake_is_told(content: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        validate(content, Stages, "stages")
    assert str(caught.value).startswith(message)
