"""Making the plan: `experiments.yaml` joined with a profile's numbers, mistakes told together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, TypeAdapter, ValidationError

from analysis import config
from analysis.data.catalogue import describe, names
from analysis.errors import InputError
from analysis.fingerprint import defined, fingerprint, submodules
from analysis.models.sizes import parameter_count
from analysis.names import canonical, distances_id, segment_fingerprint, segment_id
from analysis.planned import Plan, Planned, PlannedDistances, PlannedSegment
from analysis.references import reference_mistakes
from analysis.specs import MODELS, DataSpec, FilterSpec, ProbeSpec, ProblemSpec, RuleSpec, SegmentSpec

if TYPE_CHECKING:
    from analysis.specs import ModelSpec

CONFIG_DIR = Path(__file__).resolve().parent.parent / "workflow" / "config"

_RULE: TypeAdapter[RuleSpec] = TypeAdapter(RuleSpec)
Runs = dict[tuple[str, str], tuple[str, ...]]  # (setting, segment) -> path of ids


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
        self.segments: dict[str, PlannedSegment] = {}
        self.runs: Runs = {}
        self.distances: dict[str, PlannedDistances] = {}

    def plan(self, name: str) -> Plan:
        self.mistakes += reference_mistakes(self.experiments, self.profile, self.experiments_path, self.profile_path)
        self._stop_on_mistakes()
        problems = {s: self._problem(s) for s in self.experiments.settings if s in self.profile.settings}
        self._stop_on_mistakes()
        segments: dict[str, PlannedSegment] = {}
        runs: Runs = {}
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
        self.segments, self.runs = segments, runs
        figures = {f: self._figure(f) for f in self.experiments.figures}
        claims = self._claims()
        self._stop_on_mistakes()
        return Plan(
            name,
            self.profile.title,
            self.profile.batch_steps,
            self.profile.batch_figures,
            segments,
            self.distances,
            {f: figure for f, figure in figures.items() if figure.inputs},
            claims,
            runs,
        )

    def _wrong(self, path: str, key: str, message: str) -> None:
        self.mistakes.append(f"{path}: {key}: {message}")

    def _stop_on_mistakes(self) -> None:
        if self.mistakes:
            raise InputError("\n".join(self.mistakes))

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
        rule = self._rule(setting, name)
        probes = self._probes(setting, name)
        if rule is None or probes is None:
            return None
        spec = SegmentSpec(
            problem=problem,
            seed=numbers.seed,
            rule=rule,
            filter=None
            if entry.alpha_dom == entry.beta_bulk == 1.0
            else FilterSpec(
                alpha_dom=entry.alpha_dom,
                beta_bulk=entry.beta_bulk,
                refresh_every=numbers.refresh_every,
                tolerance=numbers.tolerance,
            ),
            stop=stop,
            probes=probes,
            parent=parent,
        )
        code = segment_fingerprint(spec)
        return PlannedSegment(segment_id(setting, spec, code), spec, code)

    def _rule(self, setting: str, name: str) -> RuleSpec | None:
        entry, numbers = self.experiments.segments[name], self.profile.settings[setting]
        length = numbers.segments[name]
        values: dict[str, Any] = {
            "kind": "sgd" if entry.rule == "gd" else entry.rule,
            "learning_rate": length.learning_rate or numbers.learning_rate,
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
        for measure in ("rates", "snapshots"):
            if measure not in measured:
                if measure in own:
                    key = f"settings.{setting}.segments.{name}.probes.{measure}"
                    self._wrong(self.profile_path, key, "not allowed; experiments.yaml does not have it measured here")
                values[measure] = None
            elif values[measure] is None:
                key = f"settings.{setting}.probes.{measure}"
                self._wrong(self.profile_path, key, f"missing; segment {name!r} measures it")
                return None
        return ProbeSpec(**values)

    # ------------------------------------------------------------ what is drawn and judged
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
            self._wrong(self.experiments_path, f"figures.{name}.module", f"unknown module {entry.module!r}{hint}")
        panels = self._panels(f"figures.{name}", entry)
        params = {"name": name, "module": module, "caption": entry.caption, "panels": panels, "code": code}
        return Planned(name, self._inputs(panels), tuple(formats), canonical(params))

    def _claims(self) -> Planned:
        claims: list[dict[str, Any]] = [
            {"name": n, "panels": self._panels(f"claims.{n}", c)} for n, c in self.experiments.claims.items()
        ]
        inputs = dict.fromkeys(i for claim in claims for i in self._inputs(claim["panels"]))
        params = canonical({"claims": claims, "code": fingerprint("analysis.claims")})
        return Planned("claims", tuple(inputs), ("json", "csv"), params)

    def _panels(self, key: str, user: config.Figure | config.Claim) -> list[dict[str, Any]]:
        panels = []
        for setting in user.settings:
            if setting not in self.profile.settings:
                continue
            paths = {label: self.runs[setting, run] for label, run in user.runs.items()}
            panel: dict[str, Any] = {
                "setting": setting,
                "title": self.experiments.settings[setting].title,
                "runs": [[label, list(path)] for label, path in paths.items()],  # in order
            }
            if user.reads != "trajectories":
                self._check_snapshots(key, user, setting)
            if user.reads == "snapshots":
                panel["snapshots"] = True
            if user.reads == "distances":
                panel["distances"] = self._distances(key, tuple(paths.values()))
            panels.append(panel)
        return panels

    def _check_snapshots(self, key: str, user: config.Figure | config.Claim, setting: str) -> None:
        for label, run in user.runs.items():
            missing = [i for i in self.runs[setting, run] if self.segments[i].snapshots is None]
            if missing:
                message = f"reads {user.reads}, but the snapshots of {label} are not measured in setting {setting!r}"
                self._wrong(self.experiments_path, f"{key}.reads", f"{message} (segment {missing[0]})")

    def _distances(self, key: str, runs: tuple[tuple[str, ...], ...]) -> str:
        if len(runs) != 2:
            self._wrong(self.experiments_path, f"{key}.reads", f"distances are between two runs; {len(runs)} are given")
            return ""
        planned = PlannedDistances(distances_id(runs, fingerprint("analysis.distances")), (runs[0], runs[1]))
        self.distances[planned.id] = planned
        return planned.id

    def _inputs(self, panels: list[dict[str, Any]]) -> tuple[str, ...]:
        """The datasets that panels are made from, each once."""
        found: dict[str, None] = {}
        for panel in panels:
            ids = [i for _, path in panel["runs"] for i in path]
            found |= dict.fromkeys(f"segments/{i}/trajectory.nc" for i in ids)
            if panel.get("snapshots"):
                found |= dict.fromkeys(f"segments/{i}/snapshots.nc" for i in ids)
            if panel.get("distances"):
                found[f"distances/{panel['distances']}.nc"] = None
        return tuple(found)


def figure_modules() -> list[str]:
    """Modules that draw, as configurations name them."""
    return [m.replace("_", "-") for m in submodules("analysis.figures") if "draw" in defined(f"analysis.figures.{m}")]
