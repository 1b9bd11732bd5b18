# Not after `contrasts`, not even by `ancient`: Snakemake does not look for other reasons to run a job where one
# before it runs, and a change of contrasts and of the family at once would leave the fits as they were.
rule fit:
    input:
        counts=rows,
    output:
        under("fits/{method}/{slug}/{shard}.npz"),
    log:
        under("logs/fit/{method}/{slug}/{shard}.log"),
    benchmark:
        under("benchmarks/fit/{method}/{slug}/{shard}.tsv")
    conda:
        "../envs/mlmgen.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, 4),
        runtime=240,
    params:
        settings=stage("fit"),
    shell:
        "mlmgen fit --counts {input.counts:q} --method {wildcards.method} --shard {wildcards.shard} "
        "--output {output:q} --settings {params.settings:q} --threads {threads} --log {log:q}"


rule moderate:
    input:
        counts=rows,
        fits=[under(f"fits/{{method}}/{{slug}}/{shard}.npz") for shard in SHARDS],
    output:
        under("moderated/{method}/{slug}.npz"),
    log:
        under("logs/moderate/{method}/{slug}.log"),
    benchmark:
        under("benchmarks/moderate/{method}/{slug}.tsv")
    conda:
        "../envs/mlmgen.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, 4),
        runtime=60,
    params:
        settings=stage("moderate"),
    shell:
        "mlmgen moderate --counts {input.counts:q} --fits {input.fits:q} "
        "--output {output:q} --settings {params.settings:q} --threads {threads} --log {log:q}"


rule test:
    input:
        counts=rows,
        contrasts=under("contrasts.json"),
        fits=rules.fit.output,
        moderated=rules.moderate.output,
    output:
        under("tests/{method}/{slug}/{shard}.npz"),
    log:
        under("logs/test/{method}/{slug}/{shard}.log"),
    benchmark:
        under("benchmarks/test/{method}/{slug}/{shard}.tsv")
    conda:
        "../envs/mlmgen.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, 4),
        runtime=240,
    params:
        settings=stage("test"),
    shell:
        "mlmgen test --counts {input.counts:q} --contrasts {input.contrasts:q} --fits {input.fits:q} "
        "--moderated {input.moderated:q} --shard {wildcards.shard} "
        "--output {output:q} --settings {params.settings:q} --threads {threads} --log {log:q}"
