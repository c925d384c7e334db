"""The table of regularizers, generated from the settings.

```{regularizers}
```
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from docs.extensions.markdown import table
from docs.extensions.settings import shown
from dpl.config import REGULARIZERS, Penalties


class Regularizers(SphinxDirective):
    """A row of weights per regularizer."""

    def run(self) -> Sequence[nodes.Node]:
        """Builds the table."""
        names = [entry.name for entry in fields(Penalties)]
        head = ["`--regularizer`", *(f"`--train.{name.replace('_', '-')}`" for name in names)]
        rows = [[f"`{name}`", *(shown(getattr(row, field)) for field in names)] for name, row in REGULARIZERS.items()]
        return self.parse_text_to_nodes(table(head, rows, "l" + "r" * len(names)))


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the directive."""
    app.add_directive("regularizers", Regularizers)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
