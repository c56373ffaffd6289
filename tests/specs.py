"""Specifications as tests write them."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from analysis.specs.kinds import ProbeNumbers, ProbeSpecs

_PROBES: TypeAdapter[dict[str, ProbeNumbers]] = TypeAdapter(ProbeSpecs)


def probes(**numbers: Any) -> dict[str, ProbeNumbers]:
    """The numbers of probes by kind; a bare number is its interval."""
    return _PROBES.validate_python(numbers)
