"""Names of results, which are readable and contain a hash of everything that determines the result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from analysis.data.catalogue import describe
from analysis.plan.fingerprint import fingerprint
from analysis.specs import EnergiesSpec, ModelNumbers, ProblemSpec, SegmentSpec
from analysis.specs.kinds import MODELS, RULES


def canonical(value: Any) -> str:
    """Sorted JSON without spaces, so that equal values have the same text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def hash8(value: Any) -> str:
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:8]


def subset_id(name: str, sha256: str) -> str:
    return f"{name}-{sha256[:8]}"


def segment_id(setting: str, spec: SegmentSpec, code: str) -> str:
    """<setting>-<data>.<update rule>-<8 hex>; `code` is `segment_fingerprint(spec)`."""
    return f"{_setting(setting, spec.problem)}.{_rule(spec)}-{hash8({'spec': spec.model_dump(), 'fingerprint': code})}"


def distances_id(runs: Sequence[Sequence[str]], code: str) -> str:
    """<setting>-<data>.<rule>-<rule>-<8 hex> for two runs as paths of segment ids."""
    setting, _, first = runs[0][-1].rpartition("-")[0].partition(".")
    second = runs[1][-1].rpartition("-")[0].partition(".")[2]
    return f"{setting}.{first}-{second}-{hash8({'spec': {'runs': runs}, 'fingerprint': code})}"


def energies_id(spec: EnergiesSpec, code: str) -> str:
    """<setting>-<data>.<rule>-energies-<8 hex>; `code` is `energies_fingerprint(spec)`."""
    segment = spec.segment.rpartition("-")[0]
    return f"{segment}-energies-{hash8({'spec': spec.model_dump(), 'fingerprint': code})}"


def energies_fingerprint(spec: EnergiesSpec) -> str:
    """The code that determines the energies along a segment."""
    models = (f"analysis.models.{kind}:build" for kind in _models(spec.problem.model))
    return fingerprint("analysis.measurement.energies:measure_energies", *models)


def segment_fingerprint(spec: SegmentSpec) -> str:
    """The code that determines a segment: the function of its stage, and the code of its kinds."""
    return fingerprint(
        "analysis.training.batch:train_batch",
        *(f"analysis.models.{kind}:build" for kind in _models(spec.problem.model)),
        f"analysis.rules.{spec.rule.kind}:Rule",
        *(f"analysis.training.probes.{kind}:Probe" for kind in sorted(spec.probes)),
    )


def kinds_of(specs: Iterable[SegmentSpec]) -> tuple[str, ...]:
    """The models and update rules of segments, as modules of `analysis`, without repetitions."""
    models, rules = set(), set()
    for spec in specs:
        models |= {f"{MODELS}.{kind}" for kind in _models(spec.problem.model)}
        rules.add(f"{RULES}.{spec.rule.kind}")
    return tuple(sorted(models | rules))


def _models(numbers: ModelNumbers) -> tuple[str, ...]:
    """The kind of a model, and of the model that it contains, if it contains one."""
    of = getattr(numbers, "of", None)
    return (numbers.kind, *(_models(of) if of is not None else ()))


def _setting(setting: str, problem: ProblemSpec) -> str:
    data = problem.data
    part = "" if data.examples == describe(data.train).examples else f"-n{data.examples}"
    return f"{setting}-{data.train}{part}"


def _rule(spec: SegmentSpec) -> str:
    """sgd, gd, dom-sgd, bulk-sam, gd-m0.9, adam-m0, or with the filter's weights: sgd-a0.5-b1.5."""
    name = spec.rule.short()
    if spec.filter is None:
        return name
    weights = (spec.filter.alpha_dom, spec.filter.beta_bulk)
    named = {(1.0, 0.0): f"dom-{name}", (0.0, 1.0): f"bulk-{name}"}
    return named.get(weights, f"{name}-a{weights[0]:g}-b{weights[1]:g}")
