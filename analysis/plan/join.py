"""Making the plan: `experiments.yaml` joined with a profile's numbers, mistakes told together."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, TypeAdapter, ValidationError

from analysis.data.catalogue import describe, names
from analysis.models.sizes import parameter_count
from analysis.plan import config
from analysis.plan.mistakes import Mistakes
from analysis.plan.names import segment_fingerprint, segment_id
from analysis.plan.outputs import outputs, planned_report
from analysis.plan.plan import Plan, PlannedMember, PlannedSegment
from analysis.plan.references import check_references
from analysis.plan.yaml import read, suggest, validate
from analysis.specs import MODELS, DataSpec, FilterSpec, ProbeSpec, ProblemSpec, RuleSpec, SegmentSpec
from sharpflat.errors import InputError

if TYPE_CHECKING:
    from analysis.specs import ModelSpec

CONFIG_DIR = Path(__file__).resolve().parents[2] / "workflow" / "config"

_RULE: TypeAdapter[RuleSpec] = TypeAdapter(RuleSpec)
RESERVED = ("reference", "redrawn")  # folders of archives in the results
Varied = dict[str, float]  # what members of a family differ in, by name


def load_plan(profile: str, config_dir: Path = CONFIG_DIR) -> Plan:
    """Read and join `experiments.yaml` and `<profile>.yaml`.

    Raises:
        InputError: for the first file that is wrong, with a line per mistake.
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
    """Experiments with a profile's numbers; collects mistakes and raises them together."""

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
        problems = {s: self._problem(s) for s in self.experiments.settings if s in self.profile.settings}
        self.mistakes.stop()
        segments: dict[str, PlannedSegment] = {}
        members: dict[tuple[str, str], tuple[PlannedMember, ...]] = {}
        for segment_name in self._parents_first():
            entry = self.experiments.segments[segment_name]
            for setting in entry.settings:
                problem = problems.get(setting)
                if problem is None:
                    continue
                begun = members.get((setting, entry.parent), ()) if entry.parent else (PlannedMember({}, ()),)
                found = []
                for before in begun:
                    for own in self._combinations(setting, segment_name):
                        varied = before.varied | own
                        planned = self._segment(setting, segment_name, problem, before.path, varied)
                        if planned is not None:
                            segments.setdefault(planned.id, planned)
                            found.append(PlannedMember(varied, (*before.path, planned.id)))
                members[setting, segment_name] = tuple(found)
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

    def _combinations(self, setting: str, name: str) -> list[Varied]:
        """What the members of a segment's family differ in beyond their parents: one empty one, if it does not vary."""
        varies = self.experiments.segments[name].varies
        values = self.profile.settings[setting].segments[name].values
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

    def _problem(self, setting: str) -> ProblemSpec | None:
        numbers, key = self.profile.settings[setting], f"settings.{setting}"
        entry = self.experiments.settings[setting]
        data = self._data(numbers.data, f"{key}.data")
        try:
            model = validate(
                {"kind": entry.model, **{k: v for k, v in numbers.model.items() if k != "kind"}},
                MODELS[entry.model],
                f"{self.profile_path}: {key}.model",
            )
        except InputError as error:
            self.mistakes.extend(InputError(str(error).replace(".model: ", ".model.")))
            return None
        if "kind" in numbers.model:
            self._wrong(self.profile_path, f"{key}.model.kind", "unknown key; the model is chosen in experiments.yaml")
            return None
        if data is None:
            return None
        info = describe(data.train)
        holdouts = [(f"{key}.holdout", numbers.holdout)]
        for name, segment in numbers.segments.items():
            holdouts += [(f"{key}.segments.{name}.values.holdout", h) for h in segment.values.holdout or ()]
        for holdout_key, holdout in holdouts:
            trained = data.examples - holdout
            if trained < 1:
                message = f"found {holdout}; fewer than the examples, {data.examples}, some of which must be trained on"
                self._wrong(self.profile_path, holdout_key, message)
            elif numbers.batch_size > trained:
                message = f"found {numbers.batch_size}; at most the number of training examples, {trained}"
                self._wrong(self.profile_path, f"{key}.batch_size", message)
        data = data.model_copy(update={"holdout": numbers.holdout})
        k = numbers.k or info.classes
        try:
            problem = ProblemSpec(data=data, model=cast("ModelSpec", model), loss=entry.loss, k=k, dtype=numbers.dtype)
            parameters = parameter_count(problem)
        except (ValidationError, ValueError) as error:
            self._wrong(self.profile_path, f"{key}.model", str(error))
            return None
        dimensions = [(f"{key}.k", k)]
        for name, segment in numbers.segments.items():
            dimensions += [(f"{key}.segments.{name}.values.k", found) for found in segment.values.k or ()]
        for k_key, found in dimensions:
            if found > parameters:
                message = f"found {found}; at most the number of parameters, {parameters}"
                self._wrong(self.profile_path, k_key, message)
        return problem

    def _data(self, data: config.Data, key: str) -> DataSpec | None:
        counts: dict[str, int] = {}
        for part, subset, wanted in (
            ("train", data.train, data.examples),
            ("test", data.test, data.test_examples),
        ):
            count_key = "examples" if part == "train" else "test_examples"
            if subset not in names():
                self._wrong(
                    self.profile_path,
                    f"{key}.{part}",
                    f"unknown subset {subset!r}{suggest(subset, list(names()))}",
                )
                return None
            split, available = describe(subset).split, describe(subset).examples
            if split != part and describe(subset).kind != "toy":  # which has nothing to be tested on
                allowed = ", ".join(name for name in names() if describe(name).split == part)
                self._wrong(self.profile_path, f"{key}.{part}", f"{subset} is a {split} split; allowed: {allowed}")
                return None
            if wanted is not None and wanted > available:
                self._wrong(
                    self.profile_path,
                    f"{key}.{count_key}",
                    f"found {wanted}; {subset} has {available} examples",
                )
                return None
            counts[count_key] = wanted or available
        train, test = describe(data.train), describe(data.test)
        if (train.kind, train.classes) != (test.kind, test.classes):
            self._wrong(self.profile_path, f"{key}.test", f"{data.test} is no test split for {data.train}")
            return None
        return DataSpec(
            train=data.train,
            train_sha256=train.sha256,
            test=data.test,
            test_sha256=test.sha256,
            scaling=data.scaling,
            pooling=data.pooling,
            max_length=data.max_length,
            **counts,
        )

    def _segment(
        self, setting: str, name: str, problem: ProblemSpec, path: tuple[str, ...], varied: Varied
    ) -> PlannedSegment | None:
        entry, numbers = self.experiments.segments[name], self.profile.settings[setting]
        length = numbers.segments[name]
        own: Varied = {v: varied[v] for v in entry.varies}
        try:
            stop = config.stop_spec(entry.stop, length, cast("int | None", own.get("step")))
        except ValueError as error:
            self._wrong(self.profile_path, f"settings.{setting}.segments.{name}", str(error))
            return None
        rule = self._rule(setting, name, varied)
        probes = self._probes(setting, name)
        if rule is None or probes is None:
            return None
        if "holdout" in varied:
            data = problem.data.model_copy(update={"holdout": varied["holdout"]})
            problem = problem.model_copy(update={"data": data})
        spec = SegmentSpec(
            problem=problem,
            seed=cast("int", varied.get("seed", numbers.seed)),
            rule=rule,
            filter=self._filter(setting, name, own),
            stop=stop,
            probes=probes,
            parent=path[-1] if path else None,
        )
        code = segment_fingerprint(spec)
        return PlannedSegment(id=segment_id(setting, spec, code), spec=spec, fingerprint=code)

    def _filter(self, setting: str, name: str, own: Varied) -> FilterSpec | None:
        entry, numbers = self.experiments.segments[name], self.profile.settings[setting]
        alpha_dom, beta_bulk = own.get("alpha_dom", entry.alpha_dom), own.get("beta_bulk", entry.beta_bulk)
        if alpha_dom == beta_bulk == 1.0:
            return None
        return FilterSpec(
            alpha_dom=alpha_dom,
            beta_bulk=beta_bulk,
            k=cast("int | None", own.get("k")),
            refresh_every=cast("int", own.get("refresh_every", numbers.refresh_every)),
            tolerance=numbers.tolerance,
        )

    def _rule(self, setting: str, name: str, varied: Varied) -> RuleSpec | None:
        entry, numbers = self.experiments.segments[name], self.profile.settings[setting]
        length = numbers.segments[name]
        if "learning_rate" in varied and length.learning_rate is not None:
            message = "not allowed; the segment varies in it, or one that it descends from"
            self._wrong(self.profile_path, f"settings.{setting}.segments.{name}.learning_rate", message)
            return None
        values: dict[str, Any] = {
            "kind": "sgd" if entry.rule == "gd" else entry.rule,
            "learning_rate": varied.get("learning_rate") or length.learning_rate or numbers.learning_rate,
            "batch_size": None if entry.full_batch else numbers.batch_size,
            "replacement": entry.batch == "uniform",
        }
        if entry.rule == "sam":
            if length.rho is None:
                key = f"settings.{setting}.segments.{name}.rho"
                self._wrong(self.profile_path, key, "missing; SAM's perturbation radius has to be given")
                return None
            values["rho"] = length.rho
        else:
            if length.rho is not None:
                self._wrong(
                    self.profile_path, f"settings.{setting}.segments.{name}.rho", "not allowed; only SAM has one"
                )
            values["momentum"] = entry.momentum
        return _RULE.validate_python(values)

    def _probes(self, setting: str, name: str) -> ProbeSpec | None:
        numbers, measures = self.profile.settings[setting], self.experiments.segments[name].measures
        measured = [measure for measure, settings in measures.items() if setting in settings]
        own = numbers.segments[name].probes.model_dump(exclude_none=True)
        values = numbers.probes.model_dump() | own
        if not self.experiments.segments[name].spectrum:
            if "spectrum" in own:
                key = f"settings.{setting}.segments.{name}.probes.spectrum"
                self._wrong(self.profile_path, key, "not allowed; experiments.yaml does not have it measured here")
            values["spectrum"] = None
        for measure in ("rates", "snapshots"):
            if measure not in measured:
                if measure in own:
                    key = f"settings.{setting}.segments.{name}.probes.{measure}"
                    self._wrong(self.profile_path, key, "not allowed; experiments.yaml does not have it measured here")
                values[measure] = None
                if measure == "rates":  # whose tolerance is then nothing that a name is to depend on
                    values["rates_tolerance"] = ProbeSpec.model_fields["rates_tolerance"].default
            elif values[measure] is None:
                key = f"settings.{setting}.probes.{measure}"
                self._wrong(self.profile_path, key, f"missing; segment {name!r} measures it")
                return None
        return ProbeSpec(**values)
