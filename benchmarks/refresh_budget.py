"""Compares refreshes by an accuracy with a refresh at each step, along the papers' dynamics: the numbers of
docs/refresh.md.

    python benchmarks/refresh_budget.py run --data-dir DIR     # DIR holds MNIST/raw/*-ubyte; an hour or two on one core
    python benchmarks/refresh_budget.py draw                   # docs/refresh.json, the table, the figure

`run` makes one run after the other, the most telling first, and writes each into a file of its own when it is done; it
leaves out those that are there, so it can be stopped at any time. `draw` takes what there is.
"""

from __future__ import annotations

import argparse
import json
import os
from math import log, nan
from pathlib import Path
from statistics import mean
from typing import Any

from dynamics import DYNAMICS, Ours, Plain, Run, begin, one_thread

STEPS = {"sgd": 200, "gd": 60, "sam": 60, "zs": 200, "ce": 60}
BRANCHES = ("Bulk", "Dom")
PLAIN, EACH_STEP = "plain", {"refresh_every": 1}
PAGE, NUMBERS, FIGURE = Path("docs/refresh.md"), Path("docs/refresh.json"), Path("docs/images/refresh.png")
BEGIN, END = "<!-- table: benchmarks/refresh_budget.py draw -->", "<!-- end of table -->"
ERRORS, OVERLAPS = (0.02, 0.05, 0.1), (0.9999, 0.9995, 0.999)
# In the order in which they are run.
BUDGETS: list[dict[str, Any]] = [
    {"refresh_error": 0.05},
    {"refresh_overlap": 0.9995},
    {"refresh_error": 0.02},
    {"refresh_error": 0.1},
    {"refresh_overlap": 0.999},
    {"refresh_overlap": 0.9999},
]


def label(when: dict[str, Any]) -> str:
    """A way of refreshing, as names of files have it: "refresh_error=0.05"."""
    [(name, value)] = when.items()
    return f"{name}={value:g}"


def runs(only: list[str]) -> list[tuple[str, str | None, dict[str, Any]]]:
    """Dynamics, branch (None: the plain continuation) and way of refreshing."""
    first = [(name, branch, EACH_STEP) for name in only for branch in (None, *BRANCHES)]
    paper = [("zs", branch, {"refresh_every": 10}) for branch in BRANCHES if "zs" in only]
    return first + paper + [(name, branch, when) for when in BUDGETS for name in only for branch in BRANCHES]


def run(args: argparse.Namespace) -> None:
    """Makes the runs that are not there yet."""
    one_thread()
    args.folder.mkdir(parents=True, exist_ok=True)
    for name, branch, when in runs(args.only):
        way = PLAIN if branch is None else label(when)
        path = args.folder / f"{name}-{branch or PLAIN}-{way}.json"
        if path.exists():
            continue
        dynamics = DYNAMICS[name]
        problem, state = begin(dynamics, name, args.data_dir, args.folder)
        tracker = Plain() if branch is None else Ours(problem, when, dynamics.tolerance)
        made = Run(dynamics, problem, state, tracker, branch)
        for _ in range(STEPS[name]):
            made.advance()
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps({"dynamics": name, "way": way, **made.record()}) + "\n")
        os.replace(partial, path)
        worst = max((gap for gap, _ in made.distances.values()), default=nan)
        print(f"{path.stem}: {made.cpu:.0f} s, {made.tracker.products} products, 1 − overlap ≤ {worst:.1e}", flush=True)


def gathered(folder: Path) -> list[dict[str, Any]]:
    """All runs that there are, with what the table and the figure need of them."""
    files = [json.loads(path.read_text()) for path in sorted(folder.glob("*-*-*.json"))]
    order = [PLAIN, label(EACH_STEP), "refresh_every=10", *(f"refresh_error={value:g}" for value in ERRORS)]
    order += [f"refresh_overlap={value:g}" for value in OVERLAPS]
    records = [
        {
            **{key: r[key] for key in ("dynamics", "branch", "way", "steps", "products")},
            "cpu": round(r["cpu"], 2),
            "losses": {step: float(f"{loss:.8g}") for step, loss in r["losses"].items()},
            "distances": {step: [float(f"{max(0.0, d):.3g}") for d in pair] for step, pair in r["distances"].items()},
            "intervals": [refresh["interval"] for refresh in r["refreshes"]],
            "missed": sum(not refresh["kept"] for refresh in r["refreshes"]),
            "unconverged": sum(not refresh["converged"] for refresh in r["refreshes"]),
        }
        for r in files
    ]
    names = list(DYNAMICS)
    return sorted(records, key=lambda r: (names.index(r["dynamics"]), str(r["branch"]), order.index(r["way"])))


def drop(record: dict[str, Any]) -> float:
    """In log-loss, over the run."""
    losses = list(record["losses"].values())
    return log(losses[0] / losses[-1])


