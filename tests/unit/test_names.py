"""Names of cell types as file names."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmgen import names
from mlmgen.errors import UserError


@pytest.mark.parametrize("plain", ["all", "cd4nc", "CD4_T", "B.1", "T-reg", "01"])
def test_safe_names_are_kept(plain):
    assert names.slug(plain) == plain


@pytest.mark.parametrize(
    ("name", "readable"),
    [("CD14+ Monocytes", "CD14_Monocytes"), ("T/NK", "T_NK"), ("γδ T", "T"), ("..", "unnamed"), ("", "unnamed")],
)
def test_other_names_get_a_suffix(name, readable):
    assert re.fullmatch(re.escape(readable) + "-[0-9a-f]{6}", names.slug(name))


def test_names_that_read_alike_stay_apart():
    assert len({names.slug(name) for name in ("CD4 T", "CD4+T", "CD4_T", "CD4 T ", "CD4/T")}) == 5


@given(st.text(max_size=300))
def test_slugs_are_safe_file_names(name):
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,66}", names.slug(name))


def test_all_cell_types_in_their_order():
    assert names.select(("B", "NK", "T cells"), "all", "cell_type") == {
        "B": "B",
        "NK": "NK",
        names.slug("T cells"): "T cells",
    }


def test_the_order_of_the_list_does_not_matter():
    assert list(names.select(("B", "NK", "T"), ["T", "B"], "cell_type").values()) == ["B", "T"]


def test_names_that_differ_in_case_stay_apart_on_every_file_system():
    slugs = list(names.select(("Treg", "TREG", "B"), "all", "cell_type"))
    assert len({slug.casefold() for slug in slugs}) == 3
    assert slugs[2] == "B"


def test_an_absent_cell_type_is_named_with_the_nearest():
    with pytest.raises(UserError) as error:
        names.select(("B cells", "NK cells"), ["B cell"], "cell_type")
    assert "'B cell'" in str(error.value)
    assert "Did you mean 'B cells'? The values with cells are B cells, NK cells" in error.value.do
    assert "cell_types" in error.value.where


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, "1"), (1.0, "1"), (0.5, "0.5"), (True, "True"), ("01", "01"), (b"x", "x"), (float("inf"), "inf")]
    + [(np.float32(2), "2"), (np.float32(0.5), "0.5"), (np.int64(3), "3"), (np.bool_(True), "True")],
)
def test_values_as_text(value, expected):
    assert names.text(value) == expected
