# The paths of thousands of shards would not fit in a command, hence --results with --methods and --shards.
rule tables:
    input:
        data=ancient(local(SETTINGS["input"])),
        prepared=expand(under("prepared/{slug}.h5ad"), slug=CELL_TYPES),
        contrasts=under("contrasts.json"),
        fits=[path for slug in CELL_TYPES for path in shards("fits", METHODS, slug)],
        moderated=expand(
            under("moderated/{method}/{slug}.npz"), method=METHODS, slug=CELL_TYPES
        ),
        tests=[path for slug in CELL_TYPES for path in shards("tests", METHODS, slug)],
        audits=AUDITS,
        stabilities=STABILITIES,
    output:
        effects=under("effects.parquet"),
        effects_text=report(
            under("effects.tsv.gz"),
            caption="../report/effects.rst",
            category="Tables",
            labels={
                "table": "effects",
                "content": "log2 fold changes, p-values, false discovery rates",
            },
        ),
        coefficients=under("coefficients.parquet"),
        coefficients_text=report(
            under("coefficients.tsv.gz"),
            caption="../report/coefficients.rst",
            category="Tables",
            labels={"table": "coefficients", "content": "fixed effects as fitted"},
        ),
        variances=under("variances.parquet"),
        variances_text=report(
            under("variances.tsv.gz"),
            caption="../report/variances.rst",
            category="Tables",
            labels={
                "table": "variances",
                "content": "variance components of each gene",
            },
        ),
        priors=under("priors.parquet"),
        priors_text=report(
            under("priors.tsv.gz"),
            caption="../report/priors.rst",
            category="Tables",
            labels={
                "table": "priors",
                "content": "variances over all genes of a cell type",
            },
        ),
        fits=under("fits.parquet"),
        fits_text=report(
            under("fits.tsv.gz"),
            caption="../report/fits.rst",
            category="Tables",
            labels={
                "table": "fits",
                "content": "what went into each fit and how it ended",
            },
        ),
        audit=AUDIT_TABLES,
        compared=COMPARED_TABLES,
        summary=report(
            under("summary.txt"),
            caption="../report/summary.rst",
            category="Summary",
        ),
        # written last: the tables are complete and belong together
        provenance=under("provenance.json"),
    log:
        under("logs/tables.log"),
    benchmark:
        under("benchmarks/tables.tsv")
    conda:
        "../envs/mlmgen.yaml"
    threads: 1
    resources:
        mem_mb=sized_for_all(mlmgen.sizing.megabytes, "tables"),
        runtime=sized_for_all(mlmgen.sizing.minutes, "tables"),
    params:
        settings=stage("tables"),
        results=lambda wildcards, output: os.path.dirname(output.summary),
        methods=METHODS,
        shards=[
            NUMBER_OF_SHARDS[method, slug] for slug in CELL_TYPES for method in METHODS
        ],
    shell:
        "mlmgen tables --prepared {input.prepared:q} --contrasts {input.contrasts:q} --input {input.data:q} "
        "--methods {params.methods:q} --shards {params.shards} --results {params.results:q} "
        "--settings {params.settings:q} --threads {threads} --log {log:q}"


# One page with everything; a rule of its own, so that a new page needs no new tables.
rule report:
    input:
        tables=rules.tables.output,
        prepared=expand(under("prepared/{slug}.h5ad"), slug=CELL_TYPES),
        pseudobulk=expand(under("pseudobulk/{slug}.h5ad"), slug=CELL_TYPES),
    output:
        report(
            under("report.html"),
            caption="../report/report.rst",
            category="Report",
            labels={"page": "report", "content": "everything in one page"},
        ),
    log:
        under("logs/report.log"),
    benchmark:
        under("benchmarks/report.tsv")
    conda:
        "../envs/mlmgen.yaml"
    threads: 1
    resources:
        mem_mb=sized_for_all(mlmgen.sizing.megabytes, "report"),
        runtime=sized_for_all(mlmgen.sizing.minutes, "report"),
    params:
        version=mlmgen.config.REPORT_VERSION,
        results=lambda wildcards, output: os.path.dirname(output[0]),
    shell:
        "mlmgen report {params.results:q} --output {output:q} --threads {threads} --log {log:q}"
