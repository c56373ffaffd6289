"""The figures and claims of a plan, with the runs and datasets that they read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from analysis.plan import config
from analysis.plan.fingerprint import defined, fingerprint, submodules
from analysis.plan.mistakes import Mistakes
from analysis.plan.names import distances_id, energies_fingerprint, energies_id, hash8, kinds_of, segment_fingerprint
from analysis.plan.papers import read_papers
from analysis.plan.plan import (
    Drawn,
    PlannedClaims,
    PlannedDistances,
    PlannedEnergies,
    PlannedFigure,
    PlannedMember,
    PlannedReport,
    PlannedSegment,
    of_seeds,
)
from analysis.plan.yaml import suggest
from analysis.specs import EnergiesSpec
from analysis.specs.panels import ClaimSpec, DistancesSpec, FigureSpec, PanelSpec, ReportSpec
from sharpflat.errors import InputError

_ROOT = Path(__file__).resolve().parents[2]
PAPERS, DEVIATIONS = _ROOT / "workflow" / "report" / "papers.yaml", _ROOT / "docs" / "deviations.md"
TEMPLATES = [_ROOT / "analysis" / "report" / f"report.{kind}" for kind in ("html.j2", "css", "js")]
NOT_IN_PROFILE = "not in this profile"
Members = Mapping[tuple[str, str], tuple[PlannedMember, ...]]  # (setting, segment); of one that does not vary, one


@dataclass(frozen=True)
class Outputs:
    """The figures and claims of a plan, and the distances and energies that they read.

    Attributes:
        figures: by name. Figures without a setting in the profile are left out.
        claims: all claims.
        distances: by id.
        energies: by id.
    """

    figures: dict[str, PlannedFigure]
    claims: PlannedClaims
    distances: dict[str, PlannedDistances]
    energies: dict[str, PlannedEnergies]


@dataclass(frozen=True)
class _Sources:
    """The data from which panels are built, and the distances and energies that the panels read."""

    experiments: config.Experiments
    profile: config.Profile
    segments: Mapping[str, PlannedSegment]
    members: Members
    distances: dict[str, PlannedDistances] = field(default_factory=dict)
    energies: dict[str, PlannedEnergies] = field(default_factory=dict)


def outputs(
    experiments: config.Experiments,
    profile: config.Profile,
    segments: Mapping[str, PlannedSegment],
    members: Members,
    path: str,
    mistakes: Mistakes,
) -> Outputs:
    """The figures and claims of a plan.

    Args:
        experiments: defines the figures and claims.
        profile: defines the settings.
        segments: by id.
        members: the runs that end in each segment of each setting.
        path: of `experiments.yaml`, for messages.
        mistakes: collects the mistakes.
    """
    sources = _Sources(experiments, profile, segments, members)
    wrong = partial(mistakes.add, path)
    figures = {}
    for name, figure in experiments.figures.items():
        panels = _panels(sources, f"figures.{name}", figure, wrong)
        if figure.module not in (known := figure_modules()):
            wrong(f"figures.{name}.module", f"unknown module {figure.module!r}{suggest(figure.module, known)}")
        elif panels:
            spec = FigureSpec(
                name=name,
                module=figure.module,
                caption=figure.caption,
                panels=panels,
                absent=_absent(figure, profile),
                kinds=kinds_of(segments[i].spec for panel in panels for path in panel.paths() for i in path),
                partial=figure.partial or None,
            )
            figures[name] = planned_figure(spec)
    claims = [
        ClaimSpec(name=name, panels=_panels(sources, f"claims.{name}", claim, wrong), absent=_absent(claim, profile))
        for name, claim in experiments.claims.items()
    ]
    return Outputs(figures, planned_claims(claims), sources.distances, sources.energies)


def _absent(user: config.Figure | config.Claim, profile: config.Profile) -> dict[str, str]:
    return {setting: NOT_IN_PROFILE for setting in user.settings if setting not in profile.settings}


def _panels(
    sources: _Sources, key: str, user: config.Figure | config.Claim, wrong: partial[None]
) -> tuple[PanelSpec, ...]:
    panels = []
    for setting in user.settings:
        if setting not in sources.profile.settings:
            continue
        members = {label: of_seeds(sources.members[setting, run], user.seeds) for label, run in user.runs.items()}
        panel = PanelSpec(
            setting=setting,
            title=sources.experiments.settings[setting].title,
            runs=tuple((label, own[0].path) for label, own in members.items() if not own[0].varied),
            families=tuple(
                (label, tuple((member.varied, member.path) for member in own))
                for label, own in members.items()
                if own[0].varied
            ),
            snapshots=True if user.reads == "snapshots" else None,
        )
        if user.reads != "trajectories":
            _check_snapshots(sources, key, user, setting, wrong)
        if user.reads == "distances":
            panel = panel.model_copy(update={"distances": _distances(sources, key, panel, wrong)})
        if user.reads == "energies":
            ids = dict.fromkeys(segment for path in panel.paths() for segment in path)
            panel = panel.model_copy(update={"energies": {i: _energies(sources, setting, i) for i in ids}})
        panels.append(panel)
    return tuple(panels)


def _check_snapshots(
    sources: _Sources, key: str, user: config.Figure | config.Claim, setting: str, wrong: partial[None]
) -> None:
    for label, run in user.runs.items():
        on_the_way = [run]  # as the ids of a member's path
        while (parent := sources.experiments.segments[on_the_way[0]].parent) is not None:
            on_the_way.insert(0, parent)
        path = sources.members[setting, run][0].path
        for name, segment in zip(on_the_way, path, strict=True):
            if "snapshots" not in sources.segments[segment].spec.probes:
                message = f"reads {user.reads}, but the snapshots of {label} are not measured in setting"
                place = f"segments.{name}.measures.snapshots"
                wrong(f"{key}.reads", f"{message} {setting!r}; {place} has to name it")
                break


def _distances(sources: _Sources, key: str, panel: PanelSpec, wrong: partial[None]) -> str:
    if len(panel.runs) != 2 or panel.families:
        wrong(f"{key}.reads", f"distances are between two runs; {len(panel.paths())} are given")
        return ""
    spec = DistancesSpec(runs=(panel.runs[0][1], panel.runs[1][1]))
    code = _distances_code()
    planned = PlannedDistances(id=distances_id(spec.runs, code), spec=spec, fingerprint=code)
    sources.distances[planned.id] = planned
    return planned.id


def _energies(sources: _Sources, setting: str, segment: str) -> str:
    numbers, of = sources.profile.settings[setting], sources.segments[segment]
    spec = EnergiesSpec(problem=of.spec.problem, segment=segment, seed=of.spec.seed, **numbers.energies.model_dump())
    code = energies_fingerprint(spec)
    planned = PlannedEnergies(id=energies_id(spec, code), spec=spec, fingerprint=code)
    sources.energies[planned.id] = planned
    return planned.id


def planned_figure(spec: FigureSpec) -> PlannedFigure:
    """
    Raises:
        KeyError: there is no such module, or it does not draw.
    """
    return PlannedFigure(spec=spec, table=_is_table(spec.module), fingerprint=_figure_code(spec))


def planned_claims(claims: Iterable[ClaimSpec]) -> PlannedClaims:
    """All claims together."""
    return PlannedClaims(claims=tuple(claims), fingerprint=_claims_code())


def planned_report(
    profile: str, title: str, figures: Iterable[PlannedFigure], claims: PlannedClaims, base: str = ""
) -> PlannedReport:
    """The report on figures and claims. `base` is the path from it to the folder of the datasets.

    Raises:
        InputError: a text that it needs cannot be read.
    """
    figures = tuple(figures)
    spec = ReportSpec(
        profile=profile,
        title=title,
        figures=tuple(figure.spec for figure in figures),
        claims=claims.claims,
        papers=read_papers(PAPERS),
        base=base,
    )
    return PlannedReport(spec=spec, fingerprint=_report_code([*figures, claims]))


def figure_modules() -> list[str]:
    """The modules that draw, with the names that configurations use."""
    return [m.replace("_", "-") for m in submodules("analysis.figures") if "draw" in defined(f"analysis.figures.{m}")]


# ---------------------------------------------------------------- the code that decides each result
def code_of(planned: PlannedSegment | PlannedEnergies | PlannedDistances | Drawn) -> str:
    """The fingerprint that a planned result would have with the current code.

    Raises:
        KeyError: code that it names no longer exists.
    """
    match planned:
        case PlannedSegment():
            return segment_fingerprint(planned.spec)
        case PlannedEnergies():
            return energies_fingerprint(planned.spec)
        case PlannedDistances():
            return _distances_code()
        case PlannedFigure():
            return _figure_code(planned.spec)
        case PlannedReport(spec=spec):
            shown = [*map(planned_figure, spec.figures), planned_claims(spec.claims)]
            return _report_code(shown)
    return _claims_code()


def _module(name: str) -> str:
    return f"analysis.figures.{name.replace('-', '_')}"


def _is_table(module: str) -> bool:
    return "table" in defined(_module(module))


def _figure_code(spec: FigureSpec) -> str:
    functions = ["draw", "table"] if _is_table(spec.module) else ["draw"]
    drawing = [f"{_module(spec.module)}:{name}" for name in functions]
    return fingerprint("analysis.figures:draw_figures", *drawing, *(f"analysis.{kind}:Numbers" for kind in spec.kinds))


def _distances_code() -> str:
    return fingerprint("analysis.measurement.distances:write_distances")


def _claims_code() -> str:
    return fingerprint("analysis.claims:judge")


def _report_code(shown: Iterable[Drawn]) -> str:
    """The fingerprint of its own code, of the code of what it shows, and of its texts."""
    codes = {drawn.name: drawn.fingerprint for drawn in shown}
    texts = {path.name: _hash(path) for path in (*TEMPLATES, DEVIATIONS)}
    return hash8(
        {
            "code": fingerprint("analysis.report:write_report", "analysis.agreement:for_report"),
            "shown": codes,
            "texts": texts,
        }
    )


def _hash(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); the report needs it") from error
