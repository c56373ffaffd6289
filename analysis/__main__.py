"""Command line for everything that is not a rule of the workflow. The targets of the Makefile call these commands."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

from analysis import archive
from analysis.execution.locks import held_since
from analysis.execution.progress import clock, status
from analysis.execution.run import run
from analysis.execution.signals import ANOTHERS_CODE
from analysis.plan.fingerprint import ROOT, fingerprint
from analysis.plan.join import CONFIG_DIR, load_plan
from analysis.plan.names import hash8
from analysis.plan.plan import Plan
from analysis.store.atomic import write_text
from analysis.store.filesystems import HDF5_LOCKS
from sharpflat.errors import InputError

# Files that the summary at the end of a run counts, by kind, below the results of a profile.
MADE = {
    ("segment", "segments"): "segments/*/trajectory.nc",
    ("energies file", "energies files"): "energies/*.nc",
    ("distances file", "distances files"): "distances/*.nc",
    ("figure or table", "figures and tables"): "figures/*.*",
    ("claims", ""): "claims.json",
    ("report", ""): "report.html",
}


def main(words: list[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m analysis", description=__doc__)
    commands = parser.add_subparsers(required=True)
    for command, help_ in _COMMANDS.items():
        own = commands.add_parser(command.__name__.strip("_"), help=help_)
        own.set_defaults(command=command)
        own.add_argument("--profile", default="quick")
        own.add_argument("--config-dir", type=Path, default=CONFIG_DIR)
        own.add_argument("--results", type=Path, default=Path("results"))
        if command is _stale:
            own.add_argument("--remove", action="store_true", help="remove them")
        if command is _verify:
            own.add_argument("--only-archive", action="store_true", help="do not check the results of a run")
        if command is _plan:
            own.add_argument(
                "--gpu-tflops", type=float, help="speed of a GPU in 10¹² operations per second, to estimate GPU hours"
            )
        if command is _run:
            own.add_argument("--only", action="append", default=[], help="a figure, claim or segment; may be repeated")
            own.add_argument("--draw", action="store_true", help="also draw, judge and write the report")
            own.add_argument("--jobs", type=int, default=1, help="number of tasks at once, each in its own process")
            own.add_argument(
                "--device", default="cpu", help="cpu, cuda (the GPU with the fewest jobs) or one GPU, as in cuda:1"
            )
    arguments = parser.parse_args(words)
    os.environ.setdefault(HDF5_LOCKS, "FALSE")  # files are written whole, and some file systems have no locks
    try:
        _check_code()
        return arguments.command(arguments)
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1


def _check_code() -> None:
    """Refuses to write the results of one project's code into another project's folder."""
    here = Path("analysis/__init__.py")
    if here.is_file() and Path("Snakefile").is_file() and not here.samefile(ROOT / here):
        raise InputError(f"this is the code in {ROOT}, not that of this folder, {Path.cwd()}; {ANOTHERS_CODE}")


def _run(arguments: argparse.Namespace) -> int:
    plan = load_plan(arguments.profile, arguments.config_dir)
    return run(
        plan,
        arguments.results / plan.profile,
        only=arguments.only,
        jobs=arguments.jobs,
        device=arguments.device,
        draw=arguments.draw,
    )


def _status(arguments: argparse.Namespace) -> int:
    plan = load_plan(arguments.profile, arguments.config_dir)
    lock = arguments.results.parent / ".snakemake" / f"{plan.profile}.lock"
    for line in status(plan, arguments.results / plan.profile, held_since(lock)):
        print(line)
    return 0


def _summary(arguments: argparse.Namespace) -> int:
    """Prints the summary without making a plan, which would take a second even if nothing had to be made."""
    results, lock = arguments.results / arguments.profile, Path(".snakemake") / f"{arguments.profile}.lock"
    since = lock.stat().st_mtime if lock.exists() else 0.0
    made = []
    for (one, many), pattern in MADE.items():
        new = [path for path in results.glob(pattern) if path.stat().st_mtime >= since]
        if count := len({path.parent / path.stem for path in new}):  # a figure's formats are one
            made.append(f"{count:,} {many if count > 1 else one}" if many else one)
    print(f"Made in {clock(time.time() - since)}: {', '.join(made)}" if made else "Made: nothing new")
    if (results / "claims.json").exists():
        said = [f"Claims: {_counts(_verdicts(results / 'claims.json'))} (make claims)", *_agreement(arguments)[:1]]
        print("; ".join(said))
    print(f"Report: {results.resolve()}/report.html; figures: {results.resolve()}/figures")
    return 0


def _tree(arguments: argparse.Namespace) -> int:
    shared = load_plan(arguments.profile, arguments.config_dir).sharing()
    print(f"{shared.segments} segments, {shared.steps:,} steps at most; {shared.runs} runs")
    print(f"each run from its initialisation: {shared.steps_alone:,} steps at most")
    print(f"saved by the tree: {1 - shared.steps / max(shared.steps_alone, 1):.0%}")
    return 0


def _plan(arguments: argparse.Namespace) -> int:
    from analysis.costs.estimate import (
        estimate,
    )  # imported here, because torch takes seconds that other commands do not need
    from analysis.costs.table import lines

    plan = load_plan(arguments.profile, arguments.config_dir)
    if arguments.gpu_tflops is not None and not arguments.gpu_tflops > 0:
        raise InputError(f"--gpu-tflops: found {arguments.gpu_tflops}; it must be a positive number")
    estimated = estimate(
        plan,
        arguments.results / plan.profile,
        arguments.results / archive.REFERENCE,
        tell=lambda text: print(text, file=sys.stderr),
    )
    for line in lines(plan, estimated, arguments.gpu_tflops):
        print(line)
    return 0


def _stale(arguments: argparse.Namespace) -> int:
    plan = load_plan(arguments.profile, arguments.config_dir)
    paths = stale(plan, arguments.results / plan.profile)
    for path in paths:
        print(path)
        if arguments.remove:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    print(f"{len(paths)} stale results {'removed' if arguments.remove else 'found'}")
    return 0


def _claims(arguments: argparse.Namespace) -> int:
    path = arguments.results / arguments.profile / "claims.json"
    if not path.exists() and not load_plan(arguments.profile, arguments.config_dir).claims.inputs:
        raise InputError(f"claims: profile {arguments.profile} has no claims")
    rows = _verdicts(path)
    width = shutil.get_terminal_size((120, 24)).columns
    claim = None
    for row in rows:
        if row["claim"] != claim:
            claim = row["claim"]
            print(f"\n{claim}: {row['says']}")
            print(textwrap.fill(f"holds if: {row['threshold']}", width, initial_indent="  ", subsequent_indent="    "))
        head = f"  {row['setting']:<15} {row['verdict']:<14} "
        print(textwrap.fill(row["measured"], width, initial_indent=head, subsequent_indent=" " * len(head)))
    print("\n" + _counts(rows))
    return 0


def _verdicts(path: Path) -> list[dict[str, str]]:
    try:
        rows: list[dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); run `make reproduce` or `make figures` first") from error
    return rows


def _counts(rows: list[dict[str, str]]) -> str:
    words = {"holds": "hold", "does not hold": "do not hold", "not measured": "not measured"}
    return ", ".join(f"{sum(row['verdict'] == v for row in rows)} {word}" for v, word in words.items())


def _archive(arguments: argparse.Namespace) -> int:
    plan = load_plan(arguments.profile, arguments.config_dir)
    packed = archive.pack(plan, arguments.results / plan.profile, _reference(arguments))
    size = sum(entry.bytes for entry in packed.datasets.values())
    print(f"{_reference(arguments)}: {len(packed.datasets)} datasets, {size / 1e6:.1f} MB", end="; ")
    whole = sum(not figure.absent and not any(panel.absent for panel in figure.panels) for figure in packed.figures)
    print(f"{whole} of {len(plan.figures)} figures and tables can be made from them", end="")
    print(f", and {len(packed.figures) - whole} in part" if whole < len(packed.figures) else "")
    return 0


def _record(arguments: argparse.Namespace) -> int:
    manifest = archive.record(_reference(arguments), _redrawn(arguments), arguments.results / arguments.profile)
    print(f"{_reference(arguments)}: recorded {len(manifest.outputs)} files that were made from it")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    results = arguments.results / arguments.profile
    run_there = not arguments.only_archive and results.is_dir()
    if (_reference(arguments) / archive.MANIFEST).exists() or not run_there:
        manifest = archive.verify(_reference(arguments))
        print(f"{_reference(arguments)}: all {len(manifest.datasets)} datasets are what the manifest says")
    if not run_there:
        return 0
    from analysis.soundness import check_results  # here: it imports xarray, seconds that other commands do not need

    found = check_results(results)
    for problem in found.problems:
        print(f"Error: {problem}", file=sys.stderr)
    print(f"{results}: {found.sound} of {found.sound + len(found.problems)} files and records are sound")
    return 1 if found.problems else 0


def _agree(arguments: argparse.Namespace) -> int:
    if not (_reference(arguments) / archive.MANIFEST).exists():
        archive.read_archive(_reference(arguments))  # its error says what is archived
    print("\n".join(_agreement(arguments)[1:]))
    return 0


def _agreement(arguments: argparse.Namespace) -> list[str]:
    """The line for the end of a run, and then all lines; empty if nothing is archived. They are kept until a file
    changes."""
    reference, results = _reference(arguments), arguments.results / arguments.profile
    if not (reference / archive.MANIFEST).exists():
        return []
    kept, key = results / "agreement.txt", _key(reference, results)
    lines = kept.read_text(encoding="utf-8").splitlines() if kept.is_file() else []
    if not lines or lines[-1] != key:
        from analysis.agreement import agree  # here: it imports xarray, seconds that other commands do not need

        plan = load_plan(arguments.profile, arguments.config_dir)
        found = agree(plan.report.spec, results, archive.read_archive(reference), reference)
        lines = [found.in_one_line(), *found.lines(), key]
        write_text("\n".join(lines) + "\n", kept)
    return lines[:-1]


def _key(reference: Path, results: Path) -> str:
    """A key of everything that a comparison reads: the files (by size and time) and the code."""
    patterns = ("segments/*/trajectory.nc", "energies/*.nc", "distances/*.nc", "claims.json")
    files = [path for pattern in patterns for path in sorted(results.glob(pattern))]
    seen = [
        (str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in [reference / archive.MANIFEST, *files]
    ]
    return f"[{hash8([seen, fingerprint('analysis.agreement:agree'), fingerprint('analysis.agreement:Agreement')])}]"


def _schema(arguments: argparse.Namespace) -> int:
    from analysis.plan.schema import FILES, schema_text

    for file in FILES:
        write_text(schema_text(file), arguments.config_dir / file)
        print(arguments.config_dir / file)
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    manifest = archive.read_archive(_reference(arguments))
    states = archive.compare(manifest, _redrawn(arguments))
    others = [file for file, state in states.items() if state != "identical"]
    for file in others:
        print(f"{states[file]:<10} {_redrawn(arguments) / file}")
    print(f"{len(states) - len(others)} of {len(states)} files are byte-identical to the recorded ones")
    print(f"Report: {_redrawn(arguments) / 'report.html'}; figures: {_redrawn(arguments) / 'figures'}")
    if not states:
        print(f"{_reference(arguments)}: nothing is recorded", file=sys.stderr)
    if others:
        versions = ", ".join(
            f"{name} {v}" for name, v in archive.versions().items() if v != manifest.made_with.get(name)
        )
        print(
            f"They were recorded with other versions; here: {versions}."
            if versions
            else "The code that makes them changed; if that was intended, `make archive` records them again."
        )
    return 1 if others or not states else 0


def _reference(arguments: argparse.Namespace) -> Path:
    return arguments.results / archive.REFERENCE / arguments.profile


def _redrawn(arguments: argparse.Namespace) -> Path:
    return arguments.results / archive.REDRAWN / arguments.profile


_COMMANDS: dict[Callable[[argparse.Namespace], int], str] = {
    _plan: "estimate the cost of a profile, by figure, without running it",
    _run: "train and measure without the workflow engine, which then finds the results",
    _tree: "count the segments, and the steps that sharing them saves",
    _status: "show which parts of a profile exist, run or are missing, and about how long the rest will take",
    _summary: "show what the last run made, how many claims hold, and where to look",
    _stale: "list results that the profile no longer uses",
    _claims: "print the verdicts",
    _archive: "copy the datasets of figures and claims to results/reference, with a manifest",
    _record: "write the hashes of the files made from an archive into its manifest",
    _verify: "check an archive against its manifest, and the results of a run",
    _agree: "compare a run with the archived one: verdicts, numbers, and where curves diverge",
    _schema: "write the JSON schemas of the configuration files, for editors",
    _compare: "compare the files made from an archive with the recorded hashes",
}


def stale(plan: Plan, results: Path) -> list[Path]:
    """Results in `results` that are not in the plan."""
    named = {
        "segments": set(plan.segments),
        "checkpoints": set(plan.segments),
        "data": set(plan.subsets),
        "distances": set(plan.distances),
        "energies": set(plan.energies),
        "figures": set(plan.figures),
        "made-from": {Path(drawn.record).stem for drawn in (*plan.figures.values(), plan.claims, plan.report)},
    }
    return sorted(
        path
        for folder, names in named.items()
        for path in results.glob(f"{folder}/*")
        if (path.name if path.is_dir() else path.stem) not in names
    )


if __name__ == "__main__":
    sys.exit(main())
