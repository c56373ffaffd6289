"""Bad configurations through the true `make dry-run`: one message, a failure's status, and nothing written."""

from __future__ import annotations

from pathlib import Path

import pytest

from sharpflat.errors import InputError
from tests.covering import EXHAUSTIVE, some
from tests.workflow.project import FOLDER, Project

EXPERIMENTS, TINY = "workflow/config/experiments.yaml", "workflow/config/tiny.yaml"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A fresh clone. Each test edits one file of it and puts it back."""
    return Project.of_sources(tmp_path_factory.mktemp("sources"))


def everything(folder: Path) -> dict[str, int]:
    """Files and when they were written, but for compiled modules."""
    found = (p for p in folder.rglob("*") if "__pycache__" not in p.parts)
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in found if p.is_file()}


# A key that no model has, and a reference to nothing
FOR_THE_ENGINE = ("batch_size: 10", "parent: bulk-sgd")


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        (
            TINY,
            "batch_size: 10",
            "batch_sise: 10",
            ': settings.mlp.batch_sise: unknown key; did you mean "batch_size"?',
        ),
        (TINY, "width: 4", "width: -4", ": settings.mlp.model.width: found -4; input should be greater than or equal"),
        (TINY, "    k: 3\n", "    k: 3\n    k: 4\n", ':12:5: is not valid YAML: key "k" is given twice'),
        (TINY, "title: tiny", "title: <script>", ": title: found '<script>'; string should match pattern"),
        (TINY, "title: tiny", "title: !!python/object/apply:os.mkdir [x]", ":3:8: is not valid YAML: could not det"),
        (TINY, "title: tiny", "title: [", ":7:9: is not valid YAML: expected ',' or ']', but got ':'"),
        (
            TINY,
            "train: mlxtend4k",
            "train: mlxtend5k",
            ": settings.mlp.data.train: unknown subset 'mlxtend5k'; did you",
        ),
        (TINY, "      dom-sgd: {steps: 8}\n", "", ": settings.mlp.segments.dom-sgd: missing; it has to be given"),
        (TINY, "  mlp:", "  ../../x:", ": settings.../../x: found '../../x'; string should match pattern"),
        (EXPERIMENTS, "parent: bulk-sgd", "parent: bulk-sdg", ": segments.late-gd.parent: there is no segment 'bulk-s"),
        (EXPERIMENTS, "warm-up: {settings: [mlp],", "warm-up: {settings: [mlp], parent: sgd,", ".parent: a cycle: "),
        (
            EXPERIMENTS,
            "module: training-loss",
            "module: ../style",
            ": figures.loss.module: found '../style'; string sho",
        ),
        (
            EXPERIMENTS,
            "song-lowrank:",
            "song-lowrnk:",
            ': claims.song-lowrnk: unknown claim; did you mean "song-lowrank"',
        ),
    ],
)
def test_a_bad_configuration_stops_the_dry_run(file: str, old: str, new: str, expected: str, sources: Project) -> None:
    """Two go through the engine, with EXHAUSTIVE=1 all do; of the others, what is said."""
    original = (sources.path / file).read_text(encoding="utf-8")
    sources.edit(file, old, new)
    try:
        before = everything(sources.path.parent)
        if old not in FOR_THE_ENGINE and not EXHAUSTIVE:
            with pytest.raises(InputError) as refused:
                sources.plan()
            said = str(refused.value)
            assert said.startswith(f"{sources.path}/{file}:"), said
            assert expected in said
            return
        done = sources.run("dry-run")
        assert everything(sources.path.parent) == before
    finally:
        (sources.path / file).write_text(original, encoding="utf-8")
    assert done.returncode != 0
    profile, first, *rest = done.stdout.splitlines()
    assert profile.startswith("Using workflow specific profile")
    assert first.startswith(f"Error: {sources.path}/{file}")
    assert expected in done.stdout
    # Further mistakes, each on a line of its own; then make's word. Nothing of the engine's.
    *more, last = rest
    assert all(line.startswith(f"{sources.path}/workflow/config/") for line in more), done.stdout
    assert last.startswith("make: *** [")


@pytest.mark.parametrize("profile", some(["../../x"], ["../../x", "tinny", "[a, b]"]))
def test_a_profile_that_is_none(profile: str, sources: Project) -> None:
    before = everything(sources.path.parent)
    done = sources.run("dry-run", profile=profile)
    assert everything(sources.path.parent) == before
    assert done.returncode != 0
    assert done.stdout.splitlines()[1].startswith("Error: profile: "), done.stdout
    assert len(done.stdout.splitlines()) == 3


def test_clean_removes_one_profiles_results_alone(sources: Project) -> None:
    aside = sources.path.parent / "x"
    kept = [aside, sources.path / "results" / "other", sources.path / "results" / "archived"]
    for folder in [*kept, sources.results()]:
        folder.mkdir(parents=True)
    for profile in ("", "../../x", ".", "other tiny", "*", "%", f"../{FOLDER}/results"):
        assert sources.run("clean", profile=profile).returncode != 0, profile
        assert sources.results().is_dir()
    assert sources.run("clean").returncode == 0
    assert not sources.results().exists()
    assert all(folder.is_dir() for folder in kept)
