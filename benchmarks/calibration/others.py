"""Other programs on one data set, each in a process of its own; all are given the same genes and size factors.

edgeR (quasi-likelihood, robust), limma-voom and DESeq2 have sums of samples, with the donors as fixed effects where the
effect is within donors and the mean of a covariate over a sample's cells. NEBULA-LN has the cells and a random donor;
glmmTMB (nbinom2, REML, Wald z) has the cells and the model's random effects, for the first genes only.
"""

import os
import resource
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.calibration.simulated import DataSet, matrix, of_samples, place_of_effect
from benchmarks.other_programs import ONE_THREAD
from mlmgen.types import Design

TIMEOUT = 1800  # seconds
# Genes that glmmTMB is given, at half a second to several seconds each.
GENES_OF_GLMMTMB = 200

R = """
a <- commandArgs(TRUE); program <- a[1]; folder <- a[2]
number <- scan(file.path(folder, "shape"), quiet = TRUE)
values <- function(name, what, n) readBin(file.path(folder, name), what, n)
Y <- matrix(values("Y", integer(), number[1] * number[2]), number[1], number[2])
X <- matrix(values("X", double(), number[2] * number[3]), number[2], number[3])
size <- values("size", double(), number[2])
colnames(X) <- c("Intercept", paste0("x", seq_len(number[3] - 1)))
colnames(Y) <- rownames(X) <- paste0("s", seq_len(number[2])); rownames(Y) <- paste0("g", seq_len(number[1]))
library_size <- size / sum(size) * sum(Y); tested <- number[4]
p <- suppressWarnings(suppressMessages(switch(program,
  "edgeR" = {
    library(edgeR)
    y <- estimateDisp(DGEList(Y, lib.size = library_size), X)
    glmQLFTest(glmQLFit(y, X, robust = TRUE), coef = tested)$table$PValue
  },
  "limma" = {
    library(limma); library(edgeR)
    v <- voom(DGEList(Y, lib.size = library_size), X)
    eBayes(lmFit(v, X))$p.value[, tested]
  },
  "DESeq2" = {
    library(DESeq2)
    d <- DESeqDataSetFromMatrix(Y, data.frame(sample = factor(seq_len(ncol(Y)))), design = X)
    sizeFactors(d) <- size / exp(mean(log(size)))
    weights <- as.numeric(seq_len(ncol(X)) == tested)
    results(DESeq(d, quiet = TRUE), contrast = weights, independentFiltering = FALSE)$pvalue
  })))
writeBin(as.double(p), file.path(folder, "p"))
cat(as.character(packageVersion(program)))
"""

GLMMTMB = """
suppressMessages(library(glmmTMB))
folder <- commandArgs(TRUE)[2]
d <- read.csv(file.path(folder, "cells.csv")); d$size <- log(d$size)
f <- as.formula(readLines(file.path(folder, "formula")))
number <- scan(file.path(folder, "shape"), quiet = TRUE)
Y <- matrix(readBin(file.path(folder, "Y"), integer(), number[1] * number[2]), number[2], number[1])
p <- vapply(seq_len(number[1]), function(g) {
  d$y <- Y[, g]
  tryCatch(suppressWarnings(suppressMessages({
    summary(glmmTMB(f, d, family = nbinom2, REML = TRUE))$coefficients$cond[number[3], 4]
  })), error = function(e) 1)
}, 0)
writeBin(as.double(ifelse(is.na(p), 1, p)), file.path(folder, "p"))
cat(as.character(packageVersion("glmmTMB")))
"""

