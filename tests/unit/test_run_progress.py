"""How far a run is: events as Snakemake gives them, the arithmetic of the time left, and what is shown."""

import io
import json
import logging
import sys

import pytest

from mlmgen import cores, display, jobs, run, time_left, workflow_events
from mlmgen.checking import Planned
from mlmgen.errors import UserError
from mlmgen.jobs import Job
from mlmgen.progress import roughly
from mlmgen.time_left import Event, History, after, left

PLAN = (
    Job("split", "", "", 1, 10.0, 1000),
    Job("prepare", "", "B", 1, 10.0, 1000),
    Job("fit", "glmm", "B", 4, 100.0, 1000),
    Job("moderate", "glmm", "B", 1, 10.0, 1000),
    Job("test", "glmm", "B", 4, 50.0, 1000),
    Job("tables", "", "", 1, 20.0, 1000),
)
ALL = Event(
    "plan", 0.0, {"split": 1, "prepare": 1, "fit": 4, "moderate": 1, "test": 4, "tables": 1, "all": 1, "total": 13}
)
PLANNED = Planned({}, {}, {"B": "B cells"}, PLAN)


def told(*events: Event) -> History:
    history = History()
    for event in events:
        history = after(history, event)
    return history


def ran(job: int, rule: str, started: float, ended: float, cell_type: str = "B", method: str = "glmm") -> list[Event]:
    return [
        Event("started", started, job=job, rule=rule, method=method, cell_type=cell_type),
        Event("finished", ended, job=job),
    ]


def test_before_any_job_the_estimates_count():
    seen = left(told(ALL), PLAN, 1, 0.0)
    assert (seen.done, seen.total, seen.share) == (0, 12, 0.0)
    assert seen.seconds == pytest.approx(10 + 10 + 400 + 10 + 200 + 20)


def test_cores_share_the_work_but_not_what_comes_one_after_the_other():
    assert left(told(ALL), PLAN, 2, 0.0).seconds == pytest.approx(350.0)  # by work 325, less than the way
    assert left(told(ALL), PLAN, 4, 0.0).seconds == pytest.approx(10 + 10 + 100 + 10 + 50 + 20)
    assert left(told(ALL), PLAN, 400, 0.0).seconds == pytest.approx(200.0)


def test_what_was_seen_corrects_the_estimate_of_its_rule_most():
    """A fit that took twice its 100 s: fits that follow take nearly twice as long, other rules a bit less than that."""
    history = told(ALL, *ran(1, "split", 0, 10, "", ""), *ran(2, "prepare", 10, 20, method=""), *ran(3, "fit", 20, 220))
    seen = left(history, PLAN, 1, 220.0)
    overall = (220 + time_left.TRUST) / (120 + time_left.TRUST)
    of_fits = (200 + time_left.TRUST * overall) / (100 + time_left.TRUST)
    assert 1.9 < of_fits < 2.0
    assert seen.seconds == pytest.approx(of_fits * 300 + overall * (10 + 200 + 20))
    assert seen.share == pytest.approx(220 / (220 + seen.seconds))


def test_the_compiler_does_not_count_for_what_follows():
    """The first of four short fits waits a minute for the compiler; the others take what was expected."""
    plan = (Job("fit", "glmm", "B", 10, 2.0, 1000),)
    events = [Event("plan", 0.0, {"fit": 10}), *ran(1, "fit", 0, 62)]
    assert left(told(*events), plan, 1, 62.0).seconds < 30.0
    for i in range(2, 5):
        events += ran(i, "fit", 60 + 2 * i, 62 + 2 * i)
    assert left(told(*events), plan, 1, 70.0).seconds == pytest.approx(12.0)


def test_a_job_that_runs_counts_by_what_is_left_of_it():
    history = told(ALL, *ran(1, "split", 0, 10, "", ""), Event("started", 10.0, job=2, rule="prepare", cell_type="B"))
    assert left(history, PLAN, 1, 14.0).seconds == pytest.approx(6 + 400 + 10 + 200 + 20)
    late = left(history, PLAN, 1, 10.0 + 1000.0).seconds
    assert late == pytest.approx(200 + 400 + 10 + 200 + 20)  # a fifth of its time so far


def test_a_run_that_goes_on_has_parts_of_a_rule_left():
    """Two of the four fits are there: Snakemake says so by their number before any has started."""
    rest = Event("plan", 0.0, {"fit": 2, "moderate": 1, "test": 4, "tables": 1})
    assert left(told(rest), PLAN, 1, 0.0).seconds == pytest.approx(200 + 10 + 200 + 20)


