# Trains, measures and draws what a profile asks for: `make reproduce`, or by hand
#   snakemake --workflow-profile workflow/profiles/local --config profile=quick
import sys

from snakemake.utils import min_version

min_version("9.27")


include: "workflow/rules/common.smk"


rule all:
    default_target: True
    input:
        [result(file) for file in everything()],
    message:
        "Everything is there"


rule claims:
    input:
        [result(file) for file in PLAN.claims.files],
    message:
        "The claims are judged"


onstart:
    remove_temporary_files(RESULTS)
    pass_on(signal.SIGINT)
    pass_on(signal.SIGTERM)


onerror:
    print("\nStopped. What is finished stays; the same command continues from there.", file=sys.stderr)


include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/curvature.smk"
include: "workflow/rules/distances.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/claims.smk"
include: "workflow/rules/report.smk"
