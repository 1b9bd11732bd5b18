"""Errors in the words of a notebook."""

import pytest

from mlmgen.errors import UserError
from mlmgen.notebook.wording import arguments


def reworded(what, where, do, frame):
    with pytest.raises(UserError) as caught, arguments(frame):
        raise UserError(what, where, do)
    return caught.value.what, caught.value.where, caught.value.do


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (
            False,
            ("obs column 'x' is missing in 3 cells", "argument formula, obs of the data frame", "Leave these out."),
        ),
        (True, ("column 'x' is missing in 3 rows", "argument formula, the data frame", "Leave these out.")),
    ],
)
def test_keys_are_arguments_and_cells_of_a_table_are_rows(frame, expected):
    what, where = "obs column 'x' is missing in 3 cells", "configuration key formula, obs of the data frame"
    assert reworded(what, where, "Leave these out of the file.", frame) == expected


def test_columns_and_contrasts_keep_their_names():
    found = reworded("a", "the data frame, obs['n cells']", "b", True)
    assert found[1] == "the data frame, column 'n cells'"
    assert reworded("a", "configuration key contrasts.my test", "b", False)[1] == "argument contrasts['my test']"


def test_other_errors_pass():
    with pytest.raises(KeyError), arguments():
        raise KeyError("x")