def test_rules_that_nobody_estimated_take_as_long_as_those_seen():
    plan = Event("plan", 0.0, {"new": 3})
    first = left(told(plan), PLAN, 1, 0.0).seconds
    assert first == pytest.approx(3 * (jobs.STARTING + jobs.UNKNOWN))
    history = told(plan, *ran(1, "new", 0, 30, "", ""))
    assert left(history, PLAN, 1, 30.0).seconds == pytest.approx(60.0, rel=0.3)


def test_at_the_end_nothing_is_left():
    history = told(Event("plan", 0.0, {"split": 1, "all": 1}), *ran(1, "split", 0, 10, "", ""))
    seen = left(history, PLAN, 2, 10.0)
    assert (seen.done, seen.total, seen.share, seen.seconds) == (1, 1, 1.0, 0.0)


def test_failed_jobs_are_remembered_and_do_not_run():
    failed = Event("failed", 5.0, job=1, rule="split", logs=("a.log",))
    history = told(ALL, Event("started", 0.0, job=1, rule="split"), failed)
    assert time_left.running(history) == ()
    assert history.failed == (failed,)


# ---- what Snakemake says


def record(event: str | None, message: str = "", **more) -> logging.LogRecord:
    made = logging.LogRecord("snakemake", logging.INFO, "", 0, message, None, None)
    made.__dict__.update(more | ({"event": event} if event else {}))
    return made


def test_events_go_through_the_pipe_unchanged():
    wildcards = {"method": "glmm", "slug": "B", "shard": "1-of-2"}
    records = [
        record("run_info", stats={"fit": 2, "total": 2}),
        record("job_info", jobid=3, rule_name="fit", wildcards=wildcards),
        record("job_finished", job_id=3),
        record("job_error", jobid=4, rule_name="fit", log=["results/x/logs/fit.log"]),
        record(None, "Nothing to be done (all requested files are present and up to date)."),
    ]
    events = [time_left.parsed(json.dumps(workflow_events.described(one) | {"time": 1.5})) for one in records]
    assert events == [
        Event("plan", 1.5, {"fit": 2, "total": 2}),
        Event("started", 1.5, job=3, rule="fit", method="glmm", cell_type="B"),
        Event("finished", 1.5, job=3),
        Event("failed", 1.5, job=4, rule="fit", logs=("results/x/logs/fit.log",)),
        Event("nothing", 1.5),
    ]


@pytest.mark.parametrize("event", ["shellcmd", "progress", "resources_info", "workflow_started", None])
def test_other_records_are_of_no_interest(event):
    assert workflow_events.described(record(event, "text")) is None


@pytest.mark.parametrize("line", ["", "not JSON", "[1]", '{"kind": "plan"}', '{"kind": "plan", "time": 1, "more": 2}'])
def test_lines_that_are_no_events_are_passed_over(line):
    assert time_left.parsed(line) is None


def test_the_plugin_is_one_that_snakemake_takes():
    """In a process of its own: the registry is one of the process."""
    import subprocess

    code = (
        "import io, sys; from mlmgen import workflow_events as w; out = io.StringIO(); w.register(out);"
        "from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry as R;"
        "h = R().get_plugin('mlmgen').log_handler(None, None);"
        "import logging; r = logging.LogRecord('', 20, '', 0, '', None, None);"
        "r.event = __import__('snakemake_interface_logger_plugins.common', fromlist=['x']).LogEvent.JOB_FINISHED;"
        "r.job_id = 7; h.handle(r); print(out.getvalue().split(',')[0:2])"
    )
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == '[\'{"kind": "finished"\', \' "job": 7\']\n'


# ---- what is shown


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_one_line_that_fits(monkeypatch):
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "80")
    history = told(ALL, *ran(1, "split", 0, 10, "", ""), Event("started", 10.0, job=2, rule="prepare", cell_type="B"))
    display.show(display.Shown(), history, PLANNED, 2, 12.0)
    text = screen.getvalue()
    assert text.startswith(display.CLEAR)
    assert "\n" not in text
    shown = text.removeprefix(display.CLEAR)
    assert len(shown) < 80
    assert shown.startswith("[")
    assert "1 of 12 jobs, about 6 min left: prepare B cells" in shown


def test_elsewhere_there_is_a_line_now_and_then_without_carriage_returns(capsys):
    history, shown = told(ALL), display.Shown()
    for second in range(100, 400):
        shown = display.show(shown, history, PLANNED, 2, float(second))
    lines = capsys.readouterr().err
    assert "\r" not in lines
    assert 8 <= len(lines.splitlines()) <= 14
    assert all(line.startswith("mlmgen: 0 %, 0 of 12 jobs, about") for line in lines.splitlines())


