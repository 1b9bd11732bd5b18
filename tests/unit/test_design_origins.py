"""Donor ids that collide between studies or batches, and origins that coincide with a factor."""

import numpy as np
import pandas as pd
import pytest

from mlmgen.design_origins import origin_columns, origin_warnings


def cells(rows, **columns) -> pd.DataFrame:
    """Ten cells for each (origin, donor, condition)."""
    table = pd.DataFrame([row for row in rows for _ in range(10)], columns=["origin", "donor", "condition"])
    return table.assign(**{name: np.repeat(values, 10) for name, values in columns.items()})


def found(table, origin="batch", variables=("condition",), **keywords):
    return origin_warnings(table.rename(columns={"origin": origin}), "donor", variables, **keywords)


def unpaired(ids, origins=("A", "B")):
    """The same ids in each origin, alternately ctrl and stim."""
    return [(origin, i, ("ctrl", "stim")[k % 2]) for origin in origins for k, i in enumerate(ids)]


LONG = ("HX1001", "HX1002", "HX1003", "HX1004")


@pytest.mark.parametrize(
    "names", [("1", "2", "3", "10"), ("D1", "D2", "D3", "D4"), ("donor_01", "donor_02"), (1, 2, 3)]
)
def test_the_same_short_ids_in_each_batch(names):
    (warning,) = found(cells(unpaired(names)))
    shown = ", ".join(map(str, names))
    assert warning == (
        f"donor {shown} occur in several levels of batch (and A, B have the same short ids): if these are different "
        "donors, they are now counted as one; give each an id of its own, such as batch and donor joined, and run again"
    )


def test_long_ids_and_other_sets_of_ids_are_the_same_people():
    assert found(cells(unpaired(LONG))) == ()
    assert found(cells([*unpaired(("1", "2", "3"), "A"), *unpaired(("4", "5", "6"), "B")])) == ()
    # one donor was run again with others; nothing suggests two people
    assert found(cells([*unpaired(("1", "2", "3"), "A"), *unpaired(("1", "5", "6"), "B")])) == ()


@pytest.mark.parametrize(("origin", "expected"), [("study", 1), ("dataset", 1), ("data_set", 1), ("batch", 0)])
def test_one_id_with_another_condition_in_each_study(origin, expected):
    rows = [("A", i, "ctrl") for i in LONG] + [("B", i, "stim") for i in LONG]
    rows += [("A", "HX1005", "stim"), ("B", "HX1006", "ctrl")]
    warnings = [text for text in found(cells(rows), origin) if "occur" in text]
    assert len(warnings) == expected
    if expected:
        assert f"of {origin} (each time with another condition: HX1001 is ctrl in A, stim in B)" in warnings[0]


def test_pairs_whose_conditions_ran_in_two_lanes_are_no_collision():
    rows = [(origin, i, condition) for origin, condition in (("1", "ctrl"), ("2", "stim")) for i in LONG]
    (warning,) = found(cells(rows), "lane")
    assert warning == (
        "every lane has one condition only (1: ctrl, 2: stim): what differs between the levels of lane is counted as "
        "an effect of condition, and no formula can tell them apart"
    )


def test_another_sex_shows_that_an_id_is_two_people():
    rows = [("A", "P7", "ctrl"), ("A", "P8", "stim"), ("B", "P7", "ctrl"), ("B", "P9", "stim")]
    (warning,) = found(cells(rows, sex=["f", "m", "m", "m"]))
    assert warning.startswith(
        "donor P7 occurs in several levels of batch (with different sex: P7 is f in A, m in B): if these are different "
    )
    assert found(cells(rows, sex=["f", "m", "f", "m"])) == ()
    assert found(cells(rows, sex=["f", "m", None, "m"])) == ()


def test_a_library_for_each_sample_says_nothing():
    rows = [(f"L{k}", f"D{k // 2}", ("ctrl", "stim")[k % 2]) for k in range(12)]
    assert found(cells(rows), "library") == ()


def test_batches_that_coincide_with_the_condition():
    rows = [("AB"[k % 2], f"HX{1000 + k}", ("ctrl", "stim")[k % 2]) for k in range(8)]
    (warning,) = found(cells(rows))
    assert warning.startswith("every batch has one condition only (A: ctrl, B: stim): what differs between")
    rows[0] = ("B", "HX1000", "ctrl")
    assert found(cells(rows)) == ()


def test_columns_of_the_formula_are_left_to_the_formula():
    rows = [("AB"[k % 2], f"HX{1000 + k}", ("ctrl", "stim")[k % 2]) for k in range(8)]
    assert found(cells(rows), "batch", variables=("condition", "batch")) == ()
    assert found(cells(rows), "batch", sample="batch") == ()


def test_missing_values_and_coordinates_are_passed_over():
    rows = unpaired(("1", "2", "3"))
    table = cells(rows)
    table["origin"] = table["origin"].where(table["origin"] == "A")
    assert found(table) == ()
    position = cells(rows).assign(origin=lambda t: np.where(t.origin == "A", 0.5, 1.5))
    assert found(position, "center_x") == ()


def test_the_order_of_the_cells_does_not_matter():
    table = cells(unpaired(("1", "2", "3")), sex=["f", "m", "f", "m", "f", "f"])
    first = found(table)
    assert len(first) == 1
    assert found(table.sample(frac=1, random_state=1)) == first
    assert found(table.assign(donor=table["donor"].astype("category"))) == first


def test_names_of_columns():
    names = [
        "Batch",
        "batch_id",
        "dataSet",
        "orig.lane",
        "Pool2",
        "studies",
        "brunch",
        "collage",
        "sex",
        "Age",
        "stage",
    ]
    assert origin_columns(names) == ("Batch", "batch_id", "dataSet", "orig.lane", "Pool2", "sex", "Age")
