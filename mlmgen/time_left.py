"""How far a run is and how long it will still take, from the jobs planned and from what was seen of them."""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mlmgen.jobs import RULES, STARTING, UNKNOWN, Job

# Seconds of estimated work that what was seen has to outweigh.
TRUST = 20.0
# Of a job that takes longer than expected, the share of its time so far that it may take more.
LATE = 0.2
# Jobs of a rule from which one is left out, and what one of fewer counts at most: times what was expected.
ENOUGH, MOST_LATE = 3, 3.0
NOT_COUNTED = ("total", "all", "default")  # rules that do nothing


class Event(NamedTuple):
    """What Snakemake says about its jobs.

    Attributes
    ----------
    kind : str
        ``plan`` (jobs by rule), ``started``, ``finished``, ``failed``, ``nothing`` (all is there already) or ``said``.
    time : float
        Seconds since 1970.
    jobs : dict of str to int
        Of a plan.
    job : int
    rule, method, cell_type, text : str
    logs : tuple of str
        Of a job that failed.
    """

    kind: str
    time: float
    jobs: Mapping[str, int] = {}
    job: int = -1
    rule: str = ""
    method: str = ""
    cell_type: str = ""
    logs: tuple[str, ...] = ()
    text: str = ""


class Started(NamedTuple):
    """A job that runs, or ran: its rule, method, cell type, and when it started and ended."""

    rule: str
    method: str
    cell_type: str
    started: float
    ended: float | None = None


class History(NamedTuple):
    """What happened so far.

    Attributes
    ----------
    jobs : dict of str to int
        Jobs of the run by rule; empty before the plan is known.
    seen : dict of int to Started
        By Snakemake's number of the job.
    failed : tuple of Event
    nothing : bool
        Whether there was nothing to do.
    """

    jobs: Mapping[str, int] = {}
    seen: Mapping[int, Started] = {}
    failed: tuple[Event, ...] = ()
    nothing: bool = False


class Left(NamedTuple):
    """How far a run is: jobs done and in all, the share of the work that is done, the seconds that are left."""

    done: int
    total: int
    share: float
    seconds: float


def parsed(line: str) -> Event | None:
    """Read an event as `mlmgen.workflow_events` writes it; None for what is none."""
    try:
        found = json.loads(line)
        return Event(**found | {"logs": tuple(found.get("logs", ()))})
    except (ValueError, TypeError, AttributeError):
        return None


def after(history: History, event: Event) -> History:
    """Return the history with one more event."""
    if event.kind == "plan":
        return history._replace(jobs={rule: n for rule, n in event.jobs.items() if rule not in NOT_COUNTED})
    if event.kind == "nothing":
        return history._replace(nothing=True)
    if event.kind == "started" and event.rule not in NOT_COUNTED:
        started = Started(event.rule, event.method, event.cell_type, event.time)
        return history._replace(seen={**history.seen, event.job: started})
    if event.kind == "failed":
        seen = {job: one for job, one in history.seen.items() if job != event.job}
        return history._replace(seen=seen, failed=(*history.failed, event))
    if event.kind == "finished" and event.job in history.seen:
        ended = history.seen[event.job]._replace(ended=event.time)
        return history._replace(seen={**history.seen, event.job: ended})
    return history


def running(history: History) -> tuple[Started, ...]:
    """Return the jobs that run, in the order of their start."""
    return tuple(one for one in history.seen.values() if one.ended is None)


def left(history: History, plan: Sequence[Job], cores: int, now: float) -> Left:
    """Estimate what is left.

    Parameters
    ----------
    history : History
    plan : sequence of Job
        Of a complete run (`mlmgen.jobs.planned`); jobs of rules that are not in it take as long as those seen.
    cores : int
        Jobs that run at once.
    now : float
        Seconds since 1970.
    """
    expected = {(job.rule, job.method, job.cell_type): job.seconds for job in plan}
    factors = _factors(history, expected)
    pending = _pending(history, plan, factors)
    going = [(one, _remaining(one, expected, factors, now)) for one in running(history)]
    work = sum(number * seconds for _, number, seconds in pending) + sum(seconds for _, seconds in going)
    ended = [one for one in history.seen.values() if one.ended is not None]
    done = sum(one.ended - one.started for one in ended) + sum(now - one.started for one, _ in going)
    longest = _longest(pending, going, cores)
    total = sum(history.jobs.values())
    share = done / (done + work) if done + work > 0 else 1.0
    return Left(len(ended), total, share, max(work / cores, longest))


