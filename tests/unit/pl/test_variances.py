"""Variances against expression, intraclass correlations and shares."""

import numpy as np
import pandas as pd
import pytest

from mlmgen import io, variance_partition
from mlmgen.errors import UserError
from mlmgen.findings import Findings, read
from mlmgen.pl import icc, variance_mean, variances
from mlmgen.pl import variance_partition as violins
from tests.unit.finished import finished_run, paired_study
from tests.unit.pl.conftest import offsets, texts


def rows_of(run, component, cell_type="B cells", method="glmm"):
    table = run.variances
    here = table[(table["cell_type"] == cell_type) & (table["method"] == method) & (table["component"] == component)]
    fits = run.fits[(run.fits["cell_type"] == cell_type) & (run.fits["method"] == method)].set_index("gene")
    return here, fits.loc[here["gene"]]


@pytest.mark.parametrize(
    ("method", "component"), [("glmm", "donor"), ("glmm", "donor:arm"), ("pseudobulk", "dispersion")]
)
def test_points_are_variances_against_means(run, method, component):
    ax = variance_mean(run, cell_type="B cells", method=method, component=component)
    rows, fits = rows_of(run, component, method=method)
    np.testing.assert_allclose(offsets(ax, "moderated"), np.column_stack([fits["mean_count"], rows["variance"]]))
    fitted = offsets(ax, "as fitted")
    floor = fitted[:, 1].min()
    above = rows["variance_reml"].to_numpy() > floor
    np.testing.assert_allclose(fitted[above, 1], rows["variance_reml"][above])
    assert ("0" in texts(ax)) == (not above.all())


def test_the_line_is_the_prior(run):
    ax = variance_mean(run, cell_type="T/NK", component="donor")
    (line,) = [one for one in ax.lines if "prior" in one.get_label()]
    prior = run.priors[(run.priors["cell_type"] == "T/NK") & (run.priors["method"] == "glmm")].set_index("component")
    prior, (_, fits) = prior.loc["donor"], rows_of(run, "donor", "T/NK")
    x, y = line.get_data()
    per_cell = fits["total_count"] / fits["mean_count"]
    total = np.log(x * per_cell.iloc[0])
    np.testing.assert_allclose(np.interp(prior["mean_log_total"], total, np.log(y)), prior["log_variance"], rtol=1e-8)
    np.testing.assert_allclose(np.polyfit(total, np.log(y), 1)[0], prior["slope"], rtol=1e-8, atol=1e-12)
    (band,) = [one for one in ax.collections if one.get_label().startswith("_") and hasattr(one, "get_paths")][:1]
    height = np.log(band.get_paths()[0].vertices[:, 1])
    assert height.max() == pytest.approx(np.log(y).max() + prior["sd"])
    assert height.min() == pytest.approx(np.log(y).min() - prior["sd"])


def test_a_component_without_a_prior_says_why(run):
    ax = variance_mean(run, cell_type="B cells", component="dispersion")
    assert "not moderated: not between replicates" in ax.get_xlabel().replace("\n", " ")
    assert not any(one.get_label() == "moderated" for one in ax.collections)


def test_an_unknown_component_names_those_there_are(run):
    with pytest.raises(UserError, match="Did you mean 'donor'"):
        variance_mean(run, cell_type="B cells", component="doner")


def expected_partition(run, method="glmm"):
    """The partition as the Python API has it, of the same fits."""
    slug = run.provenance["cell_types"]["B cells"]["slug"]
    design = io.read_design(run.folder / "prepared" / f"{slug}.h5ad")
    table = run.variances[(run.variances["cell_type"] == "B cells") & (run.variances["method"] == method)]
    wide = table.astype({"component": str}).pivot(index="gene", columns="component", values="variance")
    _, fits = rows_of(run, "donor")
    components = ("donor", "donor:arm", "dispersion")
    mean = fits["mean_count"].loc[wide.index].to_numpy()
    found = variance_partition.partition(design, components, wide[[*components]].to_numpy(), "nb", mean)
    return wide.index, found


