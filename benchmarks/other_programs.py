"""The same genes fitted by other programs on one thread: glmmTMB, lme4, GPBoost and edgePython's NEBULA-LN."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.experiments import STRUCTURES, Experiment, dense
from mlmgen.types import Counts

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
TIMEOUT = 3600  # seconds a program may take in all

R = """
a <- commandArgs(TRUE); program <- a[1]; family <- a[3]; reml <- a[4] == "reml"
suppressMessages(library(program, character.only = TRUE))
d <- read.csv(a[2], stringsAsFactors = TRUE)
for (g in seq_len(as.integer(a[6]))) {
  d$y <- d[[paste0("y", g)]]
  f <- as.formula(paste("y", if (family == "gaussian") a[5] else paste(a[5], "+ offset(log(size))")))
  fit <- if (program == "glmmTMB") {
    kind <- switch(family, nb = nbinom2, poisson = poisson, bernoulli = binomial, gaussian = gaussian)
    function() glmmTMB(f, data = d, family = kind, REML = reml)
  } else if (family == "gaussian") {
    function() lmer(f, data = d, REML = reml)
  } else {
    function() glmer(f, data = d, family = if (family == "poisson") poisson else binomial)
  }
  spent <- sum(system.time(m <- suppressMessages(suppressWarnings(fit())))[1:2])
  b <- if (program == "glmmTMB") fixef(m)$cond else fixef(m)
  v <- if (program == "glmmTMB") VarCorr(m)$cond else VarCorr(m)
  # glmmTMB's logLik() is NA where its Hessian is not positive definite, its optimum is not.
  l <- if (program == "glmmTMB") -m$fit$objective else as.numeric(logLik(m))
  cat(sprintf('{"seconds": %.4f, "loglik": %.8f, "beta": [%s], "variance": [%s], "dispersion": %.8g}\\n', spent,
    l, paste(sprintf("%.10g", b), collapse = ", "),
    paste(sprintf("%.8g", unlist(lapply(v, function(s) c(diag(s), s[lower.tri(s)])))), collapse = ", "),
    if (family == "nb") 1 / sigma(m) else sigma(m)^2))
}
cat(as.character(packageVersion(program)), "\\n")
"""

GPBOOST = """
import gpboost
groups = np.stack([obs[name] for name in ("donor", "batch", "sample") if name in obs], axis=1)
kind = {"nb": "negative_binomial", "bernoulli": "bernoulli_logit"}.get(family, family)
slope = {"group_rand_coef_data": X[:, 1:2], "ind_effect_group_rand_coef": [1]} if "slope" in structure else {}
for y in Y:
    start = time.process_time()
    # Its default approximates the log-determinant of several terms by random vectors and misses by 0.1 to 0.3.
    exact = {"matrix_inversion_method": "cholesky", "num_parallel_threads": 1}
    model = gpboost.GPModel(likelihood=kind, group_data=groups, **exact, **slope)
    model.fit(y=y, X=X, offset=None if family == "gaussian" else np.log(obs["size"]))
    spent = time.process_time() - start
    coef = np.asarray(model.get_coef(format_pandas=False), dtype=float)
    coef = coef[0] if coef.ndim == 2 else coef
    variance = np.asarray(model.get_cov_pars(format_pandas=False), dtype=float)
    show(spent, -float(model.get_current_neg_log_likelihood()), coef[: X.shape[1]], variance.ravel()[: groups.shape[1]])
print(importlib.metadata.version("gpboost"))
"""

NEBULA = """
import edgepython
def fit(Y):
    start = time.process_time()
    settings = {"sample": obs["donor"], "design": X, "offset": obs["size"], "cpc": 0.0, "verbose": False}
    return edgepython.glm_sc_fit(np.array(Y), **settings), time.process_time() - start
fit(Y[:1])
fixed = min(fit(Y[:1])[1] for _ in range(3))
found, spent = fit(np.repeat(Y, 8, axis=0))
spent = (spent - fixed) / (8 * len(Y) - 1)
for g in range(len(Y)):
    show(spent, float("nan"), found["coefficients"][8 * g], found["sigma_sample"][8 * g : 8 * g + 1])
