"""What every page that runs code needs: how figures, tables and warnings look."""

import warnings

import matplotlib.pyplot as plt
import pandas as pd

# Okabe and Ito's palette, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#888888"


def set_style() -> None:
    """Set the style of figures and tables, and print warnings as sentences."""
    plt.rcParams.update(
        {
            "figure.figsize": (6.4, 3.2),
            "figure.dpi": 110,
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": plt.cycler(color=[BLUE, ORANGE, GREEN, RED, GREY]),
        }
    )
    pd.set_option("display.precision", 3, "display.width", 110, "display.max_columns", 12, "display.max_rows", 60)
    warnings.showwarning = lambda message, category, *_: print(f"{category.__name__}: {message}")


set_style()