PYTHON = """
import importlib.metadata, sys, warnings
import numpy as np
from scipy import sparse
from scipy.stats import chi2
warnings.simplefilter("ignore")
program, folder = sys.argv[1:]
data = np.load(folder + "/data.npz")
tested = int(data["tested"])
if program == "NEBULA":
    import edgepython
    Y = sparse.csc_matrix((data["values"], data["rows"], data["start"]), shape=data["shape"]).T.toarray().astype(float)
    settings = {"sample": data["donor"], "design": data["X"], "offset": data["size"], "cpc": 0.0, "verbose": False}
    found = edgepython.glm_sc_fit(Y, **settings)
    p = chi2.sf((found["coefficients"][:, tested] / found["se"][:, tested]) ** 2, 1)
    assert len(p) == len(Y)
    name = "edgepython"
elif program == "edgeR 5":
    import edgepython
    Y, size = data["Y"].astype(float), data["sample_size"]
    y = edgepython.make_dgelist(Y, lib_size=size / size.sum() * Y.sum())
    fit = edgepython.glm_ql_fit(y, design=data["sample_X"], robust=True)
    p = edgepython.glm_ql_ftest(fit, coef=int(data["sample_tested"]))["table"]["PValue"]
    name = "edgepython"
else:
    import pandas as pd
    from pydeseq2.dds import DeseqDataSet
    from pydeseq2.ds import DeseqStats
    names = ["Intercept", *(f"x{i}" for i in range(1, data["sample_X"].shape[1]))]
    rows = [f"s{i}" for i in range(data["Y"].shape[1])]
    X = pd.DataFrame(data["sample_X"], index=rows, columns=names)
    dds = DeseqDataSet(counts=pd.DataFrame(data["Y"].T, index=rows), metadata=X, design=X, quiet=True)
    dds.obs["size_factors"] = data["sample_size"] / np.exp(np.log(data["sample_size"]).mean())
    dds.logmeans, dds.filtered_genes = np.zeros(len(data["Y"])), np.ones(len(data["Y"]), bool)
    dds.layers["normed_counts"] = dds.X / np.asarray(dds.obs["size_factors"])[:, None]
    dds.var["_normed_means"] = dds.layers["normed_counts"].mean(axis=0)
    dds.fit_size_factors = lambda *a, **k: None
    dds.deseq2()
    unit = np.eye(X.shape[1])[int(data["sample_tested"])]
    stats = DeseqStats(dds, contrast=unit, quiet=True, independent_filter=False)
    stats.summary()
    p, name = stats.results_df["pvalue"], "pydeseq2"
np.asarray(p, float).tofile(folder + "/p")
print(importlib.metadata.version(name), end="")
"""

IN_R = {"edgeR QL": "edgeR", "limma-voom": "limma", "DESeq2": "DESeq2", "glmmTMB": "glmmTMB"}
IN_PYTHON = {"NEBULA-LN": "NEBULA", "edgeR 5 QL (edgePython)": "edgeR 5", "PyDESeq2": "pydeseq2"}


def run(program: str, data: DataSet, python: str = sys.executable) -> tuple[dict[str, np.ndarray], str] | str:
    """Return the program's log p-values with its CPU seconds, and its version, or why there are none.

    A gene that a program fails on has the p-value 1: it is not called. A gene that it was not given has NaN.
    """
    start = _spent()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if program in IN_R:
            (folder / "script").write_text(GLMMTMB if program == "glmmTMB" else R)
            (_cells_for_r if program == "glmmTMB" else _sums_for_r)(folder, data)
            command = ["Rscript", str(folder / "script"), IN_R[program], name]
        else:
            (folder / "script").write_text(PYTHON)
            _for_python(folder, data)
            command = [python, str(folder / "script"), IN_PYTHON[program], name]
        failed = _failure(command)
        if isinstance(failed, str):
            return failed
        p = np.fromfile(folder / "p")
    G = len(data.counts.genes)
    expected = min(G, GENES_OF_GLMMTMB) if program == "glmmTMB" else G
    if len(p) != expected:
        return f"{program} gave {len(p):,} p-values for {expected:,} genes"
    log_p = np.full(G, np.nan)
    with np.errstate(divide="ignore"):
        log_p[:expected] = np.log(np.where(np.isnan(p), 1.0, p))
    return {"log_p": log_p, "seconds": _spent() - start}, failed[0]


