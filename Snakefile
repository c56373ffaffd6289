# Trains, measures and draws what a profile asks for: `make reproduce`, or by hand
#   snakemake --workflow-profile workflow/profiles/local --config profile=quick
from snakemake.utils import min_version

min_version("9.27")


include: "workflow/rules/common.smk"


wildcard_constraints:
    subset="|".join(PLAN.subsets),
    figure="|".join(PLAN.figures),


rule all:
    default_target: True
    input:
        figures(),
        claims(),


include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/claims.smk"
