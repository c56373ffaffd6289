# Data sets, named by the hash of their content: one that exists is right, and no rule makes it again. Where they are
# read from (DATA_DIR) cannot change them.

MISSING = [subset for subset in PLAN.subsets if not Path(data(subset)).exists()]

if MISSING:

    rule data:
        output:
            [data(subset) for subset in MISSING],
        log:
            f"{RESULTS}/logs/data.log",
        benchmark:
            f"{RESULTS}/benchmarks/data.tsv"
        message:
            f"Data sets {', '.join(MISSING)}"
        script:
            "../scripts/data.py"
