"""What the workflow would run: asked of the plan and of the files that are there, in a fraction of the engine's time.

As a program, `python -P would_run.py <profile>` in the folder of a project, for one with other code than this process.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from analysis.execution.records import is_made
from analysis.plan.join import CONFIG_DIR, load_plan


def would_run(profile: str, folder: Path, config_dir: Path) -> dict[str, str]:
    """The jobs as `tests.workflow.project.jobs` tells them, each with its name: of a segment that of experiments.yaml,
    of data and distances their kind."""
    plan, results = load_plan(profile, config_dir), folder / "results" / profile

    def there(file: str) -> bool:
        return (results / file).exists()

    drawn = [made for made in (*plan.figures.values(), plan.claims, plan.report) if made.inputs]
    wanted = [made for made in drawn if not is_made(made, results)]
    segments = plan.untrained(there, wanted)
    energies = [e for e in plan.energies.values() if not there(e.file)]
    read = {subset for id_ in segments for subset in plan.segments[id_].subsets} | {
        s for e in energies for s in e.subsets
    }
    names = {path[-1]: name for (_, name), path in plan.runs.items()}
    jobs = {id_: names.get(id_, id_) for id_ in segments}
    jobs |= {f"energies {e.id}": f"energies {e.id}" for e in energies}
    jobs |= {f"data {subset}": "data" for subset in read if not there(f"data/{subset}.nc")}
    jobs |= {f"distances {d.id}": "distances" for d in plan.distances.values() if not there(d.file)}
    shown = [made.name if made in (plan.claims, plan.report) else f"figure {made.name}" for made in wanted]
    return jobs | dict(zip(shown, shown, strict=True))


if __name__ == "__main__":
    print(json.dumps(would_run(sys.argv[1], Path(), CONFIG_DIR)))
