"""What the workflow would run, by its own table of tasks, in a fraction of the engine's time.

As a program, `python -P would_run.py <profile>` in the folder of a project, for one with other code than this process.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from analysis.execution.records import missing
from analysis.execution.tasks import tasks
from analysis.plan.join import CONFIG_DIR, load_plan


def would_run(profile: str, folder: Path, config_dir: Path) -> dict[str, list[str]]:
    """What the tasks say that they do, and the segments' ids by their names in experiments.yaml."""
    plan = load_plan(profile, config_dir)
    absent = missing(plan, folder / "results" / profile)
    return {
        "messages": [task.message for task in tasks(plan, lambda file: file not in absent)],
        "names": {path[-1]: name for (_, name), path in plan.runs.items()},
    }


if __name__ == "__main__":
    print(json.dumps(would_run(sys.argv[1], Path(), CONFIG_DIR)))
