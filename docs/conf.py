"""How Sphinx builds the documentation: `make docs` writes docs/_build/html, without a network."""

import os
import sys
from pathlib import Path

DOCS = Path(__file__).parent
# For the pages' kernels too: the code at hand is documented, whatever is installed.
sys.path[:0] = [str(DOCS.parent), str(DOCS)]
os.environ["PYTHONPATH"] = os.pathsep.join([*sys.path[:2], os.environ.get("PYTHONPATH", "")])

import demo_run  # noqa: E402
import generated  # noqa: E402

import mlmgen  # noqa: E402

project = "mlmgen"
author = "The mlmgen developers"
copyright = author
version = release = mlmgen.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
nitpicky = False

html_theme = "furo"
html_title = f"mlmgen {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
# The report of the demo; Sphinx looks for the folder before the demo is run.
demo_run.EXTRA.mkdir(parents=True, exist_ok=True)
html_extra_path = [str(demo_run.EXTRA)]
html_show_sourcelink = False
html_copy_source = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# Pages are run anew in every build: what they show is what the code does.
nb_execution_mode = "force"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
# Progress bars and the notice of a compilation; warnings are printed (see pages.py).
nb_output_stderr = "remove"
# No page has widgets, whose scripts would come from a network.
nb_ipywidgets_js = {}

autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False
# The docstrings' own cross-references, `mlmgen.fit`, are code.
default_role = "code"


def setup(app) -> None:
    """Let pages have parts that are generated from the code, and run the demo before they are read."""
    app.connect("env-before-read-docs", demo_run.on_before_read)
    app.connect("source-read", generated.on_source_read)
