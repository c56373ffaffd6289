# Claims of the papers, judged from datasets.


rule claims:
    input:
        everything("claims"),
    message:
        "The claims are judged"


for task in TASKS["claims"]:

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
            "../scripts/claims.py"
