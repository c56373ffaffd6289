# Data sets, named by the hash of their content: one that exists is right, and no rule makes it again. Where they are
# read from (DATA_DIR) cannot change them.


rule data:
    output:
        f"{RESULTS}/data/{{subset}}.nc",
    log:
        f"{RESULTS}/logs/data/{{subset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/data/{{subset}}.tsv"
    wildcard_constraints:
        subset="|".join(s for s in PLAN.subsets if not Path(data(s)).exists()) or "none",
    message:
        "Data set {wildcards.subset}"
    script:
        "../scripts/data.py"
