"""Archives in the true workflow: figures from datasets alone, anywhere, and nothing from an archive that is damaged."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import pytest

from analysis import archive
from analysis.archive.checks import describe, specification_hash
from analysis.archive.manifest import MANIFEST, stored
from analysis.archive.packing import _as_run, _run_of_panel
from analysis.claims import judge
from analysis.figures import draw_figures
from analysis.plan.plan import Plan
from analysis.runs.panels import by_name
from analysis.specs.panels import ClaimSpec, FigureSpec, PanelSpec
from analysis.store.netcdf import PROVENANCE, read_dataset
from sharpflat.errors import InputError
from tests.workflow.project import ASCII, CHEAP, Project, jobs

ELSEWHERE = {"TZ": "Asia/Kathmandu", "SOURCE_DATE_EPOCH": "1000000000", "PYTHONHASHSEED": "1", **ASCII}
ALONE = ["unshare", "--net"]  # in a network of its own, where there is nobody


@pytest.fixture(scope="session")
def finished(once: Callable[[str, Callable[[Path], Project]], Project], finished: Project) -> Project:
    """A finished run that was archived. Nobody changes it."""

    def make(folder: Path) -> Project:
        project = finished.copy(folder)
        done = project.run("archive", **ASCII)
        assert done.returncode == 0, done.stdout
        assert jobs(done.stdout) == CHEAP
        return project

    return once("archived", make)


def clone(finished: Project, parent: Path) -> Project:
    """The sources in another folder, and the archive: all that a clone has."""
    project = Project.of_sources(parent)
    shutil.copytree(reference(finished), reference(project))
    return project


@pytest.fixture
def elsewhere(finished: Project, tmp_path: Path) -> Project:
    return clone(finished, tmp_path)


def reference(project: Project) -> Path:
    return project.path / "results/reference/tiny"


def redrawn(project: Project) -> Path:
    return project.path / "results/redrawn/tiny"


def outputs(plan: Plan) -> list[str]:
    return sorted(file for made in (*plan.figures.values(), plan.claims, plan.report) for file in made.files)


def test_the_manifest_says_what_the_plan_says(finished: Project) -> None:
    plan, manifest = finished.plan(), archive.verify(reference(finished))
    assert manifest.complete
    assert sorted(manifest.datasets) == sorted(plan.datasets)
    for id_, segment in plan.segments.items():
        entry = manifest.datasets[f"segments/{id_}/trajectory.nc"]
        assert (entry.id, entry.code) == (id_, segment.fingerprint)
        assert entry.specification == specification_hash(segment.spec.model_dump())
    (environment,) = {entry.environment for entry in manifest.datasets.values() if entry.dataset == "trajectory-2"}
    own = read_dataset(finished.results() / next(iter(plan.segments.values())).trajectory).attrs[PROVENANCE]
    assert manifest.environments[environment].items() <= json.loads(own).items()
    assert {"torch", "machine", "threads"} <= set(manifest.environments[environment])
    assert manifest.plan().figures == plan.figures
    assert manifest.plan().claims == plan.claims
    assert sorted(manifest.outputs) == outputs(plan)


@pytest.fixture(scope="session")
def drawn(once: Callable[[str, Callable[[Path], Project]], Project], finished: Project) -> Project:
    """A clone in other surroundings, where `make figures` has drawn everything. Nobody changes it."""

    def make(folder: Path) -> Project:
        project = clone(finished, folder)
        own = folder / "matplotlibrc"  # a user's own settings
        own.write_text("font.size: 20\naxes.labelpad: 30\nmathtext.fontset: stix\n")
        alone = ALONE if subprocess.run([*ALONE, "true"], check=False).returncode == 0 else []
        done = project.run("figures", before=alone, MATPLOTLIBRC=str(own), **ELSEWHERE)
        assert done.returncode == 0, done.stdout
        assert jobs(done.stdout) == CHEAP, "nothing is trained or measured"
        made = outputs(finished.plan())
        assert f"{len(made)} of {len(made)} files are byte-identical to the recorded ones" in done.stdout
        return project

    return once("drawn", make)


def test_figures_are_redrawn_anywhere_byte_for_byte(finished: Project, drawn: Project) -> None:
    for file in outputs(finished.plan()):
        if file != "report.html":  # whose links lead to another folder
            assert (redrawn(drawn) / file).read_bytes() == (finished.results() / file).read_bytes()
    assert not drawn.results().exists()


def test_a_figure_that_changed_is_told(drawn: Project, tmp_path: Path) -> None:
    elsewhere = drawn.copy(tmp_path)
    elsewhere.edit("analysis/figures/training_loss.py", "branches=True", "branches=False")
    done = elsewhere.run("figures")
    assert done.returncode != 0
    assert jobs(done.stdout) == ["figure loss", "report"], "the others are not drawn a second time"
    assert "differs    results/redrawn/tiny/figures/loss.pdf" in done.stdout
    assert "results/redrawn/tiny/figures/rates.pdf" not in done.stdout, "only those that differ are listed"
    assert "The code that makes them changed" in done.stdout
    # The change is intended, so the hashes are recorded again.
    manifest = archive.record(reference(elsewhere), redrawn(elsewhere), elsewhere.results())
    assert set(archive.compare(manifest, redrawn(elsewhere)).values()) == {"identical"}


def test_nothing_is_drawn_from_a_damaged_archive(elsewhere: Project) -> None:
    path = next(reference(elsewhere).glob("segments/*/trajectory.nc"))
    path.write_bytes(path.read_bytes()[:-1])
    done = elsewhere.run("figures")
    assert done.returncode != 0
    assert f"Error: results/reference/tiny/segments/{path.parent.name}/trajectory.nc: has SHA-256" in done.stdout
    assert "Traceback" not in done.stdout
    assert not redrawn(elsewhere).exists()


def test_an_archive_that_is_not_there_is_told(finished: Project) -> None:
    done = finished.run("figures", profile="lacking")
    assert done.returncode != 0
    assert "results/reference/lacking/manifest.json: there is no such file; archived profiles: tiny" in done.stdout


# ---------------------------------------------------------------- one check each
def change(folder: Path, change: Callable[[dict], None]) -> None:
    path = folder / MANIFEST
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def rewritten(folder: Path, file: str, **attributes: str) -> None:
    """The dataset with other attributes, and the manifest with its new bytes."""
    dataset = read_dataset(folder / file).assign_attrs(attributes)
    dataset.to_netcdf(folder / file)
    content = (folder / file).read_bytes()
    change(folder, lambda m: m["datasets"][file].update(sha256=sha256(content).hexdigest(), bytes=len(content)))


def of_other_specification(folder: Path, file: str) -> None:
    specification = json.loads(read_dataset(folder / file).attrs["specification"])
    specification["seed"] = 7
    rewritten(folder, file, specification=json.dumps(specification))


def of_other_specification_throughout(folder: Path, file: str) -> None:
    """The manifest agrees, the name does not."""
    of_other_specification(folder, file)
    entry, _ = describe(folder / file)
    change(folder, lambda m: m["datasets"][file].update(entry.model_dump()))


def exchanged(folder: Path, file: str) -> None:
    """Two whole datasets in each other's place, and in the manifest too."""
    other = next(path for path in stored(folder) if path.endswith("trajectory.nc") and path != file)
    first, second = (folder / file).read_bytes(), (folder / other).read_bytes()
    (folder / file).write_bytes(second)
    (folder / other).write_bytes(first)

    def entries(manifest: dict) -> None:
        datasets = manifest["datasets"]
        datasets[file], datasets[other] = datasets[other], datasets[file]

    change(folder, entries)