def test_before_the_plan_nothing_is_estimated(capsys):
    assert display.show(display.Shown(), History(), PLANNED, 2, 100.0) == display.Shown()
    assert capsys.readouterr().err == ""
    assert "planning" in display.text(History(), PLANNED, 2, 100.0, bar=True)


def test_failures_say_what_mlmgen_said_once(tmp_path):
    log = tmp_path / "run.log"
    log.write_text(
        "Error in rule fit\nmlmgen: error: no donors (in x). Do y\n\nmlmgen: error: no donors (in x). Do y\n"
    )
    said = display.failure(History(), log, "a.yaml")
    assert said == (("mlmgen: error: no donors (in x). Do y", f"(log: {log})"), True)


def test_failures_without_a_word_name_the_job_and_its_last_line(tmp_path):
    own, log = tmp_path / "fit.log", tmp_path / "run.log"
    own.write_text("$ mlmgen fit\nTraceback\nMemoryError: 5 GB\n")
    log.write_text("Error in rule fit\n")
    failed = Event("failed", 1.0, job=1, rule="fit", logs=(str(own),))
    lines, of_user = display.failure(History(failed=(failed,)), log, "a.yaml")
    assert (lines[0], of_user) == (f"mlmgen: error: a job of fit failed (log: {own}): MemoryError: 5 GB", False)
    own.write_text("$ mlmgen fit --counts x\n")
    assert "it was killed" in display.failure(History(failed=(failed,)), log, "a.yaml").lines[0]


def test_failures_of_snakemake_itself_show_the_end_of_the_log(tmp_path):
    log = tmp_path / "run.log"
    log.write_text("\n".join(f"line {i}" for i in range(100)))
    lines, of_user = display.failure(History(), log, "a.yaml")
    assert lines[0].startswith("mlmgen: error: the workflow failed")
    assert (lines[-2], of_user) == ("  line 99", False)
    log.write_text("Error: Directory cannot be locked. Another Snakemake instance is running.\n")
    lines, of_user = display.failure(History(), log, "a.yaml")
    assert ("mlmgen run a.yaml -- --unlock" in lines[0], of_user) == (True, True)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "5 s"),
        (12, "10 s"),
        (54, "55 s"),
        (56, "1 min"),
        (100, "2 min"),
        (3500, "58 min"),
        (3600, "1 h"),
        (5000, "1 h 20 min"),
    ],
)
def test_estimates_are_worded_roughly(seconds, expected):
    assert roughly(seconds) == expected


# ---- starting


def test_snakemake_gets_sensible_options():
    command = run._command("a.yaml", 3, False, False, None, ())
    assert command[command.index("--cores") + 1] == "3"
    assert any(one.startswith("mem_mb=") for one in command)
    assert run.snakefile().is_file()
    elsewhere = run._command("a.yaml", 3, False, True, "fit", ("--workflow-profile", "profiles/slurm"))
    assert "--cores" not in elsewhere
    assert "--resources" not in elsewhere
    assert elsewhere[elsewhere.index("--until") + 1] == "fit"
    assert elsewhere[-2:] == ["--workflow-profile", "profiles/slurm"]


def test_the_workflow_is_in_the_wheel_or_beside_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "__file__", str(tmp_path / "site/mlmgen/run.py"))
    with pytest.raises(FileNotFoundError, match="workflow/Snakefile"):
        run.snakefile()
    for folder in ("site", "site/mlmgen"):  # a repository, then a wheel, which goes first
        (tmp_path / folder / "workflow").mkdir(parents=True)
        (tmp_path / folder / "workflow/Snakefile").touch()
        assert run.snakefile() == tmp_path / folder / "workflow/Snakefile"


def test_the_options_are_those_of_the_default_profile():
    import yaml

    root = run.snakefile().parent.parent
    profile = yaml.safe_load((root / "profiles/default/profile.yaml").read_text())
    said = " ".join([*run.DEFAULTS, *run.QUIET])
    for key, value in profile.items():
        text = f"--{key}" if value is True else f"--{key} {' '.join(value) if isinstance(value, list) else value}"
        assert text in said


def test_unknown_stages_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(run.checking, "planned", lambda config, cores: PLANNED)
    with pytest.raises(UserError, match="Did you mean 'fit'"):
        run.run("a.yaml", until="fits")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "150000 100000"}, 2),
        ({"a/cpu.max": "100000 100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_cores_are_those_of_the_container(files, expected, tmp_path, monkeypatch):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    own = tmp_path / "own"
    own.write_text("0::/a/b\n")
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda process: set(range(8)))
    assert cores.available(tmp_path, own) == (expected or 8)
