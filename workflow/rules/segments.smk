# Segments of training. One process trains several, and each has its own files.
# There is no `ancient` here: if an ancient input is made again, Snakemake 9.27 forgets that the output is missing.


rule segments:
    input:
        everything("segments"),
    message:
        "The segments are trained"


for task in TASKS["segments"]:

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
        priority: task.priority
        threads: task.threads
        resources:
            **STAGES.segments.resources(task.refreshes, task.memory),
        params:
            planned=[planned.params for planned in task.arguments],
        message:
            task.message
        script:
            "../scripts/segments.py"
