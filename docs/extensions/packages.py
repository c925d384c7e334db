"""A picture and a table of the packages, drawn from the imports of the source when the site is built.

    ```{packages}
    ```

The order of the packages is import-linter's contract in pyproject.toml; an import against it is drawn in red.
"""

import tomllib
from collections.abc import Mapping, Sequence
from html import escape
from importlib import import_module
from inspect import cleandoc
from pathlib import Path
from typing import Any

import grimp
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from docs.extensions.markdown import table

ROOT = Path(__file__).parent.parent.parent
WIDTH, HEIGHT, GAP, ROW, MARGIN = 116, 32, 26, 72, 8  # of a box, between boxes, from row to row, around all, in pixels
Imports = Mapping[str, frozenset[str]]


def order() -> list[str]:
    """Reads the order of the packages from the contract, the lowest first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if "dpl.utils" in contract.get("layers", ()))
    names = [name.strip(" ()") for layer in layers for name in layer.replace(":", "|").split("|")]
    return [name.removeprefix("dpl.") for name in reversed(names)]


def imports() -> Imports:
    """Finds which packages each package imports, anywhere in its modules."""
    graph = grimp.build_graph("dpl", cache_dir=None)
    names = order()
    found = {}
    for name in names:
        own = {f"dpl.{name}"} | graph.find_descendants(f"dpl.{name}")
        used = {module.split(".")[1] for own_module in own for module in graph.find_modules_directly_imported_by(own_module)
                if "." in module}  # fmt: skip
        found[name] = frozenset(used & set(names) - {name})
    return found


def necessary(found: Imports) -> list[tuple[str, str]]:
    """Leaves out imports that follow from others: of a > b, b > c and a > c the last is not drawn."""
    return [(a, b) for a, used in found.items() for b in used if not any(b in found[c] for c in used - {b})]


def rows(found: Imports, names: Sequence[str]) -> list[list[str]]:
    """Puts each package in the lowest row that is above all that it imports; rows from the top."""
    level: dict[str, int] = {}
    for name in names:
        level[name] = max((level[used] + 1 for used in found[name] if used in level), default=0)
    return [[name for name in names if level[name] == height] for height in range(max(level.values()), -1, -1)]


def layered(found: Imports, names: Sequence[str]) -> tuple[list[list[str]], dict[tuple[str, str], list[str]]]:
    """Orders every row so that few arrows cross, with a place for each arrow that passes a row.

    Returns:
        The rows, and for each arrow the places that it passes: its ends and, named "a>b@row", those between.
    """
    grid = rows(found, names)
    row_of = {name: y for y, row in enumerate(grid) for name in row}
    paths = {}
    for a, b in necessary(found):
        step = 1 if row_of[b] > row_of[a] else -1
        between = range(row_of[a] + step, row_of[b], step)
        paths[a, b] = [a, *(f"{a}>{b}@{y}" for y in between), b]
        for y in between:
            grid[y].append(f"{a}>{b}@{y}")
    near: dict[str, list[str]] = {place: [] for row in grid for place in row}
    for path in paths.values():
        for one, other in zip(path, path[1:], strict=False):
            near[one].append(other)
            near[other].append(one)
    for _ in range(24):  # barycentres: a place moves to the mean of its neighbours
        at = {place: x for row in grid for place, x in _spread(row).items()}
        for row in grid:
            row.sort(key=lambda place: sum(at[other] for other in near[place]) / max(1, len(near[place])))
            at |= _spread(row)
    return grid, paths


def _spread(row: Sequence[str]) -> dict[str, float]:
    """The x of the places of a row: boxes beside each other, arrows between them, around 0."""
    widths = [GAP if ">" in place else WIDTH + GAP for place in row]
    left = [sum(widths[:index]) for index in range(len(row))]
    return {place: x + own / 2 - sum(widths) / 2 for place, x, own in zip(row, left, widths, strict=True)}


def picture(found: Imports, names: Sequence[str]) -> str:
    """Draws the packages as boxes and the necessary imports as arrows.

    Returns:
        An SVG whose colours are the page's.
    """
    grid, paths = layered(found, names)
    places = {place: (x, y * ROW) for y, row in enumerate(grid) for place, x in _spread(row).items()}
    half, height = max(x for x, _ in places.values()) + WIDTH / 2, len(grid) * ROW - (ROW - HEIGHT)
    parts = []
    for (a, b), path in sorted(paths.items(), key=lambda item: names.index(item[0][0])):
        kind = "up" if names.index(b) > names.index(a) else "down"
        curve = _curve([places[place] for place in path])
        parts.append(f'<path class="{kind}" d="{curve}"><title>{a} imports {b}</title></path>')
    for name in names:
        x, y = places[name]
        box = f'<rect x="{x - WIDTH / 2:.0f}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
        text = f'<text x="{x:.0f}" y="{y + HEIGHT / 2 + 5:.0f}">{escape(name)}</text>'
        parts.append(f"<g><title>{escape(summary(name))}</title>{box}{text}</g>")
    head = '<defs><marker id="tip" viewBox="0 0 8 8" refX="4" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
    head += '<path d="M0 0L8 4L0 8z"/></marker></defs>'
    box = f"{-half - MARGIN:.0f} {-MARGIN} {2 * half + 2 * MARGIN:.0f} {height + 2 * MARGIN}"
    label = "The packages of dpl in layers; arrows point from a package to those that it imports."
    svg = f'<svg viewBox="{box}" role="img" aria-label="{label}">{head}{"".join(parts)}</svg>'
    return f'<div class="packages" tabindex="0">{svg}</div>'


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """A smooth line from box to box; beside the boxes of the rows between it is straight."""
    down = points[-1][1] > points[0][1]
    line, y = [], points[0][1] + (HEIGHT if down else 0)
    line.append(f"M{points[0][0]:.0f} {y:.0f}")
    for (x1, _), (x2, top) in zip(points, points[1:], strict=False):
        end = top if down else top + HEIGHT
        last = (x2, top) == points[-1]
        end += (-4 if down else 4) if last else 0
        middle = (y + end) / 2
        line.append(f"C{x1:.0f} {middle:.0f} {x2:.0f} {middle:.0f} {x2:.0f} {end:.0f}")
        y = end
        if not last:
            y += HEIGHT if down else -HEIGHT
            line.append(f"V{y:.0f}")
    return "".join(line)


def summary(name: str) -> str:
    """Returns the first paragraph of the docstring of a package or module."""
    paragraph = cleandoc(import_module(f"dpl.{name}").__doc__ or "").split("\n\n")[0]
    return " ".join(paragraph.split())


class Packages(SphinxDirective):
    """The picture, then a row per package."""

    def run(self) -> Sequence[nodes.Node]:
        """Builds both."""
        names, found = order(), imports()
        lines = []
        for name in reversed(names):
            used = sorted(found[name], key=names.index, reverse=True)
            is_folder = (ROOT / "src" / "dpl" / name).is_dir()
            lines.append((f"`{name}{'/' if is_folder else '.py'}`", summary(name), ", ".join(used) or "nothing"))
        own = table(("package", "what it does", "imports"), lines)
        return [nodes.raw("", picture(found, names), format="html"), *self.parse_text_to_nodes(own)]


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the directive."""
    app.add_directive("packages", Packages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
