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
)

COMPARED_TABLES = [under(f"{COMPARED}.parquet"), COMPARED_TEXT] if COMPARED else []


# Effects that any method reports are looked at in each of them, hence the tests of all.
rule stability:
    input:
        counts=rows,
        contrasts=under("contrasts.json"),
        fits=[under(f"fits/{{method}}/{{slug}}/{shard}.npz") for shard in SHARDS],
        moderated=under("moderated/{method}/{slug}.npz"),
        tests=[
            under(f"tests/{method}/{{slug}}/{shard}.npz")
            for method in METHODS
            for shard in SHARDS
        ],
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
        mem_mb=memory(1500, 4),
        runtime=240,
    params:
        settings=stage("stability"),
        methods=METHODS,
        shards=len(SHARDS),
        results=lambda wildcards, input: os.path.dirname(input.contrasts),
    shell:
        "mlmgen stability --counts {input.counts:q} --contrasts {input.contrasts:q} --method {wildcards.method} "
        "--methods {params.methods:q} --shards {params.shards} --results {params.results:q} "
        "--output {output:q} --settings {params.settings:q} --threads {threads} --log {log:q}"
