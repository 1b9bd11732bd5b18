"""The twin of the general mixed model against cases worked by hand, densities, integrals and statsmodels."""

import numpy as np
import pytest
from scipy import integrate, special, stats
from statsmodels.regression.mixed_linear_model import MixedLM

from mlmgen.types import Design, Groups, RandomTerm
from tests.reference import designs, laplace, multilevel, quadrature
from tests.reference.designs import Cells
from tests.reference.multilevel import Rows

LOG_2PI = np.log(2 * np.pi)
FAMILIES = ("nb", "poisson", "bernoulli", "gaussian")
SLOPE_T = np.array([[0.7, 0.0], [-0.3, 0.4]])


def rows_of(y, X, groups, effects, family, offset=0.0) -> Rows:
    """Build Rows of random terms given as (codes (n,), effects (n, q))."""
    columns, terms, first = [], [], 0
    for codes, Z in zip(groups, effects, strict=True):
        levels, q = codes.max() + 1, Z.shape[1]
        columns += [Z[:, j] * (codes == level) for level in range(levels) for j in range(q)]
        terms.append(first + np.arange(levels * q).reshape(levels, q))
        first += levels * q
    y = np.asarray(y, dtype=float)
    Z = np.column_stack(columns) if columns else np.empty((len(y), 0))
    return Rows(y, np.broadcast_to(offset, y.shape), np.asarray(X, dtype=float), Z, tuple(terms), family)


def slopes(family: str, donors: int = 8, visits: int = 9, seed: int = 5) -> Rows:
    """Return unbalanced visits with a random intercept and slope of time in each donor."""
    rng = np.random.default_rng(seed)
    donor = np.repeat(np.arange(donors), visits)[rng.uniform(size=donors * visits) > 0.2]
    time = rng.uniform(-1, 1, len(donor))
    X, Z = np.column_stack([np.ones(len(donor)), time]), np.column_stack([np.ones(len(donor)), time])
    offset = rng.normal(0, 0.3, len(donor))
    eta = offset + X @ [0.8, 0.5] + (Z * (rng.standard_normal((donors, 2)) @ SLOPE_T.T)[donor]).sum(1)
    draw = {
        "nb": lambda: rng.poisson(np.exp(eta) * rng.gamma(2.5, 1 / 2.5, len(eta))),
        "poisson": lambda: rng.poisson(np.exp(eta)),
        "bernoulli": lambda: rng.uniform(size=len(eta)) < special.expit(eta),
        "gaussian": lambda: rng.normal(eta, 0.6),
    }
    return rows_of(draw[family](), X, (donor,), (Z,), family, offset)


@pytest.fixture
def nested() -> tuple[Cells, Rows]:
    """Return 6 donors x 2 conditions x 5 cells, for the twin of random intercepts and for this one."""
    rng = np.random.default_rng(11)
    donor, condition = np.repeat(np.arange(6), 10), np.tile(np.repeat([0, 1], 5), 6)
    groups = (donor, 2 * donor + condition)
    log_size, X = rng.normal(0, 0.3, 60), np.column_stack([np.ones(60), condition])
    y = rng.poisson(np.exp(1 + log_size + 0.4 * rng.standard_normal(6)[donor]) * rng.gamma(2.5, 1 / 2.5, 60))
    one = np.ones((60, 1))
    cells = Cells(y.astype(float), X, groups, log_size)
    return cells, rows_of(y, X, groups, (one, one), "nb", log_size)


# Densities and their derivatives.


def test_densities_by_hand():
    rows = rows_of([1, 0], np.ones((2, 1)), (), (), "bernoulli")
    # Probability 1/4: eta = -log 3.
    assert np.exp(multilevel.log_density(rows, -np.log([3, 3]), 0)) == pytest.approx([1 / 4, 3 / 4])
    rows = rows._replace(family="gaussian")
    assert multilevel.log_density(rows, np.zeros(2), 4.0) == pytest.approx(
        [-np.log(8 * np.pi) / 2 - 1 / 8, -np.log(8 * np.pi) / 2]
    )
    rows = rows._replace(family="nb", y=np.array([2.0, 0.0]))
    # As in the twin of random intercepts: 432 / 2401 at mean 1.5 and phi 1/2.
    assert multilevel.log_density(rows, np.log([1.5, 1.5]), 0.5)[0] == pytest.approx(np.log(432 / 2401))


