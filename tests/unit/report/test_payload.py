"""The data of the page, whatever a run has and has not: the same bytes, harmless names, and never too large."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from benchmarks.report.synthetic import AWKWARD, Size, names
from mlmgen import columns, config, findings
from mlmgen.report import build, calls, donors, effects_block, leading, packing, payload, tested, trust, variance
from tests.unit.report import made
from tests.unit.report.made import SMALL


def block(blocks: dict, name: str):
    return json.loads(packing.unpacked(blocks[name]))


@pytest.fixture(scope="module", autouse=True)
def little_room():
    """Few genes have donors: most of the time would go there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(payload, "OF_DONORS", (60_000, 60_000))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return made.written(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def source(run):
    return made.source(run)


@pytest.fixture(scope="module")
def blocks(source):
    return payload.blocks(source)


@pytest.fixture(scope="module")
def meta(blocks):
    return block(blocks, "meta")


def test_every_part_of_the_page_has_its_data(blocks, meta):
    kinds = {name.partition("-")[0] for name in blocks}
    assert kinds == {"meta", "genes", "effects", "variance", "detail"}
    assert {name for name in blocks if name.startswith("effects")} == {"effects-0", "effects-1", "effects-2"}
    keys = (
        "format name version family weighted fdr fdr_name formula donor cell_type cell_types contrasts methods statuses"
    )
    keys += " rounding verdict counts agreement overlap pairs pairs_t design top trust variance methods_text config"
    keys += " versions input run columns gene_hint"
    assert set(meta) == set(keys.split())
    assert set(meta["trust"]) == {
        "pvalues",
        "qq",
        "audit",
        "audit_qq",
        "fits",
        "reasons",
        "disagreements",
        "stability",
        "random_effects",
    }
    assert set(meta["design"]) == {"donors", "cells", "left_out", "covariates", "samples", "contrasts", "detectable"}
    assert set(meta["verdict"]) == {"headline", "lead", "sentences", "nothing", "audit", "audit_hint", "attention"}


def test_numbers_of_calls_are_those_of_the_table(source, meta):
    effects = source.findings.effects
    for row in meta["counts"]:
        own = effects[
            (effects["cell_type"] == meta["cell_types"][row["t"]]["name"])
            & (effects["contrast"] == meta["contrasts"][row["c"]]["name"])
            & (effects["method"] == meta["methods"][row["m"]]["key"])
        ]
        called = own[own["padj"] < 0.05]
        up, down = (called["log2fc"] > 0).sum(), (called["log2fc"] < 0).sum()
        assert [row["tested"], row["called"], row["up"], row["down"]] == [own["padj"].count(), len(called), up, down]
    assert len(meta["counts"]) == 12


def test_what_cell_types_share_adds_up(source, meta):
    for c in range(2):
        for m in range(2):
            called = {row["t"]: row["called"] for row in meta["counts"] if (row["c"], row["m"]) == (c, m)}
            sets = [one for one in meta["overlap"][str(c)] if one["m"] == m]
            for t, n in called.items():
                assert sum(one["n"] for one in sets if t in one["t"]) == n
            pairs = np.array(meta["pairs"][str(c)][str(m)])
            np.testing.assert_array_equal(pairs, pairs.T)
            assert pairs.diagonal().tolist() == [called[t] for t in meta["pairs_t"]]
    for one in meta["agreement"]:
        first, second = (
            next(r["called"] for r in meta["counts"] if (r["t"], r["c"], r["m"]) == (one["t"], one["c"], m))
            for m in (0, 1)
        )
        assert [one["both"] + one["only"][0], one["both"] + one["only"][1]] == [first, second]


def test_the_top_genes_are_the_first_of_the_table(source, blocks, meta):
    genes, effects = block(blocks, "genes")["genes"], source.findings.effects
    for row in meta["top"]:
        own = effects[
            (effects["cell_type"] == meta["cell_types"][row["t"]]["name"])
            & (effects["contrast"] == meta["contrasts"][row["c"]]["name"])
            & (effects["method"] == meta["methods"][row["m"]]["key"])
        ]
        assert [genes[g] for g in row["genes"]] == own["gene"].head(calls.MOST_TOP).tolist()


def test_leading_genes_have_their_donors(blocks, meta):
    named = block(blocks, "genes")
    for row in meta["top"]:
        assert set(row["genes"][:5]) <= set(named["detailed"][str(row["t"])])
    detail = block(blocks, "detail-0")
    assert sorted(map(int, detail["genes"])) == named["detailed"]["0"]
    gene = next(iter(detail["genes"].values()))
    assert len(detail["samples"]["donor"]) == len(gene["samples"]["mean"]) == 2 * SMALL.donors
    assert detail["samples"]["variables"] == {"condition": ["ctrl", "stim"] * SMALL.donors}
    assert [len(one["estimate"]) for one in gene["groups"]] == [len(one["level"]) for one in detail["groups"]]
    assert {(one["c"], one["m"]) for one in gene["effects"]} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert {one["component"] for one in gene["variances"]} == {"donor", "donor:condition", "dispersion"}


def test_leading_genes_fill_the_room_and_no_more(source):
    found = tested.read(source.findings)
    numbers = dict.fromkeys(range(3), 100)
    cost = leading.BYTES_OF_GENE + 100 * leading.BYTES_OF_NUMBER
    for budget in (0, 10 * cost, 10**7):
        chosen = leading.choose(found, numbers, int(budget))
        assert sum(map(len, chosen.values())) <= budget / cost
    few = leading.choose(found, numbers, int(12 * cost))
    strongest = {own.t: own.gene[np.nanargmin(own.tests[0, 0].pvalue)] for own in found.cell_types}
    assert all(gene in few[t] for t, gene in strongest.items())


def test_the_clouds_keep_the_largest_variances(source, blocks):
    variances = source.findings.variances
    for one in block(blocks, "variance-0")["components"]:
        method, name = ("glmm", "pseudobulk")[one["m"]], one["component"]
        own = variances[(variances["cell_type"] == "Cell type 0") & (variances["method"] == method)]
        own = own[own["component"] == name]
        genes = block(blocks, "genes")["genes"]
        assert [genes[g] for g in one["top"]] == own.nlargest(20, "variance")["gene"].tolist()
        assert sum(one["histogram"]["counts"]) == len(own) == one["n"]
        assert set(one["top"]) <= set(one["gene"])
        assert (one["line"] is None) == (name == "dispersion")  # of sums it is made up far above its prior


def test_intraclass_correlations_are_of_every_factor_and_those_it_lies_within(source, blocks):
    variances = source.findings.variances
    icc = {(one["m"], one["level"]): one for one in block(blocks, "variance-0")["icc"]}
    assert list(icc) == [(0, "donor"), (0, "donor:condition"), (1, "donor")]  # the dispersion is no factor
    for (m, level), one in icc.items():
        rows = (variances["cell_type"] == "Cell type 0") & (variances["method"] == ("glmm", "pseudobulk")[m])
        parts = ["donor"] if level == "donor" else ["donor", "donor:condition"]
        shares = variances[rows & variances["component"].isin(parts)].groupby("gene")["fraction"].sum().clip(0, 1)
        assert one["median"] == pytest.approx(shares.median(), rel=6e-3)
        assert sum(one["counts"]) == len(shares)


def test_a_factor_lies_within_another_where_the_cells_say_so():
    obs = pd.DataFrame({"donor": ["a", "b", "c"], "batch": ["x", "x", "y"], "visit": [1, 1, 2]})
    assert variance._lies_within("donor", "batch", obs)
    assert not variance._lies_within("batch", "donor", obs)
    assert variance._lies_within("donor:visit", "donor", None)
    assert not variance._lies_within("donor", "batch", None)


def test_without_random_terms_pseudobulk_has_no_intraclass_correlation(tmp_path):
    def without(table):
        return table[(table["method"] == "glmm") | (table["component"] == "dispersion")]

    blocks, meta = parts_of(made.written(tmp_path, variances=without))
    assert {one["m"] for one in block(blocks, "variance-0")["icc"]} == {0}
    assert "random intercepts" not in meta["methods_text"]["paragraphs"][1]


def test_variances_far_above_the_prior_are_not_measured(tmp_path):
    def lower(table):
        own = (table["method"] == "glmm") & (table["component"] == "donor")
        dispersion = table["component"] == "dispersion"
        level = table["log_variance"].mask(own, -12.0).mask(dispersion & table["log_variance"].notna(), -0.8)
        return table.assign(log_variance=level)

    blocks, _ = parts_of(made.written(tmp_path, priors=lower))
    found = {(one["m"], one["component"]): one for one in block(blocks, "variance-0")["components"]}
    assert [one["unmeasured"] for one in found.values()] == [key == (0, "donor") for key in found]
    assert found[0, "donor"]["line"] is None
    assert found[0, "donor:condition"]["line"]
    assert found[1, "dispersion"]["line"]


def test_effects_are_named_by_method(tmp_path):
    folder = made.written(tmp_path)
    made.changed(folder, "provenance.json", lambda said: said["config"]["fit"].update(family="bernoulli"))
    _, meta = parts_of(folder)
    assert [one["effect"] for one in meta["methods"]] == ["log2 odds ratio", "log2 fold change"]


def test_contrasts_take_the_reference_of_a_cell_type_that_was_analysed(tmp_path):
    folder = made.written(tmp_path)

    def first_has_none(said):
        first = next(iter(said["cell_types"].values()))
        first["skipped"], first["reference"] = "no donor", {}
        said["formula"] = "~ condition * sex + (1 | donor)"
        for one in list(said["cell_types"].values())[1:]:
            one["reference"] = {"condition": "ctrl", "sex": "f"}
        said["config"]["test"]["contrasts"] = [["contrast_0", "condition[T.stim]"]]

    made.changed(folder, "provenance.json", first_has_none)
    found = payload.contrasts(findings.read(folder))
    assert found[0]["levels"] == ["stim", "ctrl"]
    assert found[0]["within"] == "in f (the reference of sex)"


def test_weights_are_told(tmp_path, meta):
    folder = made.written(tmp_path)
    made.changed(folder, "provenance.json", lambda said: said["config"]["tables"].update(fdr="weighted"))
    assert parts_of(folder)[1]["weighted"]
    assert not meta["weighted"]


def test_the_line_of_a_prior_is_the_variance_of_a_gene_of_that_mean(source, blocks):
    prior = source.findings.priors.iloc[0]
    line = block(blocks, "variance-0")["components"][0]["line"]
    total = np.log(np.array(line["mean_count"]) * source.findings.provenance["cell_types"]["Cell type 0"]["n_cells"])
    expected = np.exp(prior["log_variance"] + prior["slope"] * (total - prior["mean_log_total"]))
    np.testing.assert_allclose(line["variance"], expected, rtol=6e-3)
    np.testing.assert_allclose(np.array(line["high"]) / line["variance"], math.exp(1.2816 * prior["sd"]), rtol=2e-2)


def test_histograms_and_quantiles_are_of_the_exact_p_values(source, meta):
    first = source.findings.effects.query(
        "cell_type == 'Cell type 0' and contrast == 'contrast_0' and method == 'glmm'"
    )
    p = first["pvalue"].dropna().to_numpy()
    one = meta["trust"]["pvalues"][0]
    assert one["counts"] == np.histogram(p, bins=20, range=(0, 1))[0].tolist()
    qq = meta["trust"]["qq"][0]
    assert qq["observed"][0] == pytest.approx(-np.log10(p.min()), rel=1e-2)
    assert len(qq["observed"]) == len(qq["expected"]) <= trust.QQ_POINTS


def test_the_ledger_counts_every_gene(meta):
    assert all(sum(row["counts"]) == SMALL.genes for row in meta["trust"]["fits"])
    filtered = [row for row in meta["trust"]["reasons"] if row["status"] == "filtered"]
    assert {row["reason"] for row in filtered} == {"too few counts: min_cells_expressing is 10"}
    assert all(row["genes"] == [] for row in filtered)


def test_disagreements_come_with_kinds_of_reasons(meta):
    found = meta["trust"]["disagreements"]
    assert set(found["kinds"]) == {"low counts", "one donor carries it"}
    counted = {(row["t"], row["c"]): row["n"] for row in found["counts"] if row["kind"] == 0}
    assert counted == {(row["t"], row["c"]): row["disagree"] for row in meta["agreement"] if row["disagree"]}


def test_the_config_is_one_that_can_be_run_again(meta):
    import yaml

    loaded = config.load(yaml.safe_load(meta["config"]))
    assert loaded["contrasts"] == dict.fromkeys(("contrast_0", "contrast_1"), "condition[stim] - condition[ctrl]")
    assert loaded["filters"]["min_cells_per_donor"] == 10


def test_columns_are_explained(meta):
    assert meta["design"]["contrasts"][0]["arms_text"] == "6 ctrl, 6 stim"
    assert meta["columns"]["log2fc"] == next(c.description for c in columns.TABLES["effects"] if c.name == "log2fc")


def test_the_same_folder_gives_the_same_bytes(run, source, blocks):
    again = payload.blocks(made.source(run))
    assert again == blocks
    assert build.page("run", again) == build.page("run", blocks)


# What a run may not have


def parts_of(folder, size=SMALL) -> tuple[dict, dict]:
    blocks = payload.blocks(made.source(folder, size))
    return blocks, block(blocks, "meta")


def test_without_an_audit(tmp_path):
    size = SMALL._replace(audit=False)
    _, meta = parts_of(made.written(tmp_path, size), size)
    assert meta["trust"]["audit"] == meta["trust"]["audit_qq"] == meta["verdict"]["audit"] == []
    assert meta["verdict"]["audit_hint"]


@pytest.mark.parametrize("method", ["glmm", "pseudobulk"])
def test_one_method_only(tmp_path, method):
    size = SMALL._replace(methods=(method,))
    _, meta = parts_of(made.written(tmp_path, size), size)
    assert [one["key"] for one in meta["methods"]] == [method]
    assert meta["agreement"] == meta["trust"]["disagreements"]["rows"] == []
    assert meta["trust"]["stability"][0]["asked"] == meta["counts"][0]["tested"] > 100  # fewer than 200
    assert meta["trust"]["stability"][0]["donors"][0]["donor"] == "D001"
    assert "pseudobulk" not in meta["verdict"]["headline"] or method == "pseudobulk"


def test_without_stability(tmp_path):
    def unasked(table):
        return table.assign(**{name: "" for name in table if name.startswith("stable")})

    _, meta = parts_of(made.written(tmp_path, concordance=unasked))
    assert meta["trust"]["stability"] == []
    one = SMALL._replace(methods=("glmm",))
    _, meta = parts_of(made.written(tmp_path / "one", one, stability=None), one)
    assert meta["trust"]["stability"] == []


def test_without_priors_tests_are_not_moderated(tmp_path):
    def without(table):
        table[["log_variance", "slope", "sd", "variance"]] = np.nan
        return table.assign(reason="fewer than 30 fitted genes")

    folder = made.written(tmp_path, priors=without, effects=lambda table: table.assign(df=7.5))
    blocks, meta = parts_of(folder)
    assert all(one["line"] is None for one in block(blocks, "variance-0")["components"])
    assert "Contrasts were tested by t and F tests" in meta["methods_text"]["paragraphs"][2]


def test_a_joint_test(tmp_path):
    def joint(table):
        rows = (table["contrast"] == "contrast_1").to_numpy()
        table.loc[rows, ["log2fc", "lfc_se", "ci_low", "ci_high", "log2fc_shrunken"]] = np.nan
        table.loc[rows, "statistic"] = table.loc[rows, "statistic"] ** 2
        return table

    def two_rows(said):
        for part in said["cell_types"].values():
            part[1] = part[1] | {"weights": [[0, 1, 0], [0, 0, 1]], "expression": "a; b"}

    folder = made.written(tmp_path, effects=joint)
    made.changed(folder, "contrasts.json", two_rows)
    made.changed(
        folder, "provenance.json", lambda said: said["config"]["test"]["contrasts"][1].__setitem__(1, ["a", "b"])
    )
    _, meta = parts_of(folder)
    assert [one["joint"] for one in meta["contrasts"]] == [False, True]
    assert meta["contrasts"][1]["expression"] == ["a", "b"]
    assert {row["up"] for row in meta["counts"] if row["c"] == 1} == {None}
    pairs = np.array(meta["pairs"]["1"]["0"])
    assert pairs.diagonal().tolist() == [row["called"] for row in meta["counts"] if (row["c"], row["m"]) == (1, 0)]


def skip(folder, kept: str) -> None:
    """Skip all cell types but one, as a run does: no gene of the others is fitted."""
    import pandas as pd

    why = "all its cells belong to one donor, D001"

    def skipped(said):
        for name, one in said["cell_types"].items():
            one["skipped"] = "" if name == kept else why

    made.changed(folder, "provenance.json", skipped)
    for name in ("fits", "effects", "variances", "priors", "concordance", "audit", "audit_qq", "design"):
        table = pd.read_parquet(folder / f"{name}.parquet")
        rows = (table["cell_type"] != kept).to_numpy()
        if name in ("fits", "effects"):
            table = table.astype({"status": object, "reason": object})
            table.loc[rows, ["status", "reason"]] = ["filtered", why]
            numbers = ["loglik"] if name == "fits" else ["log2fc", "lfc_se", "statistic", "pvalue", "padj"]
            table.loc[rows, numbers] = np.nan
            table = table.astype({"status": "category", "reason": "category"})
        else:
            table = table[~rows]
        table.to_parquet(folder / f"{name}.parquet")


def test_all_cell_types_are_skipped_but_one(tmp_path):
    skip(made.written(tmp_path), "Cell type 1")
    blocks, meta = parts_of(tmp_path)
    assert [name for name in blocks if name.startswith("effects")] == ["effects-1"]
    assert {row["t"] for row in meta["counts"]} == {1}
    assert meta["pairs_t"] == [1]
    (one,) = [one for one in meta["verdict"]["attention"] if one["kind"] == "skipped"]
    assert one["title"] == "Not analysed: Cell type 0 and Cell type 2"
    assert "in 1 cell type," in meta["verdict"]["lead"]


def test_nothing_is_significant(tmp_path):
    quiet = SMALL._replace(called=False, contrasts=1)

    def none(table):
        return table.assign(padj=table["padj"].where(table["padj"].isna(), 1.0))

    _, meta = parts_of(made.written(tmp_path, quiet, effects=none), quiet)
    assert meta["verdict"]["headline"].startswith("No gene differs between stim and ctrl in any of 3 cell types")
    assert "has to be about 1 (log2; 2-fold) to be found" in meta["verdict"]["nothing"]
    assert meta["overlap"] == {"0": []}
    assert all(len(row["genes"]) == calls.MOST_TOP for row in meta["top"])


def test_all_cells_together(tmp_path):
    tables = ("effects", "fits", "variances", "priors", "concordance", "audit", "audit_qq", "design")
    folder = made.written(tmp_path, SMALL._replace(cell_types=1), **dict.fromkeys(tables, together))

    def rename(said):
        said["cell_types"] = {"all": next(iter(said["cell_types"].values()))}
        said["config"]["prepare"]["cell_type"] = None

    def renamed(said):
        said["cell_types"] = {"all": said["cell_types"]["Cell type 0"]}
        said["left_out"] = {"all": {}}

    made.changed(folder, "provenance.json", rename)
    made.changed(folder, "contrasts.json", renamed)
    meta = block(payload.blocks(made.bare(folder)), "meta")
    assert meta["verdict"]["sentences"][0]["text"].startswith("In all cells together, ")
    assert meta["cell_type"] is None


def together(table):
    return table.assign(cell_type="all")


def test_tables_alone_make_a_report_without_donors(run):
    blocks = payload.blocks(made.bare(run))
    meta = block(blocks, "meta")
    assert not [name for name in blocks if name.startswith("detail")]
    assert meta["design"]["donors"] == meta["trust"]["random_effects"] == []
    assert any("not beside the tables" in one["text"] for one in meta["verdict"]["attention"])
    assert f"{SMALL.donors} donors" in meta["verdict"]["lead"]


# Awkward names, and many


def test_awkward_names_are_harmless(tmp_path):
    size = SMALL._replace(awkward=True, cell_types=5)
    blocks, meta = parts_of(made.written(tmp_path, size), size)
    named = names(size)
    assert [one["name"] for one in meta["cell_types"]] == named.cell_types
    assert block(blocks, "genes")["genes"] == named.genes
    assert meta["design"]["donors"] == sorted(named.donors, key=donors.natural)
    text = build.page("</title><b>", blocks)
    assert "&lt;/title&gt;&lt;b&gt;" in text
    assert all(f"Cell type {k}{odd}" not in text for k, odd in enumerate(AWKWARD) if odd[0] in "<")
    assert "Cell type 1&lt;/script&gt;" in text  # the verdict, for who has no JavaScript
    opened, closed = text.count("<script"), text.count("</script>")
    assert opened == closed


def test_sixty_cell_types(tmp_path):
    size = Size(60, 1, 60, donors=4)
    blocks, meta = parts_of(made.written(tmp_path, size), size)
    assert len([name for name in blocks if name.startswith("effects")]) == 60
    assert len(meta["verdict"]["sentences"]) == 60
    assert len(meta["overlap"]["0"]) <= 2 * (calls.MOST_SETS + 60)


# Size


def test_a_large_run_stays_within_its_share_of_five_megabytes(tmp_path, monkeypatch):
    """A tenth of 30 cell types x 20,000 genes x 2 methods, in which every gene is tested."""
    size = Size(6, 1, 10_000)
    monkeypatch.setattr(payload, "OF_DONORS", (300_000, 300_000))
    blocks, meta = parts_of(made.written(tmp_path, size), size)
    by_kind = {}
    for name, text in blocks.items():
        kind = name.partition("-")[0]
        by_kind[kind] = by_kind.get(kind, 0) + len(text)
    assert by_kind["effects"] < 360_000  # 5.9 bytes a gene and cell type: 3.6 MB of 600,000, before coarser steps
    assert by_kind["variance"] < 600_000
    assert by_kind["detail"] < 1.1 * payload.OF_DONORS[1]
    assert by_kind["genes"] < 12 * size.genes
    assert by_kind["meta"] < 60_000
    assert "5 %" in meta["rounding"]
    assert "99 % of the ends within 0." in meta["rounding"]


def test_steps_grow_until_effects_fit(tmp_path, monkeypatch):
    found = tested.read(findings.read(made.written(tmp_path, Size(1, 1, 4000))))
    fine, step, _ = payload._effects(found)
    assert step == effects_block.STEP
    n = sum(map(len, fine.values()))
    monkeypatch.setattr(payload, "OF_EFFECTS", int(0.95 * n))
    smaller, coarser, _ = payload._effects(found)
    assert sum(map(len, smaller.values())) <= 0.95 * n
    assert coarser > step
    monkeypatch.setattr(payload, "OF_EFFECTS", 0)
    assert payload._effects(found)[1] == payload.STEPS[-1]
