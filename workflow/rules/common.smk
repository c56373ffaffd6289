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


def figures():
    return expand(f"{RESULTS}/figures/{{figure}}.{{format}}", figure=PLAN.figures, format=["pdf", "png"])


def claims():
    return [f"{RESULTS}/claims.json", f"{RESULTS}/claims.csv"] if PLAN.claims.segments else []
