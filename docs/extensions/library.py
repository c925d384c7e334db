"""Documents the public names that a page does not name itself.

    ```{library}
    ```

A name that is added to `dpl.__all__` is so on the page, until it gets a better place there.
"""

import re
from collections.abc import Sequence
from inspect import isclass
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import dpl


def remaining(page: str) -> list[str]:
    """Lists the public names that have no autodoc directive in the text of a page."""
    named = re.findall(r"auto\w+:: dpl\.(\w+)", page)
    return [name for name in dpl.__all__ if name not in named]


class Library(SphinxDirective):
    """A class or function after the other, in the order of their names."""

    def run(self) -> Sequence[nodes.Node]:
        """Builds their documentation by autodoc."""
        lines = []
        for name in remaining(Path(self.env.doc2path(self.env.docname)).read_text(encoding="utf-8")):
            kind = "autoclass" if isclass(getattr(dpl, name)) else "autofunction"
            lines.append(f".. {kind}:: dpl.{name}")
        return self.parse_text_to_nodes("\n".join(["```{eval-rst}", *lines, "```"])) if lines else []


def keep_bars(app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """Escapes the bars of |x| in docstrings, which reStructuredText takes for a substitution."""
    for index, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = line.split("`")
            lines[index] = "`".join([part if place % 2 else part.replace("|", r"\|") for place, part in enumerate(parts)])


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the directive, and the correction of docstrings."""
    app.connect("autodoc-process-docstring", keep_bars)
    app.add_directive("library", Library)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
