"""Names in configuration files that refer to each other: settings, segments, parents, models, claims."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import get_args

from analysis.plan import config
from analysis.plan.fingerprint import keys
from analysis.plan.mistakes import Mistakes
from analysis.plan.yaml import suggest, validate
from analysis.specs.kinds import MODELS, PROBES, RULES, kinds, numbers_of
from sharpflat.errors import InputError

MOST_MEMBERS = 10_000  # of a family: each has files of its own, that the workflow looks for at every start


def check_references(
    experiments: config.Experiments,
    profile: config.Profile,
    experiments_path: str,
    profile_path: str,
    mistakes: Mistakes,
) -> None:
    """Adds a line for each name that refers to nothing or to something not allowed, with its file and key."""
    _Checks(experiments, profile, experiments_path, profile_path, mistakes).check()


class _Checks:
    def __init__(
        self,
        experiments: config.Experiments,
        profile: config.Profile,
        experiments_path: str,
        profile_path: str,
        mistakes: Mistakes,
    ) -> None:
        self.experiments, self.profile = experiments, profile
        self.experiments_path, self.profile_path = experiments_path, profile_path
        self._mistakes, self._wrong = mistakes, mistakes.add

    def check(self) -> None:
        e, p = self.experiments, self.profile
        for name, setting in e.settings.items():
            if setting.model not in kinds(MODELS):
                hint = suggest(setting.model, list(kinds(MODELS)))
                self._wrong(self.experiments_path, f"settings.{name}.model", f"unknown model {setting.model!r}{hint}")
        for name, segment in e.segments.items():
            key = f"segments.{name}"
            for s in segment.settings:
                self._known(f"{key}.settings", s, e.settings, "setting")
            self._check_rule(key, segment)
            self._check_probes(key, segment)
            if segment.parent is not None and self._known(f"{key}.parent", segment.parent, e.segments, "segment"):
                for s in sorted(set(segment.settings) - set(e.segments[segment.parent].settings)):
                    self._wrong(
                        self.experiments_path,
                        f"{key}.parent",
                        f"{segment.parent!r} is not run in setting {s!r}",
                    )
            self._check_varies(name, segment)
            if segment.seeds == "first" and segment.parent is None:
                self._wrong(self.experiments_path, f"{key}.seeds", "not allowed; the segment has no parent")
        self._check_cycles()
        for name in e.claims:
            if name not in (known := keys("analysis.claims", "CLAIMS")):
                self._wrong(self.experiments_path, f"claims.{name}", f"unknown claim{suggest(name, known)}")
        users: dict[str, config.Figure | config.Claim] = {
            **{f"figures.{name}": figure for name, figure in e.figures.items()},
            **{f"claims.{name}": claim for name, claim in e.claims.items()},
        }
        for key, user in users.items():
            for s in user.settings:
                self._known(f"{key}.settings", s, e.settings, "setting")
            for label, run in user.runs.items():
                if self._known(f"{key}.runs.{label}", run, e.segments, "segment"):
                    for s in sorted(set(user.settings) - set(e.segments[run].settings)):
                        self._wrong(
                            self.experiments_path,
                            f"{key}.runs.{label}",
                            f"segment {run!r} is not run in setting {s!r}",
                        )
        for s in p.settings:
            if s not in e.settings:
                self._wrong(
                    self.profile_path,
                    f"settings.{s}",
                    f"unknown setting{suggest(s, list(e.settings))}",
                )
                continue
            run_here = [n for n, segment in e.segments.items() if s in segment.settings]
            for n in p.settings[s].segments:
                if n not in run_here:
                    self._wrong(
                        self.profile_path,
                        f"settings.{s}.segments.{n}",
                        f"unknown segment{suggest(n, run_here)}",
                    )
            for n in run_here:
                if n not in p.settings[s].segments:
                    self._wrong(self.profile_path, f"settings.{s}.segments.{n}", "missing; it has to be given")

    def _check_rule(self, key: str, segment: config.Segment) -> None:
        rule, known = segment.rule, sorted([*kinds(RULES), config.GD])
        if rule.kind not in known:
            message = f"unknown update rule {rule.kind!r}{suggest(rule.kind, known)}"
            self._wrong(self.experiments_path, f"{key}.rule", message)
            return
        try:
            validate(rule.model_extra, config.rule_numbers(segment.rule_kind), self.experiments_path, f"{key}.rule")
        except InputError as error:
            self._mistakes.extend(error)
        if rule.kind == config.GD and segment.batch not in (None, "full"):
            self._wrong(self.experiments_path, f"{key}.batch", f"found {segment.batch!r}; gd is on the full batch")

    def _check_probes(self, key: str, segment: config.Segment) -> None:
        usual = [kind for kind in kinds(PROBES) if numbers_of(PROBES, kind).everywhere]
        others = [kind for kind in kinds(PROBES) if kind not in usual]
        for kind, settings in segment.measures.items():
            place = f"{key}.measures.{kind}"
            if kind in usual:
                self._wrong(self.experiments_path, place, "not allowed; every segment measures it")
            elif kind not in others:
                self._wrong(self.experiments_path, place, f"unknown probe{suggest(kind, others)}")
            for s in sorted(set(settings) - set(segment.settings)):
                self._wrong(
                    self.experiments_path, place, f"not run in setting {s!r}{suggest(s, list(segment.settings))}"
                )
        for kind in segment.without:
            if kind not in usual:
                message = f"{kind!r} is no probe that every segment measures{suggest(kind, usual)}"
                self._wrong(self.experiments_path, f"{key}.without", message)
        if segment.stop == "aligned" and config.ALIGNMENT in segment.without:
            message = f"must not name {config.ALIGNMENT}: the segment stops by the alignment"
            self._wrong(self.experiments_path, f"{key}.without", message)

    def _check_varies(self, name: str, segment: config.Segment) -> None:
        key = f"segments.{name}.varies"
        if len(set(segment.varies)) < len(segment.varies):
            self._wrong(self.experiments_path, key, "names something twice")
        if "batch_size" in segment.varies and segment.full_batch:
            self._wrong(self.experiments_path, key, "names batch_size; the segment is on the full batch")
        ancestors = self._ancestors(name)
        inherited = {v for a in ancestors for v in self.experiments.segments[a].varies}
        for v in segment.varies:
            if segment.parent is not None and v in config.OF_THE_BEGINNING:
                self._wrong(self.experiments_path, key, f"only a segment without a parent can vary in {v}")
            elif v in inherited:  # one name, one value a run
                self._wrong(self.experiments_path, key, f"a segment that it descends from varies in {v} already")
        for s in segment.settings:
            numbers = self.profile.settings.get(s)
            if numbers is None or name not in numbers.segments:
                continue
            given = numbers.segments[name].values
            for v in get_args(config.Varied):
                place = f"settings.{s}.segments.{name}.values.{v}"
                values = getattr(given, v)
                if v in segment.varies and values is None and v != "seed":
                    self._wrong(self.profile_path, place, "missing; the segment varies in it")
                elif v not in segment.varies and values is not None:
                    self._wrong(self.profile_path, place, "not allowed; experiments.yaml does not have it varied here")
                elif values is not None and len(set(values)) < len(values):
                    self._wrong(self.profile_path, place, "a value is given twice")
            if segment.varies:
                families = [numbers.segments[a].values for a in (name, *ancestors) if a in numbers.segments]
                members = prod(len(values) for varied in families for _, values in varied if values is not None)
                if members > MOST_MEMBERS:
                    place = f"settings.{s}.segments.{name}.values"
                    message = f"{members:,} runs, with the values of what it descends from; at most {MOST_MEMBERS:,}"
                    self._wrong(self.profile_path, place, message)
            if given.alpha_dom == given.beta_bulk == (0.0,):
                place = f"settings.{s}.segments.{name}.values"
                self._wrong(self.profile_path, place, "alpha_dom and beta_bulk are 0 alone, which does not move")

    def _ancestors(self, name: str) -> list[str]:
        """The parents, their parents and so on, as far as they exist, without repetitions."""
        found: dict[str, None] = {}
        current = self.experiments.segments[name].parent
        while current in self.experiments.segments and current not in found:
            found[current] = None
            current = self.experiments.segments[current].parent
        return list(found)

    def _known(self, key: str, name: str, known: Iterable[str], what: str) -> bool:
        if name in known:
            return True
        hint = suggest(name, list(known))
        self._wrong(self.experiments_path, key, f"there is no {what} {name!r}{hint}")
        return False

    def _check_cycles(self) -> None:
        for name in self.experiments.segments:
            trail = {name: None}
            current = name
            while (parent := getattr(self.experiments.segments.get(current), "parent", None)) is not None:
                if parent in trail:
                    if parent == name:  # reported once, from a segment within the cycle
                        chain = " <- ".join([*trail, parent])
                        self._wrong(
                            self.experiments_path,
                            f"segments.{name}.parent",
                            f"a cycle: {chain}; one of these must begin without a parent",
                        )
                    break
                trail[parent] = None
                current = parent
