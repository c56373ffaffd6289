"""Statements on what the papers leave open. Each function takes the families of runs of one setting, which vary in the
seed. An undecided statement raises `Undecided`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import exp, inf, log

import numpy as np

from analysis.claims.families import alike, completed, diverged_at, every_seed, in_words, locating_gaps
from analysis.claims.measured import NotMeasured, Part, Undecided, all_of, rates, values
from analysis.claims.song import MAX_DOM_DROP, MIN_ALIGNMENT, MIN_BULK_DROP
from analysis.claims.zakarin_singh import energy_concentrates, gauss_newton_carries
from analysis.runs import branches
from analysis.runs.panels import Member, Panel
from analysis.runs.tracks import follow

LEAST_GROWTH = log(1.1)  # of λ_1, for there to be any
MAX_GROWTH, MIN_DROP = 0.50, 0.90
SMALLER, LARGER = 0.75, 1.25
MAX_LEAD, LEAST_LEAD = 0.25, 0.02
RISES, MAX_SHARE = 1.10, 0.50
PASSES = 1.05
MIN_OVERLAP, WITHIN = 0.99, 0.10
MAX_LARGE_BATCH, RISE = 0.5, 0.05  # of the median alignment: at the largest batch; from one batch to the next
LEAST_DROP = 0.05  # of ln loss under the whole update, for there to be something to compare with

SGD, BULK_SGD, EACH_STEP, CONSTANT = "SGD", "Bulk-SGD", "every step", "constant"
REMEDIES = ("weight decay 1e-4", "weight decay 1e-3", "weight decay 1e-2", "cosine", "η capped", "α_dom 0.1")
SCHEDULES = tuple(f"{kind} to {to}" for to in ("(1, 1)", "(1, 0.5)") for kind in ("linear", "cosine", "step", "edge"))
STALE = ("overlap 0.9999", "overlap 0.999", "overlap 0.99", "overlap 0.9", "10 steps", "100 steps", "1,000 steps")
COMPONENTS = ("Dom-", "Bulk-")  # before the label of the whole update
REMEMBERING = ("momentum", "Adam")
OPTIMIZERS = ("sign descent", "RMSprop", "Lion", "Muon", "Shampoo")

_UNDECIDED = f"Undecided if {{}} < ln {np.exp(LEAST_GROWTH):.1f}"
REGULARISED = (
    f"one remedy, at every learning rate and with every seed: it does not diverge, its growth ≤ {MAX_GROWTH:.0%} of "
    f"plain Bulk-SGD's, its drop ≥ {MIN_DROP:.0%} of plain Bulk-SGD's. "
    f"{_UNDECIDED.format(f'plain {BULK_SGD}' + chr(39) + 's growth')} somewhere"
)
SCHEDULED = (
    "one schedule has, with every seed, a lower loss at the end than every constant pair, and in the mean over seeds "
    "a higher test accuracy than every constant pair. Undecided if one does so in the means over seeds, and not "
    "with every seed"
)
BENT = (
    f"every seed: growth at c = ½ ≤ {SMALLER:.0%} and at c = 2 ≥ {LARGER:.0%} of that at c = 1. "
    f"{_UNDECIDED.format('the growth at c = 1')} with some seed"
)
LED = (
    f"every seed: lead at c = 0 ≤ {MAX_LEAD:.0%} of that at c = 1. Undecided if the lead at c = 1 "
    f"< {LEAST_LEAD:g} with some seed"
)
MANY = (
    "every seed: of the k directions dominant at the switch, at least half grow by ≥ 10% along Bulk-SGD, and none has "
    f"more than {MAX_SHARE:.0%} of the growth of all that grow. {_UNDECIDED.format('the largest growth of λ_1')} with "
    "some seed, or fewer than half of them can be followed to the end"
)
PASSED = (
    f"every seed: mean λ_1 over the last quarter of Bulk-SGD's branch ≤ {PASSES:.0%} of that over the quarter before"
)
STALENESS = (
    f"every seed: each Bulk-SGD whose mean overlap ≥ {MIN_OVERLAP:g} has a drop within {WITHIN:.0%} of that with a "
    f"refresh at each step, and a mean λ_1 over the last quarter within {WITHIN:.0%} of it. Undecided if no run "
    "but that with a refresh at each step has such an overlap"
)
CARRIES = "every seed: lead > 0, and the loss falls under both"
ENERGIES = (
    "every seed, medians over the last half of SGD: fraction_dominant ≥ 0.9 for H and for H_o; energy_total of H_o ≥ 5 "
    "times that of H_f; fraction_dominant of H_f < that of H_o"
)
AMPLIFY = (
    "every seed, means over the first 1,000 steps: Bulk-LR > Dom-LR for sign descent, RMSprop, Lion, Muon and Shampoo"
)

BATCHES_ALIGN = (
    f"every seed: median χ_k(∇L) over the last half of SGD ≥ {MIN_ALIGNMENT:g} at the smallest batch, "
    f"≤ {MAX_LARGE_BATCH:g} at the largest, and from one batch to the next larger one it rises by ≤ {RISE:g}"
)
_COMPONENTS = f"Dom-'s drop ≤ {MAX_DOM_DROP:.0%} and Bulk-'s ≥ {MIN_BULK_DROP:.0%} of that of the whole update"
BATCHES_SWITCH = (
    f"every batch size and seed: {_COMPONENTS}, SGD's. Undecided if SGD's drop < {LEAST_DROP:g} with some of them"
)
REMEMBERED = f"momentum and Adam, every seed: {_COMPONENTS}. Undecided if that drop < {LEAST_DROP:g} with some of them"


# ---------------------------------------------------------------- numbers of a branch
def drop(panel: Panel, label: str) -> float:
    """`branches.drop`, if it exists."""
    completed(panel, label)
    values(panel, label, "loss", after_switch=True)
    return _there(branches.drop(panel.runs[label]), label, "drop in log-loss")


def growth(panel: Panel, label: str) -> float:
    """`branches.growth`, if it exists."""
    completed(panel, label)
    values(panel, label, "eigenvalues", after_switch=True)
    return _there(branches.growth(panel.runs[label]), label, "growth of λ_1")


def lead(panel: Panel, bulk: str, sgd: str) -> float:
    """How much more the loss fell under Bulk-SGD than under SGD."""
    return drop(panel, bulk) - drop(panel, sgd)


def _there(number: float, label: str, what: str) -> float:
    if not np.isfinite(number):
        raise NotMeasured(f"{label} has no {what}")
    return number


def _untold(what: str, value: float, least: float) -> None:
    if value < least:
        raise Undecided(f"{what} {value:.3f} is below {least:.3f}")


# ---------------------------------------------------------------- statements
def regularised(panel: Panel) -> Part:
    """open-regularisation: some remedy stops the growth of sharpness at little cost."""
    labels = [BULK_SGD, *(label for label in REMEDIES if label in panel.families)]
    found: dict[str, list[Part]] = {label: [] for label in labels[1:]}
    for varied, single in alike(panel, ["seed", "learning_rate"], labels):
        with locating_gaps(in_words(varied)):
            plain = growth(single, BULK_SGD), drop(single, BULK_SGD)
            _untold(f"{BULK_SGD}'s growth", plain[0], LEAST_GROWTH)
            for label, parts in found.items():
                if diverged_at(single, label) is not None:
                    parts.append((False, "diverged"))
                    continue
                grown, dropped = growth(single, label) / plain[0], drop(single, label)
                ratio = f"{dropped / plain[1]:.0%}" if plain[1] > 0 else f"a drop of {dropped:.3f}, not {plain[1]:.3f}"
                held = grown <= MAX_GROWTH and dropped >= MIN_DROP * plain[1]
                parts.append((held, f"{grown:.0%} and {ratio}"))
    holds = [label for label, parts in found.items() if all(held for held, _ in parts)]
    each = "; ".join(f"{label}: {', '.join(text for _, text in parts)}" for label, parts in found.items())
    which = f"by {', '.join(holds)}" if holds else "by none"
    return bool(holds), f"{which}. Growth and drop relative to plain Bulk-SGD's, a pair for each seed and rate: {each}"


def scheduled(panel: Panel) -> Part:
    """open-schedule: some schedule of the weights beats every constant pair."""
    for label in (CONSTANT, *SCHEDULES):
        if not panel.families.get(label):
            raise NotMeasured(f"there are no runs {label}")
    constants = {
        (a, b): _ends([m for m in panel.families[CONSTANT] if (m.varied["alpha_dom"], m.varied["beta_bulk"]) == (a, b)])
        for a, b in dict.fromkeys((m.varied["alpha_dom"], m.varied["beta_bulk"]) for m in panel.families[CONSTANT])
    }
    lowest = np.nanmin([loss for loss, _ in constants.values()], axis=0)  # with each seed
    best = min(constants, key=lambda pair: _mean(constants[pair][0]))
    accurate = max(_mean(accuracy, -inf) for _, accuracy in constants.values())
    beats, agree, texts = [], True, []
    for label in SCHEDULES:
        loss, accuracy = _ends(panel.families[label])
        ahead = _mean(accuracy, -inf) > accurate
        if ahead and bool((loss < lowest).all()):
            beats.append(label)
        elif ahead and _mean(loss) < _mean(constants[best][0]):
            agree = False
        texts.append(f"{label} {_mean(loss):.4g} and {_mean(accuracy, 0):.2%}")
    measured = (
        f"means over {len(lowest)} seeds of loss and test accuracy at the end: of the constants the lowest loss "
        f"{_mean(constants[best][0]):.4g} at ({best[0]:g}, {best[1]:g}), the best accuracy {accurate:.2%}; "
        + "; ".join(texts)
    )
    if not beats and not agree:
        raise Undecided(f"seeds disagree; {measured}")
    return bool(beats), f"by {', '.join(beats) or 'none'}; {measured}"


def _ends(members: Sequence[Member]) -> tuple[np.ndarray, np.ndarray]:
    """The last training losses and test accuracies, by seed; infinite and 0 where a run diverged."""
    ordered = sorted(members, key=lambda member: member.varied["seed"])
    gone = [member.run.attrs["status"] == "diverged" for member in ordered]
    return (
        np.array([inf if g else float(m.run.loss[-1]) for g, m in zip(gone, ordered, strict=True)]),
        np.array([0.0 if g else float(m.run.test_accuracy[-1]) for g, m in zip(gone, ordered, strict=True)]),
    )


def _mean(numbers: np.ndarray, otherwise: float = inf) -> float:
    return float(numbers.mean()) if len(numbers) else otherwise


def functional_growth(panel: Panel) -> Part:
    """open-functional-growth: the growth of sharpness under Bulk-SGD rises with c."""

    def judged(single: Panel) -> tuple[list[Part], dict[str, float]]:
        whole = growth(single, BULK_SGD)
        _untold("the growth at c = 1", whole, LEAST_GROWTH)
        half, double = growth(single, f"{BULK_SGD}, c = ½"), growth(single, f"{BULK_SGD}, c = 2")
        text = f"growth {half:.3f}, {whole:.3f} and {double:.3f} at c = ½, 1 and 2"
        shares = {"growth at c = ½ over that at c = 1": half / whole, "at c = 2": double / whole}
        return [(half <= SMALLER * whole and double >= LARGER * whole, text)], shares

    return every_seed(panel, [BULK_SGD, f"{BULK_SGD}, c = ½", f"{BULK_SGD}, c = 2"], judged)


def functional_lead(panel: Panel) -> Part:
    """open-functional-lead: without H_f Bulk-SGD has no lead over SGD."""
    labels = [SGD, BULK_SGD, f"{SGD}, c = 0", f"{BULK_SGD}, c = 0"]

    def judged(single: Panel) -> tuple[list[Part], dict[str, float]]:
        whole, none = lead(single, BULK_SGD, SGD), lead(single, labels[3], labels[2])
        _untold("the lead at c = 1", whole, LEAST_LEAD)
        return [(none <= MAX_LEAD * whole, f"lead {none:.3f} at c = 0, {whole:.3f} at c = 1")], {
            "lead at c = 0 over that at c = 1": none / whole
        }

    return every_seed(panel, labels, judged)


def many_directions(panel: Panel) -> Part:
    """open-eigenvalues-many: the growth of sharpness is of many directions."""

    def judged(single: Panel) -> tuple[list[Part], dict[str, float]]:
        eigenvalues = values(single, BULK_SGD, "track_eigenvalues").values
        _untold("the growth of λ_1", log(eigenvalues[:, 0].max() / eigenvalues[0, 0]), LEAST_GROWTH)
        k = single.runs[BULK_SGD].sizes["index"] // 2
        places = follow(single.runs[BULK_SGD].track_overlaps.values)[-1, :k]
        kept = np.flatnonzero(places >= 0)
        if len(kept) < k / 2:
            raise Undecided(f"{len(kept)} of {k} directions can be followed to the end")
        begin, end = eigenvalues[0, kept], eigenvalues[-1, places[kept]]
        grown, rise = int((end >= RISES * begin).sum()), np.clip(end - begin, 0, None)
        share = float(rise.max() / rise.sum()) if rise.sum() else 1.0
        text = (
            f"{grown} of {k} directions grew by 10% ({len(kept)} could be followed), the largest share is {share:.0%}"
        )
        return [(grown >= k / 2 and share <= MAX_SHARE, text)], {"directions that grew": grown, "largest share": share}

    return every_seed(panel, [BULK_SGD], judged)


def growth_passes(panel: Panel) -> Part:
    """open-eigenvalues-pass: the growth of sharpness ends."""

    def judged(single: Panel) -> tuple[list[Part], dict[str, float]]:
        half = values(single, BULK_SGD, "track_eigenvalues", 0.5, after_switch=True).isel(track=0)
        steps = half.track_step.values
        late = steps >= (steps[0] + steps[-1]) / 2
        before, after = float(half[~late].mean()), float(half[late].mean())
        ratio = after / before
        return [(ratio <= PASSES, f"mean λ_1 {before:.4g}, then {after:.4g} ({ratio:.1%})")], {"ratio": ratio}

    return every_seed(panel, [BULK_SGD], judged)


def staleness(panel: Panel) -> Part:
    """open-refresh: a stale subspace costs nothing down to a mean overlap of 0.99."""
    labels = [EACH_STEP, *(label for label in STALE if label in panel.families)]

    def judged(single: Panel) -> tuple[list[Part], dict[str, float]]:
        dropped, grown = drop(single, EACH_STEP), growth(single, EACH_STEP)
        parts = []
        for label in labels[1:]:
            overlap = branches.mean_overlap(single.runs[label])
            if not overlap >= MIN_OVERLAP:  # also where none was found
                continue
            own = drop(single, label) / dropped, exp(growth(single, label) - grown)  # from the same λ_1 at the switch
            text = f"{label} (mean overlap {overlap:.4f}) {own[0]:.1%} of the drop, {own[1]:.1%} of λ_1"
            parts.append((max(abs(ratio - 1) for ratio in own) <= WITHIN, text))
        if not parts:
            raise Undecided(f"no run has a mean overlap of {MIN_OVERLAP:g}")
        return parts, {}

    return every_seed(panel, labels, judged, may_diverge=True)  # a run whose overlap is too small may


def lead_carries_over(panel: Panel) -> Part:
    """open-architectures-lead: Bulk-SGD is ahead of SGD."""

    def judged(single: Panel) -> tuple[list[Part], dict[str, float]]:
        sgd, bulk = drop(single, SGD), drop(single, BULK_SGD)
        return [(bulk > sgd > 0, f"drop {bulk:.3f} under Bulk-SGD, {sgd:.3f} under SGD")], {"lead": bulk - sgd}

    return every_seed(panel, [SGD, BULK_SGD], judged)


def energies_carry_over(panel: Panel) -> Part:
    """open-architectures-energy: as the two claims of Zakarin & Singh on energies."""
    return all_of(energy_concentrates(panel), gauss_newton_carries(panel))


def batches_align(panel: Panel) -> Part:
    """open-batch-alignment: the larger the batch, the less the gradient aligns."""
    found: dict[float, dict[float, float]] = {}  # by seed and batch size
    for varied, single in alike(panel, ["seed", "batch_size"], [SGD]):
        with locating_gaps(in_words(varied)):
            completed(single, SGD)
            median = float(values(single, SGD, "alignment", 0.5).median())
            found.setdefault(varied["seed"], {})[varied["batch_size"]] = median
    parts = []
    for seed, medians in found.items():
        ordered = [medians[size] for size in sorted(medians)]
        falls = all(larger <= smaller + RISE for smaller, larger in pairwise(ordered))
        texts = (f"{median:.3f} at {size:,g}" for size, median in sorted(medians.items()))
        holds = falls and ordered[0] >= MIN_ALIGNMENT and ordered[-1] <= MAX_LARGE_BATCH
        parts.append((holds, f"seed {seed:g}: median χ_k {', '.join(texts)}"))
    return all_of(*parts)


def batches_switch(panel: Panel) -> Part:
    """open-batch-switch: whatever the batch, Dom-SGD stops training and Bulk-SGD trains."""
    parts = []
    for varied, single in alike(panel, ["seed", "batch_size"], [SGD, *(part + SGD for part in COMPONENTS)]):
        with locating_gaps(in_words(varied)):
            holds, text = _components(single, SGD)
        parts.append((holds, f"{in_words(varied)}: {text}"))
    return all_of(*parts)


def remembering_rules(panel: Panel) -> Part:
    """open-momentum-branches: momentum and Adam stop training under Dom-, and train under Bulk-."""

    def judged(single: Panel) -> tuple[list[Part], dict[str, float]]:
        return [_components(single, rule) for rule in REMEMBERING], {}

    return every_seed(panel, [part + rule for rule in REMEMBERING for part in ("", *COMPONENTS)], judged)


def _components(single: Panel, rule: str) -> Part:
    """The drops under the two components of an update, relative to that under the whole."""
    whole = drop(single, rule)
    _untold(f"{rule}'s drop", whole, LEAST_DROP)
    dom, bulk = (drop(single, part + rule) / whole for part in COMPONENTS)
    text = f"{rule}'s drop {whole:.3f}, of that Dom-{rule} {dom:.1%}, Bulk-{rule} {bulk:.1%}"
    return dom <= MAX_DOM_DROP and bulk >= MIN_BULK_DROP, text


def amplify(panel: Panel) -> Part:
    """open-optimizers: other optimizers amplify the bulk too."""

    def judged(single: Panel) -> tuple[list[Part], dict[str, float]]:
        found = {label: rates(single, label) for label in OPTIMIZERS}
        parts = [
            (r.bulk_mean > r.dom_mean, f"{label}: Bulk-LR {r.bulk_mean:.4g}, Dom-LR {r.dom_mean:.4g}")
            for label, r in found.items()
        ]
        return parts, {f"{label}'s Bulk-LR": r.bulk_mean for label, r in found.items()}

    return every_seed(panel, OPTIMIZERS, judged)