def table(records: list[dict[str, Any]]) -> str:
    """Markdown: one row a run, by dynamics and branch."""
    lines = [
        "| run | refreshes | products | CPU time, s | products, relative | missed | 1 − overlap, mean; worst "
        "| error of the update, mean; worst | loss at the end | relative difference | drop in log-loss / plain |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in DYNAMICS:
        for branch in BRANCHES:
            mine = [r for r in records if (r["dynamics"], r["branch"]) == (name, branch)]
            exact = next((r for r in mine if r["way"] == label(EACH_STEP)), None)
            plain = next((r for r in records if (r["dynamics"], r["way"]) == (name, PLAIN)), None)
            if exact is None or plain is None:
                continue
            title = DYNAMICS[name].title
            lines.append(f"| **{branch}-{title}**, {exact['steps']} steps " + "|  " * 10 + "|")
            for r in mine:
                gaps, errors = zip(*r["distances"].values(), strict=True)
                apart = max(abs(loss / exact["losses"][step] - 1) for step, loss in r["losses"].items())
                cells = [
                    r["way"].replace("=", " "),
                    f"{len(r['intervals'])}",
                    f"{r['products']:,}",
                    f"{r['cpu']:.0f}",
                    f"{r['products'] / exact['products']:.2f}",
                    "" if "every" in r["way"] else f"{r['missed']}",
                    f"{mean(gaps):.1e}; {max(gaps):.1e}",
                    f"{mean(errors):.1e}; {max(errors):.1e}",
                    f"{list(r['losses'].values())[-1]:.5f}",
                    "" if r is exact else f"{apart:.1e}",
                    f"{drop(r) / drop(plain):.3f}",
                ]
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(args: argparse.Namespace) -> None:
    """Gathers the runs there are in docs/refresh.json, and from that draws the figure and renews the page's table."""
    found = gathered(args.folder)
    if args.folder.exists() and found:
        NUMBERS.write_text("[\n" + ",\n".join(json.dumps(r) for r in found) + "\n]\n")
    records = json.loads(NUMBERS.read_text())
    figure(records)
    text = table(records)
    if PAGE.exists():
        before, begun, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{begun}\n{text}\n{END}{rest.partition(END)[2]}")
    print(text)


def figure(records: list[dict[str, Any]]) -> None:
    """Along each run, 1 − overlap and the losses' relative difference from those with a refresh at each step."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    looks: dict[str, dict[str, Any]] = {label(EACH_STEP): {"color": "black"}, "refresh_every=10": {"color": "0.6"}}
    for kind, values, shades in (("refresh_error", ERRORS, "Blues"), ("refresh_overlap", OVERLAPS, "Oranges")):
        for i, value in enumerate(values):
            dashes = (0, (4, 1.5)) if kind == "refresh_error" else (0, (1, 1))
            looks[f"{kind}={value:g}"] = {"color": plt.get_cmap(shades)(0.9 - 0.25 * i), "linestyle": dashes}
    names = [name for name in DYNAMICS if any(r["dynamics"] == name and r["branch"] for r in records)]
    drawn, axes = plt.subplots(
        4, len(names), figsize=(3.4 * len(names), 8.4), layout="constrained", sharex="col", squeeze=False
    )
    for column, name in enumerate(names):
        for half, branch in enumerate(BRANCHES):
            top, below = axes[2 * half][column], axes[2 * half + 1][column]
            mine = [r for r in records if (r["dynamics"], r["branch"]) == (name, branch)]
            exact = next((r for r in mine if r["way"] == label(EACH_STEP)), None)
            for r in mine:
                steps = [int(step) for step in r["distances"]]
                top.semilogy(steps, [max(1e-7, gap) for gap, _ in r["distances"].values()], lw=1.2, **looks[r["way"]])
                if exact is not None and r is not exact:
                    apart = [max(1e-7, abs(r["losses"][str(n)] / exact["losses"][str(n)] - 1)) for n in steps]
                    below.semilogy(steps, apart, lw=1.2, **looks[r["way"]])
            top.set_title(f"{branch}: {DYNAMICS[name].title}", fontsize=9)
            if column == 0:
                top.set_ylabel("1 − overlap")
                below.set_ylabel("relative difference of loss")
        axes[-1][column].set_xlabel("steps")
    ways = [way for way in looks if any(r["way"] == way for r in records)]
    lines = [mpl.lines.Line2D([], [], **looks[way]) for way in ways]
    drawn.legend(lines, [way.replace("=", " ") for way in ways], loc="outside lower center", ncols=4, fontsize=8)
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(FIGURE, dpi=80, metadata={"Software": None})
    plt.close(drawn)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare refreshes by an accuracy with a refresh at each step.")
    parser.add_argument("command", choices=("run", "draw"))
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="folder with MNIST/raw/*-ubyte")
    parser.add_argument("--folder", type=Path, default=Path("results/refresh-budget"), help="of the runs' files")
    parser.add_argument("--only", nargs="+", choices=list(DYNAMICS), default=list(DYNAMICS), help="dynamics to run")
    args = parser.parse_args()
    {"run": run, "draw": draw}[args.command](args)


if __name__ == "__main__":
    main()
