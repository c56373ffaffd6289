"""Command line: what is not a rule of the workflow. The Makefile's targets call these."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

from analysis import archive
from analysis.execution.run import run
from analysis.plan.join import CONFIG_DIR, Plan, load_plan
from sharpflat.errors import InputError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit status."""
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
        if command is _plan:
            own.add_argument("--gpu-tflops", type=float, help="10¹² operations a second of a GPU, for its hours")
        if command is _run:
            own.add_argument("--only", action="append", default=[], help="a figure, claim or segment; may be repeated")
            own.add_argument("--draw", action="store_true", help="also draw, judge and write the report")
            own.add_argument("--jobs", type=int, default=1, help="tasks at once, each in a process of its own")
            own.add_argument("--device", default="cpu", help="cpu, cuda (the GPU with the fewest jobs) or as in cuda:1")
    given = parser.parse_args(arguments)
    try:
        return given.command(given)
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1


def _run(given: argparse.Namespace) -> int:
    plan = load_plan(given.profile, given.config_dir)
    return run(
        plan, given.results / plan.profile, only=given.only, jobs=given.jobs, device=given.device, draw=given.draw
    )


def _tree(given: argparse.Namespace) -> int:
    shared = load_plan(given.profile, given.config_dir).sharing()
    print(f"{shared.segments} segments, {shared.steps:,} steps at most; {shared.runs} runs")
    print(f"each run from its initialisation: {shared.steps_alone:,} steps at most")
    print(f"saved by the tree: {1 - shared.steps / max(shared.steps_alone, 1):.0%}")
    return 0


def _plan(given: argparse.Namespace) -> int:
    from analysis.costs.estimate import estimate  # here: it imports torch, seconds that the other commands do not need
    from analysis.costs.table import lines

    plan = load_plan(given.profile, given.config_dir)
    if given.gpu_tflops is not None and not given.gpu_tflops > 0:
        raise InputError(f"--gpu-tflops: found {given.gpu_tflops}; a positive number is needed")
    found = estimate(
        plan,
        given.results / plan.profile,
        given.results / archive.REFERENCE,
        tell=lambda text: print(text, file=sys.stderr),
    )
    for line in lines(plan, found, given.gpu_tflops):
        print(line)
    return 0


def _stale(given: argparse.Namespace) -> int:
    plan = load_plan(given.profile, given.config_dir)
    found = stale(plan, given.results / plan.profile)
    for path in found:
        print(path)
        if given.remove:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    print(f"{len(found)} stale results {'removed' if given.remove else 'found'}")
    return 0


def _claims(given: argparse.Namespace) -> int:
    path = given.results / given.profile / "claims.json"
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); run `make reproduce` or `make figures` first") from error
    width = shutil.get_terminal_size((120, 24)).columns
    claim = None
    for row in rows:
        if row["claim"] != claim:
            claim = row["claim"]
            print(f"\n{claim}: {row['says']}")
            print(textwrap.fill(f"holds if: {row['threshold']}", width, initial_indent="  ", subsequent_indent="    "))
        head = f"  {row['setting']:<15} {row['verdict']:<14} "
        print(textwrap.fill(row["measured"], width, initial_indent=head, subsequent_indent=" " * len(head)))
    counts = {v: sum(row["verdict"] == v for row in rows) for v in ("holds", "does not hold", "not measured")}
    print("\n" + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    return 0


def _archive(given: argparse.Namespace) -> int:
    plan = load_plan(given.profile, given.config_dir)
    packed = archive.pack(plan, given.results / plan.profile, _reference(given))
    size = sum(entry.bytes for entry in packed.datasets.values())
    print(f"{_reference(given)}: {len(packed.datasets)} datasets, {size / 1e6:.1f} MB", end="; ")
    print(f"{len(packed.figures)} of {len(plan.figures)} figures and tables can be made from them")
    return 0


def _record(given: argparse.Namespace) -> int:
    manifest = archive.record(_reference(given), _redrawn(given), given.results / given.profile)
    print(f"{_reference(given)}: recorded {len(manifest.outputs)} files that were made from it")
    return 0


def _verify(given: argparse.Namespace) -> int:
    manifest = archive.verify(_reference(given))
    print(f"{_reference(given)}: all {len(manifest.datasets)} datasets are what the manifest says")
    return 0


def _compare(given: argparse.Namespace) -> int:
    manifest = archive.read_archive(_reference(given))
    found = archive.compare(manifest, _redrawn(given))
    for file, state in found.items():
        print(f"{state:<10} {_redrawn(given) / file}")
    others = [file for file, state in found.items() if state != "identical"]
    print(f"{len(found) - len(others)} of {len(found)} files are byte-identical to the recorded ones")
    if not found:
        print(f"{_reference(given)}: nothing is recorded", file=sys.stderr)
    if others:
        versions = ", ".join(
            f"{name} {v}" for name, v in archive.versions().items() if v != manifest.made_with.get(name)
        )
        print(
            f"They were recorded with other versions; here: {versions}."
            if versions
            else "The code that makes them changed; if it was meant to, `make archive` records them anew."
        )
    return 1 if others or not found else 0


def _reference(given: argparse.Namespace) -> Path:
    return given.results / archive.REFERENCE / given.profile


def _redrawn(given: argparse.Namespace) -> Path:
    return given.results / archive.REDRAWN / given.profile


_COMMANDS: dict[Callable[[argparse.Namespace], int], str] = {
    _plan: "say what a profile would take, by figure, without running it",
    _run: "train and measure without the workflow engine, which then finds it done",
    _tree: "count the segments, and the steps that sharing them saves",
    _stale: "list results that nothing of a profile refers to any more",
    _claims: "print the verdicts",
    _archive: "copy the datasets of figures and claims to results/reference, with a manifest",
    _record: "write the hashes of what was made from an archive into its manifest",
    _verify: "check an archive against its manifest",
    _compare: "say which files made from an archive are those that were recorded",
}


def stale(plan: Plan, results: Path) -> list[Path]:
    """Results below `results` that the plan does not name."""
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
