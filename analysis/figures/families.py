"""Families of runs in figures: the numbers in which they vary, their looks, and descriptions of how they were run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from analysis.figures import drawing, style
from analysis.figures.log_scale import LogScale
from analysis.runs.panels import Member, Panel, specification
from analysis.runs.words import how_it_was_run, refreshed, rule_name, rules, what_was_run
from sharpflat.errors import InputError

NAMES = {  # by what varies: in legends, and on an axis
    "learning_rate": ("η = ", "learning rate η"),
    "batch_size": ("B = ", "batch size B (examples)"),
    "k": ("k = ", "subspace dimension k"),
    "refresh_every": ("t = ", "refresh interval t (steps)"),
    "holdout": ("ℓ = ", "holdout size ℓ (examples)"),
    "step": ("from step ", "step of the switch"),
    "alpha_dom": ("α = ", "weight α of the dominant part"),
    "beta_bulk": ("β = ", "weight β of the bulk part"),
}
SHARED = style.BLACK  # a reference, and what runs with different values have in common
THIN, MEDIUM = drawing.THIN, 1.5
MARKERS: tuple[style.Look, ...] = (  # by label; hollow ones hide none that are equal
    {"marker": "o", "markersize": 5.5},
    {"marker": "s", "markersize": 8.5, "markerfacecolor": "none"},
    {"marker": "D", "markersize": 11.0, "markerfacecolor": "none"},
)
APART = 7.0  # points, between marks of several labels' divergences at one value

Curve = tuple[NDArray[np.int64], NDArray[np.float64]]  # steps and values


@dataclass(frozen=True)
class Scale:
    """The one number, besides the seed, that families vary in; `values` ascend."""

    name: str
    values: tuple[float, ...]

    @property
    def axis(self) -> str:
        return NAMES[self.name][1]

    def color(self, value: float) -> str:
        return dict(zip(self.values, style.shades_of(len(self.values)), strict=True))[value]

    def words(self, value: float) -> str:
        return f"{NAMES[self.name][0]}{value:,g}"


@dataclass(frozen=True)
class Line:
    """A drawn run. A run without a value is a reference, which varies at most in the seed."""

    label: str
    value: float | None
    member: Member

    @property
    def run(self) -> xr.Dataset:
        return self.member.run

    @property
    def switch(self) -> int:
        return max(self.run.attrs["switches"], default=0)

    @property
    def diverged(self) -> bool:
        return self.run.attrs["status"] == "diverged"


# ---------------------------------------------------------------- what there is
def scale_of(panels: Sequence[Panel]) -> Scale:
    """The number in which the families of all panels vary.

    Raises:
        InputError: they do not vary in exactly one number besides the seed.
    """
    varied = [member.varied for panel in panels for family in panel.families.values() for member in family]
    names = list(dict.fromkeys(name for numbers in varied for name in numbers if name != "seed"))
    if len(names) != 1 or names[0] not in NAMES:
        raise InputError(
            f"{', '.join(panel.setting for panel in panels)}: found families that vary in "
            f"{', '.join(names) or 'nothing'} besides the seed; expected one of {', '.join(NAMES)}"
        )
    (name,) = names
    return Scale(name, tuple(sorted({numbers[name] for numbers in varied if name in numbers})))


def lines_of(panel: Panel, scale: Scale) -> list[Line]:
    """All runs of a panel, grouped by label."""
    return [
        Line(label, member.varied.get(scale.name), member)
        for label, family in drawing.every_run(panel).items()
        for member in family
    ]


def _varying(lines: Iterable[Line]) -> list[str]:
    """Labels of what varies."""
    return list(dict.fromkeys(line.label for line in lines if line.value is not None))


def _several_seeds(runs: Iterable[xr.Dataset]) -> bool:
    return len({specification(run)["seed"] for run in runs}) > 1


# ---------------------------------------------------------------- over steps
def losses(axes: Axes, lines: Sequence[Line], scale: Scale) -> None:
    """Training loss on a log axis. References are drawn completely. The other runs are drawn from the switch on, and
    their common beginning is drawn once. The switch is marked; if it varies, each run's switch has a dot."""
    for line in beginnings(lines):
        before = line.run.loss.sel(step=line.run.step <= line.switch)
        look: style.Look = {"color": color(line, scale), "linewidth": _width(line, lines)}
        axes.plot(before.step, before, label=_name("before the switch", line, lines, scale), zorder=1.9, **look)
    looks = _looks(lines)
    for line in lines:
        loss = line.run.loss if line.value is None else drawing.since_switch(line.run, "loss")
        look = {"linestyle": looks[line.label]["linestyle"], "linewidth": _width(line, lines)}
        axes.plot(loss.step, loss, label=_name(line.label, line, lines, scale), color=color(line, scale), **look)
        style.mark_divergence(axes, line.run, color(line, scale))
    drawing.log_losses(axes, [line.run for line in lines])
    switched = [line for line in lines if line.value is not None]
    if scale.name != "step":
        drawing.switch(axes, [line.run for line in switched])
        return
    for line in switched:
        at = drawing.since_switch(line.run, "loss")[:1]
        axes.plot(at.step, at, **_dot(color(line, scale)), zorder=3)


