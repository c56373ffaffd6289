# The report: one page with the figures, the verdicts and the datasets behind them.


rule report:
    input:
        everything("report"),
    message:
        "The report is written"


for task in TASKS["report"]:

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
            "../scripts/report.py"
