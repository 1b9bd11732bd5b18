"""Exponential, logarithm, normal and chi-square tails against numpy and scipy."""

import os
import subprocess
import sys

import numpy as np
import pytest
from scipy import special, stats

from mlmgen.kernels.elementary import exp, log1p_with_reciprocal, log_chi_square_tail, log_normal_tail
from mlmgen.kernels.policy import summing_kernel

# Two units in the last place.
TWO_ULP = 4.5e-16

FIRST_CALLER = """
import sys
import numpy as np
from mlmgen.kernels.elementary import log1p_with_reciprocal
from mlmgen.kernels.policy import summing_kernel


@summing_kernel
def each(a, out):
    for i in range(a.shape[0]):
        out[i] = log1p_with_reciprocal(a[i], 1.0 / (1.0 + a[i]))


a = np.geomspace(1e-18, 1e18, 4001)
out = np.empty_like(a)
each(a, out)
print(np.abs(out / np.log1p(a) - 1.0).max())
"""


@summing_kernel
def exp_of_each(x, out):
    for i in range(x.shape[0]):
        out[i] = exp(x[i])


@summing_kernel
def log1p_of_each(a, out):
    for i in range(a.shape[0]):
        out[i] = log1p_with_reciprocal(a[i], 1.0 / (1.0 + a[i]))


def test_exp_over_its_range():
    x = np.concatenate([np.linspace(-600, 600, 120_001), [0.0, 1e-300, -1e-17], np.linspace(-1, 1, 10_001)])
    out = np.empty_like(x)
    exp_of_each(x, out)
    np.testing.assert_allclose(out, np.exp(x), rtol=TWO_ULP)
    assert [exp(value) for value in x[:500]] == out[:500].tolist()


def test_missing_numbers_stay_missing():
    x, out = np.full(9, np.nan), np.zeros(9)
    exp_of_each(x, out)
    assert np.isnan(out).all()
    log1p_of_each(x, out)
    assert np.isnan(out).all()


def test_exp_is_clipped():
    assert exp(-1e9) == exp(-600.0) > 0
    assert exp(1e9) == exp(600.0) < np.inf


def test_log1p_over_its_range():
    a = np.concatenate([[0.0], np.geomspace(1e-300, 1e300, 100_001), np.linspace(0, 3, 30_001)])
    out = np.empty_like(a)
    log1p_of_each(a, out)
    np.testing.assert_allclose(out, np.log1p(a), rtol=TWO_ULP)
    assert out[0] == 0


def test_log1p_keeps_its_accuracy_whoever_compiles_it_first(tmp_path):
    # Compiled first from a kernel that may reorder sums, it must not inherit that freedom.
    script = tmp_path / "first_caller.py"
    script.write_text(FIRST_CALLER)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, env=environment)
    assert float(run.stdout) < TWO_ULP


def test_log_normal_tail():
    z = np.concatenate([np.linspace(-40, 60, 2001), [24.999999999, 25.0, 25.000000001], np.geomspace(1e2, 1e150, 200)])
    found = np.array([log_normal_tail(value) for value in z])
    # Far below 0 the tail is 1 and its log is zero to rounding; at 25 the series leaves out 105 / z^8 = 7e-10.
    np.testing.assert_allclose(found, special.log_ndtr(-z), rtol=3e-12, atol=2e-16)


def test_log_normal_tail_falls():
    z = np.linspace(24.9, 25.1, 4001)
    assert (np.diff([log_normal_tail(value) for value in z]) < 0).all()


@pytest.mark.parametrize("z", [0.0, 1.0, 3.0])
def test_log_normal_tails_sum_to_one(z):
    assert np.exp(log_normal_tail(z)) + np.exp(log_normal_tail(-z)) == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize("r", range(1, 9))
def test_log_chi_square_tail(r):
    x = np.concatenate([np.linspace(0, 60, 601), np.geomspace(1e-8, 700, 200)])
    found = np.array([log_chi_square_tail(value, r) for value in x])
    np.testing.assert_allclose(found, stats.chi2.logsf(x, r), rtol=1e-11, atol=2e-15)


@pytest.mark.parametrize("r", range(1, 9))
def test_log_chi_square_tail_far_out(r):
    # Where the tail itself is zero: of the upper incomplete gamma function, h^(a - 1) e^-h times a falling series.
    for x in (2e3, 1e4, 1e6):
        h, a = x / 2, r / 2
        terms, series = 1.0, 1.0
        for k in range(1, 8):
            terms *= (a - k) / h
            series += terms
        expected = (a - 1) * np.log(h) - h - special.gammaln(a) + np.log(series)
        assert log_chi_square_tail(x, r) == pytest.approx(expected, rel=1e-12)


def test_log_chi_square_tail_of_nothing():
    # Ratios of likelihoods may round to below zero.
    for r in range(1, 9):
        assert log_chi_square_tail(0.0, r) == log_chi_square_tail(-1e-9, r) == 0.0
        assert (np.diff([log_chi_square_tail(x, r) for x in np.linspace(1e-3, 50, 500)]) < 0).all()


def test_one_degree_of_freedom_is_the_normal_tail_twice():
    for z in (0.1, 1.96, 8.0, 40.0):
        assert log_chi_square_tail(z * z, 1) == pytest.approx(np.log(2) + log_normal_tail(z), rel=1e-13)
