"""Command line: `python -m analysis stale` and `tree`. Everything else is the workflow's (see the Makefile)."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from analysis.errors import InputError
from analysis.plan import CONFIG_DIR, Plan, load_plan


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m analysis", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    tree_parser = commands.add_parser("tree", help="count the segments, and the steps that sharing them saves")
    stale_parser = commands.add_parser("stale", help="list results that nothing of a profile refers to any more")
    for command in (tree_parser, stale_parser):
        command.add_argument("--profile", default="quick")
        command.add_argument("--config-dir", type=Path, default=CONFIG_DIR)
    stale_parser.add_argument("--results", type=Path, default=Path("results"))
    stale_parser.add_argument("--remove", action="store_true", help="remove them")
    given = parser.parse_args(arguments)
    try:
        plan = load_plan(given.profile, given.config_dir)
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    if given.command == "tree":
        shared = plan.sharing()
        print(f"{shared.segments} segments, {shared.steps:,} steps at most; {shared.runs} runs")
        print(f"each run from its initialisation: {shared.steps_alone:,} steps at most")
        print(f"saved by the tree: {1 - shared.steps / max(shared.steps_alone, 1):.0%}")
        return 0
    found = stale(plan, given.results / plan.profile)
    for path in found:
        print(path)
        if given.remove:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    print(f"{len(found)} stale results {'removed' if given.remove else 'found'}")
    return 0


def stale(plan: Plan, results: Path) -> list[Path]:
    """Results below `results` that the plan does not name."""
    named = {
        "segments": set(plan.segments),
        "checkpoints": set(plan.segments),
        "data": set(plan.subsets),
        "distances": set(plan.distances),
        "energies": set(plan.energies),
        "figures": set(plan.figures),
        "made-from": {Path(planned.record).stem for planned in (*plan.figures.values(), plan.claims)},
    }
    return sorted(
        path
        for folder, names in named.items()
        for path in results.glob(f"{folder}/*")
        if (path.name if path.is_dir() else path.stem) not in names
    )


if __name__ == "__main__":
    sys.exit(main())
