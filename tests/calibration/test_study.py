"""A short seeded part of benchmarks/calibration, and what its tables are computed with."""

import itertools

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.stats import false_discovery_control
from sklearn.metrics import average_precision_score

from benchmarks.calibration import __main__ as command
from benchmarks.calibration import measures, others, ours, real, simulated, store, tables
from benchmarks.calibration.settings import SIMULATED, Setting

# Two data sets of the hardest settings: about 2,500 null tests, a standard error of .0044 at .05 and .0006 at .001.
SHORT = (
    "3 v 3",
    "3 v 3, 30 % of variances near zero",
    "3 v 3, high counts",
    "6 v 6, unbalanced cells",
    "6 v 6, covariate of cells",
    "4 pairs, response SD 0",
    "4 pairs, response SD 0.4",
    "6 donors over time, slope SD 0.1",
)
DATA_SETS = 2
SMALL = Setting("3 v 3", 3, (20, 40), genes=60)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_type_one_error_and_coverage(name):
    each = {method: [] for method in ours.METHODS}
    for number in range(1, DATA_SETS + 1):
        data = simulated.simulated(SIMULATED[name], number)
        for method in ours.METHODS:
            each[method].append(store.add(store.truth(data), method, ours.run(method, data)))
    for method, found in each.items():
        rates = measures.type_one([measures.tests(table, method) for table in found])
        covered = measures.coverage(found, method, "effect", "low", "high")
        print(name, method, rates, covered)
        # The bars of the study, .04 to .06 and .002 and 93 to 97 %, and three standard errors.
        assert 0.04 - 0.013 <= rates[0].value <= 0.06 + 0.013
        assert rates[2].value <= 0.002 + 0.003
        assert abs(covered.value - 0.95) <= 0.02 + 0.013


def test_data_sets_do_not_depend_on_what_else_is_drawn():
    once, again = (simulated.simulated(SMALL, number) for number in (2, 2))
    other = simulated.simulated(SMALL, 3)
    assert np.array_equal(once.counts.values, again.counts.values)
    assert once.counts.values.sum() != other.counts.values.sum()
    assert simulated.simulated(SMALL._replace(name="another"), 2).counts.values.sum() != once.counts.values.sum()


TIME = "6 donors over time, slope SD 0.1"


@pytest.mark.parametrize("name", ["3 v 3", "4 pairs, response SD 0.2", "6 v 6, covariate of cells", TIME])
def test_samples_add_up_to_the_cells(name):
    data = simulated.simulated(SIMULATED[name]._replace(genes=80, cells=(30, 40)), 1)
    Y, X, size, tested = others.sums(data)
    assert np.array_equal(Y.sum(axis=1), simulated.totals(data.counts))
    assert size.sum() == pytest.approx(np.exp(data.design.log_size).sum())
    assert np.linalg.matrix_rank(X) == X.shape[1]
    # The column that is tested holds the arm, 0 and 1, or the time; donors are columns where it is within donors.
    assert set(X[:, tested]) == ({0.0, 1.0, 2.0, 3.0} if name == TIME else {0.0, 1.0})
    assert X.shape[1] == {"4 pairs, response SD 0.2": 5, TIME: 7}.get(name, len(data.design.coefficients))


def test_near_zero_variances_are_where_they_should_be():
    setting = Setting("many genes", 3, (20, 40), near_zero=0.3, genes=2000)
    design = simulated.lay_out(setting, np.random.default_rng(1))
    truth, effect = simulated.parameters(setting, design, np.random.default_rng(2))
    variance = truth.roots[0][:, 0, 0] ** 2
    low = variance < 1e-4
    assert low.mean() == pytest.approx(0.3, abs=0.03)
    assert np.median(np.sqrt(variance[~low])) == pytest.approx(0.3, abs=0.02)
    assert (effect != 0).mean() == pytest.approx(0.1, abs=0.02)


def test_adjusted_p_values_are_those_of_scipy():
    p = np.random.default_rng(3).uniform(size=50) ** 3
    p[7] = p[9]
    q = measures.adjusted(np.log(np.r_[p, np.nan]))
    assert q[:-1] == pytest.approx(false_discovery_control(p), rel=1e-12)
    assert np.isnan(q[-1])


def test_average_precision_is_that_of_scikit_learn():
    rng = np.random.default_rng(4)
    log_p, positive = np.round(-rng.exponential(size=200), 1), rng.random(200) < 0.3
    assert measures.average_precision(log_p, positive) == pytest.approx(average_precision_score(positive, -log_p))
    assert np.isnan(measures.average_precision(log_p, np.zeros(200, bool)))


def table_of(log_p, effect) -> pd.DataFrame:
    return pd.DataFrame({"total": 50.0, "effect": effect, "glmm|log_p": log_p})


def test_measures_by_hand():
    # Ten genes: two effects, one of them found, and one null called with it.
    log_p = np.log([1e-4, 0.9, 1e-3, 0.03, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8])
    found = measures.tests(table_of(log_p, [1.0, 1.0, *[0.0] * 8]), "glmm")
    assert (found.nulls, found.calls, list(found.rejected)) == (8, 2, [2, 1, 1])
    assert (found.false, found.found) == (0.5, 0.5)
    rate = measures.type_one([found, found])[0]
    assert rate.value == 0.25
    assert rate.error == pytest.approx(np.sqrt(0.25 * 0.75 / 16))


def test_genes_that_a_program_was_not_given_do_not_count():
    log_p = np.log([1e-4, 0.9, 1e-3, 0.03, 0.2, *[0.5] * 5])
    few = measures.tests(table_of(np.where(np.arange(10) < 5, log_p, np.nan), [1.0, 1.0, *[0.0] * 8]), "glmm")
    assert few == measures.tests(table_of(log_p[:5], [1.0, 1.0, *[0.0] * 3]), "glmm")._replace(rejected=few.rejected)
    assert (few.nulls, list(few.rejected)) == (3, [2, 1, 1])


