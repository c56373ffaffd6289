"""The specification of one segment: an entry of `experiments.yaml` with the numbers of a profile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from analysis.plan import config
from analysis.plan.mistakes import Mistakes
from analysis.plan.yaml import validate
from analysis.specs import FilterSpec, Frozen, ProbeNumbers, ProblemSpec, RuleNumbers, SegmentSpec
from analysis.specs.kinds import PROBES, RULES, kinds, numbers_of
from sharpflat.errors import InputError

Varied = dict[str, float]  # what members of a family differ in, by name


class SegmentJoin:
    """A segment in a setting, with what all members of its family share.

    Args:
        setting: the name of the setting.
        name: the name of the segment.
        entry: the segment in `experiments.yaml`.
        numbers: the setting's numbers in the profile.
        profile_path: the path for messages.
        mistakes: collects the mistakes.
    """

    def __init__(
        self,
        setting: str,
        name: str,
        entry: config.Segment,
        numbers: config.SettingNumbers,
        profile_path: str,
        mistakes: Mistakes,
    ) -> None:
        self.setting, self.name, self.entry = setting, name, entry
        self.numbers, self.own = numbers, numbers.segments[name]
        self.profile_path, self.mistakes = profile_path, mistakes

    def spec(self, problem: ProblemSpec, parent: str | None, varied: Varied) -> SegmentSpec | None:
        """The specification of one member. If it has mistakes, they are added and the result is None.

        Args:
            problem: the setting's problem.
            parent: id of the segment from which it starts.
            varied: the numbers in which it and its ancestors differ from other members.
        """
        own: Varied = {v: varied[v] for v in self.entry.varies if v in varied}
        try:
            stop = config.stop_spec(self.entry.stop, self.own, cast("int | None", own.get("step")))
        except ValueError as error:
            self.mistakes.add(self.profile_path, self._key(), str(error))
            return None
        rule, probes = self._rule(varied), self._probes()
        if rule is None or probes is None:
            return None
        if "holdout" in varied:
            data = problem.data.model_copy(update={"holdout": varied["holdout"]})
            problem = problem.model_copy(update={"data": data})
        return SegmentSpec(
            problem=problem,
            seed=cast("int", varied.get("seed", self.numbers.seed)),
            rule=rule,
            filter=self._filter(own),
            stop=stop,
            probes=probes,
            parent=parent,
        )

    def _key(self, *parts: str) -> str:
        return ".".join(["settings", self.setting, "segments", self.name, *parts])

    def _wrong(self, message: str, *parts: str) -> None:
        self.mistakes.add(self.profile_path, self._key(*parts), message)

    def _validated(self, content: Mapping[str, Any], model: type[Frozen], *parts: str) -> Frozen | None:
        try:
            return validate(content, model, self.profile_path, self._key(*parts))
        except InputError as error:
            self.mistakes.extend(error)
            return None

    def _filter(self, own: Varied) -> FilterSpec | None:
        alpha_dom = own.get("alpha_dom", self.entry.alpha_dom)
        beta_bulk = own.get("beta_bulk", self.entry.beta_bulk)
        refreshes = self.own.refreshes
        if alpha_dom == beta_bulk == 1.0:
            for name in refreshes:
                self._wrong("not allowed; the segment's updates are not filtered", name)
            return None
        if "refresh_every" in own:
            for name in refreshes:
                self._wrong("not allowed; the segment varies in refresh_every", name)
            refreshes = {"refresh_every": own["refresh_every"]}
        numbers: dict[str, Any] = {"k": own.get("k"), **(refreshes or self.numbers.refreshes)}
        tolerance = self.numbers.tolerance
        return FilterSpec(alpha_dom=alpha_dom, beta_bulk=beta_bulk, tolerance=tolerance, **numbers)

    def _rule(self, varied: Varied) -> RuleNumbers | None:
        if "learning_rate" in varied and self.own.learning_rate is not None:
            self._wrong("not allowed; the segment varies in it, or one that it descends from", "learning_rate")
            return None
        kind, given = self.entry.rule_kind, self.entry.rule.model_extra or {}
        if self._validated(self.own.rule, config.rule_numbers(kind), "rule") is None:
            return None
        if twice := given.keys() & self.own.rule.keys():
            for name in sorted(twice):
                self._wrong("not allowed; experiments.yaml gives it", "rule", name)
            return None
        values: dict[str, Any] = {
            "kind": kind,
            "learning_rate": varied.get("learning_rate") or self.own.learning_rate or self.numbers.learning_rate,
            "batch_size": None if self.entry.full_batch else varied.get("batch_size", self.numbers.batch_size),
            "replacement": self.entry.batch == "uniform",
        }
        return cast(
            "RuleNumbers | None", self._validated(given | self.own.rule | values, numbers_of(RULES, kind), "rule")
        )

    def _probes(self) -> dict[str, ProbeNumbers] | None:
        """The numbers of the probes that measure here, by kind."""
        settings, own = self.numbers.probes, cast("Frozen", self.own.probes).model_dump(exclude_unset=True)
        probes: dict[str, ProbeNumbers] = {}
        whole = True
        for kind in kinds(PROBES):
            numbers = numbers_of(PROBES, kind)
            asked = self.setting in self.entry.measures.get(kind, ())
            if numbers.everywhere:
                asked = kind not in self.entry.without
            usual = getattr(settings, kind)
            if not asked:
                if kind in own:
                    self._wrong("not allowed; experiments.yaml does not have it measured here", "probes", kind)
            elif usual is None and kind not in own:
                key = f"settings.{self.setting}.probes.{kind}"
                self.mistakes.add(self.profile_path, key, f"missing; segment {self.name!r} measures it")
                whole = False
            else:
                merged = ({} if usual is None else usual.model_dump()) | own.get(kind, {})
                found = self._validated(merged, numbers, "probes", kind)
                whole = whole and found is not None
                probes[kind] = cast("ProbeNumbers", found)
        return probes if whole else None
