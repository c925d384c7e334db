"""The study's pictures, one for each question; SVG files that are the same bytes for the same records."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.study.statistics import (
    BUDGETS,
    COMPETITORS,
    EQUAL_BUDGET,
    FULL,
    LONGER,
    OURS,
    PAPER,
    ZERO_SHOT,
    Estimate,
    MissingArms,
    Records,
    grid,
    layouts_of,
    level,
    random_arms,
    ratio,
    standing,
    variances,
)

# Okabe and Ito's colours (2008), which colour-blind readers tell apart.
BLACK, SKY, GREEN, BLUE, RED = "#000000", "#56B4E9", "#009E73", "#0072B2", "#D55E00"
GREY, PALE = "#6E6E6E", "#BDBDBD"
COLOURS = {OURS: RED, PAPER: BLUE, EQUAL_BUDGET: BLACK, ZERO_SHOT: GREY}


def head(figure: Figure, title: str, note: str, key: Sequence[tuple[str, str]] = ()) -> None:
    """The question, how to read the picture (two lines at most), and words in the colours (word, colour) of what they name."""
    lines = note.count("\n") + 1 + bool(key)
    figure.suptitle(title + "\n" * (lines + bool(key)), x=0.08 / figure.get_figwidth(), ha="left", fontsize=12, fontweight="bold")
    wide, high = figure.get_size_inches()
    figure.text(0.08 / wide, 1 - 0.3 / high, note, va="top", fontsize=8.5, color=GREY, linespacing=1.35)
    for index, (word, colour) in enumerate(key):
        place = (0.08 + 1.35 * index) / wide, 1 - (0.14 + 0.19 * lines) / high
        figure.text(*place, word, va="top", fontsize=9.5, color=colour)


def picture(title: str, note: str, height: float, key: Sequence[tuple[str, str]] = ()) -> tuple[Figure, Axes]:
    """One empty panel of that height, inches."""
    figure = Figure(figsize=(8, height), layout="constrained")
    head(figure, title, note, key)
    one = figure.add_subplot()
    bare(one)
    return figure, one


def bare(one: Axes) -> None:
    """No frame but the lower line, no ticks."""
    one.spines[["top", "right", "left"]].set_visible(False)
    one.tick_params(length=0, labelsize=9)


def rows(one: Axes, names: Sequence[str]) -> np.ndarray:
    """Labels a row for each name, the first on top, and returns the heights."""
    places = np.arange(len(names))
    one.set_yticks(places, names)
    one.set_ylim(len(names) - 0.4, -0.6)
    return places


def gains(records: Records) -> Figure:
    """Does the search pay? Ours minus each competitor, points."""
    found: dict[str, Estimate] = {}
    for name, measure in COMPETITORS.items():
        try:
            found[name] = measure(records)
        except MissingArms:
            continue
    if not found:
        raise MissingArms(f"no competitor of {OURS}")
    note = (
        "Accuracy of the found layout minus that of the competitor, mean of the suite.\n"
        "Broad: 95 % interval over seeds. Thin: over tasks. Grey dots: tasks."
    )
    figure, one = picture("Does the search pay?", note, 1.6 + 0.55 * len(found))
    for place, gain in zip(rows(one, list(found)), found.values(), strict=True):
        dots = [by_seed.mean for by_seed in gain.by_task.values()]
        one.plot(dots, np.full(len(dots), place + 0.27), "o", color=PALE, markersize=4, markeredgewidth=0, alpha=0.8)
        one.errorbar(gain.over_tasks.mean, place, xerr=gain.over_tasks.half, color=BLACK, linewidth=1.2, zorder=3)
        one.errorbar(gain.over_seeds.mean, place, xerr=gain.over_seeds.half, color=RED, linewidth=6, alpha=0.55)
        one.plot(gain.over_tasks.mean, place, "o", color=RED, markersize=8, markeredgecolor="white", zorder=4)
        text = f"{gain.over_tasks.mean:+.1f}   {len(gain.by_task)} tasks, {gain.pairs} pairs"
        one.annotate(text, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=8.5)
    one.axvline(0, color=BLACK, linewidth=0.8, zorder=0)
    one.set_xlabel("points of test accuracy, right of 0: the search is better")
    return figure


def standings(records: Records) -> Figure:
    """Where does the found layout stand among the random ones? Points around their mean, by task."""
    arms = random_arms(records)
    found = grid(records, [OURS, EQUAL_BUDGET, *arms])
    means = np.nanmean(found.values, axis=1)
    centred = means - means[:, 2:].mean(axis=1, keepdims=True)
    ranks = standing(records).rank_by_task
    order = np.argsort(-centred[:, 0])
    note = (
        f"Test accuracy at {FULL} shots, mean over seeds, relative to the task's {len(arms)} random layouts.\n"
        f"Grey: random layouts. Black line: {EQUAL_BUDGET}. Red: search, its rank at the right (1 is best)."
    )
    title = "Where does the found layout stand among random ones?"
    figure, one = picture(title, note, 1.7 + 0.32 * len(order))
    for place, task in zip(rows(one, [found.tasks[index] for index in order]), order, strict=True):
        ours, equal, *random = centred[task]
        one.plot(random, np.full(len(random), place), "o", color=GREY, alpha=0.4, markersize=5, markeredgewidth=0)
        one.plot([equal, equal], [place - 0.33, place + 0.33], color=BLACK, linewidth=2)
        one.plot(ours, place, "o", color=RED, markersize=8, markeredgecolor="white")
        text = f"{ranks[found.tasks[task]]:g} of {len(arms) + 1}"
        one.annotate(text, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=8.5, color=RED)
    one.axvline(0, color=PALE, linewidth=0.8, zorder=0)
    one.set_xlabel("points of test accuracy around the mean of the random layouts")
    return figure


def parts(records: Records) -> Figure:
    """Do layouts matter? Shares of the variance of the random layouts' accuracies, by task."""
    found = {task: one for task, one in variances(records).items() if one.total > 0}
    if not found:
        raise MissingArms("the random layouts do not vary")
    tasks = sorted(found, key=lambda task: -found[task].layout / found[task].total)
    note = (
        f"Parts of the variance of test accuracy over the random layouts and seeds of a task, {FULL} shots.\n"
        "At the right the standard deviation that the layout alone makes, points."
    )
    figure, one = picture("Do layouts matter?", note, 1.7 + 0.32 * len(tasks))
    left = np.zeros(len(tasks))
    places = rows(one, tasks)
    for name, colour, ink in (("layout", RED, "white"), ("seed", SKY, BLACK), ("rest", PALE, BLACK)):
        share = np.array([100 * getattr(found[task], name) / found[task].total for task in tasks])
        one.barh(places, share, left=left, color=colour, height=0.72)
        for place, start, width in zip(places, left, share, strict=True):
            if width > 12:  # per cent: there is room for the word
                one.text(start + width / 2, place, f"{name} {width:.0f} %", ha="center", va="center", fontsize=8, color=ink)
        left += share
    for place, task in zip(places, tasks, strict=True):
        one.text(101, place, f"{found[task].layout ** 0.5:.2f}", va="center", fontsize=8.5, color=RED)
    one.set_xlim(0, 100)
    one.set_xlabel("% of the variance")
    return figure