def test_shares_and_correlations_are_those_of_the_python_api(run):
    genes, found = expected_partition(run)
    shares = variances.level_shares(run, "B cells", "glmm").loc[genes]
    assert list(shares.columns) == ["donor", "donor:arm", "dispersion", "counting noise"]
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    np.testing.assert_allclose(shares[["donor", "donor:arm"]], found.fraction[:, :2], rtol=0.02)
    ax = icc(run, cell_type="B cells")
    words = ax.get_legend_handles_labels()[1]
    for j, level in enumerate(("donor", "donor:arm")):
        assert any(word.startswith(f"{level}, median") for word in words)
        outer = variances.containing(run, "B cells", ["donor", "donor:arm"])[level]
        np.testing.assert_allclose(shares[[level, *outer]].sum(axis=1), found.icc[:, j], rtol=0.02)


def test_factors_that_contain_others_are_found_in_the_data(tmp_path):
    data = paired_study()
    data.obs["ward"] = pd.Categorical(np.where(data.obs["donor"].isin(["D1", "D2", "D3"]), "north", "south"))
    formula = "~ arm + (1 | ward) + (1 | donor)"
    run = finished_run(tmp_path / "study", data, formula=formula, methods=["glmm"], stability=False)
    assert variances.containing(run, "B cells", ["ward", "donor"]) == {"ward": [], "donor": ["ward"]}


def test_bars_of_the_correlations_are_all_genes(run):
    ax = icc(run, cell_type="B cells")
    n = len(rows_of(run, "donor")[0])
    for bars in ax.containers:
        assert sum(bar.get_height() for bar in bars) == n


def test_violins_are_the_shares_in_percent(run):
    ax = violins(run, cell_type="B cells")
    shares = variances.level_shares(run, "B cells", "glmm")
    assert [tick.get_text() for tick in ax.get_xticklabels()] == list(shares.columns)
    medians = sorted(
        float(line.get_ydata()[0])
        for line in ax.lines
        if len(line.get_ydata()) == 2 and np.ptp(line.get_ydata()) == 0 and line.get_color() == "#000000"
    )
    np.testing.assert_allclose(medians, np.sort(100.0 * shares.median()), rtol=1e-9)


@pytest.mark.parametrize("draw", [variance_mean, icc, violins])
def test_nothing_fitted_is_said(run, draw):
    found = read(run.folder)
    found.__dict__["variances"] = run.variances.head(0)
    assert texts(draw(found, cell_type="B cells")) == ["No gene was tested"]


@pytest.mark.parametrize("draw", [variance_mean, icc, violins])
def test_a_single_gene_is_drawn(run, draw):
    found = read(run.folder)
    found.__dict__["variances"] = run.variances[run.variances["gene"] == "ENS3"]
    draw(found, cell_type="B cells")


def test_a_model_without_random_effects_says_so(run):
    found = read(run.folder)
    found.__dict__["variances"] = run.variances[run.variances["component"] == "dispersion"]
    assert texts(icc(found, cell_type="B cells")) == ["The model has no random effects"]


def test_violins_of_many_genes_have_the_same_shape():
    rng = np.random.default_rng(9)
    many = rng.beta(1.5, 20.0, 15_000)
    few = variances.thinned(many)
    assert few.size == variances.SHAPE
    edges = np.quantile(many, np.linspace(0.0, 1.0, 21))
    np.testing.assert_allclose(np.histogram(few, edges)[0], few.size / 20, atol=2)
    np.testing.assert_array_equal(variances.thinned(many[:500]), many[:500])


def test_a_prior_below_what_was_looked_at_is_said_and_not_drawn(run):
    priors = run.priors.copy()
    priors.loc[priors["component"] == "donor", "log_variance"] -= 20.0
    low = Findings(run.folder, run.provenance)
    low.__dict__["priors"] = priors
    ax = variance_mean(low, cell_type="T/NK", component="donor")
    assert "too small to be measured" in ax.get_xlabel()
    assert not ax.lines
