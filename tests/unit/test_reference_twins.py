"""The slow twins against cases worked by hand, and against each other."""

import numpy as np
import pytest
from scipy import integrate, stats

from mlmgen.types import Counts
from tests.reference import designs, laplace, moderation, multiple_testing, quadrature
from tests.reference.designs import Cells

LOG_2PI = np.log(2 * np.pi)


def one_term(y, X, codes, log_size=None):
    y = np.asarray(y, dtype=float)
    log_size = np.zeros(len(y)) if log_size is None else np.asarray(log_size)
    return Cells(y, np.asarray(X, dtype=float), (np.asarray(codes),), log_size)


@pytest.fixture
def nested() -> Cells:
    """Return 6 donors x 2 conditions x 5 cells of a moderately variable gene."""
    rng = np.random.default_rng(11)
    donor, condition = np.repeat(np.arange(6), 10), np.tile(np.repeat([0, 1], 5), 6)
    sample = 2 * donor + condition
    log_size = rng.normal(0, 0.3, 60)
    eta = 1.0 + 0.5 * condition + 0.4 * rng.standard_normal(6)[donor] + 0.2 * rng.standard_normal(12)[sample]
    y = rng.poisson(np.exp(eta + log_size) * rng.gamma(2.5, 1 / 2.5, 60))
    return Cells(y.astype(float), np.column_stack([np.ones(60), condition]), (donor, sample), log_size)


def test_density_by_hand():
    # 1/phi = 2 successes with probability 2 / (2 + 1.5) = 4/7: C(3, 2) (4/7)^2 (3/7)^2 = 432 / 2401.
    assert laplace.nb_log_density(2, 1.5, 0.5) == pytest.approx(np.log(432 / 2401), abs=1e-14)
    assert laplace.nb_log_density(3, 2.0, 0.0) == pytest.approx(3 * np.log(2) - 2 - np.log(6), abs=1e-14)


@pytest.mark.parametrize("phi", [0.0, 1e-9, 1e-4, 0.3, 4.0])
def test_density_has_mass_one_and_the_stated_variance(phi):
    y = np.arange(400)
    mass = np.exp(laplace.nb_log_density(y, 3.0, phi))
    assert mass.sum() == pytest.approx(1, abs=1e-9)
    assert mass @ (y - 3.0) ** 2 == pytest.approx(3 + 9 * phi, rel=1e-7)


def test_density_of_a_small_dispersion_joins_both_formulas():
    y, mu = np.array([0, 1, 7, 60]), np.array([0.1, 2.0, 5.0, 55.0])
    below = laplace.nb_log_density(y, mu, 0.999999 * laplace.SMALL_PHI)
    above = laplace.nb_log_density(y, mu, laplace.SMALL_PHI)
    assert below == pytest.approx(above, abs=1e-8)


def test_reml_of_a_mean_by_hand():
    # Counts 1 and 3, mean 2: information on the intercept 4, one coefficient integrated out.
    cells = Cells(np.array([1.0, 3.0]), np.ones((2, 1)), (), np.zeros(2))
    loglik = 4 * np.log(2) - 4 - np.log(6)
    assert laplace.laplace_reml(cells, [], 0.0) == pytest.approx(loglik - np.log(4) / 2 + LOG_2PI / 2, abs=1e-12)
    assert laplace.mode(cells, [], 0.0).beta == pytest.approx([np.log(2)], abs=1e-10)
    assert laplace.covariance(cells, [], 0.0) == pytest.approx(np.array([[1 / 4]]), abs=1e-10)


@pytest.mark.parametrize("sd", [0.0, 0.5, 2.0])
def test_ml_of_one_cell_by_hand(sd):
    # Count 1 at mean 1: the mode of v is 0, minus the second derivative there 1 + sd^2.
    cells = one_term([1], [[1]], [0])
    assert laplace.laplace_ml(cells, [0.0], [sd], 0.0) == pytest.approx(-1 - np.log(1 + sd**2) / 2, abs=1e-12)


