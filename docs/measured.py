"""The tables of the calibration study, read from the README beside its code, for the figures of the pages."""

from pathlib import Path

import pandas as pd

STUDY = Path(__file__).parent.parent / "benchmarks/calibration/README.md"


def table(heading: str) -> pd.DataFrame:
    """Return the table under a heading of the calibration study.

    Parameters
    ----------
    heading : str

    Returns
    -------
    DataFrame
        Numbers are float64; a column of values with standard errors, ``0.05 ± 0.01``, is two, the second with the
        suffix ``_se``. Settings and programs are text.
    """
    lines = STUDY.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    text = pd.DataFrame(rows[2:], columns=rows[0])
    columns = {}
    for name, column in text.items():
        parts = column.str.split(" ± ", expand=True)
        if parts.shape[1] == 2:
            columns[name] = pd.to_numeric(parts[0], errors="coerce")
            columns[f"{name}_se"] = pd.to_numeric(parts[1], errors="coerce")
        else:
            numbers = pd.to_numeric(column.str.replace(",", "").replace("", None), errors="coerce")
            columns[name] = column if numbers.isna().all() else numbers
    return pd.DataFrame(columns)
