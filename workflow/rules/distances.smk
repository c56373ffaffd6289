# Distances between two runs, from their snapshots of θ. Named by the hash of what they are measured from, so there is
# a rule only for those that are missing.

APART = [distances for distances in PLAN.distances.values() if not is_there(distances.file)]

if APART:

    rule distances:
        input:
            sorted({result(file) for distances in APART for run in distances.inputs for file in run}),
        output:
            [result(distances.file) for distances in APART],
        log:
            f"{RESULTS}/logs/distances.log",
        benchmark:
            f"{RESULTS}/benchmarks/distances.tsv"
        localrule: True
        params:
            distances=[distances.params for distances in APART],
        message:
            f"Distances {', '.join(distances.id for distances in APART)}"
        script:
            "../scripts/distances.py"
