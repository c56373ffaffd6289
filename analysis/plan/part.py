"""The part of a plan that some of its files, figures, claims or segments need."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from difflib import get_close_matches

from analysis.plan.plan import Plan, PlannedClaims, PlannedReport, data_file
from sharpflat.errors import InputError


def part(plan: Plan, files: Collection[str]) -> Plan:
    """The plan reduced to what these files (relative to the results) need."""
    drawn = [drawn for drawn in plan.drawn if not set(drawn.files).isdisjoint(files)]
    if plan.report in drawn:
        return plan
    inputs = {*files, *(file for one in drawn for file in one.inputs)}
    energies = {i: energies for i, energies in plan.energies.items() if energies.file in inputs}
    distances = {i: distances for i, distances in plan.distances.items() if distances.file in inputs}
    inputs |= {one.input for one in energies.values()} | {file for one in distances.values() for file in one.inputs}
    ids = {file.split("/")[1] for file in inputs if file.startswith("segments/")}
    for segment in reversed(plan.segments.values()):  # children before their parents
        if segment.id in ids and segment.spec.parent is not None:
            ids.add(segment.spec.parent)
    nothing = plan.report.spec.model_copy(update={"figures": (), "claims": ()})
    return replace(
        plan,
        segments={i: segment for i, segment in plan.segments.items() if i in ids},
        energies=energies,
        distances=distances,
        figures={name: figure for name, figure in plan.figures.items() if figure in drawn},
        claims=plan.claims if plan.claims in drawn else PlannedClaims(claims=(), fingerprint=plan.claims.fingerprint),
        report=PlannedReport(spec=nothing, fingerprint=plan.report.fingerprint),
    )


def chosen(plan: Plan, names: Sequence[str]) -> Plan:
    """The part of the plan that figures, claims or segments need.

    Args:
        plan: the plan of a profile.
        names: figures or claims, or the end of such a name if it is unique ("fig01"); segments by their ids, as
            <setting>.<segment>, or as <segment> of `experiments.yaml`. Without names, everything is chosen.

    Raises:
        InputError: a name is unknown or ambiguous.
    """
    return part(plan, [file for name in names for file in _files(plan, name, "--only")]) if names else plan


def by_kind(plan: Plan) -> dict[str, list[str]]:
    """All files that can be made, by the rule that makes them. Drawn results include their records."""
    drawn = {rule: [one for one in plan.drawn if one.rule == rule] for rule in ("figures", "claims", "report")}
    return {
        "data": [data_file(subset) for subset in plan.subsets],
        "segments": [file for segment in plan.segments.values() for file in segment.files],
        "energies": [energies.file for energies in plan.energies.values()],
        "distances": [distances.file for distances in plan.distances.values()],
        **{rule: [file for one in those for file in (*one.files, one.record)] for rule, those in drawn.items()},
    }


def again(plan: Plan, names: Iterable[str]) -> set[str]:
    """The files that are to be made again although they exist. Drawn results include their records.

    Args:
        plan: the plan of a profile.
        names: as for `chosen`, and also rules ("figures" for all figures), files relative to the results, and jobs.

    Raises:
        InputError: as `chosen`.
    """
    found: set[str] = set()
    for name in names:
        kind = by_kind(plan).get(name)
        found.update(kind if kind is not None else jobs_files(plan, name) or _made_with(plan, name))
    return found


def jobs_files(plan: Plan, name: str) -> list[str]:
    """The files of a rule ("figures") or of one of its jobs ("figures-song-fig01"); empty if it is neither."""
    kinds = by_kind(plan)
    if name in kinds:
        return kinds[name]
    rule, _, own = name.partition("-")
    if rule in ("claims", "report"):
        return kinds[rule] if own == plan.profile else []
    if rule == "figures":
        return [f for figure in plan.figures.values() if figure.name == own for f in (*figure.files, figure.record)]
    if rule == "segments":
        return list(plan.segments[own].files) if own in plan.segments else []
    return [file for file in kinds.get(rule, ()) if file.rpartition("/")[2].removesuffix(".nc") == own]


def _made_with(plan: Plan, name: str) -> Iterable[str]:
    """The files that one job or a part of it makes: those of a segment or of a drawn result."""
    drawn = {file: one for one in plan.drawn for file in (*one.files, one.record)}
    if name in {claim.name for claim in plan.claims.claims if claim.panels}:
        figures = [plan.figures[name]] if name in plan.figures else []
        wanted: Iterable[str] = [file for one in (plan.claims, *figures) for file in one.files]
    elif name in plan.files:
        wanted = [name]
    else:
        wanted = _files(plan, name, "FORCE")
    for file in wanted:
        if file in drawn:
            yield from (*drawn[file].files, drawn[file].record)
        elif file.startswith("segments/"):
            yield from plan.segments[file.split("/")[1]].files
        else:
            yield file


def _files(plan: Plan, name: str, option: str) -> Iterable[str]:
    """The files that a name refers to: those of a figure, the datasets of a claim (of both, if both have the name), or
    the ends of a segment's runs."""
    drawn = {figure.name: [*figure.files] for figure in plan.figures.values()}
    for claim in plan.claims.claims:
        if claim.panels:
            drawn.setdefault(claim.name, []).extend(file for panel in claim.panels for file in panel.datasets())
    trained: dict[str, list[str]] = {i: [i] for i in plan.segments}
    runs = {key: [path] for key, path in plan.runs.items()}
    runs |= {key: [member.path for member in family] for key, family in plan.families.items()}
    for (setting, segment), paths in runs.items():
        for known in (f"{setting}.{segment}", segment):
            trained.setdefault(known, []).extend(path[-1] for path in paths)
    if name in drawn:
        return drawn[name]
    if name in trained:
        return [plan.segments[i].trajectory for i in trained[name]]
    ends = [known for known in drawn if known.endswith(f"-{name}")]
    if len(ends) > 1:
        raise InputError(f"{option}: {name!r} may be {' or '.join(ends)}")
    if ends:
        return drawn[ends[0]]
    short = (known.partition("-")[2] for known in drawn)
    close = get_close_matches(name, [*drawn, *short, *(known for known in trained if known not in plan.segments)], n=1)
    hint = f'; did you mean "{close[0]}"?' if close else ";"
    raise InputError(
        f"{option}: profile {plan.profile} has no figure, claim or segment {name!r}{hint} allowed: a segment of "
        f"experiments.yaml, {', '.join(drawn)}"
    )
