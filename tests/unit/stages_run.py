"""Run the stages by hand, from file to file, in a folder."""

import json
from pathlib import Path

import anndata
import pandas as pd

from mlmgen import config, io, names, stages_contrasts, stages_fit, stages_prepare, stages_stability, stages_tables

TABLES = ("effects", "coefficients", "variances", "priors", "fits")


class Run:
    """A folder with an input and the stages on it.

    Attributes
    ----------
    folder, input : Path
    config : dict
        Complete; `set` changes it.
    """

    def __init__(self, folder: Path, data: anndata.AnnData, **keys):
        self.folder, self.input = folder, folder / "study.h5ad"
        folder.mkdir(parents=True, exist_ok=True)
        data.write_h5ad(self.input)
        self.set(**keys)

    def set(self, **keys):
        minimal = {"input": str(self.input), "donor": "donor", "formula": "~ arm + (1 | donor)"}
        self.config = config.load(minimal | {"filters": {"min_cells_per_donor": 2}} | keys)

    def own_settings(self, stage: str) -> dict:
        return json.loads(config.stage(self.config, stage))

    def settings(self, stage: str) -> dict:
        """With those of the stages before it."""
        return json.loads(config.chain(self.config, stage))

    def paths(self, level: str) -> list[str]:
        present = io.cell_types(self.input, self.config["cell_type"])
        chosen = names.select(present, self.config["cell_types"], self.config["cell_type"])
        return [str(self.folder / level / f"{slug}.h5ad") for slug in chosen]

    @property
    def cells(self) -> str:
        return str(self.folder / "split" / "cells.npz")

    def check(self) -> None:
        """What the Snakefile checks before any job."""
        stages_contrasts.check(self.config)

    def split(self, memory: int = stages_prepare.MEMORY) -> list[str]:
        """The runs of every cell type that is there."""
        present = names.file_names(io.cell_types(self.input, self.config["cell_type"]))
        paths = [str(self.folder / "split" / f"{slug}.h5") for slug in present]
        stages_prepare.split(str(self.input), paths, self.cells, self.settings("split"), memory)
        return paths

    def prepare(self, memory: int = stages_prepare.MEMORY) -> list[str]:
        """Split and prepare the cells, and their sums per sample; return the files of the cells."""
        self.split(memory)
        settings, factors = self.settings("prepare"), None
        if self.config["size_factors"] == "tmm":
            factors = str(self.folder / "split" / "size_factors.npz")
            chosen = [str(self.folder / "split" / f"{Path(path).stem}.h5") for path in self.paths("prepared")]
            stages_prepare.size_factors(str(self.input), chosen, self.cells, factors, settings)
        for cells, samples in zip(self.paths("prepared"), self.paths("pseudobulk"), strict=True):
            split, chosen = str(self.folder / "split" / f"{Path(cells).stem}.h5"), self.config["cell_types"]
            stages_prepare.prepare(
                str(self.input), split, self.cells, cells, samples, settings, chosen, factors, memory
            )  # fmt: skip
        return self.paths("prepared")

    def pseudobulk(self) -> list[str]:
        """The files of the samples, which `prepare` wrote."""
        return self.paths("pseudobulk")

    def contrasts(self) -> dict:
        output = str(self.folder / "contrasts.json")
        methods, design, settings = self.config["methods"], str(self.folder / "design"), self.settings("contrasts")
        files = (str(self.input), self.cells, self.paths("prepared"), output)
        stages_contrasts.contrasts(*files, settings, methods=methods, design=design)
        return io.read_json(output)

    def record(self, kind: str, method: str, slug: str) -> Path:
        """The file of one shard, or of all of them for ``moderated`` and ``stability``, its folder made."""
        name = f"{slug}.npz" if kind in ("moderated", "stability") else f"{slug}/1-of-1.npz"
        path = self.folder / kind / method / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def fit(self, method: str) -> None:
        """Fit, moderate and test every cell type in one shard."""
        for path in self.paths({"glmm": "prepared", "pseudobulk": "pseudobulk"}[method]):
            slug = Path(path).stem
            fits, moderated, tests = (str(self.record(k, method, slug)) for k in ("fits", "moderated", "tests"))
            stages_fit.fit(path, method, (1, 1), fits, self.settings("fit"), 1)
            stages_fit.moderate(path, [fits], moderated, self.settings("moderate"), 1)
            stages_fit.test(path, fits, moderated, (1, 1), tests, self.settings("test"), 1)

    def leave_out(self, method: str) -> None:
        """Leave out each donor for the reported effects of every cell type."""
        for path in self.paths({"glmm": "prepared", "pseudobulk": "pseudobulk"}[method]):
            output = str(self.record("stability", method, Path(path).stem))
            methods = self.config["methods"]
            arguments = (methods, [1] * len(methods), str(self.folder), output, self.settings("stability"), 1)
            stages_stability.stability(path, method, *arguments)

    def tables(self) -> dict[str, pd.DataFrame]:
        """Do everything and return the result tables."""
        methods = self.config["methods"]
        self.prepare()
        self.contrasts()
        for method in methods:
            self.fit(method)
        for method in methods if self.config["stability"] else ():
            self.leave_out(method)
        shards = [1] * len(methods) * len(self.paths("prepared"))
        arguments = (self.paths("prepared"), str(self.folder / "contrasts.json"), str(self.input), methods, shards)
        stages_tables.tables(*arguments, str(self.folder), self.settings("tables"), 1)
        return {name: pd.read_parquet(self.folder / f"{name}.parquet") for name in TABLES}
