"""Right reruns, no more and no less: for each change, just the jobs that would run after it.

They are asked of the project's table of tasks (`Project.would_run`). That the engine runs just these is tested for one
change of each kind, and with EXHAUSTIVE=1 for every one.

Besides this table: redrawing from an archive trains nothing (`test_archive.py`), energies and families
(`test_families.py`), and what really running writes (`test_workflow.py`).
"""

from __future__ import annotations

import ast
import json
import os
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from analysis.plan.plan import Plan
from tests.covering import some
from tests.workflow.project import Project

NUMBERS, EXPERIMENTS = "workflow/config/tiny.yaml", "workflow/config/experiments.yaml"

Change = Callable[[Project], object]
Expected = Callable[[Plan], set[str]]  # from the plan before the change; segments by their names, not their ids


# ---------------------------------------------------------------- what reruns
def only(*jobs: str) -> Expected:
    """Just these."""
    return lambda plan: set(jobs)


def trains(*segments: str) -> Expected:
    """These segments, those that descend from them, and all that is made of any of them."""
    return lambda plan: _with_all_that_follows(plan, set(segments))


def _with_all_that_follows(plan: Plan, segments: set[str]) -> set[str]:
    paths = {name: path for (_, name), path in plan.runs.items()}
    begun = {paths[name][-1] for name in segments}
    trained = {name for name, path in paths.items() if begun & set(path)}
    distances = [d for d in plan.distances.values() if begun & {id_ for run in d.spec.runs for id_ in run}]
    changed = {f"segments/{paths[name][-1]}/trajectory.nc" for name in trained} | {d.file for d in distances}
    drawn = {f"figure {name}" for name, figure in plan.figures.items() if changed & set(figure.inputs)}
    judged = {"claims"} if changed & set(plan.claims.inputs) else set()
    return trained | {"distances" for _ in distances} | drawn | judged | {"report"}


def drawn_by(*modules: str) -> Expected:
    """The figures of these modules, and the report that shows them."""

    def jobs(plan: Plan) -> set[str]:
        names = {module.replace("_", "-") for module in modules}
        drawn = {name: figure.spec.module for name, figure in plan.figures.items()}
        assert names <= set(drawn.values())
        return {f"figure {name}" for name, module in drawn.items() if module in names} | {"report"}

    return jobs


def every_figure(plan: Plan) -> set[str]:
    return {*(f"figure {name}" for name in plan.figures), "report"}


def all_figures_but(*names: str) -> Expected:
    return lambda plan: every_figure(plan) - {f"figure {name}" for name in names}


NOTHING, REPORT, CLAIMS = only(), only("report"), only("claims", "report")
EVERY_SEGMENT = trains("warm-up", "adam")  # which have no parents


# ---------------------------------------------------------------- changes
def edit(file: str, old: str, new: str) -> Change:
    return lambda project: project.edit(file, old, new)


def numbers(old: str, new: str) -> Change:
    return edit(NUMBERS, old, new)


def within(*functions: str) -> Change:
    """Another statement, which does nothing, at the beginning of functions or methods: "<module>:<name>"."""

    def change(project: Project) -> None:
        for function in functions:
            module, _, name = function.partition(":")
            path = project.path / module
            text = path.read_text(encoding="utf-8")
            found = [
                node for node in ast.walk(ast.parse(text)) if getattr(node, "name", None) == name.rpartition(".")[2]
            ]
            first = found[0].body[ast.get_docstring(found[0]) is not None]
            lines = text.splitlines(keepends=True)
            lines.insert(first.lineno - 1, f"{' ' * first.col_offset}_ = 0\n")
            path.write_text("".join(lines), encoding="utf-8")

    return change


def imported(*modules: str) -> Change:
    """A statement at the end of modules, which does nothing when they are imported."""

    def change(project: Project) -> None:
        for module in modules:
            with (project.path / module).open("a", encoding="utf-8") as file:
                file.write("\n\nsorted([])\n")

    return change


def another_function(*modules: str) -> Change:
    """At the end of modules."""

    def change(project: Project) -> None:
        for module in modules:
            with (project.path / module).open("a", encoding="utf-8") as file:
                file.write("\n\ndef another_function() -> int:\n    return 1\n")

    return change