@pytest.mark.parametrize("phi", [0.0, 1e-12, 1e-9, 1e-4, 0.3, 40.0])
def test_density_of_counts_is_that_of_the_twin_of_random_intercepts(phi):
    y, mu = np.array([0.0, 1, 7, 60]), np.array([0.1, 2.0, 5.0, 55.0])
    expected = laplace.nb_log_density(y, mu, phi)
    assert multilevel.count_log_density(y, np.log(mu), phi) == pytest.approx(expected, abs=1e-8)
    # One count where the mean is e^-60: mu, to rounding.
    assert multilevel.count_log_density(np.ones(1), np.array([-60.0]), phi) == pytest.approx(-60)


@pytest.mark.parametrize("family", FAMILIES)
def test_score_and_weight_are_the_derivatives(family):
    rows, h = rows_of([0.0, 1.0, 4.0], np.ones((3, 1)), (), (), family), 1e-4
    eta = np.array([-0.4, 0.3, 1.1])
    low, mid, high = (multilevel.log_density(rows, eta + shift, 0.7) for shift in (-h, 0, h))
    score, weight = multilevel.score_and_weight(rows, eta, 0.7)
    assert score == pytest.approx((high - low) / (2 * h), abs=1e-7)
    assert weight == pytest.approx(-(high - 2 * mid + low) / h**2, abs=1e-6)


# The random structure.


def test_covariance_of_the_linear_predictor_by_hand():
    # Two donors, (1 + x | donor) with covariance [[4, 2], [2, 5]]: within a donor 4 + 2 (x + x') + 5 x x'.
    x = np.array([0.0, 1.0, 3.0])
    rows = rows_of([0, 0, 0], np.ones((3, 1)), (np.array([0, 0, 1]),), (np.column_stack([np.ones(3), x]),), "nb")
    columns = rows.Z @ multilevel.relative_factor(rows, (np.array([[2.0, 0.0], [1.0, 2.0]]),))
    assert columns @ columns.T == pytest.approx(np.array([[4, 6, 0], [6, 13, 0], [0, 0, 61]]))


def test_factor_is_lower_triangular_also_of_a_singular_covariance():
    for covariance in ([[4.0, 2.0], [2.0, 5.0]], [[4.0, -2.0], [-2.0, 1.0]], [[0.0, 0.0], [0.0, 3.0]], [[0.0]]):
        triangle = multilevel.factor(covariance)
        assert triangle @ triangle.T == pytest.approx(np.array(covariance), abs=1e-12)
        assert np.triu(triangle, 1) == pytest.approx(0, abs=1e-15)
        assert (np.diag(triangle) >= 0).all()


def test_pack_and_unpack():
    rows = slopes("nb")
    psi = multilevel.pack(rows, (SLOPE_T,), 0.25)
    assert psi == pytest.approx([0.7, -0.3, 0.4, np.log(0.25)])
    (triangle,), phi = multilevel.unpack(rows, psi)
    assert triangle == pytest.approx(SLOPE_T)
    assert phi == pytest.approx(0.25)
    assert multilevel.pack(rows._replace(family="poisson"), (SLOPE_T,), 0.0) == pytest.approx([0.7, -0.3, 0.4])


