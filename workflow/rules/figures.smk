# Figures and tables, drawn from datasets alone. One process draws several (its imports take longer than a figure), and
# there is a rule only for those that are missing or were drawn from something else.

DRAWN = [figure for figure in PLAN.figures.values() if figure in WANTED]

for batch in [DRAWN[i : i + PLAN.batch_figures] for i in range(0, len(DRAWN), PLAN.batch_figures)]:

    rule:
        name:
            f"figures-{batch[0].name}"
        input:
            sorted({dataset(file) for figure in batch for file in figure.inputs}),
        output:
            figures=[result(file) for figure in batch for file in figure.files],
            records=[result(figure.record) for figure in batch],
        log:
            f"{RESULTS}/logs/figures/{batch[0].name}.log",
        benchmark:
            f"{RESULTS}/benchmarks/figures/{batch[0].name}.tsv"
        localrule: True
        params:
            figures=[figure.params for figure in batch],
        message:
            f"Figures {', '.join(figure.name for figure in batch)}"
        script:
            "../scripts/figures.py"
