"""The workflow as a whole: entry points, what a change redoes, outputs, bad input."""

import gzip
import hashlib
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from mlmgen import columns
from tests.unit.stores import stored
from tests.workflow.conftest import GENES, ROOT, SNAKEMAKE, Study, configuration, jobs, run

SHARDS, CELL_TYPES, METHODS = 2, 2, 2
SHARDED = SHARDS * CELL_TYPES * METHODS
LAST = {"tables": 1, "figures": 1, "report": 1}
EVERYTHING = {
    "split": 1,
    "prepare": CELL_TYPES,
    "contrasts": 1,
    "fit": SHARDED,
    "moderate": CELL_TYPES * METHODS,
    "test": SHARDED,
    "stability": CELL_TYPES * METHODS,
    **LAST,
}
FROM_FITS = EVERYTHING | {"split": 0, "prepare": 0, "contrasts": 0}
FROM_PREPARE = EVERYTHING | {"split": 0}
AFTER_FITS = {"test": SHARDED, "stability": CELL_TYPES * METHODS, **LAST}
TABLES = "*.[pt]*[tz]*"
# Tables that only other runs write: of one method, or with an audit.
OF_OTHER_RUNS = {"stability", "audit", "audit_qq"}


def read(study, name):
    import pandas as pd

    return pd.read_parquet(study.folder / "results" / "small" / f"{name}.parquet")


