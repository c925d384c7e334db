"""Runs side by side as one self-contained page, in the look of the report: no network, no script."""

import shlex
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dpl.printable import printable
from dpl.reports import figures
from dpl.reports.accuracy import percent, points, wilson
from dpl.reports.comparison.table import Interval
from dpl.reports.costs import gflops
from dpl.reports.figures import plural
from dpl.reports.run_folder import BRANCHES
from dpl.reports.schema import Branches
from dpl.reports.side_by_side.maps import Looks
from dpl.reports.side_by_side.statistics import Agreed, agreements, difference, over_seeds
from dpl.reports.side_by_side.strips import strips
from dpl.reports.side_by_side.told import Group, Told, grouped, tested_alike

MARK = '<meta name="dpl-page" content="runs side by side">'
"""What tells such a page from other files."""


def render(runs: Sequence[Told], looks: Looks | None) -> str:
    """The page; the same runs give the same one."""
    groups = grouped(runs)
    environment = Environment(loader=PackageLoader("dpl", "reports"), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {
        "percent": percent,
        "plural": lambda noun, count: plural(count, noun),
        "means": lambda found: _means(found, percent),
        "points": lambda found: _means(found, points),
    }
    assert environment.loader is not None
    names = ("report.css", "side_by_side/page.css")
    style = "\n".join(environment.loader.get_source(environment, name)[0] for name in names)
    tested = [one for one in runs if one.metrics]
    alike = tested_alike(tested)
    chances = {1 / one.metrics.classes for one in tested if one.metrics}
    page = environment.get_template("side_by_side/page.html.j2").render(
        runs=runs,
        groups=groups,
        style=Markup(style),
        mark=Markup(MARK),
        tasks=list(dict.fromkeys(one.run.config.task.name for one in runs)),
        facts=_facts(runs, groups),
        limits=_limits(runs, groups, tested, alike),
        rows=[(group, [_row(one, group) for one in group.members]) for group in groups],
        columns=_columns(tested),
        axis=figures.track_axis(),
        seeds=_seeds(groups, alike),
        layouts=_layouts(groups),
        agreements=[(label, _agreed(found)) for label, found in agreements(groups)],
        looks=looks,
        chance=percent(min(chances)) if len(chances) == 1 else None,
        command=shlex.join(["dpl", "report", *(str(one.folder) for one in runs)]),
    )
    return printable(page.strip()) + "\n"


def _means(found: Interval, written: Any) -> str:
    """A mean with the half width of its interval, where it has one."""
    mean = written(found.mean)
    return mean if found.half is None else f"{mean} ± {100 * found.half:.1f}"


def _facts(runs: Sequence[Told], groups: Sequence[Group]) -> list[tuple[str, str]]:
    backbones = dict.fromkeys(one.run.config.backbone.name for one in runs)
    facts = [("Runs", str(len(runs))), ("Kinds", str(len(groups)))]
    facts.append(("Backbone" if len(backbones) == 1 else "Backbones", ", ".join(backbones)))
    tested = {one.metrics.test_images for one in runs if one.metrics}
    if len(tested) == 1:
        facts.append(("Test images", f"{tested.pop():,}"))
    shots = {one.metrics.shots for one in runs if one.metrics}
    if len(shots) == 1 and (count := shots.pop()) is not None:
        facts.append(("Shots", f"{count} per class"))
    return facts


def _limits(runs: Sequence[Told], groups: Sequence[Group], tested: Sequence[Told], alike: bool) -> list[str]:
    """What cannot be compared, a sentence each."""
    limits = []
    if tested and not alike:
        limits.append("The runs were tested on different images or classes: no differences of accuracy are given.")
    if len({(one.run.config.backbone.fingerprint, one.run.config.backbone.name) for one in runs}) > 1:
        limits.append(
            "The runs have different backbones: a layer of one is not a layer of another, and costs differ by the model."
        )
    if untrained := [one.letter for one in runs if not one.metrics]:
        limits.append(f"Only searched, and so without an accuracy: {', '.join(untrained)}.")
    if twice := [group.label for group in groups if group.twice]:
        limits.append(f"Of runs with the same settings and seed, the first counts over seeds: {'; '.join(twice)}.")
    return limits


def _row(one: Told, group: Group) -> dict[str, Any]:
    """A run's numbers as text; none where it has not got them."""
    metrics, layout = one.metrics, one.run.layout
    row: dict[str, Any] = {
        "letter": one.letter,
        "seed": one.seed,
        "folder": one.run.name,
        "tokens": f"{sum(layout.image)} + {sum(layout.text)}",
    }
    if metrics is None:
        return row
    low, high = metrics.accuracy_interval or wilson(metrics.accuracy, metrics.test_images)
    label = f"{one.letter}: {percent(metrics.accuracy)}, 95 % interval {percent(low)} to {percent(high)}"
    row |= {
        "accuracy": percent(metrics.accuracy),
        "interval": f"{100 * low:.1f}–{percent(high)}",
        "track": figures.interval_track(label, metrics.accuracy, (low, high), 1 / metrics.classes, tuned=True),
        "zero": percent(metrics.zero_shot_accuracy),
        "parameters": f"{metrics.trainable_parameters:,}",
    }
    if metrics.cost:
        more = metrics.cost.image / metrics.cost.frozen.image - 1 if metrics.cost.frozen.image else 0.0
        row["operations"] = f"{gflops(metrics.cost.image)} (+{100 * more:.1f} %)"
        row["classes"] = gflops(metrics.cost.classes)
    if metrics.calibration:
        row["ece"] = percent(metrics.calibration.tuned.ece)
        row["zero_ece"] = percent(metrics.calibration.zero_shot.ece)
    if metrics.seconds is not None:
        row["seconds"] = f"{metrics.seconds:,.0f}"
    return row


def _columns(tested: Sequence[Told]) -> list[tuple[str, str]]:
    """Keys and heads of the numbers that any run has."""
    known = {
        "tokens": ("Tokens, image + text", True),
        "parameters": ("Parameters", bool(tested)),
        "operations": ("GFLOPs per image", any(one.metrics and one.metrics.cost for one in tested)),
        "classes": ("GFLOPs, class texts", any(one.metrics and one.metrics.cost for one in tested)),
        "ece": ("ECE", any(one.metrics and one.metrics.calibration for one in tested)),
        "zero_ece": ("ECE, zero-shot", any(one.metrics and one.metrics.calibration for one in tested)),
        "seconds": ("Seconds", any(one.metrics and one.metrics.seconds is not None for one in tested)),
    }
    return [(key, head) for key, (head, there) in known.items() if there]


def _seeds(groups: Sequence[Group], alike: bool) -> list[dict[str, Any]]:
    """Of every group with an accuracy its mean over seeds, and the difference to the first of them; none of one run only."""
    known = [(group, found) for group in groups if (found := over_seeds(group))]
    if not known or (len(known) == 1 and known[0][1].count == 1):
        return []
    reference = known[0][0]
    return [
        {
            "label": group.label,
            "letters": " ".join(one.letter for one in group.members),
            "accuracy": found,
            "difference": difference(group, reference) if alike and group is not reference else None,
            "is_reference": group is reference and len(known) > 1,
        }
        for group, found in known
    ]


def _layouts(groups: Sequence[Group]) -> list[tuple[str, Markup, int]] | None:
    """A picture for each branch with its number of layers; None where no run has a prompt in a layer."""
    runs = [one for group in groups for one in group.members]
    tallest = max(max(*one.run.layout.image, *one.run.layout.text) for one in runs)
    if not tallest:
        return None
    return [(branch, strips(branch, groups, tallest), max(len(one.run.layout[branch]) for one in runs)) for branch in BRANCHES]


# How a measure of agreement is written: its factor, its decimals, its unit.
_WRITTEN = {"equal": (100, 0, "\u202f%"), "distance": (1, 2, ""), "rank": (1, 2, "")}


def _agreed(found: Branches[Agreed]) -> list[dict[str, Any]]:
    """A row for each branch: what was found, and what chance gives, as text."""
    return [{"branch": branch} | {name: _cell(found[branch], name) for name in _WRITTEN} for branch in BRANCHES]


def _cell(agreed: Agreed, name: str) -> dict[str, str]:
    factor, places, unit = _WRITTEN[name]
    values = [getattr(one, name) for one in (agreed.found, agreed.chance, agreed.low, agreed.high)]
    if values[1] is None:  # every layout is constant, and so is every permutation of it
        return {"found": "none", "chance": ""}
    # Adding 0 makes of -0 a 0.
    found, chance, low, high = (f"{round(factor * one, places) + 0.0:.{places}f}".replace("-", "\u2212") for one in values)
    return {"found": found + unit, "chance": f"{chance}{unit} ({low} to {high}{unit})"}
