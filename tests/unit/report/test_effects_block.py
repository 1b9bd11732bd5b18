"""Effects as the page has them: errors within what is documented, calls exact, in Python and in the page's program."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from benchmarks.report.synthetic import Size
from mlmgen import findings
from mlmgen.report import effects_block, packing, tested
from tests.unit.report import made

DATA = Path(effects_block.__file__).parent / "assets" / "data.js"
NODE = shutil.which("node")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    size = Size(1, 2, 2000, tested=0.7, donors=200)  # many donors: more is called than is stored to 4 digits
    return tested.read(findings.read(made.written(tmp_path_factory.mktemp("run"), size)))


def decoded(own, most=20, step=effects_block.STEP) -> dict:
    parts = packing.block(*effects_block.packed(own, most, step))
    return effects_block.restore(*packing.unblock(packing.unpacked(packing.packed(parts))))


@pytest.mark.parametrize("step", [0.1, 0.2, 0.4])
def test_errors_are_within_half_a_step(run, step):
    for own in run.cell_types:
        found = decoded(own, step=step)
        np.testing.assert_array_equal(found["gene"], own.gene)
        assert np.abs(np.log(found["mean_count"] / own.mean_count)).max() <= effects_block.MEAN_STEP / 2 + 1e-9
        for key, test in own.tests.items():
            page = found["tests"][key]
            coarse = test.tested & ~page["exact"]
            se = np.log(page["lfc_se"] / test.lfc_se)[coarse]
            assert np.abs(se).max() <= step / 2 + 1e-9
            w = page["log2fc"] / page["lfc_se"] - test.log2fc / test.lfc_se
            assert np.abs(w[coarse]).max() <= step / 2 + 1e-9
            assert np.abs(page["statistic"] - test.statistic)[coarse].max() <= step / 2 + 1e-6
            assert np.abs(np.log10(page["padj"] / test.padj))[coarse].max() <= effects_block.PADJ_STEP
            assert not page["tested"][~test.tested].any()
            assert np.isnan(page["padj"][~test.tested]).all()


def test_which_genes_are_called_is_exact_and_follows_from_padj(run):
    for own in run.cell_types:
        for step in (0.1, 0.4):
            for key, page in decoded(own, most=3, step=step)["tests"].items():
                np.testing.assert_array_equal(page["called"], own.tests[key].called)
                np.testing.assert_array_equal(page["padj"] < 0.05, own.tests[key].called)
                assert page["called"].sum() > effects_block.ALWAYS_EXACT  # the page rounds some that are called


def test_leading_genes_have_four_digits(run):
    own = run.cell_types[0]
    for key, page in decoded(own)["tests"].items():
        test, exact = own.tests[key], page["exact"]
        assert exact.sum() == effects_block.ALWAYS_EXACT
        assert test.pvalue[exact].max() <= np.nanmin(test.pvalue[test.tested & ~exact])
        assert np.abs(page["log2fc"] - test.log2fc)[exact].max() <= 0.0005 + 1e-9
        np.testing.assert_allclose(page["lfc_se"][exact], test.lfc_se[exact], rtol=6e-4)
        np.testing.assert_allclose(np.log10(page["pvalue"][exact]), np.log10(test.pvalue[exact]), rtol=3e-4)
        np.testing.assert_allclose(page["padj"][exact], test.padj[exact], rtol=2e-3)


def asymmetric(own, low=1.2, high=0.7):
    """Return a cell type whose intervals reach further down than up."""
    tests = {
        key: one._replace(ci_low=one.log2fc - low * 1.96 * one.lfc_se, ci_high=one.log2fc + high * 1.96 * one.lfc_se)
        for key, one in own.tests.items()
    }
    return own._replace(tests=tests)


def test_intervals_of_exact_genes_are_those_of_the_table(run):
    own = asymmetric(run.cell_types[0])
    for key, page in decoded(own)["tests"].items():
        test, exact = own.tests[key], page["exact"]
        for name in ("ci_low", "ci_high"):
            assert np.abs(page[name] - getattr(test, name))[exact].max() <= 0.0005 + 1e-9
        clear = exact & (np.minimum(np.abs(test.ci_low), np.abs(test.ci_high)) > 0.0005)
        holds = [(one["ci_low"] < 0) & (one["ci_high"] > 0) for one in (page, test._asdict())]
        np.testing.assert_array_equal(holds[0][clear], holds[1][clear])
        assert clear.sum() > 25


def test_an_end_that_is_far_out_or_unknown(run):
    own = run.cell_types[0]
    test = own.tests[0, 0]
    strong = np.argsort(test.pvalue)[:2]
    test.ci_low[strong], kept = (np.nan, -250.25), test.ci_low[strong].copy()
    page = decoded(own)["tests"][0, 0]
    test.ci_low[strong] = kept
    np.testing.assert_allclose(page["ci_low"][strong], [np.nan, -250.25])
    assert np.isfinite(page["ci_high"][strong]).all()


def test_rounded_intervals_are_centred_and_their_errors_measured(run):
    own = run.cell_types[0]
    page, test = decoded(own)["tests"][0, 0], own.tests[0, 0]
    half = (page["ci_high"] - page["ci_low"]) / (test.ci_high - test.ci_low)
    assert np.nanmax(np.abs(np.log(half))) < 0.05 + 0.025 + 1e-9
    few = effects_block.interval_errors(own, *effects_block.packed(own, 20))
    many = effects_block.interval_errors(asymmetric(own), *effects_block.packed(asymmetric(own), 20))
    assert len(few) == sum(int((one.tested).sum()) - effects_block.ALWAYS_EXACT for one in own.tests.values())
    assert np.quantile(few, 0.99) < 0.3
    assert 0.3 < np.median(many) < 0.8  # off by a quarter of 1.96 on both sides


def test_a_joint_test_has_a_statistic_and_no_effect(tmp_path):
    def joint(table):
        table.loc[:, ["log2fc", "lfc_se", "ci_low", "ci_high", "log2fc_shrunken"]] = np.nan
        return table.assign(statistic=table["statistic"] ** 2)

    folder = made.written(tmp_path, effects=joint)
    own = tested.read(findings.read(folder)).cell_types[0]
    assert own.tests[0, 0].joint
    page, test = decoded(own)["tests"][0, 0], own.tests[0, 0]
    assert np.isnan(page["log2fc"]).all()
    coarse = test.tested & ~page["exact"]
    assert np.abs(np.sqrt(page["statistic"]) - np.sqrt(test.statistic))[coarse].max() <= 0.05 + 1e-6
    z = np.abs(np.log10(page["pvalue"] / test.pvalue))[coarse]
    assert z.max() < 0.15
    np.testing.assert_array_equal(page["called"], test.called)


def test_p_values_down_to_the_smallest_number(tmp_path):
    tiny = made.written(tmp_path, effects=lambda t: t.assign(pvalue=t["pvalue"].where(t["pvalue"] > 0.05, 2.2e-308)))
    own = tested.read(findings.read(tiny)).cell_types[0]
    page, test = decoded(own)["tests"][0, 0], own.tests[0, 0]
    few = test.tested & (test.pvalue < 1e-300)
    assert few.any()
    assert (page["pvalue"][few] > 0).all()
    np.testing.assert_allclose(np.log10(page["pvalue"][few]), np.log10(2.2e-308), atol=1.0)


SCRIPT = """
const blocks = JSON.parse(require("fs").readFileSync(0));
global.document = { getElementById: (id) => ({ textContent: blocks[id.replace("block-", "")] }) };
const data = require(process.argv[1]);
(async () => {
  const report = await data.open();
  const found = [];
  for (const { t, c, m } of report.meta.counts) {
    const columns = await report.effects(t, c, m);
    const plain = Object.entries(columns).map(([name, list]) => [name, list.length ? [...list] : list]);
    found.push({ t, c, m, ...Object.fromEntries(plain) });
  }
  const tails = [0, 0.5, 1.96, 3.999, 4.001, 8, 37].map(data.log10P);
  const gene = report.detailed.keys().next().value, t = report.detailed.get(gene)[0];
  const searched = report.search(report.symbols[gene].toLowerCase())[0];
  const detail = await report.detail(t, gene), variance = await report.variance(t);
  console.log(JSON.stringify({ found, tails, gene, searched, detail, points: variance.components[0].gene.length },
    (key, value) => (typeof value === "number" && !Number.isFinite(value) ? null : value)));
})();
"""


@pytest.mark.skipif(
    NODE is None, reason="there is no node to run the page's program with; the browser tests do as well"
)
def test_the_pages_program_reads_what_python_reads(tmp_path):
    from mlmgen.report import payload

    size = Size(2, 2, 300, tested=0.8, donors=4)
    source = made.source(made.written(tmp_path, size), size)
    blocks = payload.blocks(source)
    arguments = [NODE, "-e", SCRIPT, str(DATA)]
    done = subprocess.run(arguments, input=json.dumps(blocks), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    run = tested.read(source.findings)
    expected = {
        (own.t, *key): (own, page)
        for own in run.cell_types
        for key, page in effects_block.restore(
            *packing.unblock(packing.unpacked(blocks[f"effects-{own.t}"]))
        )["tests"].items()
    }  # fmt: skip
    assert len(said["found"]) == len(expected) == 8
    for one in said["found"]:
        own, page = expected[one["t"], one["c"], one["m"]]
        rows = page["tested"]
        assert one["n"] == rows.sum()
        assert one["gene"] == own.gene[rows].tolist()
        assert one["called"] == page["called"][rows].astype(int).tolist()
        test = own.tests[one["c"], one["m"]]
        assert one["disagree"] == test.disagree[rows].astype(int).tolist()
        assert one["stable"] == test.stable[rows].tolist()
        assert one["status"] == own.status[one["m"]][rows].tolist()
        for name in tested.NUMBERS:
            np.testing.assert_allclose(one[name], page[name][rows], rtol=1e-5, atol=1e-7, err_msg=name)
        np.testing.assert_allclose(one["pct_cells"], own.pct_cells[rows], rtol=0.16)
    np.testing.assert_allclose(
        said["tails"], effects_block.log10_p(np.array([0, 0.5, 1.96, 3.999, 4.001, 8, 37])), rtol=0, atol=2e-7
    )
    assert said["searched"] == said["gene"]
    assert len(said["detail"]["samples"]["mean"]) == len(said["detail"]["samples"]["donor"]) == 8
    assert [one["term"] for one in said["detail"]["groups"]] == ["donor", "donor:condition"]
    assert len(said["detail"]["groups"][0]["estimate"]) == len(said["detail"]["groups"][0]["level"]) == 4
    assert said["points"] > 100
