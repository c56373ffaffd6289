# Trains, measures and draws what a profile asks for: `make reproduce`, or by hand
#   snakemake --workflow-profile workflow/profiles/local --config profile=quick
import os
import sys

from snakemake.utils import min_version

min_version("9.27")

# The engine and its jobs import the packages of this folder, whatever else is installed.
sys.path.insert(0, workflow.basedir)
os.environ["PYTHONPATH"] = os.pathsep.join(
    dict.fromkeys((workflow.basedir, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))))
)


include: "workflow/rules/common.smk"


rule all:
    default_target: True
    input:
        everything("segments", "energies", "distances", "figures", "claims", "report"),
    message:
        "Everything is there"


include: "workflow/rules/hooks.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/segments.smk"
include: "workflow/rules/energies.smk"
include: "workflow/rules/distances.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/claims.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/paths.smk"