print(importlib.metadata.version("edgepython"))
"""

PYTHON_START = """
import importlib.metadata, json, sys, time, warnings
import numpy as np
warnings.simplefilter("ignore")
data = dict(np.load(sys.argv[1]))
family, structure = sys.argv[2:4]
X, Y = data.pop("X"), data.pop("Y")
obs = data
def show(seconds, loglik, beta, variance):
    numbers = {"seconds": seconds, "loglik": loglik, "beta": list(beta), "variance": list(variance)}
    print(json.dumps(numbers | {"dispersion": float("nan")}), flush=True)
"""


class Outcome(NamedTuple):
    """What a program found: CPU seconds of each gene, log-likelihoods (NaN: none reported), beta, and its version.

    ``variance`` (G, .) are the variances and then the covariances of one term after the other, in the program's order
    of terms; ``dispersion`` (G,) is phi or the residual variance.
    """

    seconds: np.ndarray
    loglik: np.ndarray
    beta: np.ndarray
    variance: np.ndarray
    dispersion: np.ndarray
    version: str


def fit(
    program: str, experiment: Experiment, counts: Counts, genes: np.ndarray, structure: str, family: str, method: str,
    python: str = sys.executable,
) -> Outcome | str:  # fmt: skip
    """Fit some genes by ``glmmTMB``, ``lme4``, ``GPBoost`` or ``NEBULA-LN``; return why not as text if it cannot be.

    ``python`` is the interpreter that has GPBoost and edgePython.
    """
    n = len(experiment.design.pattern)
    Y = np.stack([dense(counts, g, n) for g in genes])
    Y = (Y > 0).astype(float) if family == "bernoulli" else Y
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if program in ("glmmTMB", "lme4"):
            command = _r(folder, program, experiment, Y, structure, family, method)
        else:
            command = _python(folder, program, experiment, Y, structure, family, python)
        try:
            environment = os.environ | ONE_THREAD
            run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=TIMEOUT)
        except FileNotFoundError:
            return f"{command[0]} is not there"
        except subprocess.TimeoutExpired:
            return f"took more than {TIMEOUT:,} s"
    if run.returncode:
        return " ".join((run.stderr.strip().splitlines() or ["no message"])[-2:])
    *lines, version = run.stdout.strip().splitlines()
    found = [json.loads(line) for line in lines if line.startswith("{")]
    names = ("seconds", "loglik", "beta", "variance", "dispersion")
    return Outcome(*(np.array([one[name] for one in found], dtype=float) for name in names), version.strip())


def _r(folder: Path, program: str, experiment: Experiment, Y, structure: str, family: str, method: str) -> list[str]:
    table = experiment.obs.assign(**{f"y{g + 1}": y for g, y in enumerate(Y)})
    table.to_csv(folder / "data.csv", index=False)
    (folder / "fit.R").write_text(R)
    script, data = str(folder / "fit.R"), str(folder / "data.csv")
    return ["Rscript", script, program, data, family, method, STRUCTURES[structure], str(len(Y))]


def _python(folder: Path, program: str, experiment: Experiment, Y, structure: str, family: str, python) -> list[str]:
    """Write the data and a script for another interpreter; it reads nothing of this package."""
    design, obs = experiment
    functions = np.column_stack([np.ones(len(obs)), design.functions])
    X = design.X[design.pattern] * functions[:, design.basis]
    columns = {"donor": obs["donor"].cat.codes.to_numpy().astype(np.int64), "size": obs["size"].to_numpy()}
    if structure == "crossed":
        columns["batch"] = obs["batch"].cat.codes.to_numpy().astype(np.int64)
    if structure == "nested":
        columns["sample"] = 2 * columns["donor"] + obs["condition"].cat.codes.to_numpy()
    np.savez(folder / "data.npz", X=X, Y=Y, **columns)
    (folder / "fit.py").write_text(PYTHON_START + {"GPBoost": GPBOOST, "NEBULA-LN": NEBULA}[program])
    return [python, str(folder / "fit.py"), str(folder / "data.npz"), family, structure]