def test_mode_is_stationary_and_H_is_minus_the_second_derivative(nested):
    sd, phi, h = [0.4, 0.2], 0.4, 1e-4
    at = laplace.mode(nested, sd, phi)
    matrix, b = laplace.design_matrix(nested, sd), np.concatenate([at.beta, at.v])

    def J(b):
        mu = np.exp(nested.log_size + matrix @ b)
        return stats.nbinom.logpmf(nested.y, 1 / phi, 1 / (1 + phi * mu)).sum() - b[2:] @ b[2:] / 2

    assert J(b) == pytest.approx(at.value, abs=1e-10)
    steps = h * np.eye(len(b))
    assert [(J(b + e) - J(b - e)) / (2 * h) for e in steps] == pytest.approx(np.zeros(len(b)), abs=1e-5)
    for i in (0, 1, 3, 9):
        for j in (0, 1, 3, 9):
            e, f = steps[i], steps[j]
            second = (J(b + e + f) - J(b + e - f) - J(b - e + f) + J(b - e - f)) / (4 * h * h)
            assert at.H[i, j] == pytest.approx(-second, abs=2e-4)


def test_a_standard_deviation_of_zero_removes_the_term(nested):
    without = nested._replace(groups=nested.groups[:1])
    for value in (
        lambda cells, sd: laplace.laplace_reml(cells, sd, 0.3),
        lambda cells, sd: laplace.laplace_ml(cells, [1.0, 0.4], sd, 0.3),
    ):
        assert value(nested, [0.4, 0.0]) == pytest.approx(value(without, [0.4]), abs=1e-10)


def test_sign_of_a_standard_deviation_does_not_matter(nested):
    assert laplace.laplace_reml(nested, [0.4, -0.2], 0.3) == pytest.approx(
        laplace.laplace_reml(nested, [-0.4, 0.2], 0.3), abs=1e-10
    )


def test_offset_shift_moves_the_intercept_alone(nested):
    moved = nested._replace(log_size=nested.log_size + 0.7)
    before, after = laplace.mode(nested, [0.4, 0.2], 0.3), laplace.mode(moved, [0.4, 0.2], 0.3)
    assert after.beta == pytest.approx(before.beta - [0.7, 0], abs=1e-8)
    assert laplace.laplace_reml(moved, [0.4, 0.2], 0.3) == pytest.approx(
        laplace.laplace_reml(nested, [0.4, 0.2], 0.3), abs=1e-9
    )


def test_fit_reml_is_a_maximum(nested):
    fit = laplace.fit_reml(nested)
    best = laplace.laplace_reml(nested, fit.sd, fit.phi)
    assert fit.loglik == best
    for i in range(2):
        for step in (-0.02, 0.02):
            moved = fit.sd + step * np.eye(2)[i]
            assert laplace.laplace_reml(nested, moved, fit.phi) <= best + 1e-9
    for factor in (0.95, 1.05):
        assert laplace.laplace_reml(nested, fit.sd, fit.phi * factor) < best


def test_fit_reml_with_a_variance_held_at_zero(nested):
    held = laplace.fit_reml(nested, hold=[None, 0.0])
    alone = laplace.fit_reml(nested._replace(groups=nested.groups[:1]))
    assert held.sd == pytest.approx([alone.sd[0], 0.0], abs=1e-5)
    assert held.loglik == pytest.approx(alone.loglik, abs=1e-8)
    assert laplace.fit_reml(nested).loglik >= held.loglik - 1e-8


def test_fit_reml_of_poisson_counts_of_equal_groups_has_no_variance():
    cells = one_term([4, 6, 5, 5, 6, 4], np.ones((6, 1)), [0, 0, 1, 1, 2, 2])
    fit = laplace.fit_reml(cells, family="poisson")
    assert fit.sd == pytest.approx([0.0], abs=1e-3)
    assert fit.phi == 0
    assert fit.beta == pytest.approx([np.log(5)], abs=1e-5)


@pytest.mark.parametrize("phi", [0.0, 0.5])
def test_quadrature_against_direct_integration(phi):
    cells = one_term([0, 2, 5, 1], [[1, 0], [1, 0], [1, 1], [1, 1]], [0, 0, 1, 1], [0.1, -0.2, 0.3, 0.0])
    beta, sd, expected = np.array([0.2, 0.6]), 0.8, 0.0
    for group in (0, 1):
        rows = cells.groups[0] == group

        def joint(v, rows=rows):
            mu = np.exp(cells.log_size[rows] + cells.X[rows] @ beta + sd * v)
            return np.exp(laplace.nb_log_density(cells.y[rows], mu, phi).sum()) * stats.norm.pdf(v)

        expected += np.log(integrate.quad(joint, -9, 9, epsabs=1e-14)[0])
    assert quadrature.marginal(cells, beta, sd, phi) == pytest.approx(expected, abs=1e-9)