def everywhere(old: str, new: str) -> Change:
    """In an optimizer, the eigensolver, the training loop and a figure's module."""

    def change(project: Project) -> None:
        for module in (
            "analysis/rules/sgd.py",
            "sharpflat/curvature/eigensolver.py",
            "analysis/training/segment.py",
            "analysis/figures/distance.py",
        ):
            path = project.path / module
            text = path.read_text(encoding="utf-8")
            assert old in text
            path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def written_anew(change: Callable[[dict[str, Any]], object], *files: str) -> Change:
    """YAML files as another program would write them (no comments, another layout), after a change of their content."""

    def write(project: Project) -> None:
        for path in (project.path / file for file in files or (EXPERIMENTS,)):
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            changed = change(content) or content
            path.write_text(yaml.safe_dump(changed, sort_keys=False, allow_unicode=True), encoding="utf-8")

    return write


def reordered(content: Any, key: str = "") -> Any:
    """With the keys of every mapping in the opposite order, but where the order is a legend's or the report's."""
    if not isinstance(content, dict):
        return content
    inner = {k: reordered(v, k) for k, v in content.items()}
    return inner if key in ("figures", "claims", "runs") else dict(reversed(inner.items()))


def backwards(*keys: str) -> Change:
    """The mapping at these keys of experiments.yaml in the opposite order."""

    def change(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = dict(reversed(content[keys[-1]].items()))

    return written_anew(change)


def another_setting(*figures: str) -> Change:
    """One that the profile has no numbers for, trained like the first, and in these figures."""

    def change(content: dict[str, Any]) -> None:
        content["settings"]["another"] = {"title": "Another", "model": "cnn"}
        users = [*content["segments"].values(), *(content["figures"][name] for name in figures)]
        for user in users:
            user["settings"] += ["another"] * ("mlp" in user["settings"])

    return written_anew(change)


def another_segment(project: Project) -> None:
    project.edit(
        EXPERIMENTS,
        "  long: {settings: [long,",
        "  more: {settings: [mlp], parent: late-gd, rule: sam}\n  long: {settings: [long,",
    )
    project.edit(NUMBERS, "late-gd: {steps: 4}", "late-gd: {steps: 4}\n      more: {steps: 4, rule: {rho: 0.1}}")


def another_figure(content: dict[str, Any]) -> None:
    content["figures"]["more"] = {
        **content["figures"]["travelled"],
        "caption": "Distance from the switching step, again",
    }


def another_profile(project: Project) -> None:
    text = (project.path / NUMBERS).read_text(encoding="utf-8")
    path = project.path / "workflow/config/mine.yaml"
    path.write_text(text.replace("learning_rate: 0.05", "learning_rate: 0.06"), encoding="utf-8")


def delete(*files: str) -> Change:
    """Files of the results (or whole folders); `{name}` is the id of a segment."""

    def change(project: Project) -> None:
        ids = {name: path[-1] for (_, name), path in project.plan().runs.items()}
        for file in files:
            found = list(project.results().glob(file.format_map(ids)))
            assert found, file
            for path in found:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def touch(*patterns: str) -> Change:
    def change(project: Project) -> None:
        for pattern in patterns:
            found = list(project.path.glob(pattern))
            assert found, pattern
            for path in found:
                path.touch()

    return change


def forgotten(project: Project) -> None:
    """The engine's records."""
    shutil.rmtree(project.path / ".snakemake")


def copied(year: int) -> Change:
    """A fresh clone to which the results were copied: no records of the engine, times of change in that year, in an
    order that makes no sense."""

    def change(project: Project) -> None:
        forgotten(project)
        begin = (year - 1970) * 365.25 * 86400
        for count, path in enumerate(sorted(project.results().rglob("*"), reverse=True)):
            os.utime(path, (begin + count, begin + count))

    return change


def after(*changes: Change) -> Change:
    return lambda project: [change(project) for change in changes]


def other_versions(project: Project) -> None:
    """Of libraries, as far as provenance can tell."""
    for name in ("torch", "numpy", "xarray", "netcdf4", "matplotlib", "scipy"):
        folder = project.path / f"{name}-99.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 99.0\n", encoding="utf-8")
    seen = json.loads(
        project.python(
            "-c", "import json; from analysis.store.netcdf import environment; print(json.dumps(environment()))"
        )
    )
    assert {seen[name] for name in ("torch", "numpy", "xarray", "netcdf4")} == {"99.0"}