def lengths(records: Records) -> Figure:
    """Which layers get tokens? Mean found lengths of the layers, by task."""
    found = {task: rows.mean(axis=0) for task, rows in layouts_of(records).items()}
    found |= {"mean of tasks": np.mean(list(found.values()), axis=0)}
    table = np.stack(list(found.values()))
    depth = len(next(record["layout"]["image"] for record in records if record["arm"] == OURS))
    layers = [*range(1, depth + 1), *range(1, table.shape[1] - depth + 1)]
    note = f"Tokens of each layer in the layouts of the search, mean over seeds, {FULL} shots."
    figure, one = picture("Which layers get tokens?", note, 1.8 + 0.32 * len(found))
    columns = np.arange(table.shape[1]) + 0.35 * (np.arange(table.shape[1]) >= depth)  # a gap between the branches
    top = max(table.max(), 1e-9)
    colours = matplotlib.colormaps["Blues"]
    for place, values in zip(rows(one, list(found)), table, strict=True):
        one.bar(columns, 0.96, bottom=place - 0.48, width=0.96, color=[colours(0.9 * value / top) for value in values])
        for column, value in zip(columns, values, strict=True):
            ink = "white" if value > 0.6 * top else BLACK
            one.text(column, place, f"{value:.1f}", ha="center", va="center", fontsize=8, color=ink)
    one.set_xticks(columns, list(map(str, layers)))
    one.set_xlim(columns[0] - 0.6, columns[-1] + 0.6)
    for start, stop, name in ((0, depth, "image"), (depth, table.shape[1], "text")):
        one.annotate(
            f"layer of the {name} branch", (columns[start:stop].mean(), -0.02), (0, -18), ("data", "axes fraction"),
            "offset points", ha="center", va="top", fontsize=9,
        )  # fmt: skip
    one.spines["bottom"].set_visible(False)
    return figure


