"""The command report: page, program and data in one file."""

import html
import json
import re
from importlib import resources
from pathlib import Path

from mlmgen import findings, io
from mlmgen.errors import UserError
from mlmgen.progress import say
from mlmgen.report import packing, payload

REPORT = "report.html"
ASSETS = "assets"
STYLE = re.compile(r'<link rel="stylesheet" href="([\w.-]+)">')
SCRIPT = re.compile(r'<script src="([\w.-]+)"( data-packed)?></script>')
KIND = re.compile(r"(\.min)?\.(js|txt)$")  # of what is packed, in the name of its block left out
CLOSING = re.compile(r"</(?=script|style)|<!--", re.IGNORECASE)
TITLE, VERDICT, DATA = "<!-- title -->", "<!-- verdict -->", "<!-- data -->"


def report(results: str, output: str | None = None, threads: int = 1) -> None:
    """Write the report of a run.

    Parameters
    ----------
    results : str
        ``results/<name>``.
    output : str, optional
        The file to write; ``report.html`` in the folder where none is given.
    threads : int
        Not used.

    Raises
    ------
    UserError
        Where there are no finished results, or files of the run are damaged or of another run.
    """
    found = findings.read(results)
    target = Path(output) if output else found.folder / REPORT
    if target.is_dir():
        raise UserError("this is a folder", str(target), f"Give a file, such as {target / REPORT}")
    if target.suffix.lower() not in (".html", ".htm"):
        raise UserError("the report is a web page, and this name is of another kind", str(target), "End it in .html")
    blocks = payload.blocks(payload.source(found))
    text = page(found.name, blocks)
    io.write_text(target, text)
    say(f"report: {target}, {len(text.encode()) / 1e6:.1f} MB")


def page(name: str, blocks: dict[str, str]) -> str:
    """Put the page together.

    Parameters
    ----------
    name : str
        Of the run.
    blocks : dict of str to str
        From `mlmgen.report.payload.blocks`.
    """
    text = asset("page.html")
    packed = {}
    text = STYLE.sub(lambda found: f"<style>\n{_harmless(asset(found[1]))}\n</style>", text)

    def script(found: re.Match) -> str:
        if found[2]:
            packed[KIND.sub("", found[1])] = packing.packed(asset(found[1]).encode())
            return ""
        return f"<script>\n{_harmless(asset(found[1]))}\n</script>"

    text = SCRIPT.sub(script, text)
    text = text.replace(VERDICT, _static(blocks["meta"])).replace(
        TITLE, html.escape(name.encode("utf-8", "replace").decode())
    )
    parts = (f'<script type="text/plain" id="block-{key}">{value}</script>' for key, value in (blocks | packed).items())
    return text.replace(DATA, "\n".join(parts))


def asset(name: str) -> str:
    """Return the text of a file of the page."""
    return resources.files("mlmgen.report").joinpath(ASSETS, name).read_text(encoding="utf-8")


def _harmless(text: str) -> str:
    """Return a program or a style sheet as it may stand in HTML; what would end it is refused."""
    if found := CLOSING.search(text):
        raise ValueError(f"{found[0]!r} may not stand in a script or style of the page")
    return text


def _static(meta: str) -> str:
    """Return the verdict as paragraphs, for who has no JavaScript."""
    said = json.loads(packing.unpacked(meta))["verdict"]
    lines = [said["headline"], said["lead"], *(one["text"] for one in said["sentences"]), said["nothing"]]
    lines += [f"{one['title']}: {one['text']}" for one in said["attention"]]
    return "\n".join(f"<p>{html.escape(line)}</p>" for line in lines if line)
