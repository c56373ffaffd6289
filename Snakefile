# Trains, measures and draws a profile. Start it with `make reproduce`, or by hand with
#   snakemake --workflow-profile workflow/profiles/local --config profile=quick
from snakemake.utils import min_version

min_version("9.27")


include: "workflow/rules/own.smk"
include: "workflow/rules/common.smk"


rule all:
    default_target: True
    input:
        everything("segments", "energies", "distances", "figures", "claims", "report"),
        [result(file) for file in sorted(FORCED_DATA)],
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
