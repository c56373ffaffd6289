# Figures and tables, drawn from datasets alone.


rule figures:
    input:
        everything("figures"),
    message:
        "The figures are drawn"


for task in TASKS["figures"]:

    rule:
        name:
            task.name
        input:
            **needed(task),
        output:
            **located(task.outputs),
        log:
            result(task.log),
        benchmark:
            result(task.benchmark)
        localrule: True
        params:
            planned=[planned.params for planned in task.arguments],
        message:
            task.message
        script:
            "../scripts/figures.py"
