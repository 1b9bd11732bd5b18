"""Designs as the multilevel kernels take them: the tree of the terms, the border, units and layouts."""

from dataclasses import replace

import numpy as np
import pytest

from mlmgen.kernels.model_rows import BERNOULLI, NB, NORMAL, POISSON
from mlmgen.kernels.rows import CELLS, GAUSSIAN, PATTERNS
from mlmgen.levels import build_model, model_work
from tests.unit.kernels.model_cases import functions
from tests.unit.structures import STRUCTURES, design_of, example, intercept, label, layout, slope
from tests.unit.structures import build as built


def tree_of(name, **sizes):
    return build_model(design_of(name, **sizes), "nb", "reml").tree


def test_no_random_term():
    tree = tree_of("none")
    assert tree.level.size == tree.crossed == tree.nodes.size == tree.rows.size == 0
    assert tree.Z.shape[0] == 0
    assert tree.X.shape[0] == 2


def test_nested_terms_are_a_chain_from_the_finest():
    # 6 donors in 3 sites, each under 2 conditions; the formula's order is samples, sites, donors.
    tree = tree_of("three levels")
    assert tree.nodes.tolist() == [12, 6, 3]
    assert tree.level.tolist() == [0, 1, 2]
    assert tree.crossed == 0
    sample, donor, site = tree.node
    assert (tree.up[0, 1, sample] == donor).all()
    assert (tree.up[0, 2, sample] == site).all()
    assert (tree.up[1, 2, donor[np.argsort(donor)]] == site[np.argsort(donor)]).all()
    assert tree.up[1, 1, :6].tolist() == list(range(6))


@pytest.mark.parametrize(
    ("name", "nodes", "crossed", "level", "cols"),
    [
        ("intercept", [6], 0, [0], [0]),
        ("nested", [12, 6], 0, [0, 1], [1, 0]),
        ("slope", [6], 0, [0, 0], [0, 0, 1]),
        ("slopes at two levels", [6, 3], 0, [0, 0, 1, 1], [2, 2, 3, 0, 0, 1]),
        ("two terms on one level", [6], 0, [0, 0], [0, 1]),
        ("crossed", [6], 3, [0], [0, 1]),
        ("crossed slope", [6], 6, [0], [0, 1, 1, 2]),
        ("functions, crossed", [6], 6, [0], [1, 1, 2, 0]),
    ],
)
def test_columns_of_each_structure(name, nodes, crossed, level, cols):
    tree = tree_of(name)
    assert tree.nodes.tolist() == nodes
    assert tree.crossed == crossed
    assert tree.level.tolist() == level
    # One parameter for each entry of each lower triangle, in the order of the formula's terms.
    assert tree.cols.tolist() == cols


