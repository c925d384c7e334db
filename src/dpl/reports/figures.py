"""The report's own figures: prompt layouts, and the little tracks inside tables."""

from collections.abc import Sequence

from markupsafe import Markup

from dpl.reports.svg import WIDTH, picture, tag

LEFT = 40  # margin for row labels, the same in layouts and heatmaps, so that their layers stand in the same places


def plural(count: int, noun: str) -> str:
    """`1 token`, `2 tokens`, `1,024 tokens`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def duration(seconds: float) -> str:
    """`48 s`, `12 minutes`, `3.1 hours`."""
    if seconds < 120:
        return f"{seconds:.0f}\u202fs"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def columns(layers: int) -> tuple[float, float]:
    """The figure's width, and the width of a layer's column in it."""
    column = max((WIDTH - LEFT - 2) / layers, 26)
    return LEFT + 2 + column * layers, column


def layout_picture(branch: str, lengths: Sequence[int], tallest: int, token_width: int | None) -> Markup:
    """One branch, layers from left to right, one block per prompt token on top of each layer.

    `tallest` is the largest length of both branches, so that two pictures have one scale; `token_width` says how many
    numbers a token has, None where that is not known.
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
    told = ", ".join(map(str, lengths))
    description = f"Prompt tokens of the {len(lengths)} layers, from the input to the output: {told}."
    return picture(f"layout-{branch}", f"Prompt layout of the {branch} branch", description, width, floor + 32, *parts)


def _track(label: str, *marks: object) -> Markup:
    """A picture as wide as its table cell: positions are percentages of it, so 0-1 accuracies map to its width."""
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
    """An accuracy (0-1) as a dot, filled where `tuned`, on its interval; a dotted line stands at `chance`."""
    kind = "tuned" if tuned else "zero"
    return _track(
        label,
        tag("line", x1=_at(chance), x2=_at(chance), y1="0", y2="100%", class_="chance"),
        tag("line", x1=_at(interval[0]), x2=_at(interval[1]), y1=12, y2=12, class_=f"interval {kind}"),
        tag("circle", cx=_at(share), cy=12, r=4, class_=f"mark {kind}"),
    )


def change_track(label: str, before: float | None, after: float) -> Markup:
    """Accuracies (0-1) of zero-shot (hollow) and tuned (filled) model, joined; `before` may be missing."""
    marks = []
    if before is not None:
        way = "rise" if after >= before else "fall"
        marks.append(tag("line", x1=_at(before), x2=_at(after), y1=12, y2=12, class_=f"way {way}"))
        marks.append(tag("circle", cx=_at(before), cy=12, r=4.5, class_="mark zero"))
    marks.append(tag("circle", cx=_at(after), cy=12, r=4.5, class_="mark tuned"))
    return _track(label, *marks)


def bar_track(label: str, value: float, most: float, own: bool) -> Markup:
    """`value` as a bar from the left, as wide as the cell where it is `most`; filled where it is the run's `own`."""
    bar = tag("rect", x=0, y=6, width=_at(value / most if most > 0 else 0), height=12, class_="bar tuned" if own else "bar zero")
    return tag("svg", tag("title", label), bar, class_="track", width="100%", height="24", role="img", aria_label=label)


def track_axis() -> Markup:
    """The head of a column of tracks: 0, 50 and 100 %."""
    labels = [tag("text", f"{at} %" if at == 100 else at, x=f"{at}%", y=12, class_="middle") for at in (0, 50, 100)]
    return tag("svg", *labels, class_="track axis", width="100%", height="16", aria_hidden="true")
