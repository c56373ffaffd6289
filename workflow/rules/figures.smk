# Figures, drawn from trajectories alone.


rule figure:
    input:
        lambda wildcards: [trajectory(s) for s in PLAN.figures[wildcards.figure].segments],
    output:
        pdf=f"{RESULTS}/figures/{{figure}}.pdf",
        png=f"{RESULTS}/figures/{{figure}}.png",
    log:
        f"{RESULTS}/logs/figures/{{figure}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/figures/{{figure}}.tsv"
    params:
        figure=lambda wildcards: PLAN.figures[wildcards.figure].params,
    message:
        "Figure {wildcards.figure}"
    script:
        "../scripts/figure.py"
