# `update` keeps the earlier file until the new one replaces it: bad input leaves results untouched.
rule prepare:
    input:
        SETTINGS["input"],
    output:
        update(expand(under("prepared/{slug}.h5ad"), slug=CELL_TYPES)),
    log:
        under("logs/prepare.log"),
    benchmark:
        under("benchmarks/prepare.tsv")
    conda:
        "../envs/mlmgen.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000, 10),
        runtime=240,
    params:
        settings=stage("prepare"),
        # a function of the input is no reason to rerun: the methods are only checked against the formula
        methods=lambda wildcards, input: METHODS,
    shell:
        "mlmgen prepare --input {input:q} --output {output:q} --methods {params.methods:q} "
        "--settings {params.settings:q} --threads {threads} --log {log:q}"


rule contrasts:
    input:
        expand(under("prepared/{slug}.h5ad"), slug=CELL_TYPES),
    output:
        update(under("contrasts.json")),
    log:
        under("logs/contrasts.log"),
    benchmark:
        under("benchmarks/contrasts.tsv")
    conda:
        "../envs/mlmgen.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        settings=stage("contrasts"),
    shell:
        "mlmgen contrasts --prepared {input:q} --output {output:q} "
        "--settings {params.settings:q} --threads {threads} --log {log:q}"
