"""The report's own figures: prompt layouts, alpha heatmaps, and the little tracks inside tables."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from dpl.reports.svg import WIDTH, picture, tag

LEFT = 40  # margin for row labels, the same in layouts and heatmaps, so that their layers stand in the same places
# Permille from which a cell is so dark (in a dark page, so light) that its number takes the other colour.
STRONG = 640


def softmax(row: Sequence[float]) -> list[float]:
    """The probabilities of one row of raw (finite) alphas."""
    top = max(row)
    weights = [math.exp(alpha - top) for alpha in row]
    return [weight / sum(weights) for weight in weights]


def permille(alphas: Sequence[Sequence[float]]) -> list[list[int]]:
    """(layers x options) raw alphas as probabilities in thousandths: what is drawn, and all the script needs."""
    return [[round(1000 * share) for share in softmax(row)] for row in alphas]


def plural(count: int, noun: str) -> str:
    """`1 token`, `2 tokens`, `1,024 tokens`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _columns(layers: int) -> tuple[float, float]:
    """The figure's width, and the width of a layer's column in it."""
    column = max((WIDTH - LEFT - 2) / layers, 26)
    return LEFT + 2 + column * layers, column


def layout_picture(branch: str, lengths: Sequence[int], tallest: int, token_width: int | None) -> Markup:
    """One branch, layers from left to right, one block per prompt token on top of each layer.

    `tallest` is the largest length of both branches, so that two pictures have one scale; `token_width` says how many
    numbers a token has, None where that is not known.
    """
    width, column = _columns(len(lengths))
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


def heatmap(branch: str, shares: Sequence[Sequence[int]], options: Sequence[int], chosen: Sequence[int]) -> Markup:
    """Probabilities `shares` (layers x options, permille): a column per layer, a row per option, the longest on top.

    `chosen` is the place of every layer's choice in `options`, -1 for none. The cells stand layer by layer, as
    report.js expects.
    """
    width, column = _columns(len(shares))
    row, upper = 27, 16
    bottom = upper + row * len(options)
    parts = [
        tag("text", option, x=LEFT - 9, y=bottom - row * (place + 0.5) + 4, class_="end") for place, option in enumerate(options)
    ]
    parts.append(tag("text", "tokens", x=0, y=upper - 5, class_="axis"))
    parts.append(tag("text", "layer", x=0, y=bottom + 18, class_="axis"))
    for layer, layer_shares in enumerate(shares):
        parts.append(tag("text", layer + 1, x=LEFT + (layer + 0.5) * column, y=bottom + 18, class_="middle"))
        for place, share in enumerate(layer_shares):
            x, y = LEFT + layer * column, bottom - row * (place + 1)
            label = f"layer {layer + 1}, {plural(options[place], 'token')}: {share / 10:.1f} %"
            parts.append(_cell(x, y, column, row, share, place == chosen[layer], label))
    best = [f"layer {layer + 1} {options[row.index(max(row))]} ({max(row) / 10:.0f} %)" for layer, row in enumerate(shares)]
    description = "The most probable number of tokens of each layer: " + ", ".join(best) + "."
    title = f"Alpha matrix of the {branch} branch"
    return picture(f"heat-{branch}", title, description, width, bottom + 26, tag("g", *parts, class_=f"heat {branch}"))


def _cell(x: float, y: float, width: float, height: float, share: int, chosen: bool, label: str) -> Markup:
    classes = "cell" + (" strong" if share >= STRONG else "") + (" chosen" if chosen else "")
    return tag(
        "g",
        tag("title", label),
        tag("rect", x=x + 1, y=y + 1, width=width - 2, height=height - 2, class_="ground"),
        tag("rect", x=x + 1, y=y + 1, width=width - 2, height=height - 2, fill_opacity=f"{share / 1000:g}"),
        tag(
            "text",
            f"{(share + 5) // 10}" if share >= 10 else "",
            x=x + width / 2,
            y=y + height / 2 + 4,
            class_="middle",
        ),
        class_=classes,
    )


def colour_scale(branch: str) -> Markup:
    """The legend of a heatmap: how dark a cell is at 0, 50 and 100 %."""
    stops = [tag("stop", offset=f"{share} %".replace(" ", ""), stop_opacity=share / 100) for share in (0, 100)]
    gradient = tag("linearGradient", *stops, id=f"scale-{branch}-ramp", class_=f"ramp {branch}")
    ground = tag("rect", x=LEFT, y=1, width=160, height=10, class_="ground")
    bar = tag("rect", x=LEFT, y=1, width=160, height=10, fill=f"url(#scale-{branch}-ramp)", class_="frame")
    labels = [tag("text", f"{share} %", x=LEFT + 1.6 * share, y=25, class_="middle") for share in (0, 50, 100)]
    description = "The darker a cell (the lighter, on a dark page), the higher the probability of that number of tokens."
    return picture(
        f"scale-{branch}",
        f"Colour scale of the {branch} branch",
        description,
        WIDTH,
        30,
        gradient,
        ground,
        bar,
        *labels,
    )


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


def track_axis() -> Markup:
    """The head of a column of tracks: 0, 50 and 100 %."""
    labels = [tag("text", f"{at} %" if at == 100 else at, x=f"{at}%", y=12, class_="middle") for at in (0, 50, 100)]
    return tag("svg", *labels, class_="track axis", width="100%", height="16", aria_hidden="true")
