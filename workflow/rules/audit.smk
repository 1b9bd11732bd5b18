# The null audit: genes refitted with permuted labels and with injected effects. Without `audit: true` no job needs it.
AUDITS = (
    expand(under("audit/{method}/{slug}.npz"), method=METHODS, slug=CELL_TYPES)
    if SETTINGS["audit"]
    else []
)

AUDIT_TEXT = report(
    under("audit.tsv.gz"),
    caption="../report/audit.rst",
    category="Tables",
    labels={"table": "audit", "content": "whether the p-values hold"},
)

AUDIT_TABLES = (
    [
        under("audit.parquet"),
        AUDIT_TEXT,
        under("audit_qq.parquet"),
        under("audit_qq.tsv.gz"),
    ]
    if SETTINGS["audit"]
    else []
)


# The samples of a permuted design are summed in the job: pseudobulk reads the cells, too.
rule audit:
    input:
        prepared=under("prepared/{slug}.h5ad"),
    output:
        under("audit/{method}/{slug}.npz"),
    log:
        under("logs/audit/{method}/{slug}.log"),
    benchmark:
        under("benchmarks/audit/{method}/{slug}.tsv")
    conda:
        "../envs/mlmgen.yaml"
    threads: 1
    resources:
        mem_mb=sized(mlmgen.sizing.megabytes, "audit"),
        runtime=sized(mlmgen.sizing.minutes, "audit"),
    params:
        settings=stage("audit"),
        fit=stage("fit"),
    shell:
        "mlmgen audit --prepared {input.prepared:q} --method {wildcards.method} "
        "--output {output:q} --settings {params.settings:q} --fit {params.fit:q} --threads {threads} --log {log:q}"
