"""The progress bar."""

import io

import pytest

from mlmgen.notebook import bar
from mlmgen.progress import Progress


class Screen(io.StringIO):
    def isatty(self):
        return True


def times(*seconds):
    remaining = list(seconds)
    return lambda: remaining.pop(0)


def test_what_is_quick_shows_nothing(monkeypatch):
    screen = Screen()
    monkeypatch.setattr("sys.stderr", screen)
    report = bar.bar(10, "fit", times(0.0, 0.0, 0.4, 0.9))
    report(4)
    report(6)
    assert screen.getvalue() == ""


def test_a_bar_is_redrawn_in_place_and_ends_with_a_line(monkeypatch):
    screen = Screen()
    monkeypatch.setattr("sys.stderr", screen)
    report = bar.bar(4, "fit", times(0.0, 0.0, 2.0, 2.1, 4.0))
    for _ in range(3):
        report(1 + (screen.getvalue().count("\r") > 0 and _ == 2))
    shown = screen.getvalue().split("\r")[1:]
    assert [line.strip() for line in shown] == [
        "fit [#######.......................] 1 of 4, about 6 s left",
        "fit [##############################] 4 of 4, 4 s",
    ]
    assert shown[-1].endswith("\n")
    assert not shown[0].endswith("\n")


def test_elsewhere_lines_are_written_as_by_the_workflow(monkeypatch):
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert isinstance(bar.bar(10, "fit"), Progress)


@pytest.mark.parametrize(("name", "expected"), [("ZMQInteractiveShell", True), ("TerminalInteractiveShell", False)])
def test_a_notebook_is_recognised_by_its_shell(monkeypatch, name, expected):
    shell = type(name, (), {})()
    module = type("module", (), {"get_ipython": staticmethod(lambda: shell)})
    monkeypatch.setitem(__import__("sys").modules, "IPython", module)
    assert bar.in_notebook() is expected


def test_without_a_notebook():
    assert not bar.in_notebook()
