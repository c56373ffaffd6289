# Data sets, named by the hash of their content: one that exists is right, and no rule makes it again. Where they are
# read from (DATA_DIR) cannot change them.

ABSENT = [subset for subset in PLAN.subsets if not Path(data(subset)).exists()]

if ABSENT:

    rule data:
        output:
            [data(subset) for subset in ABSENT],
        log:
            f"{RESULTS}/logs/data.log",
        benchmark:
            f"{RESULTS}/benchmarks/data.tsv"
        localrule: True
        message:
            f"Data sets {', '.join(ABSENT)}"
        script:
            "../scripts/data.py"