def shots(records: Records) -> Figure:
    """And with few shots? Accuracy over shots, a panel a task, intervals over seeds."""
    arms = [ZERO_SHOT, EQUAL_BUDGET, PAPER, OURS]
    levels: dict[int, dict[str, Estimate]] = {}
    for count in sorted({record["shots"] for record in records}):
        own = [arm for arm in arms if any((record["arm"], record["shots"]) == (arm, count) for record in records)]
        levels[count] = {arm: level(records, arm, count) for arm in own}
    tasks = sorted({task for estimates in levels.values() for one in estimates.values() for task in one.by_task})
    if not tasks:
        raise MissingArms(f"no record of {', '.join(arms)}")
    wide = min(5, len(tasks))
    high = -(-len(tasks) // wide)
    figure = Figure(figsize=(max(1.9 * wide, 7), 1.3 + 1.75 * high), layout="constrained")
    note = "Means over the seeds that an arm has, with their 95 % intervals."
    head(figure, "And with few shots?", note, [(arm, COLOURS[arm]) for arm in arms])
    panels = figure.subplots(high, wide, squeeze=False).ravel()
    for panel, task in zip(panels, tasks, strict=False):
        _panel(panel, task, arms, levels)
    for panel in panels[len(tasks) :]:
        panel.set_visible(False)
    figure.supxlabel("training images per class", fontsize=9.5)
    figure.supylabel("test accuracy, %", fontsize=9.5)
    return figure


def _panel(one: Axes, task: str, arms: Sequence[str], levels: dict[int, dict[str, Estimate]]) -> None:
    bare(one)
    one.spines["left"].set_visible(True)
    one.set_title(task, fontsize=9.5, loc="left")
    counts = list(levels)
    for index, arm in enumerate(arms):
        of_arm = [(place, levels[count][arm].by_task) for place, count in enumerate(counts) if arm in levels[count]]
        points = [(place, by_task[task]) for place, by_task in of_arm if task in by_task]
        if not points:
            continue
        shift = 0.05 * (index - (len(arms) - 1) / 2)  # so that intervals do not hide each other
        x, y, half = zip(*((place + shift, level.mean, level.half) for place, level in points), strict=True)
        one.errorbar(x, y, np.array(half, float), color=COLOURS[arm], marker="o", markersize=3.5, linewidth=1.3, elinewidth=1)
    one.set_xticks(range(len(counts)), list(map(str, counts)))
    one.set_xlim(-0.3, len(counts) - 0.7)


def budgets(records: Records) -> Figure:
    """Is it the tokens? Accuracy of the suite against tokens: uniform layouts, trained longer as well, the paper's and ours."""
    present = {record["arm"] for record in records if record["shots"] == FULL}
    lengths = (1, 2, 4, 6)
    lines = {  # name: arms, colour, shift along the tokens, so that intervals are seen
        OURS: (list(reversed(BUDGETS.values())), RED, 0.3),
        "both branches": ([f"uniform-both-{length}" for length in lengths], BLACK, -0.3),
        "the same, longer": ([f"longer-both-{length}" for length in lengths], GREY, 0.0),
        PAPER: ([PAPER], SKY, 0.0),
        "image branch": ([f"uniform-image-{length}" for length in lengths], GREEN, 0.0),
        "text branch": ([f"uniform-text-{length}" for length in lengths], BLUE, 0.3),
    }
    note = (
        f"Mean test accuracy, {FULL} shots, every arm on the (task, seed) pairs that it has; 95 % interval over seeds. Uniform:\n"
        "1, 2, 4 and 6 tokens a layer (longer: as many epochs as search and training together); ours: as many on average."
    )
    figure, one = picture(
        "Is it only the number of tokens?", note, 4.8, [(name, colour) for name, (_, colour, _) in lines.items()]
    )
    counts = []
    for name, (arms, colour, shift) in lines.items():
        arms = [arm for arm in arms if arm in present]
        x = [level(records, arm, measure="tokens").over_tasks.mean + shift for arm in arms]
        y = [level(records, arm).over_seeds for arm in arms]
        means, halves, size = [own.mean for own in y], [own.half for own in y], 7 if name == OURS else 4
        one.errorbar(x, means, np.array(halves, float), color=colour, marker="o", markersize=size)
        counts += x
    if not counts:
        raise MissingArms(f"no record at {FULL} shots of {', '.join(lines)}")
    one.spines["left"].set_visible(True)
    one.set_xlim(0, 1.05 * max(counts))
    one.set_xlabel("tokens of the layout, all layers of both branches")
    one.set_ylabel("test accuracy, %")
    return figure


def costs(records: Records) -> Figure:
    """What does it cost? Images through the network, relative to training alone."""
    present = {record["arm"] for record in records if record["shots"] == FULL}
    ablations = sorted(arm for arm in present if arm.startswith(f"{OURS}:"))
    found: dict[str, Estimate] = {}
    for arm in [EQUAL_BUDGET, LONGER, PAPER, OURS, *ablations]:
        try:
            found[arm] = ratio(records, arm)
        except MissingArms:
            continue
    if not found:
        raise MissingArms(f"no record of {EQUAL_BUDGET}")
    note = f"Images that go forward and backward, search and training, relative to the training of {EQUAL_BUDGET}."
    figure, one = picture("What does the search cost?", note, 1.5 + 0.36 * len(found))
    for place, (arm, times) in zip(rows(one, list(found)), found.items(), strict=True):
        mean = times.over_tasks.mean
        one.barh(place, mean, color=COLOURS.get(arm, PALE), height=0.65)
        one.annotate(f"{mean:.2f}", (mean, place), (5, 0), textcoords="offset points", va="center", fontsize=9)
    one.axvline(1, color=PALE, linewidth=0.8, zorder=0)
    one.set_xlim(0, 1.1 * max(times.over_tasks.mean for times in found.values()))
    one.set_xlabel("times the images of training alone")
    return figure


PLOTS: dict[str, Callable[[Records], Figure]] = {
    "gains": gains,
    "standings": standings,
    "variance": parts,
    "lengths": lengths,
    "shots": shots,
    "budgets": budgets,
    "costs": costs,
}


def save_all(records: Records, folder: Path) -> list[Path]:
    """Writes the pictures for which there are records, and returns their files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    with matplotlib.rc_context({"svg.hashsalt": "dpl", "svg.fonttype": "path", "font.family": "DejaVu Sans"}):
        for name, plot in PLOTS.items():
            try:
                figure = plot(records)
            except MissingArms:
                continue
            file = folder / f"{name}.svg"
            figure.savefig(file, metadata={"Date": None})
            files.append(file)
    return files
