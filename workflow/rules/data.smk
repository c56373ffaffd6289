# Data sets, named by the hash of their content. The folder from which they are read (DATA_DIR) cannot change them.


rule data:
    input:
        everything("data"),
    message:
        "The data sets are there"


for task in TASKS["data"]:

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
        message:
            task.message
        script:
            "../scripts/data.py"
