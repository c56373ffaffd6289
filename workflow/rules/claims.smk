# Claims of the papers, judged from trajectories.


rule judge:
    input:
        trajectories=[trajectory(s) for s in PLAN.claims.segments],
        specification=lambda wildcards: specification("claims", PLAN.claims.params),
    output:
        json=f"{RESULTS}/claims.json",
        csv=f"{RESULTS}/claims.csv",
    log:
        f"{RESULTS}/logs/judge.log",
    benchmark:
        f"{RESULTS}/benchmarks/judge.tsv"
    message:
        "Judging the claims"
    script:
        "../scripts/judge.py"
