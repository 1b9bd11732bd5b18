"""What is said of a gene: samples against the data, random effects against the equations of their mode."""

import numpy as np
import pytest
from scipy import stats

from mlmgen import story
from mlmgen.errors import UserError
from mlmgen.findings import read
from tests.unit.finished import GENES, finished_run, paired_study

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data():
    return paired_study()


@pytest.fixture(scope="module")
def run(tmp_path_factory, data):
    return finished_run(tmp_path_factory.mktemp("paired") / "study", data)


def of(findings, gene, cell_type="B cells", method=None):
    return story.stories(findings, cell_type, [gene], method)[gene]


def test_samples_are_those_of_the_data(run, data):
    found = of(run, "ENS3").samples
    own = data[data.obs["cell_type"] == "B cells"]
    y = own[:, "ENS3"].X.toarray().ravel()
    depth = np.asarray(data.X.sum(axis=1)).ravel()
    size = (depth / depth.mean())[data.obs_names.get_indexer(own.obs_names)]
    assert list(found.columns[:4]) == ["donor", "sample", "arm", "n_cells"]
    assert len(found) == 12
    for row in found.to_dict("records"):
        here = ((own.obs["donor"] == row["donor"]) & (own.obs["arm"] == row["arm"])).to_numpy()
        assert row["sample"] == f"{row['donor']}:{row['arm']}"
        assert (row["n_cells"], row["total_count"]) == (here.sum(), y[here].sum())
        assert row["pct_cells"] == pytest.approx(100 * (y[here] > 0).mean())
        assert row["mean"] == pytest.approx(y[here].sum() / size[here].sum(), rel=1e-6)
        assert row["ci_low"] < row["mean"] < row["ci_high"]


def test_the_cell_type_is_no_variable_of_the_samples(tmp_path):
    data = paired_study()
    data.obs = data.obs.rename(columns={"cell_type": "Zell Typ"})
    run = finished_run(tmp_path / "study", data, cell_type="Zell Typ", stability=False, methods=["pseudobulk"])
    assert list(of(run, "ENS3").samples.columns[:4]) == ["donor", "sample", "arm", "n_cells"]


def test_random_effects_are_at_the_mode_of_the_likelihood_with_the_reported_variances(run, data):
    found = of(run, "ENS3")
    rows = run.coefficients
    beta = rows[(rows.cell_type == "B cells") & (rows.gene == "ENS3") & (rows.method == "glmm")].set_index(
        "coefficient"
    )
    variance = found.variances[found.variances["method"] == "glmm"].set_index("component")["variance"]
    effect = found.groups.set_index(["term", "level"])["estimate"]
    own = data[data.obs["cell_type"] == "B cells"]
    depth = np.asarray(data.X.sum(axis=1)).ravel()
    size = (depth / depth.mean())[data.obs_names.get_indexer(own.obs_names)]
    stim = (own.obs["arm"] == "stim").to_numpy()
    donor = own.obs["donor"].astype(str).to_numpy()
    sample = np.char.add(np.char.add(donor, ":"), own.obs["arm"].astype(str).to_numpy().astype(str))
    eta = np.log(size) + beta["estimate"]["(Intercept)"] + beta["estimate"]["arm[T.stim]"] * stim
    eta += effect["donor"].reindex(donor).to_numpy() + effect["donor:arm"].reindex(sample).to_numpy()
    mu = np.exp(eta)
    residual = (own[:, "ENS3"].X.toarray().ravel() - mu) / (1 + variance["dispersion"] * mu)
    for term, of_cell in (("donor", donor), ("donor:arm", sample)):
        for level, value in effect[term].items():
            pull = value / variance[term]
            assert residual[of_cell == level].sum() == pytest.approx(pull, abs=2e-3 * max(1, abs(pull)))


def test_shrunken_effects_lie_between_zero_and_the_unpooled(run):
    groups = of(run, "ENS3").groups
    top = groups[groups["term"] == "donor:arm"]
    assert (top["estimate"].abs() <= top["unpooled"].abs() + 1e-6).all()
    assert (top["std_error"] < top["unpooled_se"]).all()


def test_a_gene_is_found_by_its_symbol_and_has_every_cell_type(run):
    found = story.story(run, "sym0")
    assert (found.gene, found.gene_name) == ("ENS0", "Sym0")
    assert [one.cell_type for one in found.cell_types] == ["B cells", "T/NK"]
    for one in found.cell_types:
        assert set(one.effects["method"]) == {"glmm", "pseudobulk"}
        assert (one.effects["log2fc"] > 1.0).all()


def test_a_gene_that_was_not_fitted_has_no_story(run):
    assert story.stories(run, "B cells", [f"ENS{GENES - 1}"]) == {}
    both = story.stories(run, "B cells", [f"ENS{GENES - 1}", "ENS2"])
    assert list(both) == ["ENS2"]
    assert story.story(run, f"ENS{GENES - 1}").cell_types == ()


def test_several_genes_are_as_each_alone_whatever_their_order(run):
    together = story.stories(run, "T/NK", ["ENS7", "ENS2"])
    for gene, one in together.items():
        alone = of(run, gene, "T/NK")
        for table in ("samples", "groups", "effects", "variances", "fits"):
            assert getattr(one, table).equals(getattr(alone, table))


