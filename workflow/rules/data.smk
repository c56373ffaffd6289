# Data sets, named by the hash of their content. Where they are read from (DATA_DIR) cannot change them.


rule data:
    output:
        f"{RESULTS}/data/{{subset}}.nc",
    log:
        f"{RESULTS}/logs/data/{{subset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/data/{{subset}}.tsv"
    message:
        "Data set {wildcards.subset}"
    script:
        "../scripts/data.py"
