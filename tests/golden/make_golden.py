"""Make the golden numbers: simulate the inputs, then fit them with the R programs of make_golden.R.

Usage: python -m tests.golden.make_golden
"""

import subprocess
from pathlib import Path

import numpy as np
import pandas as pd

from mlmgen import simulate
from mlmgen.types import Counts, Design
from tests.reference import designs

HERE = Path(__file__).parent
SEED = 20240611
# Log means, donor standard deviations and dispersions of the genes, spread over the range of real ones.
GENES = pd.DataFrame(
    [
        ("low", -2.0, 0.30, 0.8),
        ("middle", 0.0, 0.35, 0.3),
        ("high", 2.5, 0.25, 0.15),
        ("variable", 0.5, 0.90, 0.5),
        ("overdispersed", 0.0, 0.30, 4.0),
        ("nearly_poisson", 1.0, 0.25, 0.01),
        ("no_donor_variance", 0.5, 0.0, 0.4),
        ("no_donor_variance_low", -1.0, 0.0, 1.0),
        ("poisson", 0.5, 0.30, 0.0),
        ("poisson_no_donor_variance", 1.0, 0.0, 0.0),
    ],
    columns=["gene", "log_mean", "sd", "phi"],
)
EFFECT = 0.6
RESPONSE_SD = 0.25
AGE = 0.15
# For the programs that share information between genes.
MANY_GENES = 300


def layout(rng: np.random.Generator, paired: bool, donors: int, cells: int) -> pd.DataFrame:
    """Return one row per cell: donor, condition, sample, age (decades from 50), size factor."""
    arms = ["ctrl", "stim"]
    samples = [(d, arms[a]) for d in range(donors) for a in ((0, 1) if paired else (int(d >= donors / 2),))]
    age = np.round(rng.normal(0, 1.2, donors), 1)
    sizes = np.maximum(np.rint(cells * np.exp(rng.normal(0, 0.4, len(samples)))), 5).astype(int)
    rows = [(f"D{d + 1}", arm, age[d]) for (d, arm), n in zip(samples, sizes, strict=True) for _ in range(n)]
    obs = pd.DataFrame(rows, columns=["donor", "condition", "age"])
    obs["sample"] = obs.donor + "_" + obs.condition if paired else obs.donor
    obs["size_factor"] = np.exp(rng.normal(0, 0.4, len(obs))).round(4)
    return obs


def design_of(obs: pd.DataFrame, terms: list[str], age: bool) -> tuple[Design, np.ndarray]:
    """Build the Design of an input table: condition (and age), random intercepts by column name."""
    column, _ = designs.dummy(obs.condition)
    fixed = [np.ones(len(obs)), column[:, 0]] + ([obs.age.to_numpy()] if age else [])
    names = ["(Intercept)", "condition[T.stim]", "age"][: len(fixed)]
    groups = {name: obs[name].to_numpy() for name in terms}
    return designs.build(
        obs.donor, np.column_stack(fixed), names, groups, obs.size_factor, sample=obs["sample"].to_numpy()
    )


def dense(data: Counts, n: int) -> np.ndarray:
    """Return the (n, G) counts."""
    Y = np.zeros((n, len(data.genes)), dtype=int)
    for g in range(len(data.genes)):
        chosen = slice(data.start[g], data.start[g + 1])
        Y[data.rows[chosen], g] = data.values[chosen]
    return Y


def write(name: str, obs: pd.DataFrame, order: np.ndarray, Y: np.ndarray, genes) -> None:
    folder = HERE / "inputs"
    folder.mkdir(exist_ok=True)
    obs.iloc[order].to_csv(folder / f"{name}_obs.csv", index=False)
    pd.DataFrame(Y, columns=list(genes)).to_csv(folder / f"{name}_counts.csv", index=False)


def cells(name: str, rng: np.random.Generator, paired: bool, donors: int, n_cells: int) -> None:
    obs = layout(rng, paired, donors, n_cells)
    design, order = design_of(obs, ["donor", "sample"] if paired else ["donor"], age=not paired)
    effect = EFFECT * np.resize([1.0, -1.0, 0.0], len(GENES))
    columns = [GENES.log_mean - effect / 2, effect] + ([] if paired else [np.full(len(GENES), AGE)])
    sd = [GENES.sd, np.where(GENES.sd > 0, RESPONSE_SD, 0.0)] if paired else [GENES.sd]
    data = simulate.counts(design, np.column_stack(columns), np.column_stack(sd), GENES.phi.to_numpy(), rng)
    Y = dense(data, len(obs))
    write(name, obs, order, Y, GENES.gene)
    sums(name.replace("cells", "samples"), obs.iloc[order], Y, GENES.gene)


def sums(name: str, obs: pd.DataFrame, Y: np.ndarray, genes) -> None:
    """Write the sums per sample, with the samples' summed size factors."""
    totals = pd.DataFrame(Y, columns=list(genes)).groupby(obs["sample"].to_numpy()).sum()
    first = obs.groupby("sample").first().loc[totals.index]
    first["size_factor"] = obs.groupby("sample").size_factor.sum()
    write(name, first.rename_axis("sample").reset_index(), np.arange(len(first)), totals.to_numpy(), genes)


def many(rng: np.random.Generator) -> None:
    """Write sums per sample of many genes, half of them with effects of either sign, for edgeR and limma."""
    obs = layout(rng, False, 8, 40)
    design, order = design_of(obs, ["donor"], age=False)
    effect = rng.choice([-1.0, 0.0, 0.0, 1.0], MANY_GENES) * rng.uniform(0.3, 1.2, MANY_GENES)
    beta = np.column_stack([rng.normal(0.5, 1.0, MANY_GENES), effect])
    sd = np.sqrt(0.06 * np.exp(0.6 * rng.standard_normal((MANY_GENES, 1))))
    data = simulate.counts(design, beta, sd, np.full(MANY_GENES, 0.3), rng)
    sums("samples_many", obs.iloc[order], dense(data, len(obs)), data.genes)


def main() -> None:
    rng = np.random.default_rng(SEED)
    cells("cells_unpaired", rng, paired=False, donors=8, n_cells=22)
    cells("cells_paired", rng, paired=True, donors=6, n_cells=16)
    many(rng)
    subprocess.run(["Rscript", HERE / "make_golden.R", HERE / "inputs", HERE / "expected"], check=True)


if __name__ == "__main__":
    main()