def with_flipped_bit(folder: Path, file: str) -> None:
    content = bytearray((folder / file).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / file).write_bytes(content)


def other_code(manifest: dict, file: str) -> None:
    manifest["datasets"][file]["code"] = "0" * 16


def other_environment(manifest: dict, file: str) -> None:
    manifest["environments"][manifest["datasets"][file]["environment"]]["torch"] = "0.1"


DAMAGES: dict[str, tuple[Callable[[Path, str], object], str]] = {
    # what is done to the archive, of which `file` is a dataset: the message
    "bit": (with_flipped_bit, "{file}: has SHA-256"),
    "cut": (lambda a, f: (a / f).write_bytes((a / f).read_bytes()[:100]), "{file}: has SHA-256"),
    "gone": (lambda a, f: (a / f).unlink(), "{file}: cannot be read (No such file"),
    "more": (lambda a, f: shutil.copy(a / f, a / "segments/extra.nc"), "segments/extra.nc: is not in the manifest"),
    "specification": (of_other_specification, "{file}: specification is"),
    "name": (of_other_specification_throughout, "{file}: its specification and code give the name …-"),
    "exchanged": (exchanged, "is dataset"),
    "schema": (lambda a, f: rewritten(a, f, schema="trajectory-9"), "{file}: dataset is trajectory-9"),
    "code": (lambda a, f: change(a, lambda m: other_code(m, f)), "{file}: code is"),
    "environment": (lambda a, f: change(a, lambda m: other_environment(m, f)), "is not the one of the manifest"),
    "no dataset": (lambda a, f: rewritten(a, f, provenance="{}"), "{file}: is not a dataset of this pipeline"),
    "needed": (lambda a, f: change(a, lambda m: m["datasets"].pop(f)), "{file}: is needed, but not listed"),
    "no manifest": (lambda a, f: (a / "manifest.json").unlink(), "manifest.json: there is no such file"),
    "no JSON": (lambda a, f: (a / "manifest.json").write_text("{"), "manifest.json: cannot be read"),
    "other version": (
        lambda a, f: change(a, lambda m: m.update(schema_version="archive-9")),
        "manifest.json: schema_version: found 'archive-9'",
    ),
    "key": (lambda a, f: change(a, lambda m: m.update(x=1)), "manifest.json: x: unknown key"),
    "profile": (lambda a, f: change(a, lambda m: m.update(profile="other")), "profile: found 'other'"),
    "module": (lambda a, f: change(a, lambda m: m["figures"][0].update(module="os")), "unknown module 'os'"),
    "figure": (lambda a, f: change(a, lambda m: m["figures"][0].update(name="../x")), "name: found '../x'"),
    "claim": (lambda a, f: change(a, lambda m: m["claims"][0].update(name="other")), "claims: unknown claim 'other'"),
    "outside": (
        lambda a, f: change(a, lambda m: m["datasets"].update({"../x.nc": m["datasets"][f]})),
        "datasets.../x.nc: found '../x.nc'",
    ),
    "above": (
        lambda a, f: change(a, lambda m: m["datasets"].update({"segments/../trajectory.nc": m["datasets"][f]})),
        "found 'segments/../trajectory.nc'",
    ),
    "output": (lambda a, f: change(a, lambda m: m["outputs"].update({"/x.pdf": "0" * 64})), "found '/x.pdf'"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_does_not_match_is_refused_by_name(finished: Project, tmp_path: Path, damage: str) -> None:
    folder = Path(shutil.copytree(reference(finished), tmp_path / "tiny"))
    file = next(file for file in archive.verify(folder).datasets if file.endswith("trajectory.nc"))
    apply, message = DAMAGES[damage]
    apply(folder, file)
    with pytest.raises(InputError) as refused:
        archive.verify(folder)
    assert message.format(file=file) in str(refused.value)


def test_a_schema_that_cannot_be_read_is_refused(finished: Project, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(reference(finished), tmp_path / "tiny"))
    file = next(file for file in archive.verify(folder).datasets if file.endswith("trajectory.nc"))
    rewritten(folder, file, schema="trajectory-9")
    change(folder, lambda m: m["datasets"][file].update(dataset="trajectory-9"))
    with pytest.raises(InputError, match="has schema 'trajectory-9'; this version reads trajectory-2"):
        archive.verify(folder)


# ---------------------------------------------------------------- what was not run
@pytest.fixture
def partial(finished: Project, tmp_path: Path) -> tuple[Plan, Path]:
    """The plan, and results without GD's late segment."""
    plan, results = finished.plan(), Path(shutil.copytree(finished.results(), tmp_path / "results"))
    shutil.rmtree(results / "segments" / plan.runs["mlp", "late-gd"][-1])
    return plan, results


def test_what_was_not_run_is_left_out_and_told(partial: tuple[Plan, Path], tmp_path: Path) -> None:
    plan, results = partial
    manifest = archive.pack(plan, results, tmp_path / "reference/tiny")
    assert not manifest.complete
    assert {f.name for f in manifest.figures} == set(plan.figures) - {"loss"}
    made = manifest.plan().figures["rates"]
    files = [tmp_path / Path(file).name for file in made.files]
    draw_figures([made.spec], by_name(str(tmp_path / "reference/tiny" / i) for i in made.inputs), files)
    assert files[0].read_bytes() == (results / "figures/rates.pdf").read_bytes()


def test_a_claim_that_was_not_run_is_not_measured(finished: Project, tmp_path: Path) -> None:
    plan, results = finished.plan(), Path(shutil.copytree(finished.results(), tmp_path / "results"))
    shutil.rmtree(results / "segments" / plan.runs["mlp", "sgd"][-1])
    made = archive.pack(plan, results, tmp_path / "tiny").plan().claims
    files = by_name(str(tmp_path / "tiny" / file) for file in made.inputs)
    verdicts = judge(made.claims, files, {kind: tmp_path / f"claims.{kind}" for kind in ("json", "csv")})
    assert [(v.claim, v.setting, v.verdict, v.measured) for v in verdicts if v.setting == "mlp"] == [
        ("song-lowrank", "mlp", "not measured", "not run")
    ]


def test_members_of_a_family_that_were_not_run_are_told() -> None:
    family = tuple(({"seed": seed}, ("begin", f"end-{seed}")) for seed in (0, 1, 2))
    energies = {i: f"{i}-energies" for i in ("begin", "end-0", "end-1", "end-2")}
    panel = PanelSpec(setting="held", title="Held", runs=(), families=(("SGD", family),), energies=energies)
    kept = _run_of_panel(panel, lambda file: "end-1" not in file)
    assert kept.families == (("SGD", (family[0], family[2])),)
    assert kept.absent == ("SGD, seed 1",)
    assert set(kept.energies) == {"begin", "end-0", "end-2"}
    assert _run_of_panel(panel, lambda file: "begin" not in file) is None


def among(made: Sequence[str]) -> Callable[[str], bool]:
    """Whether a file belongs to one of the segments."""
    return lambda file: any(f"/{id_}/" in file for id_ in made)


def test_a_partial_figure_shows_the_runs_that_were_made() -> None:
    """As tables of methods do, whose rows take hours each."""
    planned = PanelSpec(setting="s", title="S", runs=(("GD", ("new",)), ("Adam", ("adam",))), families=())
    old = planned.model_copy(update={"runs": (("GD", ("old",)),), "absent": ("Adam",)})

    def packed(*made: str, kept: PanelSpec | None = None, partial: bool | None = True) -> list[PanelSpec]:
        figure = FigureSpec(name="table", module="m", caption="c", panels=(planned,), partial=partial)
        known = {} if kept is None else {("table", "s"): kept}
        return list(_as_run(figure, among(made), known).panels)

    (adam,) = packed("adam")
    assert (adam.runs, adam.absent) == ((("Adam", ("adam",)),), ("GD",))
    assert packed("adam", "new") == [planned]
    assert packed() == packed("adam", partial=None) == []
    assert packed(kept=old) == [old], "nothing has replaced it yet"
    assert packed("new", kept=old) == [planned.model_copy(update={"runs": planned.runs[:1], "absent": ("Adam",)})]
    assert packed("adam", kept=planned) == [planned], "the kept panel has more"


def test_as_many_runs_as_before_replace_a_kept_panel() -> None:
    def panel(name: str, *seeds: int) -> PanelSpec:
        family = tuple(({"seed": seed}, (f"{name}-{seed}",)) for seed in seeds)
        return PanelSpec(setting="s", title="S", runs=(), families=(("SAM", family),))

    def seeds(kept: PanelSpec, *made: str) -> list[str]:
        planned = ClaimSpec(name="song-sam", panels=(panel("new", 0, 1, 2),))
        (found,) = _as_run(planned, among(made), {("song-sam", "s"): kept}).panels
        return [id_ for (id_,) in found.paths()]

    assert seeds(panel("old", 0), "new-0", "new-1") == ["new-0", "new-1"]
    assert seeds(panel("old", 0, 1), "new-0") == ["old-0", "old-1"]


def test_what_the_plan_has_since_and_a_kept_panel_lacks_is_listed() -> None:
    def panel(runs: tuple = (), **families: tuple[float, ...]) -> PanelSpec:
        of = tuple((label, tuple(({"seed": s}, (f"{label}-{s}",)) for s in seeds)) for label, seeds in families.items())
        return PanelSpec(setting="s", title="S", runs=runs, families=of)

    def archived(kept: PanelSpec) -> tuple[str, ...] | None:
        planned = ClaimSpec(name="song-sam", panels=(panel(SAM=(0, 1, 2)),))
        (found,) = _as_run(planned, lambda file: False, {("song-sam", "s"): kept}).panels
        assert found.families == kept.families
        return found.absent

    assert archived(panel(SAM=(0, 1, 2))) is None
    assert archived(panel(SAM=(0, 2))) == ("SAM, seed 1",)
    assert archived(panel(runs=(("SAM", ("old",)),))) == ("SAM, 2 of 3",)


def test_parts_are_archived_one_after_the_other(finished: Project, partial: tuple[Plan, Path], tmp_path: Path) -> None:
    plan, results = partial
    folder = tmp_path / "reference/tiny"
    archive.pack(plan, results, folder)
    alone = tmp_path / "alone"
    for id_ in plan.runs["mlp", "late-gd"][-2:]:  # no other figure needs them
        shutil.copytree(finished.results() / "segments" / id_, alone / "segments" / id_)
    assert archive.pack(plan, alone, folder).complete
    assert sorted(archive.verify(folder).datasets) == sorted(plan.datasets)


def test_what_is_archived_stays_until_it_was_run_anew(finished: Project, rerun: Project, tmp_path: Path) -> None:
    """As after a change of code or numbers, which gives segments new names."""
    folder = Path(shutil.copytree(reference(finished), tmp_path / "tiny"))
    old, new = finished.plan(), rerun.plan()
    manifest = archive.pack(new, finished.results(), folder)
    assert not manifest.complete
    assert manifest.plan().figures["loss"] == old.figures["loss"]
    assert sorted(archive.verify(folder).datasets) == sorted(old.datasets)
    assert archive.pack(new, rerun.results(), folder).complete
    assert archive.verify(folder).plan().figures["loss"] == new.figures["loss"]
    assert sorted(archive.verify(folder).datasets) == sorted(new.datasets), "what nothing needs is gone"


def test_a_damaged_archive_is_not_added_to(finished: Project, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(reference(finished), tmp_path / "tiny"))
    with_flipped_bit(folder, next(iter(archive.verify(folder).datasets)))
    with pytest.raises(InputError, match="has SHA-256"):
        archive.pack(finished.plan(), finished.results(), folder)


def test_nothing_run_is_no_archive(finished: Project, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no dataset of profile tiny; run the profile first"):
        archive.pack(finished.plan(), tmp_path / "results", tmp_path / "tiny")


def test_a_folder_that_cannot_be_written_is_told(finished: Project, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/tiny: cannot be written .*; it must be writable and have free space"):
        archive.pack(finished.plan(), finished.results(), tmp_path / "file/tiny")


def test_what_was_not_made_is_not_recorded(finished: Project, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(reference(finished), tmp_path / "tiny"))
    before = (folder / MANIFEST).read_bytes()
    with pytest.raises(InputError, match=r"tmp.*pdf: is missing; it is made from"):
        archive.record(folder, tmp_path / "made", finished.results())
    assert (folder / MANIFEST).read_bytes() == before


def test_a_dataset_under_another_name_does_not_enter(finished: Project, tmp_path: Path) -> None:
    plan, results = finished.plan(), Path(shutil.copytree(finished.results(), tmp_path / "results"))
    first, second = list(plan.segments)[:2]
    shutil.copy(results / f"segments/{first}/trajectory.nc", results / f"segments/{second}/trajectory.nc")
    with pytest.raises(InputError, match=f"is dataset {first}, not {second}"):
        archive.pack(plan, results, tmp_path / "tiny")


def test_figures_that_differ_from_the_runs_are_not_recorded(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path)
    (project.results() / "figures/loss.pdf").write_bytes(b"another")
    with pytest.raises(InputError, match=r"tiny/figures/loss.pdf: differs from .*redrawn/tiny/figures/loss.pdf"):
        archive.record(reference(project), redrawn(project), project.results())
