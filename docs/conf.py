"""Configuration of Sphinx, which builds the documentation from the Markdown pages and the docstrings.

``python3 tasks.py docs`` builds the site. Every warning is an error. Neither the build nor the site uses the network.
"""

from __future__ import annotations

from typing import Any, Final

from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config
from sphinx.ext.napoleon.docstring import GoogleDocstring

project = "redicts"
author = "The redicts developers"
copyright = author  # noqa: A001  (Sphinx's name)

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["README.md"]

html_theme = "furo"
html_title = "redicts"
html_theme_options: Final[dict[str, object]] = {"top_of_page_buttons": []}
html_static_path = ["_static"]
html_css_files = ["redicts.css"]
html_js_files = ["copy.js"]
html_copy_source = False
html_show_sourcelink = False

# Depth of the headings that links can name, as in caveats.md#sqlite.
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

# Some values fill pages; their descriptions say what they are for.
autodoc_default_options = {"no-value": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True

# A docstring may refer to other libraries freely, but to names of redicts only if some page describes them.
nitpicky = True
nitpick_ignore_regex: Final = [
    ("py:.*", r"(?!redicts)[\w.]*"),
    (
        "py:.*",
        r"redicts\.(api|aio\.\w+|config|core\.observing|locks|contract\.(codecs\.check|fixture|report|subjects))\..*|redicts\..*\._\w+|dict\[(bytes|str)",
    ),
]


def setup(app: Sphinx) -> None:
    """Format sections such as ``Args:``. Called by Sphinx."""
    app.connect("autodoc-process-docstring", _format_sections)


def _format_sections(app: Sphinx, what: Any, name: str, obj: object, options: object, lines: list[str]) -> None:
    # Attributes are left out: the extension would take the text before any colon for a type.
    if what in {"class", "exception", "function", "method"}:
        settings: Any = Config()
        lines[:] = GoogleDocstring(lines, settings, app, what, name, obj, options).lines()
