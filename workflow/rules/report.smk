# One page on everything, from figures, verdicts and the datasets behind them.

REPORTED = [made for made in NAMED if made is not PLAN.report]

if PLAN.report in WANTED:

    rule report:
        input:
            datasets=[dataset(file) for file in PLAN.report.inputs],
            files=[result(file) for made in REPORTED for file in made.files],
            records=[result(made.record) for made in REPORTED],
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
