"""How the pages are built: Sphinx, because the docstrings' references are its own; Markdown, because the pages are.

``python3 tasks.py docs`` builds them for reading. Every warning is an error; nothing is fetched from the network, and
nothing in the result asks for anything from it.
"""

from __future__ import annotations

from typing import Any, Final

from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config
from sphinx.ext.napoleon.docstring import GoogleDocstring

project = "redicts"
author = "The redicts developers"
copyright = author  # noqa: A001  (the generator's name for it)

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["README.md"]

html_theme = "furo"
html_title = "redicts"
html_theme_options: Final[dict[str, object]] = {"top_of_page_buttons": []}
html_copy_source = False
html_show_sourcelink = False

# Depth of the headings that a link may name, as in caveats.md#sqlite.
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

# Some values fill pages; what they are for is in their texts.
autodoc_default_options = {"no-value": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True

# A docstring that names something of redicts which no page describes is a mistake; what others have is theirs.
nitpicky = True
nitpick_ignore_regex: Final = [
    ("py:.*", r"(?!redicts)[\w.]*"),
    ("py:.*", r"redicts\.(front|contract\.codecs\.law)\..*|redicts\..*\._\w+|dict\[bytes"),
]


def setup(app: Sphinx) -> None:
    """Have sections such as ``Args:`` set as such. Called by the generator."""
    app.connect("autodoc-process-docstring", _set_sections)


def _set_sections(app: Sphinx, what: Any, name: str, obj: object, options: object, lines: list[str]) -> None:
    # Not those of attributes, as the extension would: it takes the words before any colon there for a type.
    if what in {"class", "exception", "function", "method"}:
        settings: Any = Config()
        lines[:] = GoogleDocstring(lines, settings, app, what, name, obj, options).lines()
