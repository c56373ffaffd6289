# Claims of the papers, judged from datasets.

if PLAN.claims in WANTED:

    rule judge:
        input:
            [dataset(file) for file in PLAN.claims.inputs],
        output:
            json=result("claims.json"),
            csv=result("claims.csv"),
            record=result(PLAN.claims.record),
        log:
            f"{RESULTS}/logs/judge.log",
        benchmark:
            f"{RESULTS}/benchmarks/judge.tsv"
        localrule: True
        params:
            claims=PLAN.claims.params,
        message:
            "Judging the claims"
        script:
            "../scripts/judge.py"
