"""Opens all runs of a figure, a claim or a family as one dataset, so that most questions take one line of xarray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xarray as xr

from analysis.archive import REFERENCE, read_archive
from analysis.plan.join import CONFIG_DIR, load_plan
from analysis.plan.plan import Plan
from analysis.plan.yaml import suggest
from analysis.runs.panels import Panel, by_name, read_panels
from analysis.specs.panels import ClaimSpec, PanelSpec
from analysis.store.netcdf import read_dataset
from analysis.store.words import Words, describe
from sharpflat.errors import InputError

SWITCH = "switch_step"  # "step", in which a family can vary, is a dimension
LABELS = {  # of each run, as text
    "label": Words("label of the run", "what the figure calls the run, or the segment's name", units=""),
    "segment": Words("last segment", "id of the run's last segment; its folder holds its own trajectory", units=""),
    "status": Words("status", "completed, or diverged: then the run ends earlier, and NaN follows", units=""),
}
_NAN = "NaN: the run does not vary in it"
WORDS = {  # of what runs vary in
    "seed": Words("seed", f"of initialisation and minibatches; {_NAN}"),
    "learning_rate": Words("learning rate", f"eta of the last segment; {_NAN}"),
    "batch_size": Words("batch size", f"of the minibatches; {_NAN}"),
    "holdout": Words("held-out examples", f"on which the filter's Hessian is taken; {_NAN}"),
    "k": Words("dimension of the subspace", f"of the filter; {_NAN}"),
    "refresh_every": Words("refresh interval", f"steps between refreshes of the filter's subspace; {_NAN}"),
    "alpha_dom": Words("weight of the dominant component", f"of the filtered update; {_NAN}"),
    "beta_bulk": Words("weight of the bulk component", f"of the filtered update; {_NAN}"),
    SWITCH: Words("step of the switch", f"at which the segment before ends; {_NAN}"),
}


def open_runs(
    profile: str,
    name: str,
    setting: str | None = None,
    *,
    archived: bool = False,
    results: Path = Path("results"),
    config_dir: Path = CONFIG_DIR,
) -> xr.Dataset:
    """The runs of a figure, a claim or a family, assembled from their segments, along a dimension `run`.

    The coordinates along `run` are `label`, `segment`, `status` and the numbers in which the runs vary (`seed`,
    `learning_rate`, `alpha_dom`, …), which are NaN for a run that does not vary in them. The dataset has the steps of
    all runs, and a value is NaN where its run was not measured.

    Args:
        profile: as in `make reproduce PROFILE=…`.
        name: the name of a figure or claim, or of a segment of `experiments.yaml` (for the runs that end in it).
        setting: one of its settings. It may be omitted if there is only one.
        archived: whether to read the archived datasets instead of those of a run. The archive knows only figures and
            claims.
        results: the folder with the results of all profiles.
        config_dir: the folder of the profile.

    Raises:
        InputError: there is no such profile, name or setting, or a dataset is missing or damaged.
    """
    folder = results / REFERENCE / profile if archived else results / profile
    plan = read_archive(folder).plan() if archived else load_plan(profile, config_dir)
    panels = {panel.setting: panel for panel in _panels(plan, name)}
    if setting is None and len(panels) == 1:
        (setting,) = panels
    if setting not in panels:
        raise InputError(f"{name}: found setting {setting!r}; allowed: {', '.join(panels) or 'nothing'}")
    files = by_name(str(folder / file) for file in panels[setting].datasets())
    (panel,) = read_panels([panels[setting]], {key: read_dataset(path) for key, path in files.items()})
    return _together(panel)


def _panels(plan: Plan, name: str) -> list[PanelSpec]:
    """The panel of each setting."""
    drawn: dict[str, ClaimSpec] = {one.name: one for one in plan.claims.claims}
    drawn |= {figure.name: figure.spec for figure in plan.figures.values()}
    if name in drawn:
        return list(drawn[name].panels)
    alone = [
        PanelSpec(setting=setting, title=setting, runs=((name, path),), families=())
        for (setting, segment), path in plan.runs.items()
        if segment == name
    ]
    families = [
        PanelSpec(
            setting=setting, title=setting, runs=(), families=((name, tuple((m.varied, m.path) for m in members)),)
        )
        for (setting, segment), members in plan.families.items()
        if segment == name
    ]
    if not alone and not families:
        known = [*drawn, *dict.fromkeys(segment for _, segment in (*plan.runs, *plan.families))]
        raise InputError(f"{plan.profile} has no figure, claim or segment {name!r}{suggest(name, known)}")
    return alone + families


def _together(panel: Panel) -> xr.Dataset:
    runs: list[tuple[str, dict[str, float], xr.Dataset]] = [(label, {}, run) for label, run in panel.runs.items()]
    runs += [(label, member.varied, member.run) for label, those in panel.families.items() for member in those]
    whole = xr.concat([run.drop_attrs(deep=False) for *_, run in runs], "run", join="outer", data_vars="all")
    along: dict[str, Any] = {
        "label": ("run", [label for label, *_ in runs]),
        "segment": ("run", [run.attrs["id"] for *_, run in runs]),
        "status": ("run", [run.attrs["status"] for *_, run in runs]),
    }
    for number in dict.fromkeys(number for _, numbers, _ in runs for number in numbers):
        values = [numbers.get(number, float("nan")) for _, numbers, _ in runs]
        along[SWITCH if number == "step" else number] = "run", values
    whole = describe(whole.assign_coords(along), {name: (LABELS | WORDS)[name] for name in along})
    words = Words(f"Runs of {panel.title}", "Each run from its first step; coordinates along `run` tell runs apart")
    return whole.assign_attrs(words.of_dataset(), setting=panel.setting)
