"""Codes, blocks and the text of blocks: what goes in comes out, and nothing of it means something in HTML."""

import gzip
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmgen.report import packing


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_bytes_come_back_as_one_stream_without_anything_after_its_end(parts):
    text = packing.packed(parts)
    assert packing.unpacked(text) == b"".join(parts)
    # DecompressionStream refuses a byte too many; so does this
    assert gzip.decompress(packing.untexted(text)) == b"".join(parts)
    assert len(packing.untexted(text)) == len(text) * 13 // 16


def test_text_has_no_character_that_means_something():
    text = packing.packed(np.random.default_rng(1).integers(0, 256, 20_000).astype(np.uint8).tobytes())
    assert re.fullmatch(r"[!-~]+", text)
    assert not set(text) & set("<>& \n")
    assert len(set(text)) == 91
    assert len(text) < 1.24 * 20_050  # base64 needs 1.33


def test_no_time_and_no_name_in_the_stream():
    content = packing.untexted(packing.packed(b"genes" * 100))
    assert content[:10] == b"\x1f\x8b\x08\0\0\0\0\0\x02\xff"
    assert packing.packed(b"genes" * 100) == packing.packed(b"genes" * 100)


@pytest.mark.parametrize("kind", ["i1", "i2"])
def test_codes_that_do_not_fit_stand_apart(kind):
    limit = np.iinfo(packing.TYPES[kind])
    codes = np.array([0, -1, limit.max, limit.max + 1, limit.min + 1, limit.min, limit.min - 1, 10**6, -(10**6)])
    columns = {}
    packing.add(columns, "x", codes, kind)
    assert set(columns) == {"x", "x!"}
    assert columns["x!"].size == 5
    np.testing.assert_array_equal(packing.codes_of(columns, "x"), codes)
    header, stored = packing.unblock(b"".join(packing.block({"n": 9}, columns)))
    assert header["n"] == 9
    np.testing.assert_array_equal(packing.codes_of(stored, "x"), codes)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=50), st.sampled_from([0.1, 0.2, 0.05]))
def test_a_rounded_value_is_at_most_half_a_step_away(values, step):
    values, shift = np.array(values), packing.dither(np.arange(len(values)))
    codes = packing.quantized(values, step, shift)
    assert np.abs(packing.restored(codes, step, shift) - values).max() <= step / 2 + 1e-9


def test_dither_fills_the_step_evenly_so_that_equal_values_do_not_pile_up():
    shift = packing.dither(np.arange(1000))
    assert shift.min() >= -0.5
    assert shift.max() < 0.5
    counts = np.histogram(shift, bins=20, range=(-0.5, 0.5))[0]
    assert counts.max() - counts.min() <= 4


def test_what_is_missing_has_the_code_of_nothing():
    assert packing.quantized(np.array([np.nan, np.inf, 0.31]), 0.1).tolist() == [0, 0, 3]


@given(st.sets(st.integers(0, 10_000), max_size=40))
def test_places_come_back_from_their_gaps(places):
    places = np.array(sorted(places), dtype=np.int64)
    np.testing.assert_array_equal(np.cumsum(packing.gaps(places) + 1) - 1, places)


def test_numbers_for_json_are_short_and_missing_ones_are_null():
    values = [1234.56, 0.000123456, 2.0, np.nan, np.inf, -0.0]
    assert packing.rounded(values) == [1230, 0.000123, 2, None, None, 0]
    with pytest.raises(ValueError, match="JSON"):
        packing.written({"x": float("nan")})


def test_text_that_is_no_valid_unicode_is_written_all_the_same():
    assert packing.written(["\udcff", "日本語", "</script>"]) == '["?","日本語","</script>"]'.encode()
