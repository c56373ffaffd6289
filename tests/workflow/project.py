"""A copy of the sources in a folder of its own, and the user's commands run there."""

from __future__ import annotations

import filecmp
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import xarray as xr

from analysis.plan.join import Plan, load_plan
from analysis.store.netcdf import PROVENANCE, read_dataset
from analysis.store.tensors import read_tensors
from tests.workflow import would_run

ROOT = Path(__file__).resolve().parents[2]
CONFIG = Path(__file__).parent / "config"
FOLDER = "a folder, naïve"  # a space, a comma and a letter that is not ASCII
# Ids by what they are called in the table of reruns: segments as in experiments.yaml, the others by their kind.
NAMES = """
import json
from analysis.plan.join import load_plan
plan = load_plan({profile!r})
print(json.dumps({{path[-1]: name for (_, name), path in plan.runs.items()}}
    | {{f"distances {{d}}": "distances" for d in plan.distances}} | {{f"data {{s}}": "data" for s in plan.subsets}}))
"""
# What is drawn, judged or written from the tiny profile's datasets
CHEAP = [
    "claims",
    "figure apart",
    "figure gradient-alignment",
    "figure loss",
    "figure rates",
    "figure spectrum",
    "figure travelled",
    "report",
]
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # a locale without Unicode
STOPPED = "Stopped. What is finished stays; the same command continues from there."


