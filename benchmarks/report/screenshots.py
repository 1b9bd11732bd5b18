"""Take the pictures of reports that stand in the documentation.

    python -m benchmarks.report.screenshots RESULTS [--only NAME ...] [--output docs/_static]

RESULTS is the folder with the results of the runs demo, kang, pig, covid and onek1k. Their reports are made afresh and
opened in Debian's Chromium.
"""

import argparse
import base64
import io
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from selenium import webdriver

from mlmgen.report.build import report

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars")
WIDTH, TALLEST, MOST_BYTES = 1200, 1700, 250_000
COLOURS = (256, 128, 64, 32)
BAR = 58  # pixels of the bar on top, which stays there


class Picture(NamedTuple):
    """What is shown of a run: a section, a gene that is open, and pixels of the section at most."""

    section: str
    gene: str = ""
    height: int = TALLEST


PICTURES = {
    "demo": Picture("trust", height=1180),
    "kang": Picture("verdict", height=1640),
    "pig": Picture("gene", gene="CFTR", height=1500),
    "covid": Picture("results", height=1250),
    "onek1k": Picture("verdict", height=1250),
}


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--only", nargs="+", choices=PICTURES, default=list(PICTURES), metavar="NAME")
    parser.add_argument("--output", type=Path, default=Path("docs/_static"))
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        driver = browser(Path(folder) / "profile")
        try:
            for name in chosen.only:
                page = Path(folder) / f"{name}.html"
                report(str(chosen.results / name), str(page))
                target = chosen.output / f"report_{name}.png"
                target.write_bytes(small(taken(driver, page, PICTURES[name])))
                print(f"{target}: {target.stat().st_size / 1000:.0f} kB")
        finally:
            driver.quit()


def browser(profile: Path) -> webdriver.Chrome:
    """Return a browser without a window."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))


def taken(driver: webdriver.Chrome, page: Path, picture: Picture) -> Image.Image:
    """Return a picture of a section of a report."""
    driver.get(page.as_uri() + (f"#gene={picture.gene}" if picture.gene else ""))
    until = time.monotonic() + 60
    while driver.execute_script("return document.documentElement.dataset.drawn") != "all":
        if time.monotonic() > until:
            raise TimeoutError(f"{page} is not drawn after a minute")
        time.sleep(0.1)
    found = "const section = document.getElementById(arguments[0]); "
    whole = driver.execute_script(f"{found} return section.getBoundingClientRect().height", picture.section)
    size = {"width": WIDTH, "height": min(round(whole), picture.height) + BAR, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    time.sleep(1)  # until the charts have the new width
    above = f"section.getBoundingClientRect().top + scrollY - {BAR}"
    driver.execute_script(f"{found} document.activeElement.blur(); scrollTo(0, {above})", picture.section)
    time.sleep(1)
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"]
    return Image.open(io.BytesIO(base64.b64decode(shot))).convert("RGB")


def small(image: Image.Image) -> bytes:
    """Return an image as PNG in as many colours as fit into `MOST_BYTES`."""
    for colours in COLOURS:
        content = io.BytesIO()
        image.quantize(colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            content, "png", optimize=True
        )
        if content.tell() <= MOST_BYTES:
            break
    return content.getvalue()


if __name__ == "__main__":
    main()
