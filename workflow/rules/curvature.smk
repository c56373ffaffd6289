# The curvature stage: energies and spectral densities along segments, from their snapshots of θ. Another number of
# random vectors is another name here, and no reason to train again. There is a rule only for those that are missing.

for batch in PLAN.energies_missing(lambda energies: is_there(energies.file)):

    rule:
        name:
            f"curvature-{batch[0].id}"
        input:
            data=[data(d) for d in batch[0].subsets],
            snapshots=[result(energies.input) for energies in batch],
        output:
            [result(energies.file) for energies in batch],
        log:
            f"{RESULTS}/logs/curvature/{batch[0].id}.log",
        benchmark:
            f"{RESULTS}/benchmarks/curvature/{batch[0].id}.tsv"
        threads: 1
        resources:
            **STAGES.curvature.resources(0, max(memory_bytes(energies.spec) for energies in batch)),
        params:
            energies=[energies.params for energies in batch],
        message:
            f"Energies {', '.join(energies.id for energies in batch)}"
        script:
            "../scripts/curvature.py"
