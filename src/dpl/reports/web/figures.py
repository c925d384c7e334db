"""SVG figures of the report: prompt layouts, and the small pictures ("tracks") in table cells."""

from collections.abc import Sequence

from markupsafe import Markup

from dpl.reports.web.svg import WIDTH, picture, tag

LEFT = 40  # margin for row labels, the same in layouts and heatmaps so that the columns of their layers align


def plural(count: int, noun: str) -> str:
    """Writes a count with its noun.

    Args:
        count: the count.
        noun: the noun in the singular.

    Example:

        >>> plural(1, "token"), plural(1024, "token")
        ('1 token', '1,024 tokens')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def duration(seconds: float) -> str:
    """Writes a duration in a suitable unit.

    Args:
        seconds: at least 0.

    Example:

        >>> duration(720), duration(11160)
        ('12 minutes', '3.1 hours')
    """
    if seconds < 120:
        return f"{seconds:.0f}\u202fs"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def columns(layers: int) -> tuple[float, float]:
    """Returns the width of a figure with `layers` columns and the width of one column, in SVG units."""
    column = max((WIDTH - LEFT - 2) / layers, 26)
    return LEFT + 2 + column * layers, column


def layout_picture(branch: str, lengths: Sequence[int], tallest: int, token_width: int | None) -> Markup:
    """Draws the layout of one branch: layers from left to right, with a block on top for each prompt token.

    Args:
        branch: "image" or "text".
        lengths: prompt tokens of each layer, from the input to the output.
        tallest: the largest length of both branches, so that their pictures have the same scale.
        token_width: parameters of a token; None if unknown.
    """
    width, column = columns(len(lengths))
    pitch = min(15.0, max(3.0, 120 / max(tallest, 1)))
    floor = 24 + pitch * max(tallest, 1)
    block = min(column - 6, 36)
    parts = [tag("line", x1=LEFT - 4, x2=width, y1=floor + 17, y2=floor + 17, class_="stream")]
    parts.append(tag("text", "layer", x=0, y=floor + 21, class_="axis"))
    for layer, length in enumerate(lengths):
        left, middle = LEFT + layer * column + (column - block) / 2, LEFT + (layer + 0.5) * column
        known = f" x {token_width} = {length * token_width:,} parameters" if token_width and length else ""
        blocks = [
            tag("rect", x=left, y=floor - pitch * (token + 1), width=block, height=pitch * 0.84, rx=min(2, pitch / 5))
            for token in range(length)
        ]
        count = tag("text", length, x=middle, y=floor - pitch * length - 6, class_="middle count" if length else "middle none")
        box = tag("rect", x=left, y=floor + 6, width=block, height=22, rx=4, class_="layer")
        name = tag("text", layer + 1, x=middle, y=floor + 21, class_="middle")
        title = tag("title", f"{branch} layer {layer + 1}: {plural(length, 'prompt token')}{known}")
        parts.append(tag("g", title, *blocks, count, box, name, class_=f"column {branch}"))
    numbers = ", ".join(map(str, lengths))
    description = f"Prompt tokens of the {len(lengths)} layers, from the input to the output: {numbers}."
    return picture(f"layout-{branch}", f"Prompt layout of the {branch} branch", description, width, floor + 32, *parts)


def _track(label: str, *marks: object) -> Markup:
    """Draws a picture as wide as its table cell. Positions are percentages of the width, so that 0-1 accuracies map to it."""
    grid = [tag("line", x1=f"{at}%", x2=f"{at}%", y1="0", y2="100%", class_="grid") for at in (0, 25, 50, 75, 100)]
    return tag(
        "svg",
        tag("title", label),
        *grid,
        *marks,
        class_="track",
        width="100%",
        height="24",
        role="img",
        aria_label=label,
    )


def _at(share: float) -> str:
    return f"{100 * share:.4g}%"


def interval_track(label: str, share: float, interval: tuple[float, float], chance: float, tuned: bool) -> Markup:
    """Draws an accuracy as a dot on its interval, with a dotted line at chance.

    Args:
        label: the text alternative.
        share: the accuracy, 0-1.
        interval: the ends of its interval, 0-1.
        chance: the accuracy of guessing, 0-1.
        tuned: whether the accuracy is the tuned model's; its dot is filled.
    """
    kind = "tuned" if tuned else "zero"
    return _track(
        label,
        tag("line", x1=_at(chance), x2=_at(chance), y1="0", y2="100%", class_="chance"),
        tag("line", x1=_at(interval[0]), x2=_at(interval[1]), y1=12, y2=12, class_=f"interval {kind}"),
        tag("circle", cx=_at(share), cy=12, r=4, class_=f"mark {kind}"),
    )


def change_track(label: str, before: float | None, after: float) -> Markup:
    """Draws the accuracies of the zero-shot model (hollow dot) and the tuned model (filled dot), joined by a line.

    Args:
        label: the text alternative.
        before: the zero-shot accuracy, 0-1; None if unknown.
        after: the tuned accuracy, 0-1.
    """
    marks = []
    if before is not None:
        way = "rise" if after >= before else "fall"
        marks.append(tag("line", x1=_at(before), x2=_at(after), y1=12, y2=12, class_=f"way {way}"))
        marks.append(tag("circle", cx=_at(before), cy=12, r=4.5, class_="mark zero"))
    marks.append(tag("circle", cx=_at(after), cy=12, r=4.5, class_="mark tuned"))
    return _track(label, *marks)


def bar_track(label: str, value: float, most: float, own: bool) -> Markup:
    """Draws `value` (>= 0) as a bar from the left.

    Args:
        label: the text alternative.
        value: the length of the bar.
        most: the value whose bar fills the cell.
        own: whether the value is that of the run; its bar is filled.
    """
    bar = tag("rect", x=0, y=6, width=_at(value / most if most > 0 else 0), height=12, class_="bar tuned" if own else "bar zero")
    return tag("svg", tag("title", label), bar, class_="track", width="100%", height="24", role="img", aria_label=label)


def track_axis() -> Markup:
    """Draws the head of a column of tracks: labels at 0, 50 and 100 %."""
    labels = [tag("text", f"{at} %" if at == 100 else at, x=f"{at}%", y=12, class_="middle") for at in (0, 50, 100)]
    return tag("svg", *labels, class_="track axis", width="100%", height="16", aria_hidden="true")
