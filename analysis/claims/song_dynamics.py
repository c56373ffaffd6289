"""Claims of Song, Ahn, Yun on other update rules: GD at the edge of stability, SAM, momentum and Adam."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from analysis.claims.families import every_seed
from analysis.claims.measured import NotMeasured, Part, all_of, common_steps, drop, eigenvalue, rates, run, values
from analysis.claims.song import MAX_DOM_DROP, MIN_ALIGNMENT, MIN_BULK_DROP
from analysis.runs.measures import RATE_STEPS
from analysis.runs.panels import Panel, specification

EOS_WITHIN = 0.10
SAM_WITHIN = 0.15
RATE_WITHIN = 0.01
MIN_AMPLIFICATION = 5

PLAIN_GD, GD_MOMENTUM, PLAIN_ADAM, ADAM_MOMENTUM = "GD(−m)", "GD(+m)", "Adam(−m)", "Adam(+m)"
FOUR = (PLAIN_GD, GD_MOMENTUM, PLAIN_ADAM, ADAM_MOMENTUM)


def _drops(rule: str) -> str:
    return (
        f"drops in log-loss after the switch: Dom-{rule}'s ≤ {MAX_DOM_DROP:.0%}, Bulk-{rule}'s ≥ {MIN_BULK_DROP:.0%} "
        f"of {rule}'s over the same steps; every seed"
    )


EDGE_OF_STABILITY = (
    f"mean λ_1/(2/η) over the last quarter of GD within {EOS_WITHIN:.0%} of 1; median χ_k(∇L) over its last half "
    f"≥ {MIN_ALIGNMENT:g}; {_drops('GD')}"
)
SAM_EDGE = (
    f"mean λ_1/SAM-edge over the last quarter of SAM within {SAM_WITHIN:.0%} of 1; median χ_k(θ_{{t+1}} − θ_t) over "
    f"its last half ≥ {MIN_ALIGNMENT:g}; {_drops('SAM')}"
)
_FIRST = f"over the first {RATE_STEPS:,} steps"
PLAIN_RATES = f"means of Dom-LR and Bulk-LR of {PLAIN_GD} {_FIRST} within {RATE_WITHIN:.0%} of η"
AMPLIFIED = (
    f"means {_FIRST}: Bulk-LR of {GD_MOMENTUM} ≥ {MIN_AMPLIFICATION} times that of {PLAIN_GD}; Bulk-LR of "
    f"{ADAM_MOMENTUM} the largest of the four; Bulk-LR > Dom-LR for {GD_MOMENTUM}, {PLAIN_ADAM} and {ADAM_MOMENTUM}"
)
SPEED = (
    f"the order of the loss at the last step up to {RATE_STEPS:,} that all four runs have is the reverse of the order "
    f"of their mean Bulk-LR {_FIRST}"
)


def edge_of_stability(panel: Panel) -> Part:
    """song-eos: GD saturates at 2/η, aligned; Dom-GD stops training, Bulk-GD does not."""
    return _at_the_edge(panel, "GD", "alignment", "2/η", EOS_WITHIN)


def sam_edge(panel: Panel) -> Part:
    """song-sam: the same at the SAM-edge, with the alignment of the update."""
    return _at_the_edge(panel, "SAM", "update_alignment", "the SAM-edge", SAM_WITHIN)


def plain_rates(panel: Panel) -> Part:
    """song-gd-lr: both effective learning rates of plain GD equal the learning rate."""
    found, eta = rates(panel, PLAIN_GD), float(specification(run(panel, PLAIN_GD))["rule"]["learning_rate"])
    holds, measured = all_of(
        *(
            (abs(mean - eta) <= RATE_WITHIN * eta, f"mean {name} {mean:.4g} (standard deviation {std:.2g})")
            for name, mean, std in (
                ("Dom-LR", found.dom_mean, found.dom_std),
                ("Bulk-LR", found.bulk_mean, found.bulk_std),
            )
        )
    )
    return holds, f"η {eta:g}, {_over(panel, PLAIN_GD)}; {measured}"


def _over(panel: Panel, label: str) -> str:
    """Over how many steps the effective learning rates of a run are averaged."""
    steps = run(panel, label).rate_step
    return f"{rates(panel, label).count:,} steps measured up to {int(steps[steps < RATE_STEPS][-1]):,}"


def amplified(panel: Panel) -> Part:
    """song-momentum: momentum and Adam amplify the update in the bulk subspace."""
    found = {label: rates(panel, label) for label in FOUR}
    bulk = {label: found[label].bulk_mean for label in FOUR}
    largest = max((label for label in FOUR if label != ADAM_MOMENTUM), key=bulk.__getitem__)
    holds, measured = all_of(
        (
            bulk[GD_MOMENTUM] >= MIN_AMPLIFICATION * bulk[PLAIN_GD],
            f"{GD_MOMENTUM}'s Bulk-LR {bulk[GD_MOMENTUM]:.4g}, {PLAIN_GD}'s {bulk[PLAIN_GD]:.4g}",
        ),
        (
            bulk[ADAM_MOMENTUM] > bulk[largest],
            f"{ADAM_MOMENTUM}'s Bulk-LR {bulk[ADAM_MOMENTUM]:.4g}, the largest other {bulk[largest]:.4g} ({largest})",
        ),
        *(
            (
                bulk[label] > found[label].dom_mean,
                f"{label}: Bulk-LR {bulk[label]:.4g}, Dom-LR {found[label].dom_mean:.4g}",
            )
            for label in FOUR
            if label != PLAIN_GD
        ),
    )
    return holds, f"{_over(panel, PLAIN_GD)}; {measured}"


def speed(panel: Panel) -> Part:
    """song-speed: the larger the Bulk-LR, the lower the loss."""
    bulk = {label: rates(panel, label).bulk_mean for label in FOUR}
    curves = {label: values(panel, label, "loss") for label in FOUR}
    step = max((s for s in common_steps(*curves.values()) if s <= RATE_STEPS), default=0)
    if step == 0:
        raise NotMeasured(f"the four runs' losses have no step in common after the start and up to {RATE_STEPS:,}")
    loss = {label: float(curves[label].sel(step=step)) for label in FOUR}
    order = sorted(FOUR, key=bulk.__getitem__, reverse=True)
    holds, measured = all_of(
        *(
            (
                bulk[a] > bulk[b] and loss[a] < loss[b],
                f"{a} before {b}: Bulk-LR {bulk[a]:.4g}, {bulk[b]:.4g}, loss {loss[a]:.4g}, {loss[b]:.4g}",
            )
            for a, b in pairwise(order)
        )
    )
    return holds, f"loss at step {step:,}; {measured}"


def _at_the_edge(panel: Panel, label: str, aligned: str, edge: str, within: float) -> Part:
    def judged(panel: Panel) -> tuple[list[Part], dict[str, float]]:
        return _edge_of_one(panel, label, aligned, edge, within)

    return every_seed(panel, (label, f"Dom-{label}", f"Bulk-{label}"), judged)


def _edge_of_one(
    panel: Panel, label: str, aligned: str, edge: str, within: float
) -> tuple[list[Part], dict[str, float]]:
    sharpness = eigenvalue(panel, label, 1, 0.75)
    saturation = float((sharpness / values(panel, label, "stability_threshold", 0.75)).mean())
    if not np.isfinite(saturation):
        raise NotMeasured(f"{label}: eigenvalues and stability_threshold were not measured at the same steps")
    alignment = float(values(panel, label, aligned, 0.5, gaps=aligned == "update_alignment").median())
    parts = [
        (abs(saturation - 1) <= within, f"mean λ_1 {float(sharpness.mean()):.4g}, {saturation:.1%} of {edge}"),
        (alignment >= MIN_ALIGNMENT, f"median χ_k {alignment:.3f}"),
        drop(panel, f"Dom-{label}", label, at_most=MAX_DOM_DROP),
        drop(panel, f"Bulk-{label}", label, at_least=MIN_BULK_DROP),
    ]
    return parts, {f"λ_1 relative to {edge}": saturation, "χ_k": alignment}
