"""All runs of a figure or claim as one dataset, for one's own analysis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xarray as xr

from analysis.plan.plan import Plan
from analysis.runs.panels import Panel, by_name, read_panels
from analysis.specs.panels import ClaimSpec
from analysis.store.netcdf import read_dataset
from sharpflat.errors import InputError

WORDS = {
    "run": "which run: its label, and what it varies in",
    "label": "what the figure calls the run",
    "step": "steps of training from the initialisation",
    "index": "rank of the eigenvalue, the largest first",
}


def open_runs(plan: Plan, name: str, setting: str | None = None, results: Path = Path("results")) -> xr.Dataset:
    """The runs of a figure or claim, put together from their segments, along a dimension `run`.

    `label` and whatever the runs vary in (`seed`, `learning_rate`, `alpha_dom`, …) are coordinates along `run`, NaN
    where a run does not vary in it. So `open_runs(load_plan("quick"), "zs-fig04").groupby("alpha_dom")` compares
    weights. Steps are those of all runs together; what a run did not measure at one is NaN.

    Args:
        plan: of a profile (`analysis.plan.join.load_plan`).
        name: of a figure or claim.
        setting: one of its settings; it may be left out where there is one.
        results: the folder that holds those of all profiles; or "results/reference", for the archived ones.

    Raises:
        InputError: if there is no such figure, claim or setting, or a dataset is missing or damaged.
    """
    drawn: dict[str, ClaimSpec] = {one.name: one for one in plan.claims.claims}
    drawn |= {figure.name: figure.spec for figure in plan.figures.values()}
    if name not in drawn:
        raise InputError(f"profile {plan.profile} has no figure or claim {name!r}; allowed: {', '.join(drawn)}")
    panels = {panel.setting: panel for panel in drawn[name].panels}
    if setting is None and len(panels) == 1:
        (setting,) = panels
    if setting not in panels:
        raise InputError(f"{name}: found setting {setting!r}; allowed: {', '.join(panels) or 'nothing'}")
    files = [str(results / plan.profile / file) for file in panels[setting].datasets()]
    read = {key: read_dataset(path) for key, path in by_name(files).items()}
    (panel,) = read_panels([panels[setting]], read)
    return _together(panel)


def _together(panel: Panel) -> xr.Dataset:
    runs: list[tuple[str, dict[str, float], xr.Dataset]] = [(label, {}, run) for label, run in panel.runs.items()]
    runs += [(label, member.varied, member.run) for label, those in panel.families.items() for member in those]
    varied = dict.fromkeys(number for _, numbers, _ in runs for number in numbers)
    whole = xr.concat([run.drop_attrs() for _, _, run in runs], "run", join="outer", data_vars="all")
    along: dict[str, Any] = {"label": ("run", [label for label, _, _ in runs])}
    for number in varied:
        along[number] = "run", [numbers.get(number, float("nan")) for _, numbers, _ in runs]
    whole = whole.assign_coords(along)
    for coordinate in whole.coords.values():
        text = WORDS.get(str(coordinate.name), WORDS["step"] if str(coordinate.name).endswith("_step") else "")
        if text:
            coordinate.attrs["long_name"] = text
    return whole.assign_attrs(setting=panel.setting, title=panel.title)
