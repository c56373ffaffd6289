# Segments of training. Their names hash all that decides them, so one that exists is done, and there is a rule only
# for those that are missing: several together in one process, each with files of its own. One whose trajectory is there
# is done even without its state or snapshots, until something begins from them.
# No `ancient` here: if an ancient input is made again, Snakemake 9.27 forgets that the output is missing.

UNTRAINED = PLAN.untrained(is_there, WANTED)

for batch in PLAN.batches(lambda segment: segment.id not in UNTRAINED):

    rule:
        name:
            f"train_segment-{batch.name}"
        input:
            data=[data(d) for d in batch.segments[0].subsets],
            parents=[result(PLAN.segments[parent].state) for parent in batch.parents],
        output:
            trajectories=[result(s.trajectory) for s in batch.segments],
            states=[result(s.state) for s in batch.segments],
            snapshots=[result(s.snapshots) for s in batch.segments if s.snapshots],
        log:
            f"{RESULTS}/logs/train/{batch.name}.log",
        benchmark:
            f"{RESULTS}/benchmarks/train/{batch.name}.tsv"
        priority: batch.priority
        threads: 1
        resources:
            **STAGES.train_segment.resources(batch.work, max(memory_bytes(s.spec) for s in batch.segments)),
        params:
            segments=[s.params for s in batch.segments],
        message:
            f"Training {', '.join(s.id for s in batch.segments)}"
        script:
            "../scripts/train_segment.py"
