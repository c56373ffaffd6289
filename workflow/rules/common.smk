# The plan of the chosen profile, and where its files are.
from pathlib import Path

from snakemake.exceptions import WorkflowError

from analysis.errors import InputError
from analysis.plan import CONFIG_DIR, load_plan

try:
    PLAN = load_plan(config.get("profile", "quick"), Path(config.get("config_dir", CONFIG_DIR)))
except InputError as error:
    raise WorkflowError(str(error)) from None

RESULTS = f"{config.get('results', 'results')}/{PLAN.profile}"
SEGMENT = f"{RESULTS}/segments/{{segment}}"


def trajectory(segment):
    return f"{RESULTS}/segments/{segment}/trajectory.nc"


def state(segment):
    return f"{RESULTS}/segments/{segment}/state.safetensors"


def data(subset):
    return f"{RESULTS}/data/{subset}.nc"


def is_trained(segment):
    """What stands under a segment's name is right by construction: no rule makes it again."""
    return Path(trajectory(segment)).exists() and Path(state(segment)).exists()


def specification(name, content):
    """A file with what a cheap stage is given. As an input it reruns the stage when it changes, also where the
    engine's own records are lost (as params would not), and it is touched only then."""
    path = Path(RESULTS, "specifications", f"{name}.json")
    try:
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise WorkflowError(
            f"{path}: cannot be written ({error.strerror}); the results folder must be writable"
        )
    return str(path)


def figures():
    return expand(f"{RESULTS}/figures/{{figure}}.{{format}}", figure=PLAN.figures, format=["pdf", "png"])


def claims():
    return [f"{RESULTS}/claims.json", f"{RESULTS}/claims.csv"] if PLAN.claims.segments else []