def color(line: Line, scale: Scale) -> str:
    """Colour of a run's value; black for a reference."""
    return SHARED if line.value is None else scale.color(line.value)


def _name(label: str, line: Line, lines: Iterable[Line], scale: Scale) -> str:
    """A line's name where it is read off: its label, value and, if there are several, its seed."""
    words = [label] if line.value is None else [label, scale.words(line.value)]
    if _several_seeds(other.run for other in lines if other.label == line.label):
        words.append(f"seed {specification(line.run)['seed']}")
    return ", ".join(words)


def _width(line: Line, lines: Iterable[Line]) -> float:
    return THIN if _several_seeds(other.run for other in lines if other.label == line.label) else MEDIUM


def _dot(color: str) -> style.Look:
    return {"color": color, "marker": "o", "markersize": 5, "markeredgecolor": "white", "markeredgewidth": 0.6}


def beginnings(lines: Sequence[Line]) -> list[Line]:
    """The beginnings before the switches, without repetitions. The longest run with a beginning represents it.

    A beginning that runs with several values share has no value. Beginnings of references are left out.
    """
    groups: list[list[tuple[Line, Curve]]] = []
    for line in sorted(lines, key=lambda one: (one.value is not None, -one.switch)):  # references first
        steps, values = line.run.step.values, line.run.loss.values
        known = steps <= line.switch if line.value is not None else np.full(len(steps), True)
        curve = steps[known], values[known]
        if len(curve[0]) < 2:  # no line, and might be the beginning of any
            continue
        for group in groups:
            if _agree(group[0][1], curve):
                group.append((line, curve))
                break
        else:
            groups.append([(line, curve)])
    found = []
    for (first, _), *others in groups:
        if first.value is not None:
            shared = any(line.value != first.value for line, _ in others)
            found.append(Line(first.label, None if shared else first.value, first.member))
    return found


def _agree(one: Curve, other: Curve) -> bool:
    """Whether two curves have the same values at the steps that both have."""
    _, mine, its = np.intersect1d(one[0], other[0], assume_unique=True, return_indices=True)
    return np.allclose(one[1][mine], other[1][its], rtol=1e-6, equal_nan=True)