def test_coverage_leaves_out_what_has_no_interval():
    table = pd.DataFrame({"true v0": [0.1, 0.0, 0.3, 0.2], "glmm|v0_low": [0.05, 0.0, 0.4, np.nan]})
    table["glmm|v0_high"] = [0.2, 0.1, 0.5, np.nan]
    assert measures.coverage([table], "glmm", "true v0", "v0_low", "v0_high").value == 0.5


def test_a_study_is_resumed_and_printed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "SIMULATED", {"3 v 3": SMALL})
    call = ["calibration", "--results", str(tmp_path), "--settings", "3 v 3", "--programs", "glmm", "pseudobulk"]
    monkeypatch.setattr(real, "FOLDER", tmp_path)
    for number in ("1", "2"):
        monkeypatch.setattr("sys.argv", [*call, "--data-sets", number])
        command.main()
    found = store.read(tmp_path, "3 v 3")
    assert list(found) == [1, 2]
    assert store.programs(found[2]) == {"glmm", "pseudobulk"}
    said = capsys.readouterr().out
    assert "[1/1] 3 v 3, data set 2: glmm " in said
    assert "; 0 min left" in said
    written = store.path(tmp_path, "3 v 3", 1).stat().st_mtime_ns
    command.main()
    assert store.path(tmp_path, "3 v 3", 1).stat().st_mtime_ns == written
    # Results of the present code are not made again, of other code they are.
    capsys.readouterr()
    stale = found[2].assign(**{"glmm|code": "other"})
    store.write(tmp_path, "3 v 3", 2, stale)
    monkeypatch.setattr("sys.argv", [*call, "--data-sets", "2", "--redo", "glmm", "pseudobulk"])
    command.main()
    assert "1 data sets to do\n[1/1] 3 v 3, data set 2: glmm " in capsys.readouterr().out
    pd.testing.assert_series_equal(store.read_one(tmp_path, "3 v 3", 2)["glmm|log_p"], found[2]["glmm|log_p"])
    monkeypatch.setattr("sys.argv", [*call, "--table"])
    command.main()
    out = capsys.readouterr().out
    assert "| 3 v 3 | glmm | 2, " in out
    assert "mlmgen " in out


def test_settings_are_chosen_by_name_or_part_of_it(monkeypatch, tmp_path, capsys):
    assert command.settings_named(["3 v 3"]) == ["3 v 3"]
    assert command.settings_named(["3 v 3,", "20 v"])[0] == "3 v 3, 30 % of variances near zero"
    assert "onek1k cd4nc, 3 v 3" in command.settings_named(["onek1k"])
    assert command.settings_named([""]) == [*SIMULATED, *real.REAL]
    monkeypatch.setattr(real, "FOLDER", tmp_path)
    monkeypatch.setattr(
        "sys.argv", ["calibration", "--results", str(tmp_path), "--settings", "pig", "--programs", "glmm"]
    )
    command.main()
    out = capsys.readouterr().out
    assert "pig wild type Immune cell, 2 v 2: skipped, pig_small_airway_cftr.h5ad is not in" in out
    assert "0 data sets to do" in out


def test_bars_are_named():
    error = 0.001
    fine = [measures.Mean(value, error) for value in (0.05, 0.01, 0.001)]
    assert tables.off(fine, measures.Mean(0.05, error)) == ""
    wrong = [measures.Mean(value, error) for value in (0.07, 0.01, 0.003)]
    assert tables.off(wrong, measures.Mean(0.09, error)) == ".05, (.001), FDP"


def test_a_program_that_is_not_there_is_said(capsys):
    assert command.available(["glmm", "NEBULA-LN"], "no-such-python") == ["glmm"]
    assert "NEBULA-LN: skipped, no-such-python is not there" in capsys.readouterr().out


def test_splits_of_real_donors(tmp_path, monkeypatch):
    rng = np.random.default_rng(5)
    donor = np.repeat([f"d{i}" for i in range(7)], [20, 15, 12, 30, 11, 13, 4])
    obs = pd.DataFrame({"donor": donor, "condition": "x", "cell_type": "T"}, index=[f"c{i}" for i in range(donor.size)])
    X = sparse.csr_matrix(rng.poisson(1.0, (donor.size, 30)).astype(np.int32))
    anndata.AnnData(X, obs=obs).write_h5ad(tmp_path / "some.h5ad")
    monkeypatch.setattr(real, "FOLDER", tmp_path)
    null = real.Null("some T, 3 v 3", "some.h5ad", "T", "", 3)
    assert real.missing(null) == ""
    # The donor with four cells is left out; six others make ten different splits.
    assert real.number_of_splits(null) == 10
    drawn = [real.arms(real.donors(null), null, number) for number in range(1, 11)]
    assert len({frozenset(map(frozenset, arms)) for arms in drawn}) == 10
    assert all(not set(a) & set(b) for a, b in drawn)
    data = real.split(null, 1)
    assert sorted(set(data.design.X[:, 1])) == [0.0, 1.0]
    assert simulated.totals(data.counts).sum() == X[: donor.size - 4].sum()
    assert "6 donors have 10 cells or more, 8 are needed" in real.missing(null._replace(arm=4))


def test_every_real_null_has_a_name_of_its_own():
    names = [*SIMULATED, *real.REAL]
    files = [store.path(real.FOLDER, name, 1) for name in names]
    assert all(a != b for a, b in itertools.combinations(files, 2))
