# Energies and spectral densities along segments, from their snapshots of θ.


rule energies:
    input:
        everything("energies"),
    message:
        "The energies are measured"


for task in TASKS["energies"]:

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
        threads: task.threads
        resources:
            **STAGES.energies.resources(task.refreshes, task.memory),
        params:
            planned=[planned.params for planned in task.arguments],
        message:
            task.message
        script:
            "../scripts/energies.py"
