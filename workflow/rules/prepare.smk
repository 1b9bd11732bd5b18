# Every cell type that is there, chosen or not: one that is added later does not read the input again.
# Not `update`: Snakemake takes the earlier output of a failed job, which it restores, for that of the new settings.
rule split:
    input:
        local(SETTINGS["input"]),
    output:
        split=expand(under("split/{slug}.h5"), slug=PRESENT),
        cells=under("split/cells.npz"),
    log:
        under("logs/split.log"),
    benchmark:
        under("benchmarks/split.tsv")
    conda:
        "../envs/mlmgen.yaml"
    threads: 2
    resources:
        mem_mb=streaming,
        runtime=growing(480),
    params:
        settings=stage("split"),
        memory=of_mlmgen,
    shell:
        "mlmgen split --input {input:q} --output {output.split:q} --cells {output.cells:q} "
        "--settings {params.settings:q} --memory {params.memory} --threads {threads} --log {log:q}"


# TMM factors belong to samples, whatever their cells are.
rule size_factors:
    input:
        data=local(SETTINGS["input"]),
        split=expand(under("split/{slug}.h5"), slug=CELL_TYPES),
        cells=under("split/cells.npz"),
    output:
        under("split/size_factors.npz"),
    log:
        under("logs/size_factors.log"),
    benchmark:
        under("benchmarks/size_factors.tsv")
    conda:
        "../envs/mlmgen.yaml"
    threads: 1
    resources:
        mem_mb=growing(mlmgen.sizing.MOST_STREAMING),
        runtime=growing(120),
    params:
        settings=stage("prepare"),
    shell:
        "mlmgen size-factors --input {input.data:q} --split {input.split:q} --cells {input.cells:q} "
        "--output {output:q} --settings {params.settings:q} --threads {threads} --log {log:q}"


rule prepare:
    input:
        data=local(SETTINGS["input"]),
        split=under("split/{slug}.h5"),
        cells=under("split/cells.npz"),
        factors=(
            under("split/size_factors.npz")
            if SETTINGS["size_factors"] == "tmm"
            else []
        ),
    output:
        cells=under("prepared/{slug}.h5ad"),
        samples=under("pseudobulk/{slug}.h5ad"),
    log:
        under("logs/prepare/{slug}.log"),
    benchmark:
        under("benchmarks/prepare/{slug}.tsv")
    conda:
        "../envs/mlmgen.yaml"
    threads: 1
    resources:
        mem_mb=streaming,
        runtime=growing(240),
    params:
        settings=stage("prepare"),
        memory=of_mlmgen,
        # functions of the input are no reason to rerun: another cell type changes nothing in this one
        cell_types=lambda wildcards, input: json.dumps(SETTINGS["cell_types"]),
        factors=lambda wildcards, input: (
            f"--size-factors {quote(input.factors)} " if input.factors else ""
        ),
    shell:
        "mlmgen prepare --input {input.data:q} --split {input.split:q} --cells {input.cells:q} {params.factors}"
        "--cell-types {params.cell_types:q} --output {output.cells:q} --pseudobulk {output.samples:q} "
        "--settings {params.settings:q} --memory {params.memory} --threads {threads} --log {log:q}"


# What can be found, in words and in a table. Tests resolve their contrasts themselves: another cell type leaves them.
rule contrasts:
    input:
        data=local(SETTINGS["input"]),
        cells=under("split/cells.npz"),
        prepared=expand(under("prepared/{slug}.h5ad"), slug=CELL_TYPES),
    output:
        contrasts=under("contrasts.json"),
        design=under("design.parquet"),
        design_text=report(
            under("design.tsv.gz"),
            caption="../report/design.rst",
            category="Tables",
            labels={"table": "design", "content": "what each contrast compares"},
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
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        settings=stage("contrasts"),
        methods=METHODS,
        design=lambda wildcards, output: output.design.removesuffix(".parquet"),
    shell:
        "mlmgen contrasts --input {input.data:q} --cells {input.cells:q} --prepared {input.prepared:q} "
        "--output {output.contrasts:q} --methods {params.methods:q} --design {params.design:q} "
        "--settings {params.settings:q} --threads {threads} --log {log:q}"