def digests(folder: Path, pattern: str = "**/*") -> dict[str, str]:
    """Checksums of all results but those files that hold times."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob(pattern))
        if path.is_file() and not {"logs", "benchmarks", "run.json"} & set(path.relative_to(folder).parts)
    }


# Entry points


def test_every_entry_point_plans_the_same_jobs(fresh):
    config = fresh.folder / fresh.write()
    module = fresh.folder / "Snakefile"
    module.write_text(
        f'configfile: "{config.name}"\n\n'
        f"module mlmgen:\n    snakefile: {str(ROOT / 'workflow/Snakefile')!r}\n    config: config\n\n"
        "use rule * from mlmgen\n\n"
        "rule everything:\n    default_target: True\n    input: rules.all.input\n"
    )
    # with commands: names of the workflow are not those of the module that uses it
    as_module = jobs(run([*SNAKEMAKE, "--dry-run", "--printshellcmds", "-s", str(module)], cwd=fresh.folder))
    as_module.pop("everything")
    assert fresh.planned() == EVERYTHING
    assert jobs(fresh.snakemake("--dry-run", snakefile=ROOT / "workflow" / "Snakefile")) == EVERYTHING
    assert as_module == EVERYTHING


def test_the_demo_is_the_default_config_and_only_without_another(tmp_path):
    finished = run([*SNAKEMAKE, "--dry-run", "-s", str(ROOT / "Snakefile"), "--directory", str(tmp_path)])
    assert finished.returncode != 0
    assert "The demo data set is not there yet (in data/demo.h5ad)" in finished.stdout
    assert "Traceback" not in finished.stdout


def test_the_demo_does_not_leak_into_a_users_run(fresh):
    # Without its own contrasts and reference levels the run must not get those of the demo.
    output = fresh.snakemake("--dry-run", "--printshellcmds", contrasts=None, reference=None)
    assert "stim_vs_ctrl" not in output.stdout
    assert jobs(output) == EVERYTHING


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("**/*.yaml")), ids=lambda path: path.stem)
def test_configs_in_the_repository_are_valid(path):
    import mlmgen.config
    from mlmgen import formula

    config = mlmgen.config.load(yaml.safe_load(path.read_text()))
    assert config["donor"] in formula.variables(formula.parse(config["formula"]))


def test_the_demo_config_shows_every_key_with_its_default_or_says_so():
    import mlmgen.config

    shown, schema = yaml.safe_load((ROOT / "config/config.yaml").read_text()), mlmgen.config.schema()
    assert list(shown) == list(schema["properties"])
    assert list(shown["filters"]) == list(schema["properties"]["filters"]["properties"])


def test_lint_passes_without_data(tmp_path):
    finished = run([*SNAKEMAKE, "--lint", "-s", str(ROOT / "Snakefile"), "--directory", str(tmp_path)])
    assert finished.returncode == 0, finished.stdout


def test_snakefmt_passes():
    files = [str(ROOT / "Snakefile"), str(ROOT / "workflow")]
    finished = run([sys.executable, "-m", "snakefmt", "--check", *files])
    assert finished.returncode == 0, finished.stdout


# A complete run


def test_tables_have_a_row_for_every_gene(study):
    effects, fits = read(study, "effects"), read(study, "fits")
    assert len(effects) == len(fits) == GENES * CELL_TYPES * METHODS
    assert not effects.duplicated(["cell_type", "gene", "contrast", "method"]).any()


@pytest.mark.parametrize("table", [name for name in columns.TABLES if name not in OF_OTHER_RUNS])
def test_columns_are_those_of_the_registry_in_both_formats(study, table):
    with gzip.open(study.folder / "results" / "small" / f"{table}.tsv.gz", "rt") as lines:
        assert lines.readline().rstrip("\n").split("\t") == columns.names(table)
    assert list(read(study, table).columns) == columns.names(table)


def test_statistics_are_there_exactly_for_genes_that_were_fitted(study):
    effects = read(study, "effects")
    without = effects["status"].isin(["filtered", "not_finite"])
    assert without.any()
    assert effects.loc[without, ["log2fc", "pvalue", "padj", "padj_global"]].isna().all(axis=None)
    assert np.isfinite(effects.loc[~without, ["log2fc", "lfc_se", "statistic", "pvalue", "padj"]]).all(axis=None)
    assert (effects.loc[effects["status"] == "filtered", "reason"] != "").all()


def test_effects_point_the_way_of_the_truth(study, data):
    import anndata

    truth = anndata.read_h5ad(data).var["true_log2fc_Monocytes"]
    effects = read(study, "effects").query("cell_type == 'Monocytes' and method == 'glmm'").set_index("gene")
    called = effects.index[effects["padj"] < 0.01]
    assert len(called) >= 5
    agree = np.sign(effects.loc[called, "log2fc"]) == np.sign(truth[called])
    assert agree.mean() > 0.8


def test_the_run_ends_with_a_summary_and_where_the_results_are(study):
    output = study.finished.stdout
    assert "true effects" in output
    assert "calls were false" in output
    assert "rule fit:" in output  # what bad input must not reach
    assert str(study.folder / "results" / "small") in output


def test_every_job_has_a_log_and_a_benchmark(study):
    folder = study.folder / "results" / "small"
    total = sum(EVERYTHING.values())
    assert len(list((folder / "logs").rglob("*.log"))) == total
    assert len(list((folder / "benchmarks").rglob("*.tsv"))) == total
    assert "genes in" in next((folder / "logs" / "fit" / "glmm").rglob("*.log")).read_text()


def test_prepared_files_open_in_anndata(study):
    import anndata

    for path in (study.folder / "results" / "small" / "prepared").glob("*.h5ad"):
        assert anndata.read_h5ad(path).n_vars == GENES


# What a change redoes


def test_nothing_is_redone_without_a_change(study):
    assert study.planned() == {}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"contrasts": {"stim_vs_ctrl": "condition[ctrl] - condition[stim]"}}, {"contrasts": 1} | AFTER_FITS),
        (
            {"contrasts": {"stim_vs_ctrl": "condition[stim] - condition[ctrl]", "more": "condition[T.stim]"}},
            {"contrasts": 1} | AFTER_FITS,
        ),
        ({"filters": {"min_cells_expressing": 20}}, FROM_FITS),
        ({"family": "poisson"}, FROM_FITS),
        ({"estimation": "ml"}, FROM_FITS),
        ({"estimation": "ml", "integration": "agq"}, FROM_FITS | {"contrasts": 1}),
        (
            {"contrasts": {"a": "condition[ctrl] - condition[stim]"}, "family": "poisson"},
            FROM_FITS | {"contrasts": 1},
        ),
        ({"methods": ["glmm"]}, {"contrasts": 1, "stability": 2, **LAST}),
        ({"methods": ["pseudobulk"]}, {"contrasts": 1, "stability": 2, **LAST}),
        ({"cell_types": ["B cells"]}, {"contrasts": 1, **LAST}),
        ({"memory": 1}, {}),
        ({"fdr": "weighted"}, LAST),
        ({"stability": False}, LAST),
        ({"audit": True}, {"audit": CELL_TYPES * METHODS, **LAST}),
        ({"audit": True, "methods": ["glmm"]}, {"contrasts": 1, "stability": 2, "audit": CELL_TYPES, **LAST}),
        ({"audit_splits": 5, "seed": 7}, {}),
        ({"filters": {"min_cells_per_donor": 11}}, FROM_PREPARE),
        ({"formula": "~ condition + sex + (1 | donor)"}, FROM_PREPARE),
        ({"reference": {"condition": "stim"}}, FROM_PREPARE),
        ({"size_factors": "tmm"}, FROM_PREPARE | {"size_factors": 1}),
        ({"gene_names": "var/gene_name"}, EVERYTHING),
        ({"shards": 1}, {"fit": 4, "moderate": 4, "test": 4, "stability": 4, **LAST}),
        ({"name": "other"}, EVERYTHING),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_change_redoes_what_depends_on_it(study, changes, expected):
    assert study.planned(**changes) == {rule: number for rule, number in expected.items() if number}


def test_an_added_cell_type_redoes_nothing_of_the_others(data, tmp_path):
    one = Study(tmp_path, configuration(data) | {"cell_types": ["Monocytes"], "methods": ["glmm"]})
    assert one.snakemake().returncode == 0
    assert one.planned() == {}
    before = digests(tmp_path / "results/small")
    of_one = {"prepare": 1, "fit": SHARDS, "moderate": 1, "test": SHARDS, "stability": 1}
    assert one.planned(cell_types="all") == of_one | {"contrasts": 1} | LAST
    assert one.snakemake(cell_types="all").returncode == 0
    after = digests(tmp_path / "results/small")
    changed = {name for name in before if after[name] != before[name]}
    assert not any(name.startswith(("split", "prepared", "fits/", "moderated", "tests/")) for name in changed)
    assert {"effects.parquet", "contrasts.json"} <= changed


def test_results_of_two_configurations_live_side_by_side(study, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(study.folder, folder)
    copy = type(study)(folder, study.config)
    before = digests(folder / "results/small")
    finished = copy.snakemake(name="detected", family="bernoulli", methods=["glmm"], cell_types=["B cells"])
    assert finished.returncode == 0, finished.stdout
    assert digests(folder / "results/small") == before
    assert (folder / "results/detected/effects.parquet").is_file()
    assert copy.planned() == {}


def test_a_changed_contrast_leaves_the_fits(study, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(study.folder, folder)
    copy = type(study)(folder, study.config)
    before = digests(folder / "results/small")
    finished = copy.snakemake(contrasts={"ctrl_vs_stim": "condition[ctrl] - condition[stim]"})
    assert finished.returncode == 0, finished.stdout
    after = digests(folder / "results/small")
    drawn = {name.split("/")[2] for name in after if name.startswith("figures/") and name.count("/") == 3}
    assert drawn == {"ctrl_vs_stim"}
    after = {name: digest for name, digest in after.items() if not name.startswith("figures/")}
    assert {name for name in after if after[name] != before[name]} == {
        "contrasts.json",
        "provenance.json",
        "summary.txt",
        "report.html",
        *(name for name in after if name.startswith(("tests/", "stability/"))),
        *(f"{table}.tsv.gz" for table in ("effects", "concordance", "design")),
        *(name for name in after if name.endswith(".parquet")),  # they say which contrasts they belong to
    }
    flipped, original = (read(s, "effects").set_index(["cell_type", "method", "gene"]) for s in (copy, study))
    np.testing.assert_allclose(flipped["log2fc"], -original.loc[flipped.index, "log2fc"], rtol=1e-6)
    assert copy.planned(contrasts={"ctrl_vs_stim": "condition[ctrl] - condition[stim]"}) == {}


def test_results_do_not_depend_on_shards_or_run(study, fresh):
    finished = fresh.snakemake(shards=3)
    assert finished.returncode == 0, finished.stdout
    for tables in ("*.[pt]*[tz]*", "provenance.json"):
        assert digests(fresh.folder / "results/small", tables) == digests(study.folder / "results/small", tables)


def test_a_zarr_store_gives_the_tables_of_the_h5ad(data, tmp_path):
    import anndata

    stored(anndata.read_h5ad(data), tmp_path / "small.3.zarr")
    tables = {}
    for name, path in (("h5ad", data), ("zarr", tmp_path / "small.3.zarr")):
        keys = {"name": name, "input": str(path), "methods": ["pseudobulk"], "shards": "auto", "stability": False}
        one = Study(tmp_path, configuration(data) | keys, ("tables",))
        finished = one.snakemake()
        assert finished.returncode == 0, finished.stdout
        assert one.planned() == {}
        tables[name] = digests(tmp_path / "results" / name, "*.tsv.gz")
    assert tables["zarr"] == tables["h5ad"]


# Bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inptu": "x.h5ad"}, "Did you mean input"),
        ({"input": "absent.h5ad"}, "absent.h5ad"),
        ({"cell_type": "celltype"}, "cell_type"),
        ({"cell_types": ["B cell"]}, "B cells"),
        ({"counts": "layers/raw"}, "layers/raw"),
        ({"family": "negbin"}, "nb, poisson, bernoulli, gaussian"),
        ({"integration": "agq"}, "Set estimation to ml"),
        ({"contrasts": {"any": []}}, "text or a list of text"),
    ],
)
def test_what_can_be_seen_early_stops_before_any_job(fresh, changes, message):
    finished = fresh.snakemake(**changes)
    assert finished.returncode == 2, finished.stdout
    *_, last = finished.stdout.splitlines()
    assert last.startswith("mlmgen: error: ")
    assert message in last.replace("'", "")
    assert "common.smk" not in finished.stdout
    assert not (fresh.folder / "results").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"contrasts": {"a": "condition[stm] - condition[ctrl]"}}, "condition[stim]"),
        ({"formula": "~ condition +* age + (1 | donor)"}, "here"),
        ({"donor": "patient"}, "batch"),
        ({"reference": {"condition": "control"}}, "ctrl"),
        ({"formula": "~ condition"}, "Add (1 | donor)"),
        ({"formula": "~ condition + (1 + agee | donor)"}, "age"),
        ({"filters": {"min_cells_per_donor": 5000}}, "none of the 2 cell types can be analysed"),
    ],
)
def test_a_design_that_cannot_be_is_seen_before_any_job_and_leaves_results_alone(study, changes, message):
    before = digests(study.folder / "results/small")
    finished = study.snakemake(**changes)
    assert finished.returncode == 2
    (line,) = (line for line in finished.stdout.splitlines() if line.startswith("mlmgen: error: "))
    assert message in line
    assert finished.stdout.rstrip().endswith(line)
    assert "Traceback" not in finished.stdout
    assert digests(study.folder / "results/small") == before
    assert study.planned() == {}


def test_values_that_are_not_counts_stop_the_first_job_and_leave_the_tables_alone(study, data, tmp_path):
    import anndata

    folder = tmp_path / "copy"
    shutil.copytree(study.folder, folder)
    wrong = anndata.read_h5ad(data)
    wrong.X = wrong.X * 0.5
    (folder / "data.h5ad").write_bytes(Path(data).read_bytes())
    copy = Study(folder, study.config | {"input": "data.h5ad"}, ("tables",))
    assert copy.snakemake().returncode == 0
    before = digests(folder / "results/small", TABLES)
    wrong.write_h5ad(folder / "data.h5ad")
    finished = copy.snakemake()
    assert finished.returncode != 0
    first, *_, last = (line for line in finished.stdout.splitlines() if line.startswith("mlmgen: error: "))
    assert "stored values are not whole numbers" in first
    assert first == last  # repeated below the report of the failed job
    assert finished.stdout.index("Error in rule") < finished.stdout.rindex(last)
    assert "Traceback" not in finished.stdout
    assert "rule prepare:" not in finished.stdout
    assert digests(folder / "results/small", TABLES) == before


def test_shell_commands_can_be_pasted(fresh):
    finished = fresh.snakemake("--dry-run", "--printshellcmds")
    commands = re.findall(r"mlmgen fit .*", finished.stdout)
    assert len(commands) == SHARDED
    settings = re.search(r"--settings '(.*?)'", commands[0])[1]
    assert json.loads(settings)["family"] == "nb"