@pytest.mark.parametrize("name", STRUCTURES)
def test_places_of_the_parameters(name):
    design = design_of(name)
    model = build_model(design, "nb", "reml")
    q = np.array([len(term.effects) for term in design.terms], dtype=int)
    assert model.terms.size.tolist() == q.tolist()
    assert model.terms.first.tolist() == (np.cumsum(q * (q + 1) // 2) - q * (q + 1) // 2).tolist()
    for own, first, size, head in zip(model.columns, model.terms.first, q, model.terms.column, strict=True):
        entries = slice(first, first + size * (size + 1) // 2)
        assert own[0] == head
        assert (own == head + np.arange(size)).all()
        i, j = np.tril_indices(size)
        assert model.tree.rows[entries].tolist() == own[i].tolist()
        assert model.tree.cols[entries].tolist() == own[j].tolist()
    assert model.tree.rows.size == (q * (q + 1) // 2).sum()


def test_crossed_effects_have_places_of_their_own():
    design = design_of("crossed slope")
    tree = build_model(design, "nb", "reml").tree
    batch = design.terms[1].codes
    assert tree.border[0].tolist() == (2 * batch).tolist()
    assert tree.border[1].tolist() == (2 * batch + 1).tolist()


def test_two_crossed_factors_beside_the_chain():
    cells = layout(np.random.default_rng(3), batches=4)
    other = (np.arange(len(cells.donor)) * 7) % 3
    terms = [intercept("lane", other), intercept("donor", cells.donor), intercept("batch", cells.batch)]
    X = np.ones((len(cells.donor), 1))
    design, _ = built(cells.donor, X, ["(Intercept)"], terms, cells.log_size)
    tree = build_model(design, "nb", "ml").tree
    assert tree.nodes.tolist() == [6]
    assert tree.crossed == 7
    # The coarser of the two comes last.
    assert sorted(np.unique(tree.border[0])) == [0, 1, 2, 3]
    assert sorted(np.unique(tree.border[1])) == [4, 5, 6]


def test_the_same_groups_under_other_names_share_a_level():
    cells = layout(np.random.default_rng(3))
    person = np.array([f"p{9 - d}" for d in cells.donor])
    terms = [intercept("donor", cells.donor), slope("person", person, cells.condition)]
    X = np.ones((len(cells.donor), 1))
    design, _ = built(cells.donor, X, ["(Intercept)"], terms, cells.log_size)
    tree = build_model(design, "nb", "reml").tree
    assert tree.nodes.tolist() == [6]
    assert tree.level.tolist() == [0, 0, 0]
    assert tree.crossed == 0


def test_levels_without_rows_are_no_nodes():
    design = design_of("intercept")
    term = design.terms[0]
    wider = replace(term, levels=(*term.levels, "unseen"), codes=(term.codes + 1).astype(np.int32))
    assert build_model(replace(design, terms=(wider,)), "nb", "reml").tree.nodes.tolist() == [6]


@pytest.mark.parametrize("name", STRUCTURES)
def test_columns_have_a_mean_square_of_one(name):
    design, _ = example(name, "nb")
    model = build_model(design, "nb", "reml")
    functions_ = np.column_stack([np.ones(len(design.pattern)), design.functions])
    X = design.X[design.pattern] * functions_[:, design.basis]
    assert model.x_scale == pytest.approx(np.sqrt((X**2).mean(axis=0)))
    c = np.column_stack([np.ones(len(X)), model.layout.functions.T])
    seen = np.einsum("jkn,nk->nj", model.tree.X[:, :, model.layout.pattern], c)
    assert seen == pytest.approx(X / model.x_scale, abs=1e-12)
    for term, own in zip(design.terms, model.columns, strict=True):
        Z = (term.Z[:, design.pattern] * functions_.T[term.basis]).T
        assert model.z_scale[own] == pytest.approx(np.sqrt((Z**2).mean(axis=0)))
        seen = np.einsum("jkn,nk->nj", model.tree.Z[own][:, :, model.layout.pattern], c)
        assert seen == pytest.approx(Z / model.z_scale[own], abs=1e-12)


def test_functions_are_standardized():
    design, _ = example("functions", "nb")
    model = build_model(design, "nb", "reml")
    assert model.layout.functions.mean(axis=1) == pytest.approx(0.0, abs=1e-12)
    assert model.layout.functions.std(axis=1) == pytest.approx(1.0)
    assert model.terms.reach == pytest.approx([1.0, *np.abs(model.layout.functions).max(axis=1)])
    constant = replace(design, functions=np.column_stack([design.functions[:, 0], np.full(len(design.pattern), 3.0)]))
    assert np.isfinite(build_model(constant, "nb", "reml").tree.X).all()


@pytest.mark.parametrize(
    ("family", "number", "kind"),
    [("nb", NB, PATTERNS), ("poisson", POISSON, PATTERNS), ("bernoulli", BERNOULLI, PATTERNS)]
    + [("gaussian", NORMAL, GAUSSIAN)],
)
def test_families_and_layouts(family, number, kind):
    design, _ = example("intercept", family)
    model = build_model(design, family, "ml")
    assert model.layout.family == number
    assert not model.layout.restricted
    assert model_work(model, 5).rows.kind == kind
    with_functions, _ = example("functions", family)
    model = build_model(with_functions, family, "reml")
    assert model.layout.restricted
    assert model_work(model, 5).rows.kind == (GAUSSIAN if family == "gaussian" else CELLS)


def test_sums_of_the_patterns():
    design, _ = example("functions, nested", "gaussian")
    model = build_model(design, "gaussian", "reml")
    c = np.column_stack([np.ones(len(design.pattern)), model.layout.functions.T])
    for p in range(len(design.X)):
        mine = design.pattern == p
        assert model.layout.number[p] == mine.sum()
        assert model.layout.exposure[p] == pytest.approx(np.exp(design.log_size[mine]).sum())
        assert model.layout.exposure_2[p] == pytest.approx(np.exp(2 * design.log_size[mine]).sum())
        assert model.layout.cross[:, :, p] == pytest.approx(c[mine].T @ c[mine], abs=1e-12)
        functions_ = np.column_stack([np.ones(mine.sum()), design.functions[mine]])
        X = (design.X[p] * functions_[:, design.basis]).mean(axis=0)
        assert model.layout.X_mean[:, p] == pytest.approx(X / model.x_scale, abs=1e-12)


def test_detection_cannot_exceed_the_number_of_cells():
    # Separation is a matter of the distinct rows of the model matrix: the cells of each condition.
    design, _ = example("intercept", "bernoulli")
    layout_ = build_model(design, "bernoulli", "reml").layout
    stim = np.bincount(design.X[design.pattern, 1].astype(int))
    assert layout_.X_row[1].round(6).tolist() == sorted({0.0, layout_.X_mean[1].max().round(6)})
    assert layout_.most == pytest.approx(stim - 0.5)
    assert layout_.X_row[:, layout_.row] == pytest.approx(layout_.X_mean, abs=1e-8)
    assert np.isinf(build_model(design, "nb", "reml").layout.most).all()


@pytest.mark.parametrize(("name", "free"), [("nested", [0]), ("functions", [0])])
def test_the_intercept_alone_has_no_prior_when_a_gene_is_separated(name, free):
    # In the units of the data the others have a prior standard deviation of 3.
    design, _ = example(name, "nb")
    model = build_model(design, "nb", "reml")
    expected = np.full(design.X.shape[1], 1 / 9)
    expected[free] = 0.0
    assert model.ridge * model.x_scale**2 == pytest.approx(expected)


def test_wide_patterns_are_cut_into_panels():
    design = design_of("intercept", cells=400, donors=3)
    wide = replace(design, log_size=np.random.default_rng(4).uniform(-4, 4, len(design.pattern)))
    model = build_model(wide, "nb", "reml")
    P = model.layout.number.size
    assert len(design.X) < P
    assert model.tree.node.shape == (1, P)
    assert model.tree.nodes.tolist() == [3]
    assert model.layout.number.sum() == len(design.pattern)
    donor = design.donor.codes[design.pattern]
    assert (model.tree.node[0, model.layout.pattern] == donor).all()


def test_few_cells_and_exact_likelihoods_keep_every_cell():
    few = build_model(design_of("functions"), "nb", "reml")
    assert few.all.weight.tolist() == [1.0] * few.layout.pattern.size
    design = design_of("functions", cells=400, donors=3)
    exact = build_model(design, "nb", "reml", likelihood="exact")
    assert exact.all.weight.tolist() == [1.0] * len(design.pattern)
    thinned = build_model(design_of("functions", cells=2000, donors=3), "nb", "reml", means=(1e-3, 0.1))
    design = design_of("functions", cells=2000, donors=3)
    assert thinned.all.weight.size < len(design.pattern) / 2
    assert thinned.all.weight.sum() == pytest.approx(len(design.pattern))
    assert np.bincount(design.pattern) == pytest.approx(
        np.add.reduceat(thinned.all.weight, thinned.all.start[:-1]), rel=1e-9
    )


@pytest.mark.parametrize("name", ["nested", "functions, crossed"])
def test_scratch_grows_with_the_longest_gene_alone(name):
    model = build_model(design_of(name), "nb", "reml")

    def numbers(work):
        return sum(numbers(x) if isinstance(x, tuple) else np.size(x) for x in work)

    short, longer = numbers(model_work(model, 10)), numbers(model_work(model, 110))
    M = model.layout.functions.shape[0] + 1
    # One list of large counts and one of the moments' abscissas; of cell-level models also the gene's own elements.
    each = 2 + (7 + M * (M + 1) // 2 if M > 1 else 0)
    assert longer - short == 100 * each


def test_labels_do_not_matter_to_the_tree():
    cells = layout(np.random.default_rng(3))
    X = np.column_stack([np.ones(len(cells.donor)), cells.condition])
    turned = np.array([f"z{9 - d}" for d in cells.donor])
    trees = []
    for donor in (cells.donor, turned):
        terms = [intercept("donor", donor), intercept("donor:condition", label(donor, cells.condition))]
        design, _ = built(cells.donor, X, ["a", "b"], terms, cells.log_size)
        trees.append(build_model(design, "nb", "reml").tree)
    assert trees[0].nodes.tolist() == trees[1].nodes.tolist()
    # Which rows share a node is the same; which number it has is not.
    for a, b in zip(trees[0].node, trees[1].node, strict=True):
        assert len(set(zip(a.tolist(), b.tolist(), strict=True))) == a.max() + 1


def test_functions_of_a_case_are_those_of_its_cells():
    from tests.unit.kernels.model_cases import model_case

    case = model_case("functions")
    assert functions(case).shape == (len(case.rows.y), 3)
