"""Progress lines: their rate, wording and destination."""

import io
import sys

import pytest

from mlmgen.progress import SECONDS_BETWEEN_LINES, Progress, Tee, copied_to, duration


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_lines_come_every_few_seconds_with_rate_and_time_left(capsys):
    clock = Clock()
    progress = Progress(1000, "fit", clock=clock)
    for _ in range(100):
        clock.now += SECONDS_BETWEEN_LINES / 10
        progress(5)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 9
    assert lines[0] == "mlmgen: fit: 55 of 1,000 genes, 10.0 a second, about 1 min 34 s left"


def test_the_time_left_does_not_count_what_came_before_the_first_genes(capsys):
    clock = Clock()
    progress = Progress(1000, "fit", clock=clock)
    clock.now = 60.0  # compilation
    progress(10)
    assert capsys.readouterr().err == ""
    clock.now += 10.0
    progress(90)
    assert "100 of 1,000 genes, 9.0 a second, about 1 min 40 s left" in capsys.readouterr().err


def test_quick_jobs_write_only_their_last_line(capsys):
    progress = Progress(10, "fit", clock=Clock())
    progress(10)
    progress.finish("9 converged, 1 filtered")
    assert capsys.readouterr().err == "mlmgen: fit: 10 genes in 0 s; 9 converged, 1 filtered\n"


def test_no_carriage_returns(capsys):
    clock = Clock()
    progress = Progress(100, "fit", clock=clock)
    for _ in range(2):
        clock.now += 60.0
        progress(40)
    progress.finish()
    written = capsys.readouterr().err
    assert "80 of 100" in written
    assert "\r" not in written


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.2, "59 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_durations_are_worded(seconds, text):
    assert duration(seconds) == text


def test_the_log_gets_a_copy_and_stderr_comes_back(tmp_path, capsys):
    before = sys.stderr
    log = tmp_path / "logs" / "fit.log"
    with copied_to(str(log)):
        print("seen", file=sys.stderr)
    assert sys.stderr is before
    assert log.read_text() == "seen\n"
    assert capsys.readouterr().err == "seen\n"


def test_the_log_keeps_what_was_written_before_an_error(tmp_path):
    log = tmp_path / "fit.log"
    with pytest.raises(RuntimeError), copied_to(str(log)):
        print("before", file=sys.stderr)
        raise RuntimeError
    assert log.read_text() == "before\n"


def test_no_log_is_no_copy():
    before = sys.stderr
    with copied_to(None):
        assert sys.stderr is before


def test_a_tee_is_a_terminal_if_its_screen_is():
    assert not Tee(io.StringIO(), io.StringIO()).isatty()