def hand_design() -> Design:
    """Return 2 donors x 2 conditions, one cell each but two in the last pattern, with a cell-level function."""
    donor = Groups("donor", ("a", "b"), np.array([0, 0, 1, 1], np.int32))
    slope = RandomTerm(
        "donor",
        ("a", "b"),
        donor.codes,
        ("(Intercept)", "condition[T.stim]", "pct"),
        np.array([[1, 1, 1, 1], [0, 1, 0, 1], [1, 1, 1, 1]], float),
        np.array([0, 0, 1], np.int32),
    )
    return Design(
        formula="~ condition * pct + (1 + condition + pct | donor)",
        coefficients=("(Intercept)", "condition[T.stim]", "pct", "condition[T.stim]:pct"),
        X=np.array([[1, 0, 1, 0], [1, 1, 1, 1], [1, 0, 1, 0], [1, 1, 1, 1]], float),
        basis=np.array([0, 0, 1, 1], np.int32),
        functions=np.array([[5.0], [6.0], [7.0], [8.0], [9.0]]),
        function_names=("pct",),
        terms=(slope,),
        donor=donor,
        sample=donor,
        pattern=np.array([0, 1, 2, 3, 3], np.int32),
        log_size=np.array([0.1, 0.2, 0.3, 0.4, 0.5]),
        offset=np.full(5, -1.0),
        means={},
        within=("condition", "pct"),
    )


