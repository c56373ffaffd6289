# Distances between two runs, from their snapshots of θ. Named by the hash of what they are measured from.

for distances in PLAN.distances.values():
    if is_there(distances.file):
        continue

    rule:
        name:
            f"distances:{distances.id}"
        input:
            first=[result(file) for file in distances.inputs[0]],
            second=[result(file) for file in distances.inputs[1]],
        output:
            result(distances.file),
        log:
            f"{RESULTS}/logs/distances/{distances.id}.log",
        benchmark:
            f"{RESULTS}/benchmarks/distances/{distances.id}.tsv"
        message:
            f"Distances {distances.id}"
        script:
            "../scripts/distances.py"
