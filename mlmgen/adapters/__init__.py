"""Results in the shapes that other packages take: scanpy, decoupler, gseapy, PyDESeq2, and tables as those of R.

Each function takes what `mlmgen.read` returns.
"""

from mlmgen.adapters.matrix import ranking, statistic_matrix
from mlmgen.adapters.ranked_genes import to_anndata
from mlmgen.adapters.sums import pseudobulk
from mlmgen.adapters.tables import deseq2, edger, limma, pertpy, seurat

__all__ = [
    "deseq2",
    "edger",
    "limma",
    "pertpy",
    "pseudobulk",
    "ranking",
    "seurat",
    "statistic_matrix",
    "to_anndata",
]
