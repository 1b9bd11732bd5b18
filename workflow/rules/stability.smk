# Reported effects fitted again without each donor. Without `stability: true` no job needs it.
STABILITIES = (
    expand(under("stability/{method}/{slug}.npz"), method=METHODS, slug=CELL_TYPES)
    if SETTINGS["stability"]
    else []
)

COMPARED = (
    "concordance" if len(METHODS) > 1 else "stability" if SETTINGS["stability"] else ""
)

COMPARED_TEXT = report(
    under(f"{COMPARED}.tsv.gz"),
    caption="../report/concordance.rst",
    category="Tables",
    labels={"table": COMPARED, "content": "both methods, and what rests on one donor"},
)

COMPARED_TABLES = [under(f"{COMPARED}.parquet"), COMPARED_TEXT] if COMPARED else []


# Effects that any method reports are looked at in each of them, hence the tests of all.
rule stability:
    input:
        counts=rows,
        fits=lambda wildcards: shards("fits", [wildcards.method], wildcards.slug),
        moderated=under("moderated/{method}/{slug}.npz"),
        tests=lambda wildcards: shards("tests", METHODS, wildcards.slug),
    output:
        under("stability/{method}/{slug}.npz"),
    log:
        under("logs/stability/{method}/{slug}.log"),
    benchmark:
        under("benchmarks/stability/{method}/{slug}.tsv")
    conda:
        "../envs/mlmgen.yaml"
    threads: 1
    resources:
        mem_mb=sized(mlmgen.sizing.megabytes, "stability"),
        runtime=sized(mlmgen.sizing.minutes, "stability"),
    params:
        settings=stage("stability"),
        methods=METHODS,
        shards=lambda wildcards: [
            NUMBER_OF_SHARDS[method, wildcards.slug] for method in METHODS
        ],
        results=lambda wildcards, output: str(Path(output[0]).parents[2]),
    shell:
        "mlmgen stability --counts {input.counts:q} --method {wildcards.method} "
        "--methods {params.methods:q} --shards {params.shards} --results {params.results:q} "
        "--output {output:q} --settings {params.settings:q} --threads {threads} --log {log:q}"