def test_quadrature_with_one_node_is_laplace(nested):
    donors = nested._replace(groups=nested.groups[:1])
    # Fisher's and the observed information agree for Poisson, so the one node's width is Laplace's.
    assert quadrature.marginal(donors, [1.0, 0.5], 0.4, 0.0, nodes=1) == pytest.approx(
        laplace.laplace_ml(donors, [1.0, 0.5], [0.4], 0.0), abs=1e-6
    )


def test_laplace_approaches_quadrature_as_counts_grow():
    errors = []
    for scale in (4, 16, 64):
        cells = one_term(scale * np.array([2, 3, 1, 6]), np.ones((4, 1)), [0, 0, 1, 1], np.full(4, np.log(scale)))
        exact = quadrature.marginal(cells, [1.0], 0.7, 0.0)
        errors.append(abs(laplace.laplace_ml(cells, [1.0], [0.7], 0.0) - exact))
    # The error falls in proportion to 1 / counts.
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.3)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.15)


def test_maximize_ml_of_two_means_by_hand():
    cells = one_term([2, 4, 9, 11], [[1, 0], [1, 0], [1, 1], [1, 1]], [0, 0, 1, 1])
    beta, value = laplace.maximize_ml(cells, [0.0], 0.0)
    assert beta == pytest.approx([np.log(3), np.log(10 / 3)], abs=1e-7)
    assert value == pytest.approx(stats.poisson.logpmf([2, 4, 9, 11], [3, 3, 10, 10]).sum(), abs=1e-10)


def test_maximize_ml_moves_away_from_the_joint_mode():
    cells = one_term([0, 2, 1, 9, 4, 0, 3, 8], np.ones((8, 1)), [0, 0, 1, 1, 2, 2, 3, 3])
    beta, value = laplace.maximize_ml(cells, [0.8], 0.0)
    for step in (-1e-3, 1e-3):
        assert laplace.laplace_ml(cells, beta + step, [0.8], 0.0) < value
    assert value > laplace.laplace_ml(cells, laplace.mode(cells, [0.8], 0.0).beta, [0.8], 0.0)


def test_r_star_by_hand():
    assert moderation.r_star(2.0, 2.0 * np.exp(0.4)) == pytest.approx(2.2)
    assert moderation.r_star(-2.0, -2.0 * np.exp(-0.4)) == pytest.approx(1.8)
    assert moderation.r_star(0.29, 1.0) == 0.29
    assert moderation.r_star(2.0, 2.0 * np.exp(1.51)) == 2.0
    assert moderation.r_star(0.4, 0.4 * np.exp(-1.0)) == 0.0
    assert moderation.r_star(2.0, np.inf) == 2.0
    assert moderation.r_star(2.0, 0.0) == 2.0


def test_r_star_of_two_poisson_counts_is_nearer_to_the_exact_test():
    # 14 against 4: given the total the first count is binomial; r* approximates the mid-p value.
    cells = Cells(np.array([14.0, 4.0]), np.array([[1.0, 0.0], [1.0, 1.0]]), (), np.zeros(2))
    exact = 2 * (stats.binom.cdf(4, 18, 0.5) - stats.binom.pmf(4, 18, 0.5) / 2)
    test = moderation.grid_test(cells, [0, 1], [], 0.0)
    assert test["r"] == pytest.approx(-np.sqrt(2 * (14 * np.log(14 / 9) + 4 * np.log(4 / 9))), abs=1e-9)
    # Information on the two log rates is diag(14, 4), on the common one 18: |S_full| = 14 * 4, |S_null| = 18.
    assert test["u"] == pytest.approx(np.log(4 / 14) * np.sqrt(14 * 4 / 18), abs=1e-8)
    first, higher = 2 * stats.norm.sf(abs(test["r"])), 2 * stats.norm.sf(test["r_star"])
    assert abs(higher - exact) < 0.6 * abs(first - exact)


