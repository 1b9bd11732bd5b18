"""The null audit on small simulated studies: the design it rebuilds, what it must not depend on, from file to file."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from mlmgen import audit, audit_tables, config, contrasts, fitting, formula, io, stages_audit, stages_tables
from mlmgen import design as designs
from mlmgen.errors import UserError
from mlmgen.simulate import demo
from tests.unit.stages_run import TABLES, Run

GENES, SPLITS = 40, 3
FORMULA = "~ condition + (1 | donor)"
PAIRED = "~ arm + (1 | donor) + (1 | donor:arm)"


@pytest.fixture(scope="module")
def data():
    """One cell type of the demo; the first of 12 donors are cut to halves as a second arm within donors."""
    full = demo(seed=3)
    small = full[full.obs["cell_type"] == "B cells"].copy()
    dense = np.asarray(small.X.sum(axis=0)).ravel()
    small = small[:, np.sort(np.argsort(-dense)[20 : 20 + GENES])].copy()
    small.obs["arm"] = np.where(np.arange(small.n_obs) % 2, "b", "a")
    return small


def run(folder, data, **keys) -> Run:
    made = Run(folder, data, **({"formula": FORMULA} | keys))
    made.prepare()
    made.contrasts()
    return made


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, data) -> Run:
    return run(tmp_path_factory.mktemp("plain"), data)


def study_of(made: Run, method: str = "glmm"):
    """What the stage gives to the audit."""
    (path,) = made.paths("prepared")
    fit = made.settings("fit")
    study = stages_audit._study(path, io.read_meta(path), method, fit, io.read_design(path).coefficients)
    tested = contrasts.resolve(made.config["contrasts"], io.read_design(path))
    return study, stages_audit._model(fit, method), tested


def audited(study, model, tested, threads=1, seed=1):
    return audit.audit(study, model, audit.plans(study, model.level, tested, SPLITS), seed, threads)


@pytest.mark.parametrize(
    "text", [FORMULA, PAIRED, "~ condition + age + (1 + arm | donor)", "~ batch * sex + (1|donor)"]
)
def test_the_design_of_labels_as_they_are_is_the_prepared_one(tmp_path, data, text):
    made = Run(tmp_path, data, formula=text, reference={"arm": "b"} if text == PAIRED else {})
    (path,) = made.prepare()
    study, _, _ = study_of(made)
    rebuilt, order = audit._laid_out(study, study.obs, "cells")
    np.testing.assert_array_equal(order, np.arange(len(order)))
    for field in dataclasses.fields(rebuilt):
        ours, stored = getattr(rebuilt, field.name), getattr(io.read_design(path), field.name)
        if isinstance(ours, np.ndarray):
            np.testing.assert_array_equal(ours, stored)
        elif isinstance(ours, (str, tuple)) and field.name != "terms":
            assert ours == stored
    assert [t.name for t in rebuilt.terms] == [t.name for t in io.read_design(path).terms]


@pytest.mark.parametrize("method", ["glmm", "pseudobulk"])
def test_results_do_not_depend_on_threads_or_the_order_of_genes(prepared, method):
    study, model, tested = study_of(prepared, method)
    plain = audited(study, model, tested)
    threaded = audited(study, model, tested, threads=3)
    order = np.random.default_rng(0).permutation(GENES)
    shuffled = audited(study._replace(genes=tuple(study.genes[g] for g in order), X=study.X[:, order]), model, tested)
    for name in ("log_pvalue", "injected", "injected_log_pvalue"):
        ours = getattr(plain, name)
        np.testing.assert_array_equal(getattr(threaded, name), ours)
        # Sums over genes, of which the prior is made, differ in their last bits.
        np.testing.assert_allclose(getattr(shuffled, name), ours[..., order], rtol=1e-6, atol=1e-9)
    assert plain.splits[0] == SPLITS
    assert plain.distinct[0] == 461  # 12! / (6! 6!) / 2, without the observed one
    assert np.isfinite(plain.log_pvalue).all()
    assert (plain.injected != 0).sum() == SPLITS * GENES / 10


def test_another_seed_makes_other_splits(prepared):
    study, model, tested = study_of(prepared)
    first, second = (audited(study, model, tested, seed=seed) for seed in (1, 2))
    assert not np.array_equal(first.log_pvalue, second.log_pvalue)


def test_both_methods_have_the_same_injected_genes(prepared):
    first, second = (audited(*study_of(prepared, method)) for method in ("glmm", "pseudobulk"))
    np.testing.assert_array_equal(first.injected, second.injected)


def test_only_injected_genes_have_new_fits(prepared, monkeypatch):
    """Replacing the fits of changed genes gives what refitting all gives."""
    study, model, tested = study_of(prepared)
    plain = audited(study, model, tested)

    complete, rows = [], audit._rows

    def watched(X, genes, model, laid):
        made = rows(X, genes, model, laid)
        if len(genes) == GENES:
            counts, design = made
            keep = np.ones(GENES, dtype=bool)
            complete.append(fitting.fit_shard(counts, design, keep, "nb", "cells", 1))
        return made

    def tested_all(fits, *arguments):
        return original(complete[-1], *arguments)

    original = audit._tested
    monkeypatch.setattr(audit, "_rows", watched)
    monkeypatch.setattr(audit, "_tested", tested_all)
    again = audited(study, model, tested)
    np.testing.assert_array_equal(again.log_pvalue, plain.log_pvalue)
    np.testing.assert_array_equal(again.injected_log_pvalue, plain.injected_log_pvalue)


def test_strong_injected_effects_are_found_and_point_the_right_way(prepared, monkeypatch):
    from mlmgen import thinning

    monkeypatch.setattr(thinning, "LARGEST_LOG2FC", 6.0)
    seen = []
    original = audit.inference.test

    def watched(*arguments, **options):
        seen.append(original(*arguments, **options))
        return seen[-1]

    monkeypatch.setattr(audit.inference, "test", watched)
    found = audited(*study_of(prepared))
    assert found.log2fc[0] == pytest.approx(6.0)
    for s in range(SPLITS):
        sign, estimate = found.injected[0, s], seen[2 * s + 1].estimate[:, 0]
        assert (np.sign(estimate[sign != 0]) == sign[sign != 0]).all()
        assert np.abs(estimate[sign != 0]).min() > 1.0
    table = audit_tables.audit([audit_tables.Audited("B cells", "glmm", found)])
    assert table["power"].item() > 0.8


def test_a_split_that_cannot_be_fitted_gives_way_to_another(prepared, monkeypatch):
    study, model, tested = study_of(prepared)
    build, calls = designs.build, []

    def sometimes(*arguments):
        calls.append(1)
        if len(calls) % 2:
            raise UserError("dependent", "here", "no")
        return build(*arguments)

    monkeypatch.setattr(audit.designs, "build", sometimes)
    assert audited(study, model, tested).splits[0] == SPLITS
    monkeypatch.setattr(audit.designs, "build", lambda *a: (_ for _ in ()).throw(UserError("dependent", "here", "no")))
    none = audited(study, model, tested)
    assert none.reasons == (audit.NO_DESIGN,)
    assert none.log_pvalue.shape == (1, 0, GENES)


def test_at_most_so_many_genes_evenly_in_total_count(monkeypatch):
    total = np.random.default_rng(1).permutation(10_000).astype(float)
    names = tuple(f"g{i}" for i in range(10_000))
    chosen = audit.every_kth(total, names)
    np.testing.assert_array_equal(np.sort(total[chosen]), np.arange(0, 10_000, 5))
    assert (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(audit.every_kth(total[:30], names[:30]), np.arange(30))
    assert audit.every_kth(np.empty(0), ()).size == 0


def test_what_varies_between_cells_is_audited_in_cells_alone(tmp_path, data):
    noisy = data.copy()
    noisy.obs["pct"] = np.random.default_rng(1).gamma(2.0, size=noisy.n_obs)
    made = run(tmp_path, noisy, contrasts={"pct": "log(pct)"}, formula="~ condition + log(pct) + (1 | donor)")
    cells, samples = (audited(*study_of(made, method)) for method in ("glmm", "pseudobulk"))
    assert (cells.exchanged, cells.permuted, cells.reasons) == (("between cells of a sample",), ("pct",), ("",))
    assert len({tuple(split) for split in cells.log_pvalue[0]}) == SPLITS
    assert samples.reasons == (audit.ONLY_MEANS,)
    assert samples.log_pvalue.shape == (1, 0, GENES)


def test_all_permutations_are_used_where_there_are_few(tmp_path, data):
    few = data[data.obs["donor"].isin(["D01", "D02", "D07", "D08"])].copy()
    made = run(tmp_path, few)
    study, model, tested = study_of(made)
    (plan,) = audit.plans(study, "cells", tested, 20)
    assert plan.splits == 2  # of two against two donors, beside the observed one
    found = audit.audit(study, model, (plan,), 1)
    assert found.splits[0] == found.distinct[0] == 2
    assert audit.expected_seconds(study, model, (plan,)) > 0.0


# From file to file


def audit_stage(made: Run, method: str) -> None:
    for path in made.paths("prepared"):
        output = made.record("moderated", method, path.rpartition("/")[2].removesuffix(".h5ad"))
        output = output.parents[2] / "audit" / method / output.name
        stages_audit.audit(path, method, str(output), made.settings("fit"), made.settings("audit"), 1)


ARM = {
    "formula": "~ condition + arm + (1 + arm | donor)",
    "contrasts": {"b": "arm[b] - arm[a]", "stim": "condition[stim] - condition[ctrl]"},
}


@pytest.mark.parametrize(
    "keys",
    [{}, {"formula": PAIRED}, ARM, {"family": "gaussian"}, {"family": "bernoulli"}],
    ids=["plain", "paired", "slope", "gaussian", "bernoulli"],
)
def test_from_file_to_file(tmp_path, data, keys):
    keys = {"formula": FORMULA, "stability": False} | keys
    made = Run(tmp_path, data, **keys)
    before = made.tables()
    assert "audit" not in (made.folder / "summary.txt").read_text()
    made.set(**keys, audit=True, audit_splits=2)
    methods = made.config["methods"]
    for method in methods:
        audit_stage(made, method)
    shards = [1] * len(methods)
    arguments = (made.paths("prepared"), str(made.folder / "contrasts.json"), str(made.input), methods, shards)
    stages_tables.tables(*arguments, str(made.folder), made.settings("tables"), 1)
    for name in TABLES:
        pd.testing.assert_frame_equal(pd.read_parquet(made.folder / f"{name}.parquet"), before[name])
    table = pd.read_parquet(made.folder / "audit.parquet")
    assert len(table) == len(methods) * before["effects"]["contrast"].nunique()
    assert (table["n_splits"] == 2).all()
    assert (table["reason"] == "").all()
    assert table["type1_05"].between(0, 0.5).all()
    assert len(pd.read_parquet(made.folder / "audit_qq.parquet")) > 50
    assert "What the null audit says" in (made.folder / "summary.txt").read_text()
    if len(table) > 2:
        assert set(table["exchanged"]) == {"between donors", "within donors"}


def only_audit(made: Run, method: str) -> audit.Audit:
    audit_stage(made, method)
    (path,) = (made.folder / "audit" / method).glob("*.npz")
    record, meta = io.read_record(path, audit.Audit)
    assert meta["method"] == method
    return record


def test_without_genes_or_splits_there_is_a_reason(tmp_path, data):
    made = run(tmp_path / "none", data, filters={"min_cells_expressing": 10**6})
    assert only_audit(made, "glmm").reasons == (audit.NO_GENES,)
    table = audit_tables.audit([audit_tables.Audited("B cells", "glmm", only_audit(made, "pseudobulk"))])
    assert table["n_splits"].item() == 0


def test_a_skipped_cell_type_has_no_audit(tmp_path, prepared, monkeypatch):
    meta = {"cell_type": "B", "skipped": "too few donors"}
    monkeypatch.setattr(io, "read_meta", lambda path: meta)
    monkeypatch.setattr(io, "read_gene_statistics", lambda path: {"gene": ("a", "b")})
    output = str(tmp_path / "audit.npz")
    settings = {"audit_splits": 2, "seed": 1}
    stages_audit.audit("counts", "glmm", output, prepared.settings("fit"), settings, 1)
    record, _ = io.read_record(output, audit.Audit)
    assert record.contrasts == ()
    assert len(audit_tables.audit([audit_tables.Audited("B", "glmm", record)])) == 0


# The configuration


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"audit": "yes"}, 'audit is "yes", text (in the configuration). It must be true or false.'),
        ({"audit_splits": 0}, "It must be a whole number of at least 1."),
        ({"audit_splits": 2.5}, "audit_splits is 2.5"),
        ({"audits": True}, "Did you mean 'audit'?"),
    ],
)
def test_config_errors(keys, expected):
    with pytest.raises(UserError) as error:
        config.load({"input": "a.h5ad", "donor": "donor", "formula": FORMULA} | keys)
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("keys", "stages"),
    [({"audit": True}, ["tables"]), ({"audit_splits": 3}, ["audit"]), ({"seed": 5}, ["audit"])],
    ids=["audit", "audit_splits", "seed"],
)
def test_keys_of_the_audit_concern_the_audit_and_the_tables_alone(keys, stages):
    minimal = {"input": "a.h5ad", "donor": "donor", "formula": FORMULA}
    plain, other = config.load(minimal), config.load(minimal | keys)
    assert [name for name in config.STAGE_KEYS if config.stage(plain, name) != config.stage(other, name)] == stages


def test_a_formula_is_read_from_the_prepared_file(prepared):
    study, _, _ = study_of(prepared)
    assert study.formula == formula.parse(FORMULA)