class Project:
    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of_sources(cls, parent: Path) -> Project:
        """The sources as in a fresh clone, with the tests' configuration and no results."""
        path = parent / FOLDER
        path.mkdir(parents=True)
        for name in ("Snakefile", "Makefile", "pyproject.toml"):
            shutil.copy(ROOT / name, path / name)
        for name in ("analysis", "sharpflat", "workflow"):
            shutil.copytree(ROOT / name, path / name, ignore=shutil.ignore_patterns("__pycache__"))
        (path / "docs").mkdir()
        shutil.copy(ROOT / "docs/deviations.md", path / "docs")
        for file in CONFIG.iterdir():
            shutil.copy(file, path / "workflow" / "config" / file.name)
        return cls(path)

    def copy(self, parent: Path) -> Project:
        """All of it, with the results, times of change and the engine's records."""
        return Project(Path(shutil.copytree(self.path, parent / FOLDER)))

    # ------------------------------------------------------------ running
    def command(self, target: str = "reproduce", profile: str = "tiny", flags: str = "") -> list[str]:
        # -o: the packages are those of the interpreter that runs the tests; nothing is installed.
        variables = [f"BIN={Path(sys.executable).parent}", f"PROFILE={profile}", f"FLAGS={flags}"]
        return ["make", "--no-print-directory", "-o", ".venv/.installed", *variables, target]

    @property
    def environment(self) -> dict[str, str]:
        unset = {"DATA_DIR", "MAKEFLAGS", "MAKELEVEL"}
        return {k: v for k, v in os.environ.items() if k not in unset} | {"PYTHONPATH": str(self.path)}

    def run(
        self,
        target: str = "reproduce",
        *,
        profile: str = "tiny",
        flags: str = "",
        before: Sequence[str] = (),
        **variables: str,
    ) -> subprocess.CompletedProcess[str]:
        """`make <target>`, to its end, after words `before`; standard error is in `stdout` too."""
        return subprocess.run(
            [*before, *self.command(target, profile, flags)],
            cwd=self.path,
            env=self.environment | variables,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=500,
            check=False,
        )

    def start(self, profile: str, output: Path) -> subprocess.Popen[bytes]:
        """`make reproduce` in a process group of its own, as a terminal starts it."""
        with output.open("wb") as file:
            return subprocess.Popen(
                self.command(profile=profile),
                cwd=self.path,
                env=self.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # Which a shell has what runs in the background ignore; a terminal does not.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def reproduce(self, **options: str) -> list[str]:
        """`make reproduce`; the jobs that it ran, sorted."""
        done = self.run(**options)
        assert done.returncode == 0, done.stdout
        return jobs(done.stdout)

    def would_run(self, profile: str = "tiny") -> list[str]:
        """The jobs that `make reproduce` would run, sorted, by the project's table of tasks."""
        return sorted(self.named_jobs(profile))

    def named_jobs(self, profile: str = "tiny") -> dict[str, str]:
        """As `would_run`, each with its name: of a segment that of experiments.yaml, "data" and "distances"."""
        if self.has_own_code():
            found = json.loads(self.python("-P", would_run.__file__, profile))
        else:
            found = would_run.would_run(profile, self.path, self.path / "workflow" / "config")
        kinds = {"data", "distances"}
        own = {job: job.split()[0] if job.split()[0] in kinds else job for job in jobs_of(found["messages"])}
        return {job: found["names"].get(job, name) for job, name in own.items()}

    def has_own_code(self) -> bool:
        """Whether the sources of a plan, apart from the configuration, differ from those in this process."""
        for name in ("analysis", "sharpflat", "workflow/report", "docs/deviations.md"):
            files = [file for file in (self.path / name).rglob("*") if file.is_file()] or [self.path / name]
            for file in (file for file in files if "__pycache__" not in file.parts):
                twin = ROOT / file.relative_to(self.path)
                if not (twin.exists() and filecmp.cmp(file, twin, shallow=False)):
                    return True
        return False

    def dry_run(self, profile: str = "tiny") -> list[str]:
        """The jobs that the engine says that it would run, sorted."""
        done = self.run("dry-run", profile=profile)
        assert done.returncode == 0, done.stdout
        return jobs(done.stdout)

    def python(self, *arguments: str) -> str:
        """What Python prints, run with the copy's own packages."""
        command, options = [sys.executable, *arguments], {"cwd": self.path, "env": self.environment, "text": True}
        return subprocess.run(command, **options, stdout=subprocess.PIPE, timeout=60, check=True).stdout

    # ------------------------------------------------------------ looking and changing
    def named(self, jobs: Iterable[str], profile: str = "tiny") -> set[str]:
        """The jobs by the names of their segments; "data" and "distances" without the ids.

        Ids are those of the copy's own code and configuration: a job that these do not ask for keeps its id.
        """
        names = json.loads(self.python("-c", NAMES.format(profile=profile)))
        return {names.get(job, job) for job in jobs}

    def plan(self, profile: str = "tiny") -> Plan:
        """The plan with the copy's configuration (and this process's code)."""
        return load_plan(profile, self.path / "workflow" / "config")

    def results(self, profile: str = "tiny") -> Path:
        return self.path / "results" / profile

    def times(self, profile: str = "tiny") -> dict[str, int]:
        """When each result was written."""
        aside, results = {"logs", "benchmarks", "made-from"}, self.results(profile)
        found = (p for p in results.rglob("*") if p.relative_to(results).parts[0] not in aside)
        return {str(p.relative_to(results)): p.stat().st_mtime_ns for p in found if p.is_file()}

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.path / file
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{file} holds {old!r} {text.count(old)} times"
        path.write_text(text.replace(old, new), encoding="utf-8")


def jobs(output: str) -> list[str]:
    """What `make`, or the engine by hand, says that it runs, sorted: "<segment's id>", "data <subset>",
    "energies <id>", "distances <id>", "figure <name>", "claims"."""
    said = r"^(?:Job \d+|\d+ %, [\d:]+ left): (.*)$"
    return sorted(jobs_of(re.findall(said, output, flags=re.MULTILINE)))


def jobs_of(messages: Iterable[str]) -> set[str]:
    """What the messages of tasks say, as in `jobs`."""
    found: set[str] = set()
    for message in messages:
        kinds = {
            "Training ": "",
            "Data sets ": "data ",
            "Energies ": "energies ",
            "Distances ": "distances ",
            "Figures ": "figure ",
        }
        for words, short in kinds.items():
            if message.startswith(words):
                found |= {short + name for name in message.removeprefix(words).split(", ")}
        found |= {{"Judging the claims": "claims", "Writing the report": "report"}.get(message, "")} - {""}
    return found


def assert_same_dataset(one: Path, other: Path) -> None:
    first, second = read_dataset(one), read_dataset(other)
    for dataset in (first, second):
        assert dataset.attrs.pop(PROVENANCE)
    xr.testing.assert_identical(first, second)


def assert_whole(results: Path) -> None:
    """Every file with a final name can be read."""
    for path in results.rglob("[!.]*.nc"):
        read_dataset(path)
    for path in results.rglob("[!.]*.safetensors"):
        read_tensors(path)


def assert_same_results(one: Project, other: Project, *folders: str) -> None:
    """Of the tiny profile: equal datasets and the same bytes of other files, in all folders or in these."""
    names, others = ({n for n in p.times() if not folders or n.startswith(folders)} for p in (one, other))
    assert names == others != set(), names ^ others
    for name in names:
        first, second = one.results() / name, other.results() / name
        if first.suffix == ".nc":
            assert_same_dataset(first, second)
        elif name != "report.html":  # which contains its duration
            assert first.read_bytes() == second.read_bytes(), name
