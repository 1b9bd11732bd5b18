"""Donors: dots, lines and areas; random effects shrunken beside what each group says alone."""

import numpy as np
import pytest

from mlmgen.errors import UserError
from mlmgen.findings import read
from mlmgen.pl import caterpillar, donors
from mlmgen.pl.drawing import LN2
from mlmgen.story import stories
from tests.unit.finished import finished_run, paired_study
from tests.unit.pl.conftest import offsets, texts

CELL_TYPE = "B cells"


@pytest.fixture(scope="module")
def of_gene(run):
    return stories(run, CELL_TYPE, ["ENS0"], "glmm")["ENS0"]


@pytest.mark.parametrize("term", [None, "donor", "donor:arm"])
def test_shrunken_effects_and_intervals_are_those_of_the_groups(run, of_gene, term):
    ax = caterpillar(run, "Sym0", cell_type=CELL_TYPE, term=term)
    groups = of_gene.groups[of_gene.groups["term"] == (term or "donor")].sort_values("estimate")
    np.testing.assert_allclose(offsets(ax, "shrunken, 95 %")[:, 0], groups["estimate"] / LN2)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == list(groups["level"])
    lines = [one.get_segments() for one in ax.collections if hasattr(one, "get_segments")]
    ends = np.array([segment[:, 0] for segment in lines[1]])
    np.testing.assert_allclose(np.diff(ends, axis=1).ravel(), 2 * 1.959964 * groups["std_error"] / LN2)
    alone = np.sort(offsets(ax, "alone")[:, 0])
    assert np.isin(alone.round(9), (groups["unpooled"] / LN2).round(9)).all()


def test_groups_that_say_nothing_alone_are_at_the_edge(run, monkeypatch, of_gene):
    groups = of_gene.groups.copy()
    groups.loc[0, ["unpooled", "unpooled_se"]] = -9.0, 30.0
    monkeypatch.setattr("mlmgen.story.stories", lambda *_: {"ENS0": of_gene._replace(groups=groups)})
    ax = caterpillar(run, "Sym0", cell_type=CELL_TYPE)
    assert ax.get_xlim()[0] > -5.0
    assert len(offsets(ax, "alone")) == 5
    edge = [one for one in ax.collections if len(one.get_offsets()) == 1 and not one.get_clip_on()]
    assert any(one.get_offsets()[0, 0] == ax.get_xlim()[0] for one in edge)


def test_a_term_or_gene_that_is_not_there(run):
    with pytest.raises(UserError, match="Did you mean 'donor:arm'"):
        caterpillar(run, "Sym0", cell_type=CELL_TYPE, term="donor:arms")
    assert texts(caterpillar(run, "Sym44", cell_type=CELL_TYPE)) == ["The gene was not fitted"]
    assert "The gene was not fitted" in texts(donors(run, "Sym44", cell_type=CELL_TYPE))
    with pytest.raises(UserError, match="Did you mean 'arm'"):
        donors(run, "Sym0", cell_type=CELL_TYPE, by="armm")


def dots(ax):
    """The dots of the samples: the collection with most points."""
    return max((one for one in ax.collections if hasattr(one, "get_sizes")), key=lambda one: len(one.get_offsets()))


@pytest.mark.parametrize("log", [None, True, False])
def test_dots_are_the_means_of_the_samples_by_condition(run, of_gene, log):
    ax = donors(run, "Sym0", cell_type=CELL_TYPE, log=log)
    samples = of_gene.samples
    np.testing.assert_allclose(dots(ax).get_offsets()[:, 1], samples["mean"])
    np.testing.assert_array_equal(np.round(dots(ax).get_offsets()[:, 0]), samples["arm"] == "stim")
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["ctrl", "stim"]
    order = np.argsort(samples["n_cells"], kind="stable")
    assert (np.diff(dots(ax).get_sizes()[order]) >= 0).all()
    assert len(np.unique(dots(ax).get_facecolor(), axis=0)) == 2
    (lines,) = [one for one in ax.collections if hasattr(one, "get_segments")]
    ends = np.array(lines.get_segments())[:, :, 1]
    np.testing.assert_allclose(ends, samples[["ci_low", "ci_high"]])
    assert ax.get_yscale() == ("log" if log else "linear")


def test_lines_join_the_samples_of_a_donor(run, of_gene):
    ax = donors(run, "Sym0", cell_type=CELL_TYPE)
    for donor, rows in of_gene.samples.groupby("donor", observed=True):
        assert any(np.allclose(np.sort(line.get_ydata()), np.sort(rows["mean"])) for line in ax.lines), donor
    assert len(ax.lines) == 6


@pytest.fixture(scope="module")
def unpaired(tmp_path_factory):
    data = paired_study()
    data = data[(data.obs["arm"] == "stim") == data.obs["donor"].isin(["D1", "D2", "D3"])].copy()
    folder = tmp_path_factory.mktemp("unpaired") / "study"
    keys = {"formula": "~ arm + age + (1 | donor)", "reference": {"arm": "stim"}, "stability": False}
    return finished_run(folder, data, **keys)


def test_unpaired_donors_are_not_joined_and_the_reference_comes_first(unpaired):
    ax = donors(unpaired, "Sym0", cell_type=CELL_TYPE)
    assert not len(ax.lines)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["stim", "ctrl"]
    assert len(dots(ax).get_offsets()) == 6


def test_a_number_stands_at_its_value(unpaired):
    ax = donors(unpaired, "Sym0", cell_type=CELL_TYPE, by="age")
    samples = stories(unpaired, CELL_TYPE, ["ENS0"], "glmm")["ENS0"].samples
    np.testing.assert_allclose(dots(ax).get_offsets()[:, 0], samples["age"])
    assert ax.get_xlabel() == "age"


def test_samples_without_counts_are_at_zero(run, monkeypatch, of_gene):
    samples = of_gene.samples.copy()
    samples.loc[0, ["mean", "ci_low", "total_count"]] = 0.0
    monkeypatch.setattr("mlmgen.story.stories", lambda *_: {"ENS0": of_gene._replace(samples=samples)})
    ax = donors(run, "Sym0", cell_type=CELL_TYPE, log=True)
    assert "0" in texts(ax)
    assert 0 < dots(ax).get_offsets()[0, 1] < samples["mean"][1:].min() / 2
    samples[["mean", "ci_low"]] = 0.0
    assert donors(run, "Sym0", cell_type=CELL_TYPE, log=True).get_yscale() == "linear"


def test_one_sample_of_every_donor_and_no_variable(run, monkeypatch, of_gene):
    samples = of_gene.samples.drop(columns=["arm", "age"], errors="ignore").drop_duplicates("donor")
    monkeypatch.setattr("mlmgen.story.stories", lambda *_: {"ENS0": of_gene._replace(samples=samples)})
    ax = donors(read(run.folder), "Sym0", cell_type=CELL_TYPE)
    assert len(dots(ax).get_offsets()) == 6
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["all samples"]
