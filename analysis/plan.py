"""The plan: a profile's segments with their content-hashed names, and what each figure is drawn from.

Free of torch and xarray: the workflow reads it at every start. The name of a segment hashes its specification
(by value), its parent's name and a fingerprint of the code that its function reaches, so what stands under a
name is right by construction, and equal work has one name, whoever asks for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, ValidationError

from analysis import config
from analysis.data.catalogue import describe, names
from analysis.errors import InputError
from analysis.fingerprint import defined, fingerprint, keys, submodules
from analysis.models.sizes import parameter_count
from analysis.specs import (
    MODELS,
    DataSpec,
    FilterSpec,
    ProblemSpec,
    RuleSpec,
    SegmentSpec,
)

if TYPE_CHECKING:
    from analysis.specs import ModelSpec

CONFIG_DIR = Path(__file__).resolve().parent.parent / "workflow" / "config"


@dataclass(frozen=True)
class PlannedSegment:
    id: str  # <setting>.<update rule>-<8 hex>
    spec: SegmentSpec
    fingerprint: str

    @property
    def subsets(self) -> tuple[str, str]:
        """Names of the training and the test data, with which their files are found."""
        data = self.spec.problem.data
        return subset_id(data.train, data.train_sha256), subset_id(data.test, data.test_sha256)

    @property
    def params(self) -> str:
        """What the training rule is given: sorted JSON, equal for equal work."""
        return canonical({"id": self.id, "spec": self.spec.model_dump(), "fingerprint": self.fingerprint})


@dataclass(frozen=True)
class PlannedFigure:
    name: str
    segments: tuple[str, ...]  # ids, each once
    params: str  # sorted JSON: module, caption, panels with runs as lists of ids, fingerprint


@dataclass(frozen=True)
class PlannedClaims:
    segments: tuple[str, ...]  # ids, each once
    params: str  # sorted JSON: claims with their panels, fingerprint


@dataclass(frozen=True)
class Batch:
    """Missing segments with the same parent, which one process trains one after the other."""

    name: str
    segments: tuple[PlannedSegment, ...]


@dataclass(frozen=True)
class Plan:
    profile: str
    title: str
    batch_steps: int
    segments: dict[str, PlannedSegment]  # by id, parents before children
    figures: dict[str, PlannedFigure]
    claims: PlannedClaims
    runs: dict[tuple[str, str], tuple[str, ...]]  # (setting, segment) of experiments.yaml -> path of ids

    @property
    def subsets(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(s for segment in self.segments.values() for s in segment.subsets))

    def batches(self, exists: Callable[[str], bool]) -> tuple[Batch, ...]:
        """Batches of the segments for which `exists(id)` is false."""
        siblings: dict[str, list[PlannedSegment]] = {}
        for segment in self.segments.values():
            if not exists(segment.id):
                siblings.setdefault(segment.spec.parent or f"before {segment.id}", []).append(segment)
        return tuple(batch for group in siblings.values() for batch in self._split(group))

    def _split(self, group: list[PlannedSegment]) -> Iterator[Batch]:
        current: list[PlannedSegment] = []
        load = 0
        for segment in group:
            current.append(segment)
            load += _expected_steps(segment.spec)
            if load >= self.batch_steps:
                yield Batch(current[0].id, tuple(current))
                current, load = [], 0
        if current:
            yield Batch(current[0].id, tuple(current))


def load_plan(profile: str, config_dir: Path = CONFIG_DIR) -> Plan:
    """Read and join `experiments.yaml` and `<profile>.yaml`.

    Raises:
        InputError: for the first file that is wrong, with a line per mistake.
    """
    try:
        config.validate({"name": profile}, _ProfileName, "profile")
    except InputError:
        raise InputError(
            f"profile: found {profile!r}; allowed: {', '.join(_profiles(config_dir))} (a file in {config_dir})"
        ) from None
    path = config_dir / f"{profile}.yaml"
    if profile not in _profiles(config_dir) and path.is_file():
        raise InputError(f"profile: {path} is no profile; allowed: {', '.join(_profiles(config_dir))}")
    if not path.is_file():
        hint = config.suggest(profile, _profiles(config_dir))
        raise InputError(f"profile: there is no {path}{hint}")
    experiments = config.read(config_dir / "experiments.yaml", config.Experiments)
    numbers = config.read(path, config.Profile)
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
        self.mistakes: list[str] = []

    def plan(self, name: str) -> Plan:
        self._check_references()
        self._stop_on_mistakes()
        problems = {s: self._problem(s) for s in self.experiments.settings if s in self.profile.settings}
        self._stop_on_mistakes()
        segments: dict[str, PlannedSegment] = {}
        runs: dict[tuple[str, str], tuple[str, ...]] = {}
        for segment_name in self._parents_first():
            entry = self.experiments.segments[segment_name]
            for setting in entry.settings:
                if setting not in self.profile.settings:
                    continue
                path = runs.get((setting, entry.parent), ()) if entry.parent else ()
                planned = self._segment(setting, segment_name, problems[setting], path[-1] if path else None)
                if planned is not None:
                    segments.setdefault(planned.id, planned)
                    runs[setting, segment_name] = (*path, planned.id)
        self._stop_on_mistakes()
        figures = {f: self._figure(f, runs) for f in self.experiments.figures}
        self._stop_on_mistakes()
        return Plan(
            name,
            self.profile.title,
            self.profile.batch_steps,
            segments,
            {f: figure for f, figure in figures.items() if figure.segments},
            self._claims(runs),
            runs,
        )

    def _wrong(self, path: str, key: str, message: str) -> None:
        self.mistakes.append(f"{path}: {key}: {message}")

    def _stop_on_mistakes(self) -> None:
        if self.mistakes:
            raise InputError("\n".join(self.mistakes))

    def _check_references(self) -> None:
        e, p = self.experiments, self.profile
        for name, setting in e.settings.items():
            if setting.model not in MODELS:
                hint = config.suggest(setting.model, list(MODELS))
                self._wrong(self.experiments_path, f"settings.{name}.model", f"unknown model {setting.model!r}{hint}")
        for name, segment in e.segments.items():
            key = f"segments.{name}"
            for s in segment.settings:
                self._known(f"{key}.settings", s, e.settings, "setting")
            if segment.parent is not None and self._known(f"{key}.parent", segment.parent, e.segments, "segment"):
                for s in sorted(set(segment.settings) - set(e.segments[segment.parent].settings)):
                    self._wrong(
                        self.experiments_path,
                        f"{key}.parent",
                        f"{segment.parent!r} is not run in setting {s!r}",
                    )
        self._check_cycles()
        for name in e.claims:
            if name not in (known := keys("analysis.claims", "CLAIMS")):
                self._wrong(self.experiments_path, f"claims.{name}", f"unknown claim{config.suggest(name, known)}")
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
                    f"unknown setting{config.suggest(s, list(e.settings))}",
                )
                continue
            run_here = [n for n, segment in e.segments.items() if s in segment.settings]
            for n in p.settings[s].segments:
                if n not in run_here:
                    self._wrong(
                        self.profile_path,
                        f"settings.{s}.segments.{n}",
                        f"unknown segment{config.suggest(n, run_here)}",
                    )
            for n in run_here:
                if n not in p.settings[s].segments:
                    self._wrong(self.profile_path, f"settings.{s}.segments.{n}", "missing; it has to be given")

    def _known(self, key: str, name: str, known: Iterable[str], what: str) -> bool:
        if name in known:
            return True
        hint = config.suggest(name, list(known))
        self._wrong(self.experiments_path, key, f"there is no {what} {name!r}{hint}")
        return False

    def _check_cycles(self) -> None:
        for name in self.experiments.segments:
            trail = [name]
            while (parent := getattr(self.experiments.segments.get(trail[-1]), "parent", None)) is not None:
                if parent in trail:
                    if parent == name:  # told once, from a segment within the cycle
                        chain = " <- ".join([*trail, parent])
                        self._wrong(
                            self.experiments_path,
                            f"segments.{name}.parent",
                            f"a cycle: {chain}; one of these must begin without a parent",
                        )
                    break
                trail.append(parent)

    def _parents_first(self) -> list[str]:
        order: dict[str, None] = {}

        def visit(name: str) -> None:
            parent = self.experiments.segments[name].parent
            if parent is not None and parent not in order:
                visit(parent)
            order[name] = None

        for name in self.experiments.segments:
            visit(name)
        return list(order)

    def _problem(self, setting: str) -> ProblemSpec | None:
        numbers, key = self.profile.settings[setting], f"settings.{setting}"
        entry = self.experiments.settings[setting]
        data = self._data(numbers.data, f"{key}.data")
        try:
            model = config.validate(
                {"kind": entry.model, **{k: v for k, v in numbers.model.items() if k != "kind"}},
                MODELS[entry.model],
                f"{self.profile_path}: {key}.model",
            )
        except InputError as error:
            self.mistakes += str(error).replace(".model: ", ".model.").splitlines()
            return None
        if "kind" in numbers.model:
            self._wrong(self.profile_path, f"{key}.model.kind", "unknown key; the model is chosen in experiments.yaml")
            return None
        if data is None:
            return None
        info = describe(data.train)
        if numbers.batch_size > data.examples:
            self._wrong(
                self.profile_path,
                f"{key}.batch_size",
                f"found {numbers.batch_size}; at most the number of training examples, {data.examples}",
            )
        k = numbers.k or info.classes
        try:
            problem = ProblemSpec(data=data, model=cast("ModelSpec", model), loss=entry.loss, k=k, dtype=numbers.dtype)
            parameters = parameter_count(problem)
        except (ValidationError, ValueError) as error:
            self._wrong(self.profile_path, f"{key}.model", str(error))
            return None
        if k > parameters:
            self._wrong(self.profile_path, f"{key}.k", f"found {k}; at most the number of parameters, {parameters}")
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
                    f"unknown subset {subset!r}{config.suggest(subset, list(names()))}",
                )
                return None
            available = describe(subset).examples
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
        self, setting: str, name: str, problem: ProblemSpec | None, parent: str | None
    ) -> PlannedSegment | None:
        entry, numbers = self.experiments.segments[name], self.profile.settings[setting]
        length = numbers.segments[name]
        if problem is None:
            return None
        try:
            stop = config.stop_spec(entry.stop, length)
        except ValueError as error:
            self._wrong(self.profile_path, f"settings.{setting}.segments.{name}", str(error))
            return None
        spec = SegmentSpec(
            problem=problem,
            seed=numbers.seed,
            rule=RuleSpec(
                kind="sgd",
                learning_rate=length.learning_rate or numbers.learning_rate,
                batch_size=None if entry.rule == "gd" else numbers.batch_size,
            ),
            filter=None
            if entry.alpha_dom == entry.beta_bulk == 1.0
            else FilterSpec(
                alpha_dom=entry.alpha_dom,
                beta_bulk=entry.beta_bulk,
                refresh_every=numbers.refresh_every,
                tolerance=numbers.tolerance,
            ),
            stop=stop,
            probes=numbers.probes,
            parent=parent,
        )
        code = segment_fingerprint(spec)
        digest = hash8({"spec": spec.model_dump(), "fingerprint": code})
        return PlannedSegment(f"{setting_slug(setting, problem)}.{rule_slug(spec)}-{digest}", spec, code)

    def _figure(self, name: str, runs: dict[tuple[str, str], tuple[str, ...]]) -> PlannedFigure:
        entry = self.experiments.figures[name]
        module = f"analysis.figures.{entry.module.replace('-', '_')}"
        code = ""
        if entry.module in (known := figure_modules()):
            code = fingerprint(module)
        else:
            hint = config.suggest(entry.module, known)
            self._wrong(self.experiments_path, f"figures.{name}.module", f"unknown module {entry.module!r}{hint}")
        panels = self._panels(entry, runs)
        params = {"name": name, "module": module, "caption": entry.caption, "panels": panels, "code": code}
        return PlannedFigure(name, _segments(panels), canonical(params))

    def _claims(self, runs: dict[tuple[str, str], tuple[str, ...]]) -> PlannedClaims:
        claims = [{"name": n, "panels": self._panels(c, runs)} for n, c in self.experiments.claims.items()]
        ids = dict.fromkeys(i for claim in claims for i in _segments(claim["panels"]))
        return PlannedClaims(tuple(ids), canonical({"claims": claims, "code": fingerprint("analysis.claims")}))

    def _panels(
        self, user: config.Figure | config.Claim, runs: dict[tuple[str, str], tuple[str, ...]]
    ) -> list[dict[str, Any]]:
        return [
            {
                "setting": setting,
                "title": self.experiments.settings[setting].title,
                "runs": [[label, list(runs[setting, run])] for label, run in user.runs.items()],  # in order
            }
            for setting in user.settings
            if setting in self.profile.settings
        ]


def _segments(panels: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(i for panel in panels for _, path in panel["runs"] for i in path))


def figure_modules() -> list[str]:
    """Modules that draw, as configurations name them."""
    return [m.replace("_", "-") for m in submodules("analysis.figures") if "draw" in defined(f"analysis.figures.{m}")]


# ---------------------------------------------------------------- names
def canonical(value: Any) -> str:
    """Sorted JSON without spaces: one text for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def hash8(value: Any) -> str:
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:8]


