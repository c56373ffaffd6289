# Figures, drawn from trajectories alone.


rule figure:
    input:
        trajectories=lambda wildcards: [trajectory(s) for s in PLAN.figures[wildcards.figure].segments],
        specification=lambda wildcards: specification(
            f"figures/{wildcards.figure}", PLAN.figures[wildcards.figure].params
        ),
    output:
        pdf=f"{RESULTS}/figures/{{figure}}.pdf",
        png=f"{RESULTS}/figures/{{figure}}.png",
    log:
        f"{RESULTS}/logs/figures/{{figure}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/figures/{{figure}}.tsv"
    message:
        "Figure {wildcards.figure}"
    script:
        "../scripts/figure.py"
