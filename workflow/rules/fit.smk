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
        mem_mb=sized(mlmgen.sizing.megabytes, "fit"),
        runtime=sized(mlmgen.sizing.minutes, "fit"),
    params:
        settings=stage("fit"),
    shell:
        "mlmgen fit --counts {input.counts:q} --method {wildcards.method} --shard {wildcards.shard} "
        "--output {output:q} --settings {params.settings:q} --threads {threads} --log {log:q}"


rule moderate:
    input:
        counts=rows,
        fits=lambda wildcards: shards("fits", [wildcards.method], wildcards.slug),
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
        mem_mb=sized(mlmgen.sizing.megabytes, "moderate"),
        runtime=sized(mlmgen.sizing.minutes, "moderate"),
    params:
        settings=stage("moderate"),
    shell:
        "mlmgen moderate --counts {input.counts:q} --fits {input.fits:q} "
        "--output {output:q} --settings {params.settings:q} --threads {threads} --log {log:q}"


rule test:
    input:
        counts=rows,
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
        mem_mb=sized(mlmgen.sizing.megabytes, "test"),
        runtime=sized(mlmgen.sizing.minutes, "test"),
    params:
        settings=stage("test"),
    shell:
        "mlmgen test --counts {input.counts:q} --fits {input.fits:q} "
        "--moderated {input.moderated:q} --shard {wildcards.shard} "
        "--output {output:q} --settings {params.settings:q} --threads {threads} --log {log:q}"
