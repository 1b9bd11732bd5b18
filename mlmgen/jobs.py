"""The jobs of a run as the workflow plans them, with what each is estimated to take."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from mlmgen import sizing
from mlmgen.sizing import Sizes

# The rules in the order of a run; the first ones, up to prepare, and the last are of all cell types together.
RULES = ("split", "size_factors", "prepare", "fit", "moderate", "test", "stability", "audit", "contrasts", "tables")
RULES += ("report", "figures")
# Seconds of a job beside its work: Python's imports, and Snakemake between two jobs.
STARTING = 1.2
# Of rules whose work is not estimated: s, and s a nonzero of the counts (benchmarks/scale, a million cells).
SPLIT, PREPARE = 4e-8, 7.5e-8
OTHERS = {"contrasts": 2.0, "tables": 2.5, "report": 5.0, "figures": 2.0, "size_factors": 1.0}
UNKNOWN = 3.0
PICTURE = 0.25  # s
OF_CONTRASTS = 2000  # MB
# Snakemake's own start, and reading the design: s.
PLANNING = 4.0


class Job(NamedTuple):
    """A kind of job of a run.

    Attributes
    ----------
    rule, method, cell_type : str
        The cell type by its file name; both empty where a rule is of all.
    number : int
        Jobs of this kind: shards.
    seconds : float
        Of each.
    megabytes : int
        That each asks for.
    """

    rule: str
    method: str
    cell_type: str
    number: int
    seconds: float
    megabytes: int


def planned(settings: dict, sizes: Mapping[str, Sizes], present: int, streaming: int) -> tuple[Job, ...]:
    """Return the jobs of a complete run.

    Parameters
    ----------
    settings : dict
        From `mlmgen.config.load`.
    sizes : mapping of str to Sizes
        By slug, from `mlmgen.sizing.estimate`.
    present : int
        Cell types of the input, analysed or not.
    streaming : int
        MB that a job which reads counts may take.
    """
    nonzeros = sum(one.nonzeros for one in sizes.values()) * max(1.0, present / max(len(sizes), 1))
    tmm = settings["size_factors"] == "tmm"
    found = [Job("split", "", "", 1, STARTING + SPLIT * nonzeros, streaming)]
    found += [_of_all("size_factors", sizing.MOST_STREAMING, SPLIT * nonzeros)] * tmm
    for slug, one in sizes.items():
        found.append(Job("prepare", "", slug, 1, STARTING + PREPARE * one.nonzeros, streaming))
        found += [job for method in settings["methods"] for job in _of_method(settings, slug, one, method)]
    tables = sum(one.tables[0] for one in sizes.values())
    # of each contrast: one picture a method and one of both; of each cell type one a method
    methods, contrasts = len(settings["methods"]), len(settings["contrasts"] or (None,))
    pictures = len(sizes) * (contrasts * (methods + (methods > 1)) + methods)
    pictures = PICTURE * min(pictures, sizing.MOST_PICTURES)
    last = {"contrasts": 0.0, "tables": tables, "figures": pictures, "report": tables}
    found += [_of_all(rule, _asked(rule, sizes), work) for rule, work in last.items()]
    return tuple(found)


def _asked(rule: str, sizes: Mapping[str, Sizes]) -> int:
    """Return the memory that the job of a rule of all cell types asks for, MB."""
    return sizing.megabytes("tables", "", list(sizes.values())) if rule != "contrasts" else OF_CONTRASTS


def _of_all(rule: str, megabytes: int, work: float) -> Job:
    return Job(rule, "", "", 1, STARTING + OTHERS[rule] + work, megabytes)


def _of_method(settings: dict, slug: str, one: Sizes, method: str) -> list[Job]:
    rules = ["fit", "moderate", "test", *(name for name in ("stability", "audit") if settings[name])]
    return [
        Job(
            rule,
            method,
            slug,
            one.shards[method] if rule in sizing.SCATTERED else 1,
            STARTING + one.seconds[rule, method],
            sizing.megabytes(rule, method, one),
        )
        for rule in rules
    ]


def counts(jobs: tuple[Job, ...]) -> dict[str, int]:
    """Count the jobs of each rule, in the order of a run."""
    found = Counter()
    for job in jobs:
        found[job.rule] += job.number
    return {rule: found[rule] for rule in sorted(found, key=RULES.index)}


def elapsed(jobs: tuple[Job, ...], cores: int) -> float:
    """Estimate how long a run takes on so many cores, s.

    No shorter than all work shared by the cores, nor than the longest way through the stages of a cell type.
    """
    work = sum(job.number * job.seconds for job in jobs)
    return PLANNING + max(work / cores, _longest(jobs, cores))


def _longest(jobs: tuple[Job, ...], cores: int) -> float:
    """Return the length of the longest way: what is of all cell types, and the slowest cell type's stages."""
    of_type: dict[str, dict[str, float]] = {}
    for job in jobs:
        stages = of_type.setdefault(job.cell_type, {})
        stages[job.rule] = max(stages.get(job.rule, 0.0), math.ceil(job.number / cores) * job.seconds)
    common = sum(seconds for rule, seconds in of_type.pop("", {}).items() if rule != "contrasts")
    return common + max((sum(stages.values()) for stages in of_type.values()), default=0.0)
