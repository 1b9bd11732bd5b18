"""Names beside points do not overlap, stay in the axes, and give way where there is no room."""

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.text import Text

from mlmgen.pl.labels import label


def boxes(ax, placed):
    ax.figure.canvas.draw()
    return np.array([Text.get_window_extent(text).extents for text in placed])


@pytest.mark.parametrize("layout", [None, "constrained"])
@pytest.mark.parametrize("spread", [1.0, 0.05])
def test_names_do_not_overlap(layout, spread):
    rng = np.random.default_rng(3)
    ax = plt.subplots(layout=layout)[1]
    x, y = rng.normal(0.0, spread, (2, 15))
    ax.set(xlim=(-3, 3), ylim=(-3, 3), xlabel="x", ylabel="y", title="a title")
    placed = label(ax, x, y, [f"GENE{i}" for i in range(15)])
    found, area = boxes(ax, placed), ax.get_window_extent().extents
    assert len(placed) >= 8
    assert (found[:, :2] >= area[:2]).all()
    assert (found[:, 2:] <= area[2:]).all()
    for i, a in enumerate(found):
        for b in found[i + 1 :]:
            assert a[0] >= b[2] or b[0] >= a[2] or a[1] >= b[3] or b[1] >= a[3]


def test_the_first_names_have_the_right_of_way():
    ax = plt.subplots(figsize=(1.2, 1.2))[1]
    ax.set(xlim=(-1, 1), ylim=(-1, 1))
    placed = label(ax, np.zeros(30), np.zeros(30), [f"GENE{i}" for i in range(30)])
    assert 0 < len(placed) < 30
    assert placed[0].get_text() == "GENE0"
    assert len(ax.texts) == len(placed)


def test_other_points_stay_visible():
    ax = plt.subplots()[1]
    ax.set(xlim=(-1, 1), ylim=(-1, 1))
    others = np.column_stack([np.linspace(0.01, 0.3, 40), np.full(40, 0.03)])
    (text,) = label(ax, np.zeros(1), np.zeros(1), ["GENE"], others)
    low, high = boxes(ax, [text])[0].reshape(2, 2)
    pixels = ax.transData.transform(others)
    assert not ((pixels > low) & (pixels < high)).all(axis=1).any()