def _spent() -> float:
    """Return the CPU seconds of the child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _failure(command: list[str]) -> str | tuple[str]:
    """Run a command; return why it failed, or what it printed as a tuple of one."""
    try:
        settings = {"capture_output": True, "text": True, "check": False, "timeout": TIMEOUT}
        done = subprocess.run(command, env=os.environ | ONE_THREAD | {"PYTHONPATH": ""}, **settings)
    except FileNotFoundError:
        return f"{command[0]} is not there"
    except subprocess.TimeoutExpired:
        return f"took more than {TIMEOUT:,} s"
    if done.returncode:
        return " ".join((done.stderr.strip().splitlines() or ["no message"])[-2:])
    return (done.stdout.strip(),)


@cache
def missing(program: str, python: str = sys.executable) -> str:
    """Say why a program cannot be run; empty if it can."""
    if program in IN_R:
        also = "; library(statmod)" if program == "edgeR QL" else ""
        found = _failure(["Rscript", "-e", f"library({IN_R[program]}){also}"])
    else:
        module = "pydeseq2" if program == "PyDESeq2" else "edgepython"
        found = _failure([python, "-c", f"import {module}"])
    return found if isinstance(found, str) else ""


def sums(data: DataSet) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Return Y (G, S), the model matrix of fixed effects (S, p), size factors (S,) and the column that is tested."""
    counts, design = of_samples(data)
    Y, X = matrix(counts, len(design.X)).toarray().T, design.X
    if {"condition", "time"} & set(data.design.within):
        donor = np.eye(len(design.donor.levels))[design.donor.codes][:, 1:]
        X = np.column_stack([X[:, :1], donor, X[:, 1:]])
    tested = place_of_effect(design) + X.shape[1] - design.X.shape[1]
    return np.ascontiguousarray(Y), X, np.exp(design.log_size), tested


def _sums_for_r(folder: Path, data: DataSet) -> None:
    Y, X, size, tested = sums(data)
    (folder / "shape").write_text(f"{len(Y)} {len(X)} {X.shape[1]} {tested + 1}")
    # R's matrices are by column, its integers of 32 bits.
    Y.T.astype(np.int32).tofile(folder / "Y")
    X.T.astype(np.float64).tofile(folder / "X")
    size.tofile(folder / "size")


def _cells_for_r(folder: Path, data: DataSet) -> None:
    """Write the columns of the model and the groups of each cell, a formula of them, and the first genes' counts."""
    d = data.design
    columns = {f"x{j}": x for j, x in enumerate(_of_cells(d, d.X.T, d.basis))} | {"size": np.exp(d.log_size)}
    fixed, terms = "y ~ 0 + " + " + ".join(list(columns)[:-1]) + " + offset(size)", ""
    for t, term in enumerate(d.terms):
        effects = {f"z{t}_{q}": z for q, z in enumerate(_of_cells(d, term.Z, term.basis))}
        columns |= effects | {f"g{t}": [f"g{code}" for code in term.codes[d.pattern]]}
        terms += f" + (0 + {' + '.join(effects)} | g{t})"
    pd.DataFrame(columns).to_csv(folder / "cells.csv", index=False)
    (folder / "formula").write_text(fixed + terms + "\n")
    Y = matrix(data.counts, len(d.pattern))[:, :GENES_OF_GLMMTMB].toarray()
    Y.T.astype(np.int32).tofile(folder / "Y")
    (folder / "shape").write_text(f"{Y.shape[1]} {Y.shape[0]} {place_of_effect(d) + 1}")


def _of_cells(design: Design, coefficients: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Return columns that are given by their coefficients in patterns (c, P), in every cell, (c, n)."""
    functions = np.column_stack([np.ones(len(design.pattern)), design.functions])
    return coefficients[:, design.pattern] * functions[:, basis].T


def _for_python(folder: Path, data: DataSet) -> None:
    Y, X, size, tested = sums(data)
    d, c = data.design, data.counts
    columns = {"X": _of_cells(d, d.X.T, d.basis).T, "tested": place_of_effect(d)}
    columns |= {"donor": d.donor.codes[d.pattern], "size": np.exp(d.log_size)}
    columns |= {"values": c.values, "rows": c.rows, "start": c.start, "shape": (len(d.pattern), len(c.genes))}
    columns |= {"Y": Y, "sample_X": X, "sample_size": size, "sample_tested": tested}
    np.savez(folder / "data.npz", **columns)
