"""Statistics taken by gseapy as they are."""

import gseapy
import numpy as np
import pytest

from mlmgen import adapters

PERMUTATIONS = {"permutation_num": 100, "threads": 1, "seed": 3, "min_size": 5, "outdir": None, "no_plot": True}


@pytest.fixture(scope="module")
def sets(paired):
    """Random sets of genes, and one of those that are highest in the ranking."""
    ranking, rng = adapters.ranking(paired.findings, "B cells"), np.random.default_rng(2)
    found = {f"random {i}": list(rng.choice(ranking.index, 8, replace=False)) for i in range(6)}
    return found | {"planted": list(ranking.index[:8])}


def test_the_ranking_falls_and_has_tested_genes_only(paired):
    ranking = adapters.ranking(paired.findings, "B cells")
    assert ranking.is_monotonic_decreasing
    assert len(ranking) == 44
    assert (ranking.name, ranking.index.name, ranking.index[0]) == ("statistic", "gene", "ENS0")


def test_prerank_finds_a_planted_set(paired, sets):
    ranking = adapters.ranking(paired.findings, "B cells")
    before = ranking.copy()
    found = gseapy.prerank(rnk=ranking, gene_sets=sets, **PERMUTATIONS).res2d
    best = found.loc[found["NES"].astype(float).idxmax()]
    assert best["Term"] == "planted"
    assert best["NES"] > 1
    assert ranking.equals(before)


def test_prerank_takes_all_cell_types_at_once(paired, sets):
    matrix = adapters.statistic_matrix(paired.findings)
    found = gseapy.prerank(rnk=matrix.T, gene_sets=sets, **PERMUTATIONS).res2d
    of_b = found[found["Name"] == "B cells"]
    assert of_b.loc[of_b["NES"].astype(float).idxmax(), "Term"] == "planted"
    assert set(found["Name"]) == set(matrix.index)


def test_ssgsea_takes_the_matrix_of_genes_and_cell_types(paired, sets):
    matrix = adapters.statistic_matrix(paired.findings)
    options = {name: PERMUTATIONS[name] for name in ("threads", "seed", "min_size", "outdir", "no_plot")}
    found = gseapy.ssgsea(data=matrix.T, gene_sets=sets, sample_norm_method="rank", **options).res2d
    scores = found[found["Name"] == "B cells"].set_index("Term")["ES"].astype(float)
    assert scores.idxmax() == "planted"
