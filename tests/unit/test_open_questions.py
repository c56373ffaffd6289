"""Statements on what the papers leave open: what holds, what does not, and what stays undecided, from made-up runs; and
their figures, which draw what the runs have."""

from __future__ import annotations

import json
from dataclasses import replace
from math import e, log

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from analysis import claims
from analysis.claims import open_questions
from analysis.claims.measured import NotMeasured
from analysis.figures import batch_sizes, families, functional_hessian, remedies, rule_branches, schedules, staleness
from analysis.runs import branches
from analysis.runs.panels import Member, Panel
from analysis.runs.tracks import follow
from tests.unit.test_figures import segment

SEEDS = (0, 1, 2)
STEPS = np.arange(10, 51, 5)


def run(*, drop: float = 1.0, growth: float = 0.5, overlap: float = 1.0, accuracy: float = 0.9, **more) -> xr.Dataset:
    """From a switch at step 10: ln loss falls and ln λ_1 rises at once, and then both stay."""
    late = STEPS > 10
    eigenvalues = np.ones((len(STEPS), 4))
    eigenvalues[:, 0] = 20 * np.exp(growth * late)
    template = segment("SGD", 0, 10)
    made = xr.Dataset(
        {
            "loss": ("step", 0.5 * np.exp(-drop * late)),
            "gradient_norm": ("step", np.ones(len(STEPS))),
            "eigenvalues": (("spectrum_step", "index"), eigenvalues),
            "test_accuracy": ("test_step", [0.5, accuracy]),
            "overlap": ("refresh_step", [np.nan, overlap]),
            "refresh_products": ("refresh_step", [10, 10]),
            **more,
        },
        coords={
            "step": STEPS,
            "spectrum_step": STEPS,
            "index": [1, 2, 3, 4],
            "test_step": [10, 50],
            "refresh_step": [10, 30],
        },
    )
    planned = template.attrs["specification"]
    return made.assign_attrs(
        template.attrs
        | {"switches": [10], "status": "completed", "last_step": 50, "specifications": [planned, planned]}
        | {"test_title": "the first 5"}
    )


def panel(**runs) -> Panel:
    """A family of three seeds for each label (spaces and signs by a mapping)."""
    return Panel("s", "S", {}, {}, families={k: [Member({"seed": s}, v, []) for s in SEEDS] for k, v in runs.items()})


def bends(growths: dict[str, float], leads: dict[str, float]) -> Panel:
    runs = {f"SGD{c}": run(drop=1.0, growth=0.1) for c in growths}
    runs |= {f"Bulk-SGD{c}": run(drop=1.0 + leads[c], growth=growths[c]) for c in growths}
    return panel(**runs)


CS = ("", ", c = 0", ", c = ½", ", c = 2")


def bent(*growths: float, leads: tuple[float, ...] = (0.1, 0.02, 0.05, 0.2)) -> Panel:
    return bends(dict(zip(CS, growths, strict=True)), dict(zip(CS, leads, strict=True)))


def test_numbers_of_a_branch():
    one = run(drop=1.5, growth=0.25, overlap=0.75)
    assert branches.drop(one) == pytest.approx(1.5)
    assert branches.growth(one) == pytest.approx(0.25)
    assert branches.late_sharpness(one) == pytest.approx(20 * e**0.25)
    assert branches.mean_overlap(one) == 0.75
    assert np.isnan(branches.drop(one.assign_attrs(status="diverged")))


def test_growth_by_c():
    holds, text = open_questions.functional_growth(bent(0.4, 0.0, 0.3, 0.5))
    assert holds
    assert "seed 0: growth 0.300, 0.400 and 0.500 at c = ½, 1 and 2" in text
    assert not open_questions.functional_growth(bent(0.4, 0.0, 0.31, 0.5))[0]
    assert not open_questions.functional_growth(bent(0.4, 0.0, 0.3, 0.49))[0]
    with pytest.raises(NotMeasured, match=r"seed 0: undecided: the growth at c = 1 0\.090 is below 0\.095"):
        open_questions.functional_growth(bent(0.09, 0.0, 0.0, 0.5))


