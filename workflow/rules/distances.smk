# Distances between two runs, from their snapshots of θ.


rule distances:
    input:
        everything("distances"),
    message:
        "The distances are measured"


for task in TASKS["distances"]:

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
            "../scripts/distances.py"
