"""Runs: what is cut and merged is what was there, in any order of cells."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from mlmgen.errors import UserError
from mlmgen.io import runs


def matrix(n: int, genes: int, seed: int, largest: int = 300) -> sparse.csr_matrix:
    rng = np.random.default_rng(seed)
    return sparse.csr_matrix(rng.integers(1, largest, (n, genes)) * (rng.random((n, genes)) < 0.3), dtype=np.int32)


def written(path, X: sparse.csr_matrix, cells: list[int], genes: list[int]) -> str:
    """Write X in runs that begin at these cells and genes."""
    with runs.writing([str(path)]) as (file,):
        for first, last in zip(cells, [*cells[1:], X.shape[0]], strict=True):
            for start, stop in zip(genes, [*genes[1:], X.shape[1]], strict=True):
                runs.write_run(file, runs.smallest(X[first:last, start:stop]), first, start)
        runs.finish(file, "B", X.shape[0], X.shape[1], "sum")
    return str(path)


@given(
    n=st.integers(1, 30), genes=st.integers(1, 9), seed=st.integers(0, 99), data=st.data(), by_cells=st.booleans()
)  # fmt: skip
def test_merged_runs_are_the_matrix_in_the_order_wanted(tmp_path_factory, n, genes, seed, data, by_cells):
    X = matrix(n, genes, seed)
    cuts = st.lists(st.integers(1, max((n if by_cells else genes) - 1, 1)), unique=True, max_size=4).map(sorted)
    chosen = [0, *(cut for cut in data.draw(cuts) if cut < (n if by_cells else genes))]
    path = written(tmp_path_factory.mktemp("runs") / "x.h5", X, *((chosen, [0]) if by_cells else ([0], chosen)))
    order = np.array(data.draw(st.permutations(range(n))))[: data.draw(st.integers(0, n))]
    with runs.reading(path) as found:
        assert (found.cell_type, found.n_cells, found.n_genes, found.checksum) == ("B", n, genes, "sum")
        per_gene = runs.values_per_gene(found)
        np.testing.assert_array_equal(per_gene, np.bincount(X.indices, minlength=genes))
        ranges = runs.gene_ranges(per_gene, data.draw(st.integers(1, 40)))
        parts = [runs.merged(found, part, order) for part in ranges]
    assert [part[0] for part in ranges] == [0, *(part[1] for part in ranges[:-1])]
    assert ranges[-1][1] == genes
    for part in parts:
        assert part.dtype == np.int32
        assert part.has_sorted_indices
    np.testing.assert_array_equal(sparse.hstack(parts).toarray(), X.toarray()[order])


def test_ranges_hold_what_they_may_or_one_gene():
    assert runs.gene_ranges(np.array([3, 3, 3, 50, 1, 0, 0, 9]), 10) == [(0, 3), (3, 4), (4, 8)]
    assert runs.gene_ranges(np.zeros(4, dtype=int), 1) == [(0, 4)]


@pytest.mark.parametrize(("largest", "kind"), [(256, np.uint8), (257, np.uint16), (70_000, np.int32)])
def test_counts_take_the_smallest_type_that_holds_them(tmp_path, largest, kind):
    X = matrix(40, 5, 1)
    X.data[0] = largest - 1
    X.data[1:] %= 100
    with runs.reading(written(tmp_path / "x.h5", X, [0], [0])) as found:
        assert found.runs[0].values.dtype == kind
        assert found.runs[0].rows.dtype == np.uint16
        np.testing.assert_array_equal(runs.merged(found, (0, 5), np.arange(40)).toarray(), X.toarray())


def test_several_files_appear_together_or_not_at_all(tmp_path):
    paths = [str(tmp_path / name) for name in ("a.h5", "b.h5")]

    def write_and_fail():
        with runs.writing(paths) as files:
            runs.write_run(files[0], matrix(3, 2, 1), 0, 0)
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_and_fail()
    assert list(tmp_path.iterdir()) == []


def test_a_missing_or_damaged_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no such file.*gone\.h5"), runs.reading(tmp_path / "gone.h5"):
        pass
    path = tmp_path / "x.h5"
    written(path, matrix(30, 5, 1), [0], [0])
    whole = path.read_bytes()
    for damaged in (b"", whole[:-10], whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"damaged.*x\.h5"), runs.reading(path) as found:
            runs.merged(found, (0, 5), np.arange(30))