def test_lead_by_c():
    assert open_questions.functional_lead(bent(1, 1, 1, 1, leads=(0.1, 0.024, 0, 0)))[0]
    assert not open_questions.functional_lead(bent(1, 1, 1, 1, leads=(0.1, 0.026, 0, 0)))[0]
    with pytest.raises(NotMeasured, match="undecided: the lead"):
        open_questions.functional_lead(bent(1, 1, 1, 1, leads=(0.019, 0, 0, 0)))


def rated(**runs) -> Panel:
    one = panel(**runs)
    families = {
        label: [
            Member({"seed": m.varied["seed"], "learning_rate": rate}, m.run, []) for m in family for rate in (0.1, 0.2)
        ]
        for label, family in one.families.items()
    }
    return replace(one, families=families)


def test_a_remedy_has_to_stop_the_growth_and_keep_the_drop():
    plain = run(drop=1.0, growth=0.4)
    works = rated(**{"Bulk-SGD": plain, "cosine": run(drop=0.91, growth=0.19), "η capped": run(drop=0.89, growth=0.1)})
    holds, text = open_questions.regularised(works)
    assert holds
    assert text.startswith("by cosine.")
    assert not open_questions.regularised(rated(**{"Bulk-SGD": plain, "cosine": run(drop=0.91, growth=0.21)}))[0]
    gone = run().assign_attrs(status="diverged", diverged_at=20)
    assert "diverged" in open_questions.regularised(rated(**{"Bulk-SGD": plain, "cosine": gone}))[1]
    rises = run(drop=-0.5, growth=0.4)  # a loss that rises under plain Bulk-SGD
    for drop, expected in ((0.3, True), (-1.0, False)):
        kept = rated(**{"Bulk-SGD": rises, "cosine": run(drop=drop, growth=0.1)})
        holds, text = open_questions.regularised(kept)
        assert holds is expected
        assert f"a drop of {drop:.3f}, not -0.500" in text
    with pytest.raises(NotMeasured, match=r"seed 0, learning rate 0\.1: undecided"):
        open_questions.regularised(rated(**{"Bulk-SGD": run(growth=0.05), "cosine": plain}))


def weighed(best: float, accuracy: float, disagree: bool = False) -> Panel:
    constants = [
        Member({"seed": s, "alpha_dom": a, "beta_bulk": 1.0}, run(drop=1.0 + a, accuracy=0.8 + a / 10), [])
        for s in SEEDS
        for a in (0.0, 1.0)
    ]
    families = {label: [Member({"seed": s}, run(), []) for s in SEEDS] for label in open_questions.SCHEDULES}
    families["step to (1, 1)"] = [
        Member({"seed": s}, run(drop=1.9 if disagree and s == 2 else best, accuracy=accuracy), []) for s in SEEDS
    ]
    return Panel("s", "S", {}, {}, families={"constant": constants, **families})


def test_a_schedule_has_to_be_ahead_in_both():
    assert open_questions.scheduled(weighed(2.1, 0.95))[1].startswith("by step to (1, 1);")
    assert not open_questions.scheduled(weighed(2.1, 0.9))[0]
    assert not open_questions.scheduled(weighed(1.9, 0.95))[0]
    with pytest.raises(NotMeasured, match="undecided: seeds disagree"):
        open_questions.scheduled(weighed(2.3, 0.95, disagree=True))


def test_staleness_is_judged_where_the_overlap_is_large():
    each, good = run(drop=1.0), run(drop=1.05, overlap=0.995)
    bad = run(drop=2.0, overlap=0.98)
    assert open_questions.staleness(panel(**{"every step": each, "10 steps": good, "100 steps": bad}))[0]
    off = run(drop=1.0, growth=0.61, overlap=0.995)
    assert not open_questions.staleness(panel(**{"every step": each, "10 steps": off}))[0]
    with pytest.raises(NotMeasured, match="undecided: no run"):
        open_questions.staleness(panel(**{"every step": each, "100 steps": bad}))


