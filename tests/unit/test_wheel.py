"""The wheel holds the library alone, which runs where nothing of the pipeline is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import sharpflat

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = [code for code in re.findall(r"```python\n(.*?)```", README, re.S) if "sharpflat" in code]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy of the sources, without a network."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("analysis", "sharpflat"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    code = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(out)], cwd=source, check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Path:
    """The interpreter of a fresh environment: the wheel, and links to what it needs."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)  # which is how a wheel without scripts is installed
    for needed in closure(requirements(packages)):
        for file in needed.files or ():
            top = file.parts[0]
            if top != ".." and not (packages / top).exists():
                (packages / top).symlink_to(Path(str(needed.locate_file(top))))
    return folder / "bin" / "python"


def requirements(packages: Path) -> list[str]:
    (metadata,) = packages.glob("sharpflat-*.dist-info/METADATA")
    return [
        line.partition(": ")[2]
        for line in metadata.read_text(encoding="utf-8").splitlines()
        if line.startswith("Requires-Dist: ") and "extra ==" not in line
    ]


def closure(wanted: list[str]) -> Iterator[Distribution]:
    """The installed distributions that these requirements need, directly or not."""
    found: set[str] = set()
    todo = [Requirement(text) for text in wanted]
    while todo:
        requirement = todo.pop()
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if requirement.name in found or not applies:
            continue
        found.add(requirement.name)
        made = distribution(requirement.name)
        assert requirement.specifier.contains(made.version, prereleases=True), requirement
        yield made
        todo += [Requirement(text) for text in made.requires or ()]


def run(python: Path, folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [str(python), "-I", *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_library_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {"sharpflat", f"sharpflat-{sharpflat.__version__}.dist-info"}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "sharpflat").rglob("*.py")}
    assert {name for name in names if name.startswith("sharpflat/")} == {*sources, "sharpflat/py.typed"}


def test_it_needs_torch_numpy_and_xarray_alone(python):
    (packages,) = python.parents[1].glob("lib/python*/site-packages")
    assert {Requirement(text).name for text in requirements(packages)} == {"torch", "numpy", "xarray"}
    text = next(packages.glob("sharpflat-*.dist-info/METADATA")).read_text(encoding="utf-8")
    assert "Project-URL" not in text
    assert "Home-page" not in text


def test_examples_run_where_nothing_of_the_pipeline_is_installed(python, tmp_path):
    there = run(python, tmp_path, "-c", "import sharpflat; print(sharpflat.__file__)")
    assert Path(there.strip()).is_relative_to(python.parents[1])
    for name in ("analysis", "pydantic", "snakemake", "safetensors", "netCDF4", "matplotlib", "scipy", "grimp"):
        code = f"import importlib.util as u; print(u.find_spec({name!r}))"
        assert run(python, tmp_path, "-c", code) == "None\n", name
    optimizer, library = EXAMPLES
    assert re.match(r"training loss \d\.\d{3}, \d+ Hessian products\n", run(python, tmp_path, "-c", optimizer))
    assert run(python, tmp_path, "-c", library).count("tensor(") == 3
