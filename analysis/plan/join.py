"""Makes the plan by joining `experiments.yaml` with the numbers of a profile. Mistakes are listed together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import cast

from pydantic import BaseModel

from analysis.plan import config
from analysis.plan.mistakes import Mistakes
from analysis.plan.names import segment_fingerprint, segment_id
from analysis.plan.outputs import outputs, planned_report
from analysis.plan.plan import Plan, PlannedMember, PlannedSegment, of_seeds
from analysis.plan.problems import problem_of
from analysis.plan.references import check_references
from analysis.plan.segments import SegmentJoin, Varied
from analysis.plan.yaml import read, suggest, validate
from analysis.specs import ProblemSpec
from sharpflat.errors import InputError

CONFIG_DIR = Path(__file__).resolve().parents[2] / "workflow" / "config"

RESERVED = ("reference", "redrawn")  # folders of archives in the results


def load_plan(profile: str, config_dir: Path = CONFIG_DIR) -> Plan:
    """Reads and joins `experiments.yaml` and `<profile>.yaml`.

    Raises:
        InputError: a file is wrong. The message has one line for each mistake in the first such file.
    """
    try:
        validate({"name": profile}, _ProfileName, "profile")
    except InputError:
        raise InputError(
            f"profile: found {profile!r}; allowed: {', '.join(_profiles(config_dir))} (a file in {config_dir})"
        ) from None
    if profile in RESERVED:
        raise InputError(f"profile: found {profile!r}; the results have a folder of that name for archives")
    path = config_dir / f"{profile}.yaml"
    if profile not in _profiles(config_dir) and path.is_file():
        raise InputError(f"profile: {path} is no profile; allowed: {', '.join(_profiles(config_dir))}")
    if not path.is_file():
        hint = suggest(profile, _profiles(config_dir))
        raise InputError(f"profile: there is no {path}{hint}")
    experiments = read(config_dir / "experiments.yaml", config.Experiments)
    numbers = read(path, config.Profile)
    return _Join(experiments, numbers, str(config_dir / "experiments.yaml"), str(path)).plan(profile)


class _ProfileName(BaseModel):
    name: config.Name


def _profiles(config_dir: Path) -> list[str]:
    return sorted(p.stem for p in config_dir.glob("*.yaml") if p.stem != "experiments")


class _Join:
    """The experiments with the numbers of a profile. It collects mistakes and raises them together."""

    def __init__(
        self,
        experiments: config.Experiments,
        profile: config.Profile,
        experiments_path: str,
        profile_path: str,
    ) -> None:
        self.experiments, self.profile = experiments, profile
        self.experiments_path, self.profile_path = experiments_path, profile_path
        self.mistakes = Mistakes()
        self._wrong = self.mistakes.add

    def plan(self, name: str) -> Plan:
        check_references(self.experiments, self.profile, self.experiments_path, self.profile_path, self.mistakes)
        self.mistakes.stop()
        problems = {
            setting: problem_of(setting, entry, self.profile.settings[setting], self.profile_path, self.mistakes)
            for setting, entry in self.experiments.settings.items()
            if setting in self.profile.settings
        }
        self.mistakes.stop()
        segments: dict[str, PlannedSegment] = {}
        members: dict[tuple[str, str], tuple[PlannedMember, ...]] = {}
        for segment_name in self._parents_first():
            entry = self.experiments.segments[segment_name]
            for setting in entry.settings:
                problem = problems.get(setting)
                if problem is not None:
                    begun = members.get((setting, entry.parent), ()) if entry.parent else (PlannedMember({}, ()),)
                    begun = of_seeds(begun, entry.seeds)
                    members[setting, segment_name] = self._family(setting, segment_name, problem, begun, segments)
        self.mistakes.stop()
        drawn = outputs(self.experiments, self.profile, segments, members, self.experiments_path, self.mistakes)
        self.mistakes.stop()
        title = self.profile.title
        return Plan(
            profile=name,
            title=title,
            batch_steps=self.profile.batch_steps,
            batch_figures=self.profile.batch_figures,
            segments=segments,
            distances=drawn.distances,
            energies=drawn.energies,
            figures=drawn.figures,
            claims=drawn.claims,
            report=planned_report(name, title, drawn.figures.values(), drawn.claims),
            runs={key: found[0].path for key, found in members.items() if not found[0].varied},
            families={key: found for key, found in members.items() if found[0].varied},
        )

    def _family(
        self,
        setting: str,
        name: str,
        problem: ProblemSpec,
        begun: Sequence[PlannedMember],
        segments: dict[str, PlannedSegment],
    ) -> tuple[PlannedMember, ...]:
        """The members of a segment's family, which start from those of `begun`. Their segments are added to
        `segments`."""
        entry, numbers = self.experiments.segments[name], self.profile.settings[setting]
        join = SegmentJoin(setting, name, entry, numbers, self.profile_path, self.mistakes)
        members = []
        for before in begun:
            for own in self._combinations(setting, name):
                varied = before.varied | own
                spec = join.spec(problem, before.path[-1] if before.path else None, varied)
                if spec is not None:
                    code = segment_fingerprint(spec)
                    planned = PlannedSegment(id=segment_id(setting, spec, code), spec=spec, fingerprint=code)
                    segments.setdefault(planned.id, planned)
                    members.append(PlannedMember(varied, (*before.path, planned.id)))
        return tuple(members)

    def _combinations(self, setting: str, name: str) -> list[Varied]:
        """The numbers in which the members of a family differ, apart from those of their parents; one empty set if it
        does not vary."""
        values = self.profile.settings[setting].segments[name].values
        varies = [v for v in self.experiments.segments[name].varies if v != "seed" or values.seed is not None]
        found = [dict(zip(varies, c, strict=True)) for c in product(*(getattr(values, v) for v in varies))]
        return [c for c in found if not (c.get("alpha_dom") == c.get("beta_bulk") == 0.0)]

    def _parents_first(self) -> list[str]:
        order: dict[str, None] = {}
        for name in self.experiments.segments:
            chain, current = [], cast("str | None", name)
            while current is not None and current not in order:
                chain.append(current)
                current = self.experiments.segments[current].parent
            order |= dict.fromkeys(reversed(chain))
        return list(order)