def tracked(ends: list[float], swap: bool = False) -> Panel:
    """Four directions, of which the first two are dominant; they have these eigenvalues at the end."""
    begin = np.array([20.0, 10.0, 2.0, 1.0])
    values = np.linspace(begin, ends, 9)
    overlaps = np.tile(np.eye(4), (9, 1, 1))
    if swap:  # the first becomes a mixture
        overlaps[4] = [[0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    coords = {"track_step": np.arange(10, 51, 5), "track": [1, 2, 3, 4]}
    one = run(
        track_eigenvalues=(("track_step", "track"), values),
        track_overlaps=(("track_step", "track", "before"), overlaps),
    )
    return panel(**{"Bulk-SGD": one.assign_coords(coords)})


def test_directions_that_grow():
    assert open_questions.many_directions(tracked([24, 14, 2, 1]))[0]
    assert not open_questions.many_directions(tracked([30, 12, 2, 1]))[0], "one has 5/6 of the growth"
    with pytest.raises(NotMeasured, match="undecided: the growth of λ_1"):
        open_questions.many_directions(tracked([21, 14, 2, 1]))
    with pytest.raises(NotMeasured, match="undecided: 0 of 2 directions can be followed"):
        open_questions.many_directions(tracked([24, 14, 2, 1], swap=True))


def test_growth_that_ends():
    assert open_questions.growth_passes(tracked([22, 10, 2, 1]))[0]
    assert not open_questions.growth_passes(tracked([40, 10, 2, 1]))[0]


def test_vectors_are_followed_through_a_crossing_until_they_mix():
    crossing = np.array([[0.1, 0.9, 0], [0.9, 0.1, 0], [0, 0, 1]])
    mixing = np.array([[1, 0, 0], [0, 0.5, 0.5], [0, 0.5, 0.5]])
    places = follow(np.stack([np.full((3, 3), np.nan), crossing, mixing]))
    assert places.tolist() == [[0, 1, 2], [1, 0, 2], [-1, 0, -1]]


def test_a_lead_carries_over_where_both_learn():
    def lead(sgd: float, bulk: float) -> Panel:
        return panel(**{"SGD": run(drop=sgd), "Bulk-SGD": run(drop=bulk)})

    assert open_questions.lead_carries_over(lead(1.0, 1.1))[0]
    assert not open_questions.lead_carries_over(lead(1.0, 0.9))[0]
    assert not open_questions.lead_carries_over(lead(-0.2, 0.1))[0]


def test_optimizers_amplify_the_bulk():
    rates = {"dom_lr": ("rate_step", [1.0, 1.0]), "bulk_lr": ("rate_step", [2.0, 2.0])}
    one = run(**rates).assign_coords(rate_step=[10, 20])
    less = one.assign(bulk_lr=("rate_step", [0.5, 0.5]))
    runs = dict.fromkeys(open_questions.OPTIMIZERS, one)
    assert open_questions.amplify(panel(**runs))[0]
    assert not open_questions.amplify(panel(**runs | {"Lion": less}))[0]
    gone = one.assign_attrs(status="diverged", diverged_at=20)
    with pytest.raises(NotMeasured, match=r"^seed 0: Muon diverged at step 20; seed 1: Muon"):
        open_questions.amplify(panel(**runs | {"Muon": gone}))


def batched(alignments: dict[int, float], shares: dict[int, tuple[float, float]]) -> Panel:
    """By batch size: the alignment along SGD, and the shares of SGD's drop that Dom- and Bulk-SGD have."""

    def family(made) -> list[Member]:
        return [Member({"seed": s, "batch_size": size}, made(size), []) for s in (0, 1) for size in alignments]

    def sgd(size: int) -> xr.Dataset:
        early_and_late = np.where(STEPS < 30, 0.0, alignments[size])
        return run(drop=0.5, alignment=("spectrum_step", early_and_late))

    families = {"SGD": family(sgd)}
    for place, label in enumerate(("Dom-SGD", "Bulk-SGD")):
        families[label] = family(lambda size, place=place: run(drop=0.5 * shares[size][place]))
    return Panel("s", "S", {}, {}, families=families)


FINE = {10: (0.05, 1.0), 100: (-0.2, 1.5), 1000: (0.09, 0.91)}


def test_larger_batches_align_less():
    holds, text = open_questions.batches_align(batched({10: 0.9, 100: 0.94, 1000: 0.5}, FINE))
    assert holds
    assert "seed 1: median χ_k 0.900 at 10, 0.940 at 100, 0.500 at 1,000" in text
    assert not open_questions.batches_align(batched({10: 0.89, 100: 0.6, 1000: 0.1}, FINE))[0]
    assert not open_questions.batches_align(batched({10: 0.95, 100: 0.7, 1000: 0.51}, FINE))[0]
    assert not open_questions.batches_align(batched({10: 0.9, 100: 0.96, 1000: 0.1}, FINE))[0]


def test_each_batch_has_a_switch():
    aligned = {10: 0.9, 100: 0.5, 1000: 0.1}
    holds, text = open_questions.batches_switch(batched(aligned, FINE))
    assert holds
    assert "seed 0, batch size 100: SGD's drop 0.500, of that Dom-SGD -20.0%, Bulk-SGD 150.0%" in text
    assert not open_questions.batches_switch(batched(aligned, FINE | {100: (0.11, 1.0)}))[0]
    assert not open_questions.batches_switch(batched(aligned, FINE | {100: (0.0, 0.89)}))[0]


def remembering(momentum: tuple[float, ...], adam: tuple[float, ...]) -> Panel:
    """Drops under the whole update, its dominant and its bulk component."""
    aligned = {name: ("spectrum_step", np.full(len(STEPS), 0.4)) for name in ("alignment", "update_alignment")}
    drops = {"momentum": momentum, "Adam": adam}
    return panel(
        **{
            part + rule: run(drop=drop, **aligned)
            for rule, three in drops.items()
            for part, drop in zip(("", "Dom-", "Bulk-"), three, strict=True)
        }
    )


def test_momentum_and_adam_have_branches():
    assert open_questions.remembering_rules(remembering((1.0, 0.09, 0.91), (0.5, 0.04, 0.46)))[0]
    assert not open_questions.remembering_rules(remembering((1.0, 0.09, 0.91), (0.5, 0.06, 0.6)))[0]
    assert not open_questions.remembering_rules(remembering((1.0, 0.1, 0.89), (0.5, 0.0, 0.6)))[0]
    with pytest.raises(NotMeasured, match=r"seed 0: undecided: Adam's drop 0\.040 is below 0\.050"):
        open_questions.remembering_rules(remembering((1.0, 0.09, 0.91), (0.04, 0.0, 0.04)))


def test_a_verdict_that_cannot_be_told_is_not_measured():
    judged = claims._judge("open-functional-growth", bent(0.05, 0, 0, 0))
    assert judged.verdict == "not measured"
    assert "undecided" in judged.measured
    assert log(1.1) == open_questions.LEAST_GROWTH


def test_figures_draw_what_there_is():
    figure = functional_hessian.draw([bent(0.4, 0.0, 0.3, 0.5)])
    assert figure.axes[1].lines[1].get_ydata().tolist() == pytest.approx([0.1] * 4)
    assert figure.axes[2].lines[1].get_ydata().tolist() == pytest.approx([0.02, 0.05, 0.1, 0.2])
    both = rated(**{"SGD": run(), "Bulk-SGD": run(growth=0.4), "cosine": run(growth=0.1)})
    rows = remedies.table([both])
    assert len(rows) == 18
    assert {round(row["growth"], 3) for row in rows if row["run"] == "cosine"} == {0.1}
    assert len(remedies.draw([both]).axes) == 12
    drawn = schedules.draw([weighed(2.1, 0.95)]).axes[0]
    points = [line.get_xydata()[0].tolist() for line in drawn.lines if line.get_marker() == "s"]
    assert [0.5 * e**-2.1, 95.0] in [pytest.approx(point) for point in points]
    axes = staleness.draw(
        [panel(**{"every step": run(overlap=0.999), "100 steps": run(overlap=np.nan, drop=0.7)})]
    ).axes
    assert [line.get_xydata()[0].tolist() for line in axes[0].lines][::3] == [
        pytest.approx([1e-3, 1.0]),
        pytest.approx([3e-3, 0.7]),
    ]


def test_figures_tell_the_test_examples_and_which_runs_diverged():
    def diverging(one: Panel, label: str) -> Panel:
        first, *rest = one.families[label]
        gone = replace(first, run=first.run.assign_attrs(status="diverged", diverged_at=20))
        return replace(one, families=one.families | {label: [gone, *rest]})

    def texts(figure: Figure) -> str:
        return "\n".join(text.get_text() for axes in figure.axes for text in axes.texts)

    weights, stale = weighed(2.1, 0.95), panel(**{"every step": run(), "100 steps": run(overlap=0.9)})
    assert "tested on the first 5" in texts(schedules.draw([weights]))
    assert "tested on the first 5" in families.in_words(stale)
    assert "diverged" not in texts(schedules.draw([weights])) + texts(staleness.draw([stale]))
    said = "diverged, and not shown: {} (1 of 3)"
    assert said.format("edge to (1, 1)") in texts(schedules.draw([diverging(weights, "edge to (1, 1)")]))
    assert said.format("100 steps") in texts(staleness.draw([diverging(stale, "100 steps")]))
    both = rated(**{"SGD": run(), "Bulk-SGD": run(growth=0.4), "cosine": run(growth=0.1)})
    assert "tested on the first 5" in remedies.draw([both]).get_suptitle()


def test_the_figure_of_batches_has_alignments_and_drops_over_the_batch():
    aligned = {10: 0.9, 100: 0.5, 1000: 0.1}
    curves, medians, drops = batch_sizes.draw([batched(aligned, FINE)]).axes
    assert len(curves.lines) == 2 * len(aligned) + 1, "a line each, and the switch"
    assert medians.lines[0].get_xydata().tolist() == pytest.approx(np.array(list(aligned.items())))
    means = [line.get_ydata().tolist() for line in drops.lines if len(line.get_xdata()) == len(aligned)]
    expected = [[0.5] * 3, *([0.5 * FINE[size][place] for size in aligned] for place in (0, 1))]
    assert means == [pytest.approx(one) for one in expected]
    sgd = batched(aligned, FINE).families["SGD"][0].run
    assert np.isnan(batch_sizes.late_alignment(sgd.assign_attrs(status="diverged")))


def test_the_figure_of_momentum_and_adam_has_a_column_each():
    figure = rule_branches.draw([remembering((1.0, 0.09, 0.91), (0.5, 0.0, 0.6))])
    momentum, adam, *below = figure.axes
    for axes, drops in ((momentum, (1.0, 0.09, 0.91)), (adam, (0.5, 0.0, 0.6))):
        ends = [line.get_ydata()[-1] for line in axes.lines if len(line.get_xdata()) == len(STEPS)]
        assert ends == pytest.approx([0.5 * e**-drop for drop in drops] * len(SEEDS))
    for axes in below:
        assert {tuple(line.get_ydata()) for line in axes.lines[:6]} == {(0.4,) * len(STEPS)}


def test_the_specification_is_one_that_figures_read():
    assert json.loads(run().attrs["specification"])["problem"]["k"] == 2
