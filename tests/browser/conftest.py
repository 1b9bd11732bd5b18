"""Reports of made-up runs, opened in Debian's Chromium without a window."""

import shutil
import time
from pathlib import Path

import pytest

from benchmarks.report import synthetic
from mlmgen import findings
from mlmgen.report import build, payload

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDTH, HEIGHT = 1400, 1000
RUNS = {
    "ordinary": synthetic.Size(4, 2, 400, tested=0.9),
    "nothing": synthetic.Size(3, 1, 200, called=False, audit=False),
    "one_cell_type": synthetic.Size(1, 1, 200),
    "one_method": synthetic.Size(3, 1, 200, methods=("glmm",)),
    "sixty_cell_types": synthetic.Size(60, 2, 60),
    "awkward_names": synthetic.Size(6, 2, 150, awkward=True),
    "many_genes": synthetic.Size(2, 1, 9000),
}


def pytest_collection_modifyitems(items: list) -> None:
    """Skip what needs a browser where there is none."""
    found = [name for name in (CHROMIUM, DRIVER) if not Path(name).exists()]
    try:
        import selenium  # noqa: F401
    except ImportError:
        found.append("the package selenium")
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if found:
                item.add_marker(pytest.mark.skip(reason=f"needs {' and '.join(found)}"))


@pytest.fixture(scope="session")
def reports(tmp_path_factory):
    """Return a function that makes the report of one of `RUNS`, once."""
    folder, made = tmp_path_factory.mktemp("reports"), {}

    def report(name: str) -> Path:
        if name not in made:
            size, target = RUNS[name], folder / name
            synthetic.write(target, size)
            found = findings.read(target)
            parts = (synthetic.cells(size), synthetic.stories(size, target), synthetic.diagnostics(size))
            made[name] = target / build.REPORT
            made[name].write_text(build.page(found.name, payload.blocks(payload.Source(found, *parts))))
        return made[name]

    return report


@pytest.fixture(scope="session")
def session(tmp_path_factory):
    """Return a driver of one browser for all tests."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tmp_path_factory.mktemp("chromium")
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}", f"--window-size={WIDTH},{HEIGHT}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()
    shutil.rmtree(profile, ignore_errors=True)


class Browser:
    """A page in the browser, with what tests ask of it.

    Attributes
    ----------
    driver : selenium.webdriver.Chrome
    """

    def __init__(self, driver) -> None:
        self.driver = driver

    def open(self, page: Path, anchor: str = "") -> None:
        """Open a report and wait until it is ready."""
        self.driver.get("about:blank")
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)
        self.driver.get(page.as_uri() + anchor)
        self.wait("return document.documentElement.dataset.ready")

    def run(self, script: str, *arguments):
        """Return what a script returns."""
        return self.driver.execute_script(script, *arguments)

    def wait(self, script: str, *arguments, seconds: float = 20):
        """Wait until a script returns something true; return it."""
        until = time.monotonic() + seconds
        while not (value := self.run(script, *arguments)):
            assert time.monotonic() < until, f"still false: {script}"
            time.sleep(0.05)
        return value

    def drawn(self) -> None:
        """Wait until every chart of the page is drawn."""
        self.wait("return document.documentElement.dataset.drawn", seconds=60)

    def figure(self, title: str, script: str, *arguments):
        """Return what a script returns that calls the figure with this title ``it``."""
        find = "const title = [...arguments].pop(); const it = [...figures].find(one => one.spec.title === title);"
        return self.run(f"{find} {script}", *arguments, title)

    def wait_for(self, title: str, script: str, *arguments) -> None:
        """Wait until a script about a figure returns something true."""
        until = time.monotonic() + 20
        while not self.figure(title, script, *arguments):
            assert time.monotonic() < until, f"still false of {title}: {script}"
            time.sleep(0.05)

    def pick(self, select: str, value: int) -> None:
        """Choose an option of a select."""
        change = "s.value = arguments[1]; s.dispatchEvent(new Event('change'))"
        self.run(f"const s = document.querySelector(arguments[0]); {change}", select, str(value))

    def command(self, name: str, **arguments):
        """Send a command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, arguments)

    def resize(self, width: int, height: int = HEIGHT) -> None:
        """Make the window of this size."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )


@pytest.fixture
def browser(session):
    """Return the browser, as if it had just been started; nothing may be written to its console."""
    browser = Browser(session)
    browser.resize(WIDTH)
    browser.command("Emulation.setEmulatedMedia", media="", features=[])
    yield browser
    assert [entry["message"] for entry in session.get_log("browser")] == []