def test_expand_by_hand():
    counts = designs.counts(np.array([[0], [3], [0], [1], [2]]), ["gene"])
    rows = multilevel.expand(hand_design(), counts, 0, "nb")
    assert rows.y.tolist() == [0, 3, 0, 1, 2]
    assert rows.X.tolist() == [[1, 0, 5, 0], [1, 1, 6, 6], [1, 0, 7, 0], [1, 1, 8, 8], [1, 1, 9, 9]]
    expected = [[1, 0, 5, 0, 0, 0], [1, 1, 6, 0, 0, 0], [0, 0, 0, 1, 0, 7], [0, 0, 0, 1, 1, 8], [0, 0, 0, 1, 1, 9]]
    assert rows.Z.tolist() == expected
    assert rows.terms[0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert rows.offset.tolist() == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert multilevel.expand(hand_design(), counts, 0, "gaussian").offset.tolist() == [-1] * 5


def test_parameters_from_named_components():
    names = ["donor: (Intercept)", "donor: condition[T.stim]", "donor: pct"]
    names += ["donor: (Intercept), condition[T.stim]", "donor: (Intercept), pct", "donor: condition[T.stim], pct"]
    covariance = np.array([[4.0, 1.0, 0.5], [1.0, 3.0, -0.5], [0.5, -0.5, 2.0]])
    values = [4.0, 3.0, 2.0, 1.0, 0.5, -0.5, 0.25]
    (triangle,), phi = multilevel.parameters(hand_design(), [*names, "dispersion"], values)
    assert triangle @ triangle.T == pytest.approx(covariance)
    assert phi == 0.25
    assert multilevel.component_names("donor:condition", ("(Intercept)",)) == [["donor:condition"]]
    assert multilevel.component_names("donor", ("Days",)) == [["donor: Days"]]


# Laplace.


def test_is_the_twin_of_random_intercepts_where_that_applies(nested):
    cells, rows = nested
    factors = (np.array([[0.5]]), np.array([[0.2]]))
    assert multilevel.laplace_reml(rows, factors, 0.3) == pytest.approx(laplace.laplace_reml(cells, [0.5, 0.2], 0.3))
    ml = multilevel.laplace_ml(rows, [0.9, 0.1], factors, 0.3)
    assert ml == pytest.approx(laplace.laplace_ml(cells, [0.9, 0.1], [0.5, 0.2], 0.3))
    expected = laplace.covariance(cells, [0.5, 0.2], 0.3)
    assert multilevel.conditional_covariance(rows, factors, 0.3) == pytest.approx(expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_mode_is_stationary_and_h_is_minus_the_second_derivative(family):
    rows, factors = slopes(family), (SLOPE_T,)
    at = multilevel.mode(rows, factors, 0.4)
    matrix = np.hstack([rows.X, rows.Z @ multilevel.relative_factor(rows, factors)])
    b = np.r_[at.beta, at.v]

    def joint(b):
        return multilevel.log_density(rows, rows.offset + matrix @ b, 0.4).sum() - b[2:] @ b[2:] / 2

    assert at.value == pytest.approx(joint(b), abs=1e-12)
    assert multilevel.gradient(joint, b) == pytest.approx(0, abs=1e-5)
    assert multilevel.hessian(joint, b) == pytest.approx(-at.H, rel=1e-5, abs=1e-5)
    held = multilevel.mode(rows, factors, 0.4, beta=at.beta)
    assert held.v == pytest.approx(at.v, abs=1e-7)


def test_reml_of_a_proportion_by_hand():
    # 1 of 4 without random effects: log-likelihood log(27/256), information 4 x 3/16 on the one coefficient.
    rows = rows_of([1, 0, 0, 0], np.ones((4, 1)), (), (), "bernoulli")
    expected = np.log(27 / 256) - np.log(3 / 4) / 2 + LOG_2PI / 2
    assert multilevel.laplace_reml(rows, (), 0.0) == pytest.approx(expected, abs=1e-12)
    assert multilevel.mode(rows, (), 0.0).beta == pytest.approx([-np.log(3)])


def brute_force(rows, beta, T, phi, points=121, reach=6.0) -> float:
    """Integrate each group's two effects over a grid of v."""
    v = np.linspace(-reach, reach, points)
    grid = np.stack(np.meshgrid(v, v, indexing="ij"), -1).reshape(-1, 2)
    total = 0.0
    for group in rows.terms[0]:
        mine = (rows.Z[:, group] != 0).any(1)
        own = rows._replace(y=rows.y[mine, None])
        eta = (rows.offset + rows.X @ beta)[mine, None] + rows.Z[np.ix_(mine, group)] @ T @ grid.T
        joint = multilevel.log_density(own, eta, phi).sum(0) - (grid**2).sum(1) / 2 - LOG_2PI
        total += special.logsumexp(joint) + 2 * np.log(v[1] - v[0])
    return total


@pytest.mark.parametrize(("family", "tolerance"), [("gaussian", 1e-6), ("poisson", 0.02), ("nb", 0.04)])
def test_laplace_of_slopes_is_near_the_integral(family, tolerance):
    rows, beta, T = slopes(family, donors=3, visits=15), np.array([0.8, 0.5]), 0.5 * SLOPE_T
    exact = brute_force(rows, beta, T, 0.4)
    assert multilevel.laplace_ml(rows, beta, (T,), 0.4) == pytest.approx(exact, abs=tolerance)


def test_laplace_reml_is_near_the_integral_over_the_coefficient():
    rng = np.random.default_rng(8)
    codes = np.repeat(np.arange(3), 12)
    y = rng.poisson(np.exp(2 + 0.3 * rng.standard_normal(3)[codes]))
    rows = rows_of(y, np.ones((36, 1)), (codes,), (np.ones((36, 1)),), "poisson")
    T = (np.array([[0.3]]),)

    def exact_ml(beta):
        return multilevel.agq_ml(rows, [beta], T, 0.0, 31)

    peak = exact_ml(2.0)
    area = integrate.quad(lambda beta: np.exp(exact_ml(beta) - peak), 0.5, 3.5, epsabs=1e-10)[0]
    assert multilevel.laplace_reml(rows, T, 0.0) == pytest.approx(peak + np.log(area), abs=0.01)


# Quadrature.


@pytest.mark.parametrize("family", FAMILIES)
def test_quadrature_with_one_node_is_laplace_and_with_many_the_integral(family):
    rng = np.random.default_rng(4)
    codes = np.repeat(np.arange(2), 4)
    y = rng.poisson(1.2, 8)
    rows = rows_of(y, np.ones((8, 1)), (codes,), (np.ones((8, 1)),), family, 0.1)
    T, beta = (np.array([[0.8]]),), [0.2]
    assert multilevel.agq_ml(rows, beta, T, 0.5, 1) == pytest.approx(
        multilevel.laplace_ml(rows, beta, T, 0.5), abs=1e-9
    )
    exact = 0.0
    for group in range(2):
        own = rows._replace(y=y[codes == group])

        def joint(v, own=own):
            eta = np.full(4, 0.3 + 0.8 * v)
            return np.exp(multilevel.log_density(own, eta, 0.5).sum()) * stats.norm.pdf(v)

        exact += np.log(integrate.quad(joint, -12, 12, epsabs=1e-14, limit=200)[0])
    assert multilevel.agq_ml(rows, beta, T, 0.5, 31) == pytest.approx(exact, abs=1e-7)
    assert multilevel.agq_ml(rows, beta, T, 0.5, 9) == pytest.approx(exact, abs=1e-4)


def test_quadrature_of_a_slope_counts_rows_where_the_covariate_is_zero():
    rows = rows_of([1, 0, 3], np.ones((3, 1)), (np.zeros(3, int),), (np.array([[0.0], [1.0], [2.0]]),), "poisson")
    T = (np.array([[0.5]]),)
    assert multilevel.agq_ml(rows, [0.3], T, 0.0, 1) == pytest.approx(multilevel.laplace_ml(rows, [0.3], T, 0.0))


def test_quadrature_is_the_older_twins(nested):
    cells, rows = nested
    rows = rows._replace(Z=rows.Z[:, :6], terms=rows.terms[:1])
    expected = quadrature.marginal(cells._replace(groups=cells.groups[:1]), [1.0, 0.1], 0.4, 0.3, nodes=9)
    assert multilevel.agq_ml(rows, [1.0, 0.1], (np.array([[0.4]]),), 0.3, 9) == pytest.approx(expected, abs=1e-6)


# Gaussian: Laplace is exact.


def test_gaussian_is_the_multivariate_normal_density():
    rows = slopes("gaussian")
    beta = np.array([0.7, 0.4])
    ml = multilevel.normal_loglik(rows, (SLOPE_T,), 0.4, beta)
    assert multilevel.laplace_ml(rows, beta, (SLOPE_T,), 0.4) == pytest.approx(ml, abs=1e-9)
    reml = multilevel.normal_loglik(rows, (SLOPE_T,), 0.4)
    assert multilevel.laplace_reml(rows, (SLOPE_T,), 0.4) == pytest.approx(reml, abs=1e-9)


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_profiled_gaussian_is_the_density_at_its_residual_variance(method):
    rows, relative = slopes("gaussian"), 1.3 * SLOPE_T
    loglik, sigma2, beta = multilevel.profiled_gaussian(rows, (relative,), method)
    centre = None if method == "reml" else beta
    direct = [
        multilevel.normal_loglik(rows, (np.sqrt(s) * relative,), s, centre) for s in sigma2 * np.array([0.98, 1, 1.02])
    ]
    assert loglik == pytest.approx(direct[1], abs=1e-9)
    assert loglik > max(direct[0], direct[2])
    assert multilevel.mode(rows, (np.sqrt(sigma2) * relative,), sigma2).beta == pytest.approx(beta, abs=1e-9)


def test_balanced_one_way_layout_by_hand():
    # Three groups of two, means 2, 6, 10: between mean square 32, within 2; REML variances 2 and (32 - 2) / 2.
    y, codes = np.array([1, 3, 5, 7, 9, 11.0]), np.repeat(np.arange(3), 2)
    rows = rows_of(y, np.ones((6, 1)), (codes,), (np.ones((6, 1)),), "gaussian")
    fit = multilevel.fit(rows)
    assert fit.phi == pytest.approx(2, rel=1e-5)
    assert fit.factors[0][0, 0] ** 2 == pytest.approx(15, rel=1e-5)
    assert fit.beta == pytest.approx([6])
    # Variance of the mean: between mean square over the number of values.
    assert multilevel.conditional_covariance(rows, fit.factors, fit.phi)[0, 0] == pytest.approx(32 / 6, rel=1e-5)
    # ML: the mean square between over 3 instead of 2 groups, (64/3 - 2) / 2.
    fit = multilevel.fit(rows, "ml")
    assert fit.phi == pytest.approx(2, rel=1e-5)
    assert fit.factors[0][0, 0] ** 2 == pytest.approx((64 / 3 - 2) / 2, rel=1e-5)


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_slopes_as_statsmodels(method):
    rows = slopes("gaussian", donors=12, visits=12)
    groups = rows.Z[:, rows.terms[0][:, 0]].argmax(1)
    model = MixedLM(rows.y - rows.offset, rows.X, groups, exog_re=rows.X)
    theirs = model.fit(reml=method == "reml", method="bfgs", gtol=1e-8)
    ours = multilevel.fit(rows, method, starts=(0.4,))
    assert ours.beta == pytest.approx(theirs.fe_params, abs=1e-6)
    assert ours.phi == pytest.approx(theirs.scale, rel=1e-4)
    assert ours.factors[0] @ ours.factors[0].T == pytest.approx(theirs.cov_re, rel=1e-4, abs=1e-5)
    assert ours.loglik == pytest.approx(theirs.llf, abs=1e-6)
    # statsmodels inverts the joint Hessian: its standard errors carry the uncertainty of the variances.
    full = multilevel.full_covariance(rows, ours, method)
    assert np.sqrt(np.diag(full)) == pytest.approx(theirs.bse_fe, rel=1e-5)


# Fits and covariances.


def test_differences_of_a_known_function():
    def f(x):
        return x[0] ** 3 * x[1] - np.exp(x[1])

    assert multilevel.gradient(f, [1.0, 0.5]) == pytest.approx([1.5, 1 - np.exp(0.5)], abs=1e-7)
    assert multilevel.hessian(f, [1.0, 0.5]) == pytest.approx(np.array([[3, 3], [3, -np.exp(0.5)]]), abs=1e-6)


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_fit_of_slopes_is_stationary(method):
    rows = slopes("nb")
    fit = multilevel.fit(rows, method, starts=(0.4,))
    psi = multilevel.pack(rows, fit.factors, fit.phi)
    if method == "reml":
        slope = multilevel.gradient(multilevel.loglik_reml(rows), psi)
    else:
        slope = multilevel.gradient(multilevel.loglik_ml(rows), np.r_[fit.beta, psi])
    assert slope == pytest.approx(0, abs=1e-3)
    covariance = multilevel.full_covariance(rows, fit, method)
    given = multilevel.conditional_covariance(rows, fit.factors, fit.phi)
    # The variances' uncertainty only adds.
    if method == "reml":
        assert np.linalg.eigvalsh(covariance - given).min() > -1e-9
    assert np.diag(covariance) == pytest.approx(np.diag(given), rel=0.2)


def test_fit_by_quadrature_beats_its_neighbours():
    rng = np.random.default_rng(12)
    codes = np.repeat(np.arange(8), 5)
    y = rng.uniform(size=40) < special.expit(rng.normal(0, 1.5, 8)[codes])
    rows = rows_of(y, np.ones((40, 1)), (codes,), (np.ones((40, 1)),), "bernoulli")
    fit = multilevel.fit(rows, "ml", "agq", 9, starts=(0.4,))
    function = multilevel.loglik_ml(rows, "agq", 9)
    x = np.r_[fit.beta, multilevel.pack(rows, fit.factors, fit.phi)]
    assert multilevel.gradient(function, x) == pytest.approx(0, abs=1e-4)
    assert fit.loglik > multilevel.fit(rows, "ml", starts=(0.4,)).loglik - 1


def test_full_covariance_of_gaussian_ml_is_the_textbooks():
    # In gaussian ML beta and the variances are uncorrelated in expectation; in a balanced layout also in the Hessian.
    y, codes = np.array([1, 3, 5, 7, 9, 11.0]), np.repeat(np.arange(3), 2)
    rows = rows_of(y, np.ones((6, 1)), (codes,), (np.ones((6, 1)),), "gaussian")
    fit = multilevel.fit(rows, "ml", starts=(0.4,))
    given = multilevel.conditional_covariance(rows, fit.factors, fit.phi)
    assert multilevel.full_covariance(rows, fit, "ml") == pytest.approx(given, rel=1e-4)
    assert multilevel.full_covariance(rows, fit, "reml") == pytest.approx(given, rel=1e-4)


def test_a_variance_of_zero_is_an_ordinary_point():
    rows = slopes("poisson")
    zero = multilevel.laplace_reml(rows, (np.zeros((2, 2)),), 0.0)
    without = multilevel.laplace_reml(rows._replace(Z=np.empty((len(rows.y), 0)), terms=()), (), 0.0)
    assert zero == pytest.approx(without, abs=1e-9)
    assert multilevel.laplace_reml(rows, (np.array([[1e-4, 0], [0, 1e-4]]),), 0.0) == pytest.approx(zero, abs=1e-5)