def test_grid_test_does_not_depend_on_coding_or_scale(nested):
    condition = nested.X[:, 1]
    means = nested._replace(X=np.column_stack([1 - condition, condition]))
    sd, phi = [0.3, 0.2], 0.4
    coded = moderation.grid_test(nested, [0, 1], sd, phi)
    for cells, contrast, scale in ((means, [-1, 1], 1), (nested, [0, 2], 2), (nested, [0, -1], -1)):
        other = moderation.grid_test(cells, contrast, sd, phi)
        assert np.sign(scale) * other["r"] == pytest.approx(coded["r"], abs=1e-6)
        assert np.sign(scale) * other["u"] == pytest.approx(coded["u"], abs=1e-5)
        assert other["estimate"] == pytest.approx(scale * coded["estimate"], abs=1e-7)
        assert other["std_error"] == pytest.approx(abs(scale) * coded["std_error"], abs=1e-7)


def test_grid_test_in_the_gaussian_limit():
    # Large Poisson counts, no dispersion: the log-likelihood is quadratic and r, u and the Wald z agree.
    rng = np.random.default_rng(3)
    donor = np.repeat(np.arange(8), 3)
    condition = (donor >= 4).astype(float)
    y = rng.poisson(1e6 * np.exp(0.01 * rng.standard_normal(8)[donor] + 0.01 * condition))
    cells = one_term(y, np.column_stack([np.ones(24), condition]), donor)
    test = moderation.grid_test(cells, [0, 1], [0.01], 0.0)
    wald = test["estimate"] / test["std_error"]
    assert abs(wald) > 0.5
    assert test["r"] == pytest.approx(wald, rel=2e-3)
    assert test["u"] == pytest.approx(wald, rel=2e-3)


def test_prior_lattice_without_information_returns_the_hyperprior():
    grid = np.geomspace(1e-4, 9, 24)
    lattice = moderation.prior_lattice(np.zeros((5, 24)), grid)
    means = stats.norm.pdf(moderation.PRIOR_MEANS, -3, 2.5)
    sds = stats.norm.pdf(np.log(moderation.PRIOR_SDS), np.log(0.8), 0.6)
    assert lattice == pytest.approx(np.outer(means / means.sum(), sds / sds.sum()), abs=1e-12)


def test_prior_lattice_finds_the_prior():
    rng = np.random.default_rng(5)
    grid = np.geomspace(1e-4, 9, 24)
    truth = rng.normal(-3.0, 0.8, 60)
    # Log-likelihoods as of 20 donors: a chi-square of the estimate around the truth.
    estimate = np.exp(truth) * rng.chisquare(19, 60) / 19
    loglik = -19 / 2 * (np.log(grid) + estimate[:, None] / grid)
    lattice = moderation.prior_lattice(loglik, grid)
    assert lattice.sum() == pytest.approx(1)
    assert lattice.sum(1) @ moderation.PRIOR_MEANS == pytest.approx(truth.mean(), abs=0.25)
    assert lattice.sum(0) @ moderation.PRIOR_SDS == pytest.approx(truth.std(), abs=0.25)
    # A shift of every gene's mean moves the lattice by as much the other way.
    step = moderation.PRIOR_MEANS[1] - moderation.PRIOR_MEANS[0]
    shifted = moderation.prior_lattice(loglik, grid, shift=np.full(60, step))
    expected = lattice.sum(1) @ moderation.PRIOR_MEANS - step
    assert shifted.sum(1) @ moderation.PRIOR_MEANS == pytest.approx(expected, abs=0.02)


def test_posterior_by_hand():
    grid, means, sds = np.exp([-2.0, -1.0, 0.0]), [-1.0], [1.0]
    prior = np.exp([-0.5, 0.0, -0.5])
    likelihood = np.array([0.2, 0.1, 0.4])
    expected = prior * likelihood / (prior @ likelihood)
    lattice = np.ones((1, 1))
    got = moderation.posterior(np.log(likelihood) - 500, grid, lattice, means=means, sds=sds)
    assert got == pytest.approx(expected, abs=1e-14)
    moved = moderation.posterior(np.log(likelihood), grid, lattice, shift=0.5, means=[-1.5], sds=sds)
    assert moved == pytest.approx(expected, abs=1e-14)


