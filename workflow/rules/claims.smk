# Claims of the papers, judged from trajectories.


rule judge:
    input:
        [trajectory(s) for s in PLAN.claims.segments],
    output:
        json=f"{RESULTS}/claims.json",
        csv=f"{RESULTS}/claims.csv",
    log:
        f"{RESULTS}/logs/judge.log",
    benchmark:
        f"{RESULTS}/benchmarks/judge.tsv"
    params:
        claims=PLAN.claims.params,
    message:
        "Judging the claims"
    script:
        "../scripts/judge.py"
