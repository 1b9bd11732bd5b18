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
        # functions of the input are no reason to rerun: what is to come is only checked here
        methods=lambda wildcards, input: METHODS,
        contrasts=lambda wildcards, input: stage("contrasts")(wildcards),
    shell:
        "mlmgen prepare --input {input:q} --output {output:q} --methods {params.methods:q} "
        "--contrasts {params.contrasts:q} "
        "--settings {params.settings:q} --threads {threads} --log {log:q}"


# Changed contrasts are checked here, at once.
rule contrasts:
    input:
        expand(under("prepared/{slug}.h5ad"), slug=CELL_TYPES),
    output:
        contrasts=update(under("contrasts.json")),
        design=update(under("design.parquet")),
        design_text=report(
            update(under("design.tsv.gz")),
            caption="../report/design.rst",
            category="Tables",
        ),
    log:
        under("logs/contrasts.log"),
    benchmark:
        under("benchmarks/contrasts.tsv")
    priority: 1
    conda:
        "../envs/mlmgen.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        settings=stage("contrasts"),
        methods=lambda wildcards, input: METHODS,
        design=lambda wildcards, output: output.design.removesuffix(".parquet"),
    shell:
        "mlmgen contrasts --prepared {input:q} --output {output.contrasts:q} --methods {params.methods:q} "
        "--design {params.design:q} "
        "--settings {params.settings:q} --threads {threads} --log {log:q}"
