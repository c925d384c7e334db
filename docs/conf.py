"""Settings of the documentation site: Sphinx with the theme furo, pages in Markdown, tutorials executed by MyST-NB.

`make docs` builds the site into build/docs. Nothing is fetched: no fonts, no scripts, no inventories of other sites.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]
os.environ["PYTHONPATH"] = str(ROOT / "src")  # the kernels of the tutorials import this tree
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # so that `!dpl` finds the command
os.environ["COLUMNS"] = "100"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does; spinning threads slow the other kernel down
os.environ.setdefault("HF_HUB_OFFLINE", "1")

project = "dpl"
author = "The dpl developers"
copyright = author
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_design",
    "docs.extensions.mathml",
    "docs.extensions.packages",
    "docs.extensions.learned",
    "docs.extensions.library",
    "docs.extensions.regularizers",
    "docs.extensions.settings",
]
exclude_patterns = ["extensions"]

html_theme = "furo"
html_title = "dpl"
html_static_path = ["_static"]
html_css_files = ["dpl.css"]
html_copy_source = False
html_show_sphinx = False
html_math_renderer = "mathml"
html_theme_options = {"top_of_page_buttons": []}
pygments_style, pygments_dark_style = "friendly", "monokai"

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 3

nb_execution_mode = "force"
nb_execution_timeout = 900  # a cell, on a busy machine
nb_execution_show_tb = True
nb_merge_streams = True
nb_output_stderr = "remove"
nb_ipywidgets_js = {}  # by default, loaded from a CDN

default_role = "code"  # `x` in a docstring
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
python_maximum_signature_line_length = 90
