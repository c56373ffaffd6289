# One page on everything, from figures, verdicts and the datasets behind them.

REPORTED = [*PLAN.figures.values(), *([PLAN.claims] if PLAN.claims.inputs else [])]

if PLAN.report.inputs and not is_made(PLAN.report):

    rule report:
        input:
            datasets=[dataset(file) for file in PLAN.report.inputs],
            files=[result(file) for made in REPORTED for file in made.files],
            deviations="docs/deviations.md",
        output:
            html=result("report.html"),
            record=result(PLAN.report.record),
        log:
            f"{RESULTS}/logs/report.log",
        benchmark:
            f"{RESULTS}/benchmarks/report.tsv"
        localrule: True
        params:
            report=PLAN.report.params,
        message:
            "Writing the report"
        script:
            "../scripts/report.py"
