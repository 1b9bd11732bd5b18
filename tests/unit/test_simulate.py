import numpy as np
import pytest
from scipy import stats

from mlmgen import simulate
from mlmgen.types import Counts
from tests.reference import designs


@pytest.fixture(scope="module")
def demo():
    return simulate.demo(1)


def dense(data: Counts, n: int) -> np.ndarray:
    Y = np.zeros((len(data.genes), n))
    for g in range(len(data.genes)):
        chosen = slice(data.start[g], data.start[g + 1])
        Y[g, data.rows[chosen]] = data.values[chosen]
    return Y


def one_donor_each(donors: int, cells: int):
    donor = np.repeat([f"D{i:04d}" for i in range(donors)], cells)
    size = np.tile(np.linspace(0.5, 1.5, cells), donors)
    return designs.build(donor, np.ones((donors * cells, 1)), ["(Intercept)"], {"donor": donor}, size)[0]


def test_counts_are_gene_major_and_positive():
    design = one_donor_each(5, 8)
    beta, sd, phi = np.full((3, 1), -0.5), np.full((3, 1), 0.3), np.full(3, 0.5)
    data = simulate.counts(design, beta, sd, phi, np.random.default_rng(1))
    assert data.genes == ("GENE0001", "GENE0002", "GENE0003")
    assert data.start.dtype == np.int64
    assert data.rows.dtype == np.int32
    assert data.values.dtype == np.float64
    assert len(data.rows) == len(data.values) == data.start[-1]
    assert (data.values > 0).all()
    assert (data.values == np.rint(data.values)).all()
    for g in range(3):
        assert (np.diff(data.rows[data.start[g] : data.start[g + 1]]) > 0).all()


def test_counts_of_a_gene_without_any():
    beta, sd, phi = np.full((2, 1), simulate.SILENT), np.zeros((2, 1)), np.array([0.0, 0.5])
    data = simulate.counts(one_donor_each(3, 2), beta, sd, phi, np.random.default_rng(1))
    assert data.start.tolist() == [0, 0, 0]
    assert data.values.size == 0


@pytest.mark.parametrize("phi", [0.0, 0.4, 3.0])
def test_counts_have_the_negative_binomial_distribution(phi):
    # One size factor, no random effect: 30,000 independent draws against the exact probabilities.
    donor = np.repeat(["D1", "D2"], 15000)
    design, _ = designs.build(donor, np.ones((30000, 1)), ["(Intercept)"], {"donor": donor}, np.full(30000, 2.0))
    data = simulate.counts(design, np.array([[0.0]]), np.array([[0.0]]), np.array([phi]), np.random.default_rng(4))
    y = dense(data, 30000)[0]
    law = stats.poisson(2.0) if phi == 0 else stats.nbinom(1 / phi, 1 / (1 + 2 * phi))
    cells = np.append(law.pmf(np.arange(8)), law.sf(7)) * 30000
    seen = np.append([(y == k).sum() for k in range(8)], (y > 7).sum())
    assert stats.chisquare(seen, cells).pvalue > 1e-3


def test_counts_follow_size_factors_coefficients_and_donors():
    donors, cells = 2000, 10
    design = one_donor_each(donors, cells)
    data = simulate.counts(design, np.array([[1.0]]), np.array([[0.5]]), np.array([0.0]), np.random.default_rng(2))
    y = dense(data, donors * cells)[0]
    size = np.exp(design.log_size)
    # E exp(u) = exp(sd^2 / 2); the mean is proportional to the size factor.
    by_size = [y[size == s].mean() / s for s in np.unique(size)]
    assert by_size == pytest.approx(np.full(cells, np.exp(1 + 0.125)), rel=0.06)
    # Within a donor the counts share u: covariance of the sums of two halves over mean^2 is exp(sd^2) - 1.
    halves = y.reshape(donors, 2, 5).sum(axis=2)
    ratio = np.cov(halves.T)[0, 1] / halves.mean(axis=0).prod()
    assert ratio == pytest.approx(np.exp(0.25) - 1, rel=0.2)


def test_counts_are_seeded():
    design = one_donor_each(4, 5)
    ones = np.ones((4, 1))
    first, again, other = (simulate.counts(design, ones, ones, np.ones(4), np.random.default_rng(s)) for s in (1, 1, 2))
    assert first.rows.tolist() == again.rows.tolist()
    assert first.values.tolist() == again.values.tolist()
    assert first.values.tolist() != other.values.tolist()


def test_null_experiment_unpaired():
    counts, design, truth = simulate.null_experiment(3, 40, 50, np.random.default_rng(1))
    assert design.coefficients == ("(Intercept)", "condition[T.stim]")
    assert [term.name for term in design.terms] == ["donor"]
    assert design.X[:, 1].tolist() == [0, 0, 0, 1, 1, 1]
    assert np.bincount(design.pattern).tolist() == [40] * 6
    assert design.within == ()
    assert len(counts.genes) == 50
    assert truth["null"].all()
    assert (truth["beta"][:, 1] == 0).all()
    assert np.exp(design.log_size).mean() == pytest.approx(1)


def test_null_experiment_paired():
    _, design, truth = simulate.null_experiment(4, 30, 10, np.random.default_rng(1), paired=True, cells_sd=0.6)
    assert [term.name for term in design.terms] == ["donor", "donor:condition"]
    assert design.terms[0].codes.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert design.terms[1].codes.tolist() == list(range(8))
    assert design.X[:, 1].tolist() == [0, 1] * 4
    assert design.within == ("condition",)
    assert truth["sd"].shape == (10, 2)
    assert len(set(np.bincount(design.pattern))) > 4
    assert (np.diff(design.pattern) >= 0).all()