# ---------------------------------------------------------------- the table
TABLE: dict[str, tuple[Change, Expected]] = {
    # Numbers
    "a number of the first segment": (numbers("warm-up: {steps: 10,", "warm-up: {steps: 9,"), trains("warm-up")),
    "a number in the middle": (numbers("bulk-sgd: {steps: 8}", "bulk-sgd: {steps: 9}"), trains("bulk-sgd")),
    "a number of the last segment": (
        numbers("late-gd: {steps: 4}", "late-gd: {steps: 4, learning_rate: 0.01}"),
        trains("late-gd"),
    ),
    "a probe's interval": (numbers("spectrum: 5", "spectrum: 4"), EVERY_SEGMENT),
    "a probe's interval in one segment": (
        numbers("dom-sgd: {steps: 8}", "dom-sgd: {steps: 8, probes: {loss: 1}}"),
        trains("dom-sgd"),
    ),
    "the interval of a probe that one segment has": (numbers("rates: 2", "rates: 3"), trains("adam")),
    "the tolerance of a probe that one segment has": (
        numbers("rates: 2", "rates: {every: 2, tolerance: 1e-3}"),
        trains("adam"),
    ),
    "the probes' tolerance": (numbers("spectrum: 5", "spectrum: {every: 5, tolerance: 0.02}"), EVERY_SEGMENT),
    "the filter's tolerance": (numbers("k: 3", "k: 3\n    tolerance: 0.02"), trains("dom-sgd", "bulk-sgd")),
    "k": (numbers("k: 3", "k: 4"), EVERY_SEGMENT),
    "the seed": (numbers("k: 3", "k: 3\n    seed: 1"), EVERY_SEGMENT),
    "the learning rate": (numbers("learning_rate: 0.05", "learning_rate: 0.06"), EVERY_SEGMENT),
    "the batch size": (numbers("batch_size: 10", "batch_size: 20"), trains("warm-up")),  # Adam's batch is full
    "the number of examples": (numbers("examples: 40,", "examples: 41,"), EVERY_SEGMENT),
    "0.050": (numbers("learning_rate: 0.05", "learning_rate: 0.050"), NOTHING),
    "5e-2": (numbers("learning_rate: 0.05", "learning_rate: 5e-2"), NOTHING),
    "how many figures share a process": (numbers("batch_figures: 6", "batch_figures: 2"), NOTHING),
    "how many segments share a process": (numbers("batch_figures: 6", "batch_figures: 6\nbatch_steps: 1"), NOTHING),
    # Configuration
    "remarks in YAML": (
        after(
            numbers("title: tiny", "# A remark.\ntitle: 'tiny'"), edit(EXPERIMENTS, "figures:", "# Drawn:\nfigures:")
        ),
        NOTHING,
    ),
    "reordered keys": (written_anew(reordered, NUMBERS, EXPERIMENTS), NOTHING),
    "reordered figures": (backwards("figures"), REPORT),
    "reordered runs of a figure": (backwards("figures", "travelled", "runs"), drawn_by("distance")),
    "a run's label": (edit(EXPERIMENTS, "Dom-SGD: dom-sgd}", "Dom-GD: dom-sgd}"), drawn_by("distance")),
    "a caption": (edit(EXPERIMENTS, "Distance from the switching step", "Travelled"), drawn_by("distance")),
    "a setting's title": (
        edit(EXPERIMENTS, "mlp: {title: MLP", "mlp: {title: Net"),
        lambda p: every_figure(p) | {"claims"},
    ),
    "the profile's title": (numbers("title: tiny", "title: Tiny"), REPORT),
    "a setting that the profile lacks": (another_setting(), NOTHING),
    "a setting that the profile lacks, in a figure": (another_setting("travelled"), drawn_by("distance")),
    "another segment": (another_segment, only("more")),
    "another figure": (written_anew(another_figure), only("figure more", "report")),
    "another profile": (another_profile, NOTHING),
    "another profile's number": (edit("workflow/config/families.yaml", "batch_size: 10", "batch_size: 5"), NOTHING),
    # Code
    "comments": (everywhere("\nfrom ", "\n# A remark.\nfrom "), NOTHING),
    "docstrings": (everywhere('"""', '"""Said otherwise: '), NOTHING),
    "blank lines": (everywhere("\nfrom ", "\n\n\n\nfrom "), NOTHING),
    "an import for type checkers": (
        edit(
            "sharpflat/optim/effective.py",
            "    from torch import Tensor\n",
            "    from torch import Generator, Tensor\n",
        ),
        NOTHING,
    ),
    "the first import for type checkers": (
        edit(
            "analysis/training/sampler.py",
            "import torch\n",
            "import torch\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import analysis.rules.sam\n",
        ),
        NOTHING,
    ),
    "a module for type checkers alone": (within("sharpflat/optim/subspace_sgd.py:step"), NOTHING),
    "an optimizer": (
        edit("analysis/rules/sgd.py", "-self.learning_rate *", "-1.0 * self.learning_rate *"),
        trains("warm-up"),
    ),
    "another optimizer": (within("analysis/rules/adam.py:update"), trains("adam")),
    "an optimizer that nothing uses": (within("analysis/rules/sam.py:update"), NOTHING),
    "the eigensolver": (
        edit("sharpflat/curvature/eigensolver.py", "_SEED = 20240601", "_SEED = 20240602"),
        EVERY_SEGMENT,
    ),
    "the training loop": (within("analysis/training/segment.py:advance"), EVERY_SEGMENT),
    "the model": (within("analysis/models/mlp.py:build"), EVERY_SEGMENT),
    "models that nothing uses": (within("analysis/models/cnn.py:build", "analysis/models/resnet8.py:build"), NOTHING),
    "the store": (within("analysis/store/netcdf.py:write_dataset"), EVERY_SEGMENT),
    "distances": (within("analysis/measurement/distances.py:_distance"), only("distances", "figure apart", "report")),
    "a claim": (edit("analysis/claims/song.py", "MIN_GAP = 1.25", "MIN_GAP = 1.5"), CLAIMS),
    "a claim that nobody needs": (within("analysis/claims/zakarin_singh.py:_ahead"), CLAIMS),
    "a plot's colour": (
        edit("analysis/figures/alignment.py", '"color": style.VERMILION', '"color": style.GREEN'),
        drawn_by("alignment"),
    ),
    "a figure's module": (within("analysis/figures/distance.py:draw"), drawn_by("distance")),
    "a figure's module that nothing uses": (within("analysis/figures/edge.py:draw"), NOTHING),
    "the style": (within("analysis/figures/style.py:save"), every_figure),
    "a colour of the style": (
        edit("analysis/figures/style.py", 'GREY = "#0072B2"', 'GREY = "#0072B3"'),
        all_figures_but("rates"),
    ),
    "the report's code": (within("analysis/report/page.py:page"), REPORT),
    "what fills an archive": (within("analysis/archive/packing.py:pack"), NOTHING),
    "what reads the archive, with which the report compares the run": (
        within("analysis/archive/manifest.py:read_archive"),
        REPORT,
    ),
    "what plans, also what an archive holds": (
        within(
            "analysis/plan/join.py:load_plan",
            "analysis/plan/plan.py:subsets",
            "analysis/plan/outputs.py:planned_figure",
            "analysis/plan/names.py:segment_id",
            "analysis/plan/fingerprint.py:fingerprint",
        ),
        REPORT,
    ),
    "what reads configuration": (within("analysis/plan/config.py:stop_spec"), NOTHING),
    "what reads configuration and the report's files": (within("analysis/plan/yaml.py:_explain"), REPORT),
    "what runs when a module is imported": (imported("analysis/store/netcdf.py"), EVERY_SEGMENT),
    "rules and scripts": (
        after(
            edit("workflow/rules/segments.smk", "for task in", "# A remark.\nfor task in"),
            edit("workflow/scripts/segments.py", "with job", "# A remark.\nwith job"),
        ),
        NOTHING,
    ),
    "another function next to those that are reached": (
        another_function(
            "analysis/training/segment.py",
            "analysis/rules/sgd.py",
            "analysis/models/mlp.py",
            "analysis/store/netcdf.py",
            "analysis/measurement/distances.py",
            "analysis/claims/song.py",
            "analysis/figures/drawing.py",
            "analysis/report/page.py",
        ),
        NOTHING,
    ),
    "a part of two figures": (within("analysis/figures/drawing.py:k_of"), drawn_by("eigenvalues", "alignment")),
    "parts of other figures": (
        within("analysis/figures/drawing.py:title_of", "analysis/figures/drawing.py:refreshes_in_words"),
        NOTHING,
    ),
    "the wording of a message": (
        edit("analysis/measurement/distances.py", "do not begin at the same point", "begin apart"),
        NOTHING,
    ),
    # Texts
    "a deviation": (edit("docs/deviations.md", "# Deviations and choices", "# Deviations"), REPORT),
    "the report's template": (edit("analysis/report/report.html.j2", "</html>", "</html>\n"), REPORT),
    "what a paper says": (
        edit("workflow/report/papers.yaml", "number: Figure 24", "number: Figure twenty-four"),
        REPORT,
    ),
    # Times of change
    "touched results": (touch("results/tiny/*/*", "results/tiny/*/*/*"), NOTHING),
    "touched code": (touch("analysis/**/*.py", "workflow/**/*.*", "Snakefile", "docs/*"), NOTHING),
    "copied results, old": (copied(1990), NOTHING),
    "copied results, of the future": (copied(2035), NOTHING),
    # What is lost
    "a trajectory": (delete("segments/{sgd}/trajectory.nc"), only("sgd")),
    "a state": (delete("segments/{warm-up}/state.safetensors"), NOTHING),
    "states, and one that begins from them": (
        delete("segments/*/state.safetensors", "segments/{bulk-sgd}/trajectory.nc"),
        only("warm-up", "bulk-sgd"),
    ),
    "snapshots": (delete("segments/{adam}/snapshots.nc"), NOTHING),
    "snapshots, and distances from them": (
        delete("segments/{adam}/snapshots.nc", "distances/*"),
        only("adam", "distances"),
    ),
    "a segment": (delete("segments/{bulk-sgd}"), only("bulk-sgd")),
    "distances of runs": (delete("distances/*"), only("distances")),
    "a figure's PDF": (delete("figures/travelled.pdf"), only("figure travelled")),
    "a figure's PNG": (delete("figures/travelled.png"), only("figure travelled")),
    "a table": (delete("figures/rates.csv"), only("figure rates")),
    "a record": (delete("made-from/travelled-*.json"), only("figure travelled")),
    "verdicts": (delete("claims.json"), only("claims")),
    "the report": (delete("report.html"), REPORT),
    "data": (delete("data"), NOTHING),
    "data and a segment": (delete("data", "segments/{late-gd}"), only("data", "late-gd")),
    "logs": (delete("logs", "benchmarks", "checkpoints"), NOTHING),
    "the engine's records": (forgotten, NOTHING),
    "the engine's records, and a caption": (
        after(
            forgotten,
            touch("results/tiny/figures/*"),
            edit(EXPERIMENTS, "Distance from the switching step", "Travelled"),
        ),
        drawn_by("distance"),
    ),
    # What is on the machine
    "libraries of other versions": (other_versions, NOTHING),
}