def subset_id(name: str, sha256: str) -> str:
    return f"{name}-{sha256[:8]}"


def setting_slug(setting: str, problem: ProblemSpec) -> str:
    data = problem.data
    part = "" if data.examples == describe(data.train).examples else f"-n{data.examples}"
    return f"{setting}-{data.train}{part}"


def rule_slug(spec: SegmentSpec) -> str:
    """sgd, gd, dom-sgd, bulk-gd, or with the weights: sgd-a0.5-b1.5."""
    rule = "gd" if spec.rule.batch_size is None and spec.rule.kind == "sgd" else spec.rule.kind
    if spec.filter is None:
        return rule
    weights = (spec.filter.alpha_dom, spec.filter.beta_bulk)
    named = {(1.0, 0.0): f"dom-{rule}", (0.0, 1.0): f"bulk-{rule}"}
    return named.get(weights, f"{rule}-a{weights[0]:g}-b{weights[1]:g}")


def segment_fingerprint(spec: SegmentSpec) -> str:
    """The code that decides a segment: its rule's function, and the modules that are chosen by name."""
    return fingerprint(
        "analysis.training.batch",
        f"analysis.models.{spec.problem.model.kind}",
        f"analysis.optim.{spec.rule.kind}",
    )


def _expected_steps(spec: SegmentSpec) -> int:
    """Rough cost for packing: a step that refreshes the subspace costs as much as some thirty plain ones."""
    steps = spec.stop.steps if spec.stop.steps is not None else spec.stop.step or 0
    return steps // 30 if spec.filter is None else steps // spec.filter.refresh_every