def test_pseudobulk_has_random_effects_of_its_own(run):
    cells, sums = of(run, "ENS3"), of(run, "ENS3", method="pseudobulk")
    assert list(sums.groups["term"].unique()) == ["donor"]
    assert sums.samples.equals(cells.samples)


def test_files_of_another_run_are_refused(run, data, tmp_path):
    other = finished_run(tmp_path / "other", data, filters={"min_cells_per_donor": 3}, stability=False)
    slug = run.provenance["cell_types"]["B cells"]["slug"]
    theirs = run.folder / "prepared" / f"{slug}.h5ad"
    path = other.folder / "prepared" / f"{slug}.h5ad"
    path.write_bytes(theirs.read_bytes())
    with pytest.raises(UserError, match="min_cells_per_donor is 2 there and 3 in this run"):
        story.stories(read(other.folder), "B cells", ["ENS3"])


@pytest.mark.parametrize(
    "keys",
    [
        {"methods": ["pseudobulk"]},
        {"family": "poisson", "methods": ["glmm"]},
        {"family": "gaussian"},
        {"family": "bernoulli"},
        {"formula": "~ age + (1 + arm | donor)"},
        {"formula": "~ arm + donor + (1 | donor:arm)"},
    ],
    ids=str,
)
def test_every_model_has_stories(tmp_path, keys):
    found = story.story(finished_run(tmp_path / "study", stability=False, **keys), "Sym1")
    for one in found.cell_types:
        assert np.isfinite(one.samples[["mean", "ci_low", "ci_high"]]).all(axis=None)
        assert len(one.effects)
        if len(one.groups):
            assert np.isfinite(one.groups["estimate"]).all()


def test_an_interval_without_overdispersion_is_that_of_poisson():
    y, size = np.array([2.0, 0.0, 3.0, 0.0]), np.array([1.0, 2.0, 0.5, 1.5])
    found = story._means(y, size, np.array([0, 0, 0, 1]), 2, 0.0)
    assert found["mean"] == pytest.approx([5 / 3.5, 0.0])
    assert found["ci_low"] == pytest.approx([stats.chi2.ppf(0.025, 10) / 2 / 3.5, 0.0])
    assert found["ci_high"] == pytest.approx([stats.chi2.ppf(0.975, 12) / 2 / 3.5, -np.log(0.025) / 1.5])


@pytest.mark.parametrize(
    ("known", "phi", "mean"), [(True, 0.8, 1.5), (False, 0.8, 1.5), (True, 5.0, 2.0), (True, 5.0, 0.5)]
)
def test_intervals_of_overdispersed_cells_cover_the_mean(known, phi, mean):
    rng, n, samples = np.random.default_rng(8), 30, 1000
    size = rng.uniform(0.5, 2.0, n * samples)
    sample = np.repeat(np.arange(samples), n)
    y = rng.poisson(mean * size * rng.gamma(1 / phi, phi, size.size)).astype(float)
    found = story._means(y, size, sample, samples, phi if known else None)
    covered = ((found["ci_low"] <= mean) & (found["ci_high"] >= mean)).mean()
    assert 0.935 < covered < 0.995
    assert (found["ci_high"] < mean).mean() < 0.04


def test_diagnostics_find_the_donor_that_lies_out(tmp_path):
    data = paired_study(seed=9, donors=8)
    lies_out = (data.obs["donor"] == "D3").to_numpy()
    rng = np.random.default_rng(1)
    X = data.X.toarray()
    X[lies_out] = rng.poisson(X[lies_out] * np.exp(rng.normal(0.0, 1.2, X.shape[1])))
    data.X = X
    run = finished_run(tmp_path / "study", data, stability=False)
    found = story.diagnostics(run, "B cells")
    donors = found.levels[found.levels["term"] == "donor"].set_index("level")
    assert donors["rms_z"].idxmax() == "D3"
    assert (donors["n_genes"] > 5).all()
    assert len(found.quantiles) == 2 * story.QUANTILES
    observed = found.quantiles[found.quantiles["term"] == "donor"]
    assert len(observed) == story.QUANTILES
    assert (np.diff(observed["observed"]) >= 0).all()


def test_diagnostics_of_a_model_without_variances_are_empty(tmp_path):
    run = finished_run(tmp_path / "study", formula="~ arm + donor", stability=False, methods=["pseudobulk"])
    found = story.diagnostics(run, "B cells")
    assert found.levels.empty
    assert found.quantiles.empty


def test_diagnostics_of_donors_that_are_alike_are_standard_normal(tmp_path):
    run = finished_run(tmp_path / "study", paired_study(seed=3, donors=10), stability=False)
    found = story.diagnostics(run, "B cells")
    for _, one in found.levels.groupby("term"):
        assert np.sqrt(np.average(one["rms_z"] ** 2, weights=one["n_genes"])) == pytest.approx(1.0, abs=0.1)


def test_diagnostics_leave_out_groups_that_mirror_one_another(tmp_path):
    data = paired_study(donors=4)
    data = data[(data.obs["arm"] == "ctrl") == data.obs["donor"].isin(["D1", "D2"])].copy()
    run = finished_run(tmp_path / "study", data, formula="~ arm + (1 | donor)", stability=False)
    assert story.diagnostics(run, "B cells").levels.empty