def test_null_experiment_draws_variances_from_the_prior():
    _, _, truth = simulate.null_experiment(2, 1, 4000, np.random.default_rng(3), effect_share=0.25)
    log_variance = 2 * np.log(truth["sd"][:, 0])
    assert np.exp(np.median(log_variance)) == pytest.approx(0.0625, rel=0.08)
    assert log_variance.std() == pytest.approx(simulate.DONOR_VARIANCE_LOG_SD, rel=0.05)
    assert truth["null"].mean() == pytest.approx(0.75, abs=0.03)
    effect = truth["beta"][~truth["null"], 1]
    assert np.abs(effect).min() >= simulate.EFFECT_LOW
    assert np.abs(effect).max() <= simulate.EFFECT_HIGH
    assert (effect > 0).mean() == pytest.approx(0.5, abs=0.07)


def test_demo_has_the_promised_shape(demo):
    assert demo.X.format == "csr"
    assert demo.X.dtype == np.int32
    assert demo.X.has_sorted_indices
    assert demo.n_vars == 600
    assert demo.n_obs == pytest.approx(4000, abs=60)
    assert demo.var_names[0] == "GENE0001"
    assert demo.var_names[-1] == "GENE0600"
    assert demo.obs_names.is_unique
    assert list(demo.obs.columns) == ["donor", "condition", "cell_type", "batch", "age", "sex"]
    donors = demo.obs.groupby("donor", observed=True)
    assert len(donors) == 12
    for column in ("condition", "batch", "age", "sex"):
        assert (donors[column].nunique() == 1).all()
    assert donors["condition"].first().value_counts().to_dict() == {"ctrl": 6, "stim": 6}
    for column in ("batch", "sex"):
        table = demo.obs.groupby(["condition", column], observed=True).donor.nunique()
        assert len(table) == 4
        assert table.min() >= 2
    cells = demo.obs.groupby(["donor", "cell_type"], observed=True).size()
    assert len(cells) == 36
    assert cells.min() >= simulate.DEMO_FEWEST_CELLS
    assert cells.max() > 3 * cells.min()


def test_demo_has_the_promised_effects(demo):
    truth = demo.var.filter(like="true_log2fc_")
    assert truth.shape[1] == 3
    assert set(demo.uns["truth"]["columns"].values()) == set(truth.columns)
    assert set(demo.uns["truth"]["columns"]) == set(demo.obs.cell_type.cat.categories)
    for column in truth:
        finite = truth[column][np.isfinite(truth[column])]
        assert (finite != 0).sum() == 60
        assert (finite > 0).sum() == 30
        assert np.isposinf(truth[column]).sum() in (2, 3)
        assert np.isinf(truth[column]).sum() == 5
    shared = (truth != 0).all(axis=1)
    assert shared.sum() == simulate.DEMO_SHARED
    assert (truth[shared].nunique(axis=1) == 1).all()


def test_demo_counts_carry_the_effects(demo):
    stim = (demo.obs.condition == "stim").to_numpy()
    total = np.asarray(demo.X.sum(axis=1)).ravel()
    for cell_type, column in demo.uns["truth"]["columns"].items():
        rows = (demo.obs.cell_type == cell_type).to_numpy()
        truth = demo.var[column].to_numpy()
        sums = [np.asarray(demo.X[rows & arm].sum(axis=0)).ravel() for arm in (~stim, stim)]
        depth = [total[rows & arm].sum() for arm in (~stim, stim)]
        assert (sums[0][np.isposinf(truth)] == 0).all()
        assert (sums[1][np.isneginf(truth)] == 0).all()
        assert (sums[1][np.isposinf(truth)] > 50).all()
        seen = (sums[0] > 20) & (sums[1] > 20)
        log2fc = np.log2(sums[1][seen] / depth[1]) - np.log2(sums[0][seen] / depth[0])
        effect = truth[seen] != 0
        slope, _ = np.polyfit(truth[seen][effect], log2fc[effect], 1)
        assert slope == pytest.approx(1, abs=0.15)
        # Size factors from the library agree with the truth's: genes without effects do not move on the whole.
        assert np.median(log2fc[~effect]) == pytest.approx(0, abs=0.12)


def test_demo_resembles_the_real_sets(demo):
    total = np.asarray(demo.X.sum(axis=1)).ravel()
    assert 0.35 < np.log(total).std() < 0.65
    T = demo[demo.obs.cell_type == "T cells"]
    detected = np.asarray((T.X > 0).mean(axis=0)).ravel()
    log_mean = np.log(np.asarray(T.X.mean(axis=0)).ravel()[detected > 0.01])
    assert -2.7 < np.median(log_mean) < -0.9
    assert 1.2 < log_mean.std() < 1.9
    # Some genes are too rare to fit, as in any real set.
    assert (detected < 0.01).any()


def test_demo_is_seeded(demo):
    again = simulate.demo(1)
    assert (again.X != demo.X).nnz == 0
    assert again.obs.equals(demo.obs)
    assert again.var.equals(demo.var)
    other = simulate.demo(2)
    assert other.shape != demo.shape or (other.X != demo.X).nnz > 0


def test_demo_survives_a_file(demo, tmp_path):
    import anndata

    demo.write_h5ad(tmp_path / "demo.h5ad")
    read = anndata.read_h5ad(tmp_path / "demo.h5ad")
    assert read.uns["truth"]["columns"] == demo.uns["truth"]["columns"]
    assert read.var.equals(demo.var)
    assert read.obs.condition.cat.categories.tolist() == ["ctrl", "stim"]
