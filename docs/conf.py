"""The documentation site: `make docs` builds it, and every warning is an error.

Nothing is fetched, neither by the build nor by the pages: equations become MathML, fonts are the reader's own.
"""

import gc
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
SOURCE = str(HERE.parent / "src")
sys.path[:0] = [str(HERE / "_ext"), SOURCE]
# Notebooks run in processes and folders of their own.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (SOURCE, os.environ.get("PYTHONPATH"))))

gc.disable()  # a quarter of the build's seconds, for 0.4 GB of memory

import mechconn  # noqa: E402  # the checkout that the pages belong to, not an installed release

project = "mechconn"
author = "The mechconn authors"
copyright = "the mechconn authors"  # the name that Sphinx reads
version = release = mechconn.__version__
language = "en"

extensions = [
    "myst_nb",  # Markdown pages and notebooks
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",  # docstrings in Google's style
    "sphinx_copybutton",
    # of docs/_ext
    "outside_pages",
    "api_pages",
    "docstring_markup",
    "code_links",
    "mathml",
]
exclude_patterns = ["_build", "_ext", "**/.ipynb_checkpoints"]
nitpicky = True
# ---------------------------------------------------------------- pages

myst_enable_extensions = ["amsmath", "dollarmath", "deflist", "colon_fence"]
myst_fence_as_directive = ["math"]  # ```math, as GitHub writes equations
myst_heading_anchors = 4  # [text](page.md#heading), as on GitHub
myst_update_mathjax = False

# ---------------------------------------------------------------- notebooks

nb_execution_mode = "force"  # a cache would not see that the library has changed
nb_execution_timeout = 600
nb_execution_in_temp = True  # what a notebook writes does not stay in docs/
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
nb_ipywidgets_js = {}  # scripts from the network

# ---------------------------------------------------------------- docstrings

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Attributes", "params_style")]
python_maximum_signature_line_length = 88
default_role = "code"
toc_object_entries = False  # every page would copy them all; each page of the API begins with a table

# ---------------------------------------------------------------- HTML

smartquotes = False  # what is typed is what is shown
html_theme = "furo"
html_title = f"mechconn {version}"
html_static_path = ["_static"]
html_css_files = ["mechconn.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sourcelink = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
