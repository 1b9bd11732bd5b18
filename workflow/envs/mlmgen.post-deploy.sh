#!/usr/bin/env bash
# Snakemake runs this in the environment of mlmgen.yaml, once, with the environment active (--sdm conda).
# MLMGEN_SOURCE is set by rules/common.smk where Snakemake's own mlmgen is a repository: its code is then used as it
# stands. The version is here so that another one makes another environment: Snakemake compares this text.
set -euo pipefail
version=0.1.0
if [[ -n ${MLMGEN_SOURCE:-} ]]; then
    python -m pip install --no-deps --no-build-isolation --editable "$MLMGEN_SOURCE"
else
    python -m pip install --no-deps "mlmgen==$version"
fi
