"""What must not change a fit, or change it in a known way."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlmgen import fitting, simulate
from mlmgen.types import Counts, Design
from tests.reference import designs

GENES = 40
EVERY = np.ones(GENES, dtype=bool)
# Two ways to the same optimum: the optimizer's tolerance, not rounding, is what separates them.
SAME = {"abs": 2e-6, "rel": 1e-5}
PER_GENE = ("beta", "std_error", "variance", "variance_pvalue", "loglik", "status", "n_iter")
PER_GENE += ("grid_low", "grid_high", "grid_unit", "grid_loglik")


def experiment(paired: bool) -> tuple[Counts, Design]:
    counts, design, _ = simulate.null_experiment(
        5, 40, GENES, np.random.default_rng(23), paired=paired, cells_sd=0.5, effect_share=0.3, log_mean=-0.5
    )
    return counts, design


@pytest.fixture(scope="module", params=[False, True], ids=["unpaired", "paired"])
def data(request):
    counts, design = experiment(request.param)
    return counts, design, fitting.fit_shard(counts, design, EVERY, "nb", "cells", 1, None)


def pick(counts: Counts, genes) -> Counts:
    chosen = [slice(counts.start[g], counts.start[g + 1]) for g in genes]
    start = np.cumsum([0, *(c.stop - c.start for c in chosen)], dtype=np.int64)
    rows, values = (np.concatenate([column[c] for c in chosen]) for column in (counts.rows, counts.values))
    return Counts(tuple(counts.genes[g] for g in genes), start, rows, values)


def reorder(counts: Counts, design: Design, order: np.ndarray, **changed) -> tuple[Counts, Design]:
    """Put the rows in another order; row ``i`` of the result is row ``order[i]``."""
    place = np.argsort(order).astype(np.int32)
    rows, values = counts.rows.copy(), counts.values.copy()
    for a, b in zip(counts.start[:-1], counts.start[1:], strict=True):
        moved = place[counts.rows[a:b]]
        by_row = np.argsort(moved)
        rows[a:b], values[a:b] = moved[by_row], counts.values[a:b][by_row]
    changed = {"pattern": design.pattern[order]} | changed
    return replace(counts, rows=rows, values=values), replace(design, log_size=design.log_size[order], **changed)


def identical(first, second, genes=slice(None)):
    for name in PER_GENE:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name)[genes], err_msg=name)


def test_gene_order_changes_no_bit(data):
    counts, design, fits = data
    order = np.random.default_rng(1).permutation(GENES)
    identical(fitting.fit_shard(pick(counts, order), design, EVERY, "nb", "cells", 1, None), fits, order)


@pytest.mark.parametrize("shards", [2, 7])
def test_shards_change_no_bit(data, shards):
    counts, design, fits = data
    parts = np.array_split(np.arange(GENES), shards)
    each = [fitting.fit_shard(pick(counts, part), design, EVERY[part], "nb", "cells", 1, None) for part in parts]
    joined = fitting.concatenate(each)
    identical(joined, fits)
    assert joined.genes == fits.genes
    assert {field.name for field in fields(joined)} == {field.name for field in fields(fits)}


def test_threads_change_no_bit():
    # More genes than a chunk, or a second thread would have nothing to do.
    counts, design, _ = simulate.null_experiment(3, 10, 300, np.random.default_rng(3))
    every = np.ones(300, dtype=bool)
    done = []
    one = fitting.fit_shard(counts, design, every, "nb", "cells", 1, done.append)
    identical(fitting.fit_shard(counts, design, every, "nb", "cells", 2, None), one)
    assert sum(done) == 300


def test_other_genes_change_no_bit(data):
    counts, design, fits = data
    keep = np.arange(GENES) % 3 == 0
    some = fitting.fit_shard(counts, design, keep, "nb", "cells", 1, None)
    for name in PER_GENE:
        np.testing.assert_array_equal(getattr(some, name)[keep], getattr(fits, name)[keep])


def test_order_of_the_cells_of_a_pattern_does_not_matter(data):
    counts, design, fits = data
    shuffled = np.lexsort((np.random.default_rng(2).random(len(design.pattern)), design.pattern))
    again = fitting.fit_shard(*reorder(counts, design, shuffled), EVERY, "nb", "cells", 1, None)
    assert again.loglik == pytest.approx(fits.loglik, abs=1e-7)
    assert again.beta == pytest.approx(fits.beta, **SAME)
    assert again.variance == pytest.approx(fits.variance, abs=1e-5, rel=1e-4)


def test_names_and_order_of_donors_do_not_matter(data):
    counts, design, fits = data
    # Turn the donors round: patterns, and with them rows, come in the opposite order.
    P = len(design.X)
    order = np.argsort(P - 1 - design.pattern, kind="stable")

    def turned(term):
        codes = len(term.levels) - 1 - term.codes[::-1]
        return replace(term, levels=tuple(f"z{level}" for level in term.levels[::-1]), codes=codes.astype(np.int32))

    changed = {
        "X": np.ascontiguousarray(design.X[::-1]),
        "pattern": (P - 1 - design.pattern)[order],
        "terms": tuple(turned(term) for term in design.terms),
        "donor": turned(design.donor),
        "sample": turned(design.sample),
    }
    again = fitting.fit_shard(*reorder(counts, design, order, **changed), EVERY, "nb", "cells", 1, None)
    assert again.loglik == pytest.approx(fits.loglik, abs=1e-7)
    assert again.beta == pytest.approx(fits.beta, **SAME)
    assert again.variance == pytest.approx(fits.variance, abs=1e-5, rel=1e-4)


def test_order_of_the_terms_does_not_matter():
    counts, design = experiment(paired=True)
    one = fitting.fit_shard(counts, design, EVERY, "nb", "cells", 1, None)
    two = fitting.fit_shard(counts, replace(design, terms=design.terms[::-1]), EVERY, "nb", "cells", 1, None)
    assert two.components == ("donor:condition", "donor", "dispersion")
    assert two.loglik == pytest.approx(one.loglik, abs=1e-7)
    assert two.variance[:, [1, 0, 2]] == pytest.approx(one.variance, abs=1e-5, rel=1e-4)


@settings(max_examples=8, deadline=None)
@given(shift=st.floats(-3, 3))
def test_offset_shift_moves_the_intercept_alone(shift):
    counts, design = experiment(paired=False)
    fits = fitting.fit_shard(counts, design, EVERY, "nb", "cells", 1, None)
    moved = replace(design, log_size=design.log_size + shift)
    again = fitting.fit_shard(counts, moved, EVERY, "nb", "cells", 1, None)
    assert again.loglik == pytest.approx(fits.loglik, abs=1e-6)
    assert again.beta + np.array([shift, 0.0]) == pytest.approx(fits.beta, abs=1e-5)
    assert again.std_error == pytest.approx(fits.std_error, rel=1e-4)
    assert again.variance == pytest.approx(fits.variance, abs=1e-5, rel=1e-4)


def test_reference_level_turns_the_sign(data):
    counts, design, fits = data
    X = np.column_stack([np.ones(len(design.X)), 1 - design.X[:, 1]])
    again = fitting.fit_shard(counts, replace(design, X=X), EVERY, "nb", "cells", 1, None)
    assert again.loglik == pytest.approx(fits.loglik, abs=1e-7)
    assert again.beta[:, 1] == pytest.approx(-fits.beta[:, 1], **SAME)
    assert again.beta[:, 0] == pytest.approx(fits.beta.sum(axis=1), abs=1e-5)
    assert again.std_error[:, 1] == pytest.approx(fits.std_error[:, 1], rel=1e-4)


def test_levels_agree_where_there_are_no_random_terms():
    # Ten samples of one row each: fitted as cells without random terms, the dispersion is the same parameter.
    rng = np.random.default_rng(9)
    donor = np.array([f"D{i}" for i in range(10)])
    X = np.column_stack([np.ones(10), np.arange(10) >= 5])
    design, _ = designs.build(donor, X, ["(Intercept)", "stim"], {}, np.exp(rng.normal(0, 0.2, 10)))
    counts = simulate.counts(design, np.tile([3.0, 0.5], (20, 1)), np.zeros((20, 0)), np.full(20, 0.2), rng)
    every = np.ones(20, dtype=bool)
    cells = fitting.fit_shard(counts, design, every, "nb", "cells", 1, None)
    samples = fitting.fit_shard(counts, design, every, "nb", "samples", 1, None)
    assert samples.components == cells.components == ("dispersion",)
    assert samples.loglik == pytest.approx(cells.loglik, abs=1e-8)
    assert samples.variance == pytest.approx(cells.variance, abs=1e-6, rel=1e-4)
