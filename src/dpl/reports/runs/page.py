"""Renders several runs side by side as one self-contained page in the style of the report: no network, no script."""

import shlex
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from dpl.reports.runs.group_statistics import agreements, difference, over_seeds
from dpl.reports.runs.maps import SharedMaps
from dpl.reports.runs.runs_table import ComparedRun, Group, grouped, tested_alike
from dpl.reports.runs.strips import strips
from dpl.reports.web import figures
from dpl.reports.web.accuracy import accuracy_interval, percent, points
from dpl.reports.web.costs import gflops
from dpl.reports.web.figures import plural
from dpl.schemas.run import Branches
from dpl.schemas.run_folder import BRANCHES
from dpl.utils.statistics import Agreed, Interval
from dpl.utils.templates import environment, source
from dpl.utils.text import printable

MARK = '<meta name="dpl-page" content="runs side by side">'
"""Identifies the pages of this module."""


def render(runs: Sequence[ComparedRun], maps: SharedMaps | None) -> str:
    """Renders the page; the same runs give the same page.

    Args:
        runs: the runs, at least one.
        maps: their maps on common examples; None leaves the section out.

    Returns:
        The HTML.
    """
    groups = grouped(runs)
    templates = environment(
        "reports/runs",
        "reports/web",
        percent=percent,
        plural=lambda noun, count: plural(count, noun),
        means=lambda found: _means(found, percent),
        points=lambda found: _means(found, points),
    )
    style = "\n".join(source(templates, name) for name in ("report.css", "page.css"))
    tested = [one for one in runs if one.metrics]
    alike = tested_alike(tested)
    chances = {1 / one.metrics.classes for one in tested if one.metrics}
    page = templates.get_template("page.html.j2").render(
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
        maps=maps,
        chance=percent(min(chances)) if len(chances) == 1 else None,
        command=shlex.join(["dpl", "report", *(str(one.folder) for one in runs)]),
    )
    return printable(page.strip()) + "\n"


def _means(found: Interval, written: Any) -> str:
    """Writes a mean, followed by the half width of its interval if it has one."""
    mean = written(found.mean)
    return mean if found.half is None else f"{mean} ± {100 * found.half:.1f}"


def _facts(runs: Sequence[ComparedRun], groups: Sequence[Group]) -> list[tuple[str, str]]:
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


def _limits(runs: Sequence[ComparedRun], groups: Sequence[Group], tested: Sequence[ComparedRun], alike: bool) -> list[str]:
    """Writes a sentence for each reason why some numbers cannot be compared."""
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


def _row(one: ComparedRun, group: Group) -> dict[str, Any]:
    """Returns a run's numbers as text, without keys for unknown ones."""
    metrics, layout = one.metrics, one.run.layout
    row: dict[str, Any] = {
        "letter": one.letter,
        "seed": one.seed,
        "folder": one.run.name,
        "tokens": f"{sum(layout.image)} + {sum(layout.text)}",
    }
    if metrics is None:
        return row
    low, high = accuracy_interval(metrics)
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


def _columns(tested: Sequence[ComparedRun]) -> list[tuple[str, str]]:
    """Returns keys and headings of the columns for which at least one run has a number."""
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
    """Returns the mean over seeds of each group with an accuracy, and its difference to the first such group.

    Returns an empty list if there is no such group, or only one with a single seed.
    """
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
    """Returns name, picture and number of layers of each branch; None if no run has a prompt in a layer."""
    runs = [one for group in groups for one in group.members]
    tallest = max(max(*one.run.layout.image, *one.run.layout.text) for one in runs)
    if not tallest:
        return None
    return [(branch, strips(branch, groups, tallest), max(len(one.run.layout[branch]) for one in runs)) for branch in BRANCHES]


# Format of each measure of agreement: factor, decimals, unit.
_WRITTEN = {"equal": (100, 0, "\u202f%"), "distance": (1, 2, ""), "rank": (1, 2, "")}


def _agreed(found: Branches[Agreed]) -> list[dict[str, Any]]:
    """Returns a row for each branch: the measured agreement and the agreement by chance, as text."""
    return [{"branch": branch} | {name: _cell(found[branch], name) for name in _WRITTEN} for branch in BRANCHES]


def _cell(agreed: Agreed, name: str) -> dict[str, str]:
    factor, places, unit = _WRITTEN[name]
    values = [getattr(one, name) for one in (agreed.found, agreed.chance, agreed.low, agreed.high)]
    if values[1] is None:  # every layout is constant, and so is every permutation of it
        return {"found": "none", "chance": ""}
    # Adding 0 turns -0 into 0.
    found, chance, low, high = (f"{round(factor * one, places) + 0.0:.{places}f}".replace("-", "\u2212") for one in values)
    return {"found": found + unit, "chance": f"{chance}{unit} ({low} to {high}{unit})"}
