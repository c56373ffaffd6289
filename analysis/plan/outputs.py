"""What is drawn and judged: figures and claims, with the runs and datasets that they read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.plan import config
from analysis.plan.fingerprint import defined, fingerprint, submodules
from analysis.plan.mistakes import Mistakes
from analysis.plan.names import canonical, distances_id, energies_fingerprint, energies_id
from analysis.plan.papers import read_papers
from analysis.plan.plan import Planned, PlannedDistances, PlannedEnergies, PlannedMember, PlannedSegment, panel_paths
from analysis.plan.yaml import suggest
from analysis.specs import EnergiesSpec
from sharpflat.errors import InputError

_ROOT = Path(__file__).resolve().parents[2]
PAPERS, DEVIATIONS = _ROOT / "workflow" / "report" / "papers.yaml", _ROOT / "docs" / "deviations.md"
TEMPLATE = _ROOT / "analysis" / "report" / "report.html.j2"
NOT_IN_PROFILE = "not in this profile"
Members = Mapping[tuple[str, str], tuple[PlannedMember, ...]]  # (setting, segment); of one that does not vary, one


class Wanted:
    """The figures and claims of a plan, and the distances and energies that they read.

    Attributes:
        figures: by name; those that no setting of the profile has are left out.
        claims: all of them.
        distances: by id.
        energies: by id.
    """

    def __init__(
        self,
        experiments: config.Experiments,
        profile: config.Profile,
        segments: Mapping[str, PlannedSegment],
        members: Members,
        experiments_path: str,
        mistakes: Mistakes,
    ) -> None:
        self.experiments, self.profile, self.experiments_path = experiments, profile, experiments_path
        self.segments, self.members = segments, members
        self.mistakes = mistakes
        self.distances: dict[str, PlannedDistances] = {}
        self.energies: dict[str, PlannedEnergies] = {}
        figures = {name: self._figure(name) for name in experiments.figures}
        self.figures = {name: figure for name, figure in figures.items() if figure.inputs}
        self.claims = self._claims()

    def _wrong(self, key: str, message: str) -> None:
        self.mistakes.add(self.experiments_path, key, message)

    def _figure(self, name: str) -> Planned:
        entry = self.experiments.figures[name]
        panels = self._panels(f"figures.{name}", entry)
        if entry.module not in (known := figure_modules()):
            hint = suggest(entry.module, known)
            self._wrong(f"figures.{name}.module", f"unknown module {entry.module!r}{hint}")
            return Planned(name, (), (), "")
        return planned_figure(
            {
                "name": name,
                "module": entry.module,
                "caption": entry.caption,
                "panels": panels,
                "absent": self._absent(entry),
            }
        )

    def _claims(self) -> Planned:
        return planned_claims(
            [
                {"name": name, "panels": self._panels(f"claims.{name}", claim), "absent": self._absent(claim)}
                for name, claim in self.experiments.claims.items()
            ]
        )

    def _absent(self, user: config.Figure | config.Claim) -> dict[str, str]:
        return {setting: NOT_IN_PROFILE for setting in user.settings if setting not in self.profile.settings}

    def _panels(self, key: str, user: config.Figure | config.Claim) -> list[dict[str, Any]]:
        panels = []
        for setting in user.settings:
            if setting not in self.profile.settings:
                continue
            found = {label: self.members[setting, run] for label, run in user.runs.items()}
            panel: dict[str, Any] = {
                "setting": setting,
                "title": self.experiments.settings[setting].title,
                "runs": [[label, list(m[0].path)] for label, m in found.items() if not m[0].varied],  # in order
                "families": [
                    [label, [[m.varied, list(m.path)] for m in members]]
                    for label, members in found.items()
                    if members[0].varied
                ],
            }
            if user.reads != "trajectories":
                self._check_snapshots(key, user, setting)
            if user.reads == "snapshots":
                panel["snapshots"] = True
            if user.reads == "distances":
                panel["distances"] = self._distances(key, panel)
            if user.reads == "energies":
                ids = dict.fromkeys(i for path in panel_paths(panel) for i in path)
                panel["energies"] = {i: self._energies(setting, i) for i in ids}
            panels.append(panel)
        return panels

    def _check_snapshots(self, key: str, user: config.Figure | config.Claim, setting: str) -> None:
        for label, run in user.runs.items():
            on_the_way = [run]  # as the ids of a member's path
            while (parent := self.experiments.segments[on_the_way[0]].parent) is not None:
                on_the_way.insert(0, parent)
            path = self.members[setting, run][0].path
            for name, i in zip(on_the_way, path, strict=True):
                if self.segments[i].spec.probes.snapshots is None:
                    message = f"reads {user.reads}, but the snapshots of {label} are not measured in setting"
                    place = f"segments.{name}.measures.snapshots"
                    self._wrong(f"{key}.reads", f"{message} {setting!r}; {place} has to name it")
                    break

    def _distances(self, key: str, panel: Mapping[str, Any]) -> str:
        if len(panel["runs"]) != 2 or panel["families"]:
            count = len(panel_paths(panel))
            self._wrong(f"{key}.reads", f"distances are between two runs; {count} are given")
            return ""
        first, second = (tuple(path) for _, path in panel["runs"])
        code = fingerprint("analysis.measurement.distances:write_distances")
        planned = PlannedDistances(distances_id((first, second), code), (first, second), code)
        self.distances[planned.id] = planned
        return planned.id

    def _energies(self, setting: str, segment: str) -> str:
        numbers, of = self.profile.settings[setting], self.segments[segment]
        spec = EnergiesSpec(
            problem=of.spec.problem, segment=segment, seed=of.spec.seed, **numbers.energies.model_dump()
        )
        code = energies_fingerprint(spec)
        planned = PlannedEnergies(energies_id(spec, code), spec, code, of.subsets)
        self.energies[planned.id] = planned
        return planned.id


def planned_figure(figure: Mapping[str, Any]) -> Planned:
    """A figure or table from its name, module, caption, panels, and the settings that are absent with the reason.

    Raises:
        KeyError: if there is no such module, or it does not draw.
    """
    name, module = figure["name"], f"analysis.figures.{figure['module'].replace('-', '_')}"
    tables = ["table"] if "table" in defined(module) else []
    formats = ["pdf", "png", *("csv" for _ in tables)]
    code = fingerprint("analysis.figures:draw_figures", *(f"{module}:{function}" for function in ["draw", *tables]))
    params = canonical({**figure, "module": module, "code": code})
    return Planned(name, datasets_of(figure["panels"]), tuple(f"figures/{name}.{f}" for f in formats), params)


def planned_claims(claims: Sequence[Mapping[str, Any]]) -> Planned:
    """All claims, each from its name, panels, and the settings that are absent with the reason."""
    inputs = datasets_of(panel for claim in claims for panel in claim["panels"])
    params = canonical({"claims": list(claims), "code": fingerprint("analysis.claims:judge")})
    return Planned("claims", inputs, ("claims.json", "claims.csv"), params)


def planned_report(
    profile: str, title: str, figures: Iterable[Planned], claims: Planned, datasets: str = ""
) -> Planned:
    """The report on figures and claims; `datasets` is the way from it to the folder of the datasets.

    Raises:
        InputError: if a text that it needs cannot be read.
    """
    figures = list(figures)
    inputs = dict.fromkeys(file for made in (*figures, claims) for file in made.inputs)
    params = {
        "profile": profile,
        "title": title,
        "figures": [json.loads(figure.params) for figure in figures],
        "claims": json.loads(claims.params),
        "papers": [paper.model_dump() for paper in read_papers(PAPERS)],
        "base": datasets,
        "code": fingerprint("analysis.report:write_report"),
        "texts": [_hash(path) for path in (TEMPLATE, DEVIATIONS)],
    }
    return Planned("report", tuple(inputs), ("report.html",), canonical(params))


def _hash(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); the report needs it") from error


def datasets_of(panels: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The datasets that panels are made from, each once."""
    found: dict[str, None] = {}
    for panel in panels:
        ids = [i for path in panel_paths(panel) for i in path]
        found |= dict.fromkeys(f"segments/{i}/trajectory.nc" for i in ids)
        if panel.get("snapshots"):
            found |= dict.fromkeys(f"segments/{i}/snapshots.nc" for i in ids)
        if panel.get("distances"):
            found[f"distances/{panel['distances']}.nc"] = None
        if panel.get("energies"):
            found |= dict.fromkeys(f"energies/{panel['energies'][i]}.nc" for i in ids)
    return tuple(found)


def figure_modules() -> list[str]:
    """Modules that draw, as configurations name them."""
    return [m.replace("_", "-") for m in submodules("analysis.figures") if "draw" in defined(f"analysis.figures.{m}")]
