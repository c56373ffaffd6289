"""What `laptop` and `paper` train and measure: the papers' sizes, but for what docs/deviations.md lists as thinner."""

from __future__ import annotations

from functools import cache

import pytest

from analysis.plan.join import load_plan
from analysis.plan.plan import Plan
from analysis.specs import SegmentSpec

PAPERS = {  # examples, learning rate, minibatch of SGD
    "mlp": (5000, 0.01, 50),
    "cnn": (5000, 0.001, 50),
    "transformer": (1000, 0.001, 50),
    "mlp-ce": (5000, 0.1, 50),
    "cnn-ce": (5000, 0.001, 50),
    "transformer-ce": (1000, 0.001, 50),
    "vgg11": (5000, 0.01, 50),
    "resnet8": (5000, 0.01, 50),
    "resnet8-batch": (5000, 0.01, 50),
}
FEWER = {
    "laptop": {"vgg11": 500, "resnet8": 500, "resnet8-batch": 500},
    "paper": {"vgg11": 1000, "resnet8": 1000, "resnet8-batch": 1000},
}
SPECTRA = {  # steps between measurements along SGD, and the factor of the alignment's average
    "laptop": {
        **dict.fromkeys(("mlp", "mlp-ce", "vgg11"), (50, 0.9)),
        **dict.fromkeys(("cnn", "cnn-ce", "transformer", "transformer-ce"), (200, 0.8)),
        **dict.fromkeys(("resnet8", "resnet8-batch"), (300, 0.8)),
    },
    "paper": {setting: (20, 0.9) if setting.startswith("mlp") else (40, 0.8) for setting in PAPERS},
}
RATES = {"laptop": {"mlp": 20, "cnn": 50, "transformer": 100}, "paper": {"mlp": 1, "cnn": 10, "transformer": 10}}

profiles = pytest.mark.parametrize("profile", ["laptop", "paper"])


@cache
def planned(profile: str) -> Plan:
    return load_plan(profile)


def specs(profile: str, segment: str) -> dict[str, SegmentSpec]:
    """The segment's specification by setting, with the first seed."""
    plan = planned(profile)
    paths = {key: own[0].path for key, own in plan.families.items()} | plan.runs
    return {setting: plan.segments[path[-1]].spec for (setting, name), path in paths.items() if name == segment}


@profiles
def test_data_and_rates_of_sgd_are_the_papers_but_for_fewer_examples_where_listed(profile: str) -> None:
    found = {
        setting: (spec.problem.data.examples, spec.rule.learning_rate, spec.rule.batch_size)
        for setting, spec in specs(profile, "sgd").items()
    }
    assert found == {s: (FEWER[profile].get(s, n), *numbers) for s, (n, *numbers) in PAPERS.items()}


@profiles
def test_spectra_along_sgd_are_as_listed(profile: str) -> None:
    for segment in ("sgd-until-aligned", "sgd"):
        spectra = {setting: spec.probes["spectrum"] for setting, spec in specs(profile, segment).items()}
        assert {s: (numbers.every, numbers.ema_factor) for s, numbers in spectra.items()} == SPECTRA[profile]  # type: ignore[attr-defined]


@profiles
@pytest.mark.parametrize("segment", ["rates-gd", "rates-gd-momentum", "rates-adam-plain", "rates-adam"])
def test_effective_rates_are_of_a_thousand_steps(profile: str, segment: str) -> None:
    found = specs(profile, segment)
    assert {spec.stop.steps for spec in found.values()} == {1000}
    assert {setting: spec.probes["rates"].every for setting, spec in found.items()} == RATES[profile]


def test_gd_from_the_initialisation_is_as_long_as_sgd_in_paper() -> None:
    ends = {setting: spec.stop.step for setting, spec in specs("paper", "gd").items()}
    assert ends == {s: spec.stop.step for s, spec in specs("paper", "sgd").items() if s in ends}
    assert ends == {"mlp": 20000, "cnn": 20000, "transformer": 10000}
    assert {s: spec.stop.steps for s, spec in specs("laptop", "gd").items()} == {
        "mlp": 6000,
        "cnn": 1000,
        "transformer": 1000,
    }
    for profile, others in (("laptop", 100), ("paper", 200)):
        intervals = {setting: spec.probes["spectrum"].every for setting, spec in specs(profile, "gd").items()}
        assert intervals == {"mlp": 200, "cnn": others, "transformer": others}


@pytest.mark.parametrize(("profile", "batches"), [("laptop", 5), ("paper", 7)], ids=["laptop", "paper"])
def test_batches_go_from_ten_to_a_thousand(profile: str, batches: int) -> None:
    family = planned(profile).families["open-branches", "open-batch-on"]
    sizes = [member.varied["batch_size"] for member in family if member.varied["seed"] == 0]
    assert (len(sizes), sizes[0], sizes[-1]) == (batches, 10, 1000)
    assert sizes == sorted(sizes)
    assert planned(profile).segments[family[0].path[-1]].spec.problem.data.examples == 5000
