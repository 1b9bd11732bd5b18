# Pictures for Snakemake's report. Their number is known when the contrasts are: one folder, with patterns.
rule figures:
    input:
        tables=rules.tables.output,
        contrasts=under("contrasts.json"),
        prepared=expand(under("prepared/{slug}.h5ad"), slug=CELL_TYPES),
    output:
        report(
            directory(under("figures")),
            patterns=[
                "{slug,[^/]+}/{contrast,[^/]+}/{picture,[^/]+}.png",
                "{slug,[^/]+}/{picture,[^/]+}.png",
            ],
            caption="../report/figures.rst",
            category="Figures",
            subcategory=lambda wildcards: CELL_TYPES[wildcards.slug],
            labels=picture_labels,
        ),
    log:
        under("logs/figures.log"),
    benchmark:
        under("benchmarks/figures.tsv")
    conda:
        "../envs/mlmgen.yaml"
    threads: 1
    resources:
        mem_mb=sized_for_all(mlmgen.sizing.megabytes, "figures"),
        runtime=sized_for_all(mlmgen.sizing.minutes, "figures"),
    params:
        version=mlmgen.config.FIGURES_VERSION,
        results=lambda wildcards, output: os.path.dirname(output[0]),
    shell:
        "mlmgen figures --results {params.results:q} --output {output:q} --threads {threads} --log {log:q}"
