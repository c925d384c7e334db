"""Pictures that stack the layouts of several runs: one picture per branch, one row per run, all bars on the same scale."""

from collections.abc import Sequence

from markupsafe import Markup

from dpl.reports.runs.runs_table import Group
from dpl.reports.web.figures import LEFT, columns
from dpl.reports.web.svg import picture, tag

_HIGH, _ROW, _HEAD = 34.0, 60.0, 22.0  # heights of a bar of the tallest length, of a row with its numbers, of a group's name


def strips(branch: str, groups: Sequence[Group], tallest: int) -> Markup:
    """Draws the layouts of one branch, layers from the input to the output, with the letter of each run.

    Args:
        branch: "image" or "text".
        groups: the runs, by group.
        tallest: the largest length of both branches of all runs.
    """
    layers = max(len(one.run.layout[branch]) for group in groups for one in group.members)
    width, column = columns(layers)
    block, top, parts, text = min(column - 6, 30), 0.0, [], []
    for group in groups:
        top += _HEAD
        parts.append(tag("text", _short(group.label, width), x=0, y=top - 6, class_="axis"))
        for one in group.members:
            lengths, floor = one.run.layout[branch], top + _ROW - 8
            parts.append(tag("text", one.letter, x=0, y=floor, class_="count"))
            for layer, length in enumerate(lengths):
                middle, high = LEFT + (layer + 0.5) * column, _HIGH * length / max(tallest, 1)
                name = f"{one.letter}, {branch} layer {layer + 1}: {length} token{'' if length == 1 else 's'}"
                bar = tag("rect", x=middle - block / 2, y=floor - high, width=block, height=high)
                number = tag("text", length, x=middle, y=floor - high - 3, class_="middle" if length else "middle none")
                parts.append(tag("g", tag("title", name), *([bar] if length else []), number, class_=f"column {branch}"))
            parts.append(tag("line", x1=LEFT, x2=LEFT + column * len(lengths), y1=floor, y2=floor, class_="base"))
            text.append(f"{one.letter}: {', '.join(map(str, lengths))}")
            top += _ROW
    parts.append(tag("text", "layer", x=0, y=top + 10, class_="axis"))
    for layer in range(layers):
        parts.append(tag("text", layer + 1, x=LEFT + (layer + 0.5) * column, y=top + 10, class_="middle axis"))
    title = f"Prompt layouts of the {branch} branch"
    description = f"Prompt tokens of each layer, from the input to the output. {'; '.join(text)}."
    return picture(f"layouts-{branch}", title, description, width, top + 20, *parts)


def _short(label: str, width: float) -> str:
    most = int(width / 6.6)
    return label if len(label) <= most else f"{label[: most - 1]}…"