def _factors(history: History, expected: Mapping[tuple, float]) -> dict[str, float]:
    """Return by what the estimates of each rule are to be multiplied: what was seen over what was expected."""
    pairs: dict[str, list[tuple[float, float]]] = {}
    for one in history.seen.values():
        key = (one.rule, one.method, one.cell_type)
        if one.ended is not None and key in expected:
            pairs.setdefault(one.rule, []).append((one.ended - one.started, expected[key]))
    took, should = dict.fromkeys(RULES, 0.0), dict.fromkeys(RULES, 0.0)
    for rule, found in pairs.items():
        usual = _usual(found)
        took[rule], should[rule] = sum(a for a, _ in usual), sum(b for _, b in usual)
    overall = (sum(took.values()) + TRUST) / (sum(should.values()) + TRUST)
    return {rule: (took[rule] + TRUST * overall) / (should[rule] + TRUST) for rule in took} | {"": overall}


def _usual(pairs: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Leave out the job that was late most: the first ones of a machine wait for the compiler, those after do not."""
    if len(pairs) >= ENOUGH:
        late = max(range(len(pairs)), key=lambda i: pairs[i][0] - pairs[i][1])
        return [pair for i, pair in enumerate(pairs) if i != late]
    return [(min(took, MOST_LATE * expected + STARTING), expected) for took, expected in pairs]


def _pending(history: History, plan: Sequence[Job], factors: Mapping[str, float]) -> list[tuple[Job, float, float]]:
    """Return the kinds of jobs that have not started, with how many of each are expected and the seconds of one.

    A run that goes on has some jobs of a rule left; which of them Snakemake does not say before they start.
    """
    begun: dict[tuple, int] = {}
    for one in history.seen.values():
        key = (one.rule, one.method, one.cell_type)
        begun[key] = begun.get(key, 0) + 1
    found = []
    for rule, number in history.jobs.items():
        started = sum(n for key, n in begun.items() if key[0] == rule)
        kinds = [(job, max(job.number - begun.get(job[:3], 0), 0)) for job in plan if job.rule == rule]
        of_all, wanted = sum(n for _, n in kinds), max(number - started, 0)
        if wanted and not of_all:
            kinds, of_all = [(Job(rule, "", "", wanted, _typical(history, rule), 0), wanted)], wanted
        factor = factors.get(rule, 1.0)
        found += [(job, n * wanted / of_all, factor * job.seconds) for job, n in kinds if n * wanted > 0]
    return found


def _typical(history: History, rule: str) -> float:
    took = [one.ended - one.started for one in history.seen.values() if one.rule == rule and one.ended is not None]
    return sum(took) / len(took) if took else STARTING + UNKNOWN


def _remaining(one: Started, expected: Mapping[tuple, float], factors: Mapping[str, float], now: float) -> float:
    whole = expected.get((one.rule, one.method, one.cell_type), STARTING + UNKNOWN) * factors.get(one.rule, 1.0)
    so_far = max(now - one.started, 0.0)
    return max(whole - so_far, LATE * so_far)


def _longest(pending: Sequence[tuple[Job, float, float]], going: Sequence[tuple[Started, float]], cores: int) -> float:
    """Return the time of what has to be done one after the other: a cell type's stages, and what is of all."""
    of_type: dict[str, dict[str, float]] = {}
    for job, number, seconds in pending:
        stages = of_type.setdefault(job.cell_type, {})
        rounds = max(min(number, 1.0), number / cores)
        stages[job.rule] = max(stages.get(job.rule, 0.0), rounds * seconds)
    for one, seconds in going:
        stages = of_type.setdefault(one.cell_type, {})
        stages[one.rule] = max(stages.get(one.rule, 0.0), seconds)
    common = sum(seconds for rule, seconds in of_type.pop("", {}).items() if rule != "contrasts")
    return common + max((sum(stages.values()) for stages in of_type.values()), default=0.0)