# ---------------------------------------------------------------- over what varies
def over(
    axes: Axes,
    lines: Sequence[Line],
    scale: Scale,
    measure: Callable[[xr.Dataset], float],
    diverged_at: float | None = None,
) -> None:
    """A number of each run over the varied number, with a mark for each run and a line through the means over seeds.

    A reference is a horizontal line. If a run has no number (NaN), the line is broken.

    Args:
        axes: the panel.
        lines: runs.
        scale: the varied number.
        measure: the number of a run, or NaN.
        diverged_at: height, as a fraction of the panel, at which runs without a number that diverged are marked.
    """
    labels, looks = _varying(lines), _looks(lines)
    for place, label in enumerate(labels):
        own = [line for line in lines if line.label == label and line.value is not None]
        numbers = [(line.value or 0.0, measure(line.run), line.diverged) for line in own]
        values = sorted({value for value, _, _ in numbers})
        means = [float(np.mean([y for x, y, _ in numbers if x == value])) for value in values]
        look: style.Look = {"color": style.GREY, "linestyle": looks[label]["linestyle"], "linewidth": 1.0}
        axes.plot(values, means, label=label, zorder=2, **look)
        aside = ScaledTranslation(APART * (place - (len(labels) - 1) / 2) / 72, 0, axes.figure.dpi_scale_trans)
        mark = MARKERS[place % len(MARKERS)]
        for value, number, diverged in numbers:
            look = {"color": scale.color(value), "linestyle": "none"}
            if np.isfinite(number):
                axes.plot(value, number, zorder=3, **look, **mark)
            elif diverged and diverged_at is not None:
                where = axes.get_xaxis_transform() + aside
                axes.plot(value, diverged_at, marker="x", label=style.DIVERGED, transform=where, zorder=3, **look)
    for line in lines:
        if line.value is None and np.isfinite(height := measure(line.run)):
            dashes = looks[line.label]["linestyle"]
            axes.axhline(height, color=SHARED, linestyle=dashes, linewidth=THIN, zorder=1)
    _axis(axes, scale)
    if not any(np.isfinite(measure(line.run)) for line in lines):
        axes.set_ylim(0.1, 1)  # a log axis needs some


def _axis(axes: Axes, scale: Scale) -> None:
    axes.set_xscale(LogScale() if scale.values[0] > 0 else "linear")
    axes.xaxis.set_major_locator(FixedLocator(list(scale.values)))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{value:,g}" for value in scale.values]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params("x", labelsize=7)
    axes.set_xlabel(scale.axis)
    axes.margins(x=0.08, y=0.14)


def last(run: xr.Dataset, variable: str, factor: float = 1.0) -> float:
    """The last value of a variable along steps, times `factor`; NaN if the run diverged or has none."""
    values = run[variable].values
    values = values[np.isfinite(values)]
    return factor * float(values[-1]) if len(values) and run.attrs["status"] != "diverged" else float("nan")


def at_the_end(lines: Sequence[Line]) -> str:
    """The step of the last values that `over` shows, if it is the same for all runs."""
    steps = {int(line.run.step[-1]) for line in lines if not line.diverged and line.run.sizes["step"]}
    text = f"at step {min(steps):,}" if len(steps) == 1 else "at the end"
    return f"{text}; line: mean" if _several_seeds(line.run for line in lines if line.value is not None) else text


# ---------------------------------------------------------------- in words
def legend(figure: Figure, panels: Sequence[Panel], scale: Scale) -> None:
    """The legend of all colours, dashes and marks, without repetitions."""
    found = dict(entry for panel in panels for entry in _entries(lines_of(panel, scale), scale))
    style.legend_below(figure, list(found.items()))


def _looks(lines: Sequence[Line]) -> dict[str, style.Look]:
    return style.looks_of(line.label for line in lines)


def _entries(lines: Sequence[Line], scale: Scale) -> Iterator[tuple[str, style.Look]]:
    """Entries of the legend: references, labels, values, and the shared beginning."""
    looks = _looks(lines)
    for label in dict.fromkeys(line.label for line in lines if line.value is None):
        yield label, {"color": SHARED, "linestyle": looks[label]["linestyle"], "linewidth": MEDIUM}
    for line in beginnings(lines):
        if line.value is None:
            yield f"{rule_name(rules(line.run)[0])} before the switch", {"color": SHARED, "linewidth": MEDIUM}
    labels = _varying(lines)
    for place, label in enumerate(labels):
        dashes = looks[label]["linestyle"]
        yield label, {"color": style.GREY, "linestyle": dashes, "linewidth": MEDIUM, **MARKERS[place % len(MARKERS)]}
    for value in scale.values:
        dot = _dot(scale.color(value)) if scale.name == "step" else {"color": scale.color(value)}
        yield scale.words(value), {"linewidth": 2.0, **dot}


