"""What is drawn and judged: figures and claims, with the runs and datasets that they read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from analysis import config
from analysis.fingerprint import defined, fingerprint, submodules
from analysis.names import canonical, distances_id, energies_fingerprint, energies_id
from analysis.planned import Planned, PlannedDistances, PlannedEnergies, PlannedMember, PlannedSegment, panel_paths
from analysis.specs import EnergiesSpec

Members = Mapping[tuple[str, str], tuple[PlannedMember, ...]]  # (setting, segment); of one that does not vary, one


class Wanted:
    """The figures and claims of a plan, and the distances and energies that they read.

    Attributes:
        figures: by name; those that no setting of the profile has are left out.
        claims: all of them.
        distances: by id.
        energies: by id.
        mistakes: a line for each figure or claim that cannot be made.
    """

    def __init__(
        self,
        experiments: config.Experiments,
        profile: config.Profile,
        segments: Mapping[str, PlannedSegment],
        members: Members,
        experiments_path: str,
    ) -> None:
        self.experiments, self.profile, self.experiments_path = experiments, profile, experiments_path
        self.segments, self.members = segments, members
        self.mistakes: list[str] = []
        self.distances: dict[str, PlannedDistances] = {}
        self.energies: dict[str, PlannedEnergies] = {}
        figures = {name: self._figure(name) for name in experiments.figures}
        self.figures = {name: figure for name, figure in figures.items() if figure.inputs}
        self.claims = self._claims()

    def _wrong(self, key: str, message: str) -> None:
        self.mistakes.append(f"{self.experiments_path}: {key}: {message}")

    def _figure(self, name: str) -> Planned:
        entry = self.experiments.figures[name]
        module = f"analysis.figures.{entry.module.replace('-', '_')}"
        code, formats = "", ["pdf", "png"]
        if entry.module in (known := figure_modules()):
            code = fingerprint(module)
            if "table" in defined(module):
                formats.append("csv")
        else:
            hint = config.suggest(entry.module, known)
            self._wrong(f"figures.{name}.module", f"unknown module {entry.module!r}{hint}")
        panels = self._panels(f"figures.{name}", entry)
        params = {"name": name, "module": module, "caption": entry.caption, "panels": panels, "code": code}
        return Planned(name, _inputs(panels), tuple(f"figures/{name}.{f}" for f in formats), canonical(params))

    def _claims(self) -> Planned:
        claims: list[dict[str, Any]] = [
            {"name": n, "panels": self._panels(f"claims.{n}", c)} for n, c in self.experiments.claims.items()
        ]
        inputs = _inputs(panel for claim in claims for panel in claim["panels"])
        params = canonical({"claims": claims, "code": fingerprint("analysis.claims")})
        return Planned("claims", inputs, ("claims.json", "claims.csv"), params)

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
        planned = PlannedDistances(distances_id((first, second), fingerprint("analysis.distances")), (first, second))
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


def _inputs(panels: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
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
