rule pseudobulk:
    input:
        expand(under("prepared/{slug}.h5ad"), slug=CELL_TYPES),
    output:
        expand(under("pseudobulk/{slug}.h5ad"), slug=CELL_TYPES),
    log:
        under("logs/pseudobulk.log"),
    benchmark:
        under("benchmarks/pseudobulk.tsv")
    conda:
        "../envs/mlmgen.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000, 10),
        runtime=60,
    params:
        settings=stage("pseudobulk"),
    shell:
        "mlmgen pseudobulk --prepared {input:q} --output {output:q} "
        "--settings {params.settings:q} --threads {threads} --log {log:q}"