UNSEEN = (  # changes of code
    "comments",
    "docstrings",
    "blank lines",
    "an import for type checkers",
    "the first import for type checkers",
    "a module for type checkers alone",
    "an optimizer that nothing uses",
    "models that nothing uses",
    "a figure's module that nothing uses",
    "what fills an archive",
    "what reads configuration",
    "another function next to those that are reached",
    "parts of other figures",
    "the wording of a message",
)
TOUCHED, LOST = ("touched results", "touched code"), ("data", "snapshots", "logs", "a state")
# Changes, several at once, that the engine is asked about, too: one of each kind, and all for which it has records and
# rules of its own, times above all
FOR_THE_ENGINE = {
    "a number, a label, a line of a figure's code and a lost picture": (
        "a number in the middle",
        "a run's label",
        "a plot's colour",
        "a table",
        "touched results",
    ),
    "a line of what trains": ("the training loop",),
    "what changes nothing": ("libraries of other versions", "an optimizer that nothing uses", *LOST, *TOUCHED),
    "copied, old": ("copied results, old",),
    "copied, of the future; a caption and the report": (
        "copied results, of the future",
        "touched code",
        "a caption",
        "the report",
    ),
    "lost states and what begins from them": (
        "states, and one that begins from them",
        "a figure's PDF",
        "touched code",
    ),
    "lost data, snapshots and what is made of them": ("data", "snapshots, and distances from them", "verdicts"),
}


# ---------------------------------------------------------------- the tests
@pytest.fixture(scope="module")
def plan(finished: Project) -> Plan:
    """Of the finished run."""
    return finished.plan()


@pytest.mark.parametrize("what", some([what for what in TABLE if what not in UNSEEN], TABLE))
def test_just_what_depends_on_a_change_runs_again(project: Project, plan: Plan, what: str) -> None:
    change, expected = TABLE[what]
    change(project)
    assert set(project.named_jobs().values()) == expected(plan)


def test_code_on_which_nothing_depends_runs_nothing(project: Project) -> None:
    """All at once, because each alone runs nothing. (With EXHAUSTIVE=1, each is also tried alone, above.)"""
    for what in UNSEEN:
        change, expected = TABLE[what]
        assert expected is NOTHING
        change(project)
    assert project.has_own_code()
    assert project.would_run() == []


@pytest.mark.parametrize("changes", some(FOR_THE_ENGINE.values(), [(what,) for what in TABLE]), ids="; ".join)
def test_the_engine_runs_just_that(project: Project, changes: tuple[str, ...]) -> None:
    for what in changes:
        TABLE[what][0](project)
    expected = project.would_run()
    assert project.dry_run() == expected