def in_words(panel: Panel) -> list[str]:
    """Lines that describe how all runs of a panel were made: problem, test examples, update rules, seeds and subspaces,
    with the values of the varied number."""
    runs = {label: [member.run for member in family] for label, family in drawing.every_run(panel).items()}
    problem = together(what_was_run(run) for own in runs.values() for run in own)
    made = {label: f"{_rules(own)}, {_seeds(own)}" for label, own in runs.items()}
    subspaces = {label: _subspaces(own) for label, own in runs.items()}
    alike = len(set(made.values())) == 1
    lines = [*problem.splitlines(), *drawing.tested_in_words(run for own in runs.values() for run in own)]
    return [*lines, *(list(made.values())[:1] if alike else _by_text(made)), *_by_text(subspaces)]


def height(panel: Panel) -> float:
    """Height of these lines in inches."""
    return style.LINE_HEIGHT * len(in_words(panel)) / 72


def _rules(runs: Sequence[xr.Dataset]) -> str:
    """The update rules of a label's runs in order, segment by segment."""
    described = []
    for run in runs:
        each = run.attrs.get("specifications", [run.attrs["specification"]])
        described.append([how_it_was_run(run.assign_attrs(specifications=[one])) for one in each])
    if len({len(own) for own in described}) > 1:
        return together(how_it_was_run(run) for run in runs)
    return ", then ".join(dict.fromkeys(together(texts) for texts in zip(*described, strict=True)))


def _subspaces(runs: Sequence[xr.Dataset]) -> str:
    """The dominant subspaces with which a label's updates were filtered; empty if they were not filtered."""
    described = []
    for planned in map(specification, runs):
        if (weights := planned["filter"]) is not None:
            k = weights["k"] or planned["problem"]["k"]
            described.append(f"k = {k}, refreshed {refreshed(weights)}")
    if not described:
        return ""
    converged = np.concatenate([run.refresh_converged.values for run in runs])
    missed = int((converged == 0).sum())
    return together(described) + (f" ({missed:,} of {len(converged):,} not converged)" if missed else "")


def _seeds(runs: Sequence[xr.Dataset]) -> str:
    seeds = [str(seed) for seed in sorted({specification(run)["seed"] for run in runs})]
    return f"seeds {_list(seeds, 'and')} (a thin line each)" if len(seeds) > 1 else f"seed {seeds[0]}"


def _by_text(texts: Mapping[str, str]) -> list[str]:
    """A line for each text, with its labels before it."""
    labels: dict[str, list[str]] = {}
    for label, text in texts.items():
        labels.setdefault(text, []).append(label)
    return [f"{', '.join(those)}: {text}" for text, those in labels.items() if text]


def together(texts: Iterable[str]) -> str:
    """Joins texts that differ in a few words: "lr 0.1, batch 5" and "lr 0.2, batch 5" are "lr 0.1 or 0.2, batch 5"."""
    distinct = [text.split(" ") for text in dict.fromkeys(texts)]
    if len({len(words) for words in distinct}) > 1:
        return "; ".join(" ".join(words) for words in distinct)
    return " ".join(_one_of(words) for words in zip(*distinct, strict=True))


def _one_of(words: Sequence[str]) -> str:
    comma = "," if words[0].endswith(",") else ""
    return _list(list(dict.fromkeys(word.removesuffix(",") for word in words)), "or") + comma


def _list(words: Sequence[str], link: str) -> str:
    return f"{', '.join(words[:-1])} {link} {words[-1]}" if len(words) > 1 else words[0]