def test_mixture_pvalue_by_hand():
    z = np.array([stats.norm.isf(0.05), stats.norm.isf(0.005)])
    assert np.exp(moderation.mixture_log_pvalue([0.25, 0.75], z)) == pytest.approx(0.25 * 0.1 + 0.75 * 0.01)
    far = np.log(2) - 60**2 / 2 - np.log(60) - LOG_2PI / 2
    assert moderation.mixture_log_pvalue([1.0], [60.0]) == pytest.approx(far, rel=1e-6)


def test_mixture_of_effects_by_hand():
    weights, estimates, std_errors = np.array([0.5, 0.5]), np.array([1.0, 3.0]), np.array([1.0, 2.0])
    assert moderation.mixture_moments(weights, estimates, std_errors) == pytest.approx((2.0, np.sqrt(2.5 + 1)))
    low, high = moderation.mixture_interval(np.array([1.0]), np.array([1.0]), np.array([2.0]))
    assert (low, high) == pytest.approx((1 - 2 * stats.norm.isf(0.025), 1 + 2 * stats.norm.isf(0.025)))
    low, high = moderation.mixture_interval(weights, estimates, std_errors)
    assert stats.norm.cdf(low, estimates, std_errors) @ weights == pytest.approx(0.025)
    assert stats.norm.cdf(high, estimates, std_errors) @ weights == pytest.approx(0.975)


def test_moderated_test_with_all_weight_on_one_point(nested):
    points = [([0.2, 0.1], 0.4), ([0.5, 0.1], 0.4)]
    each = [moderation.grid_test(nested, [0, 1], *point) for point in points]
    mixed = moderation.moderated_test(nested, [0, 1], points, [0.0, 1.0])
    assert np.exp(mixed["log_pvalue"]) == pytest.approx(2 * stats.norm.sf(each[1]["r_star"]))
    assert mixed["std_error"] == pytest.approx(each[1]["std_error"])
    between = moderation.moderated_test(nested, [0, 1], points, [0.5, 0.5])
    one = moderation.moderated_test(nested, [0, 1], points, [1.0, 0.0])
    assert np.exp(between["log_pvalue"]) == pytest.approx(
        (np.exp(mixed["log_pvalue"]) + np.exp(one["log_pvalue"])) / 2, rel=1e-9
    )


def test_benjamini_hochberg_by_hand():
    got = multiple_testing.benjamini_hochberg([0.01, 0.04, np.nan, 0.03, 0.005])
    assert got == pytest.approx([0.02, 0.04, np.nan, 0.04, 0.02], nan_ok=True)
    assert multiple_testing.benjamini_hochberg([0.9, 0.95]) == pytest.approx([0.95, 0.95])


def test_benjamini_hochberg_against_scipy():
    pvalues = np.random.default_rng(2).random(200) ** 2
    assert multiple_testing.benjamini_hochberg(pvalues) == pytest.approx(stats.false_discovery_control(pvalues))


def test_designs_round_trip():
    donor = np.array(["d2", "d1", "d2", "d1", "d1"])
    condition = np.array(["stim", "ctrl", "ctrl", "stim", "ctrl"])
    column, levels = designs.dummy(condition)
    assert levels == ["stim"]
    size = np.array([1.0, 2.0, 0.5, 1.5, 3.0])
    sample = np.char.add(donor, condition)
    X = np.column_stack([np.ones(5), column])
    design, order = designs.build(donor, X, ["(Intercept)", "stim"], {"donor": donor, "sample": sample}, size, sample)
    assert design.X.tolist() == [[1, 0], [1, 1], [1, 0], [1, 1]]
    assert design.pattern.tolist() == [0, 0, 1, 2, 3]
    assert design.donor.codes.tolist() == [0, 0, 1, 1]
    assert design.terms[1].codes.tolist() == [0, 1, 2, 3]
    assert order.tolist() == [1, 4, 3, 2, 0]
    assert np.exp(design.log_size) == pytest.approx(size[order])
    Y = np.array([[0, 1], [3, 0], [0, 0], [2, 0], [0, 5]])
    data = designs.counts(Y, ["a", "b"])
    assert isinstance(data, Counts)
    assert data.start.tolist() == [0, 2, 4]
    for g in range(2):
        cells = designs.cells(design, data, g)
        assert cells.y.tolist() == Y[:, g].tolist()
        assert cells.X.tolist() == X[order].tolist()
        assert [design.terms[0].levels[c] for c in cells.groups[0]] == donor[order].tolist()
