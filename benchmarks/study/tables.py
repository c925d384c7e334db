"""The study's results in Markdown: accuracies in percent, differences in points, 95 % intervals as mean ± half width."""

import math
from collections.abc import Callable, Iterable

import numpy as np

from benchmarks.study.numbers import both, counted, extent, number, spread
from benchmarks.study.statistics import (
    BUDGETS,
    COMPETITORS,
    EQUAL_BUDGET,
    FULL,
    LONGER,
    OURS,
    PAPER,
    REGRETS,
    UNIFORM,
    ZERO_SHOT,
    Estimate,
    MissingArms,
    Records,
    agreement_between,
    agreement_within,
    best_by_mean,
    best_uniform,
    difference,
    estimate,
    grid,
    layouts_of,
    level,
    minus_mean_random,
    random_arms,
    ratio,
    regret,
    standing,
    variances,
)
from benchmarks.study.targets import DEVELOPED_ON, FEW, elsewhere, targets, targets_elsewhere
from benchmarks.timing import markdown
from dpl.utils.statistics import Agreement, agreement

Table = Callable[[Records], str]


def arms_of(records: Records) -> list[str]:
    """The arms at 16 shots but the random ones, in the order of the study."""
    found = {record["arm"] for record in records if record["shots"] == FULL and not record["arm"].startswith("random-")}
    first, last = [ZERO_SHOT, *UNIFORM], [LONGER, PAPER, OURS]
    others = sorted(found - {*first, *last}, key=lambda arm: (arm.startswith(f"{OURS}:"), arm))
    halves, ablations = ([a for a in others if a.startswith(f"{OURS}:") is ablation] for ablation in (False, True))
    return [arm for arm in [*first, *halves, *last, *ablations] if arm in found]


def suite(records: Records) -> str:
    """Every arm over the suite, beside ours on the pairs that both have."""
    header = ["arm", "tokens", "accuracy, %", "ours minus it, over seeds", "over tasks", "tasks", "pairs"]
    rows = []
    for arm in arms_of(records):
        accuracy, tokens = (level(records, arm, measure=measure, beside=[OURS]) for measure in ("accuracy", "tokens"))
        gain = both(difference(records, OURS, arm), sign=True)
        rows.append([arm, number(tokens.over_tasks.mean, 0), spread(accuracy.over_seeds), *gain, *extent(accuracy)])
    return (
        f"{FULL} shots. Each row is of the (task, seed) pairs that its arm and ours share; accuracies of rows with other counts "
        f"do not compare, the differences do. The interval of the accuracy is over seeds.\n\n{markdown(header, rows)}"
    )


def competitors(records: Records) -> str:
    """Ours minus each competitor that has records."""
    header = ["competitor", "ours minus it, over seeds", "over tasks", "tasks", "pairs"]
    rows, missing = [], []
    for name, measure in COMPETITORS.items():
        try:
            gain = measure(records)
            rows.append([name, *both(gain, sign=True), *extent(gain)])
        except MissingArms as error:
            missing.append(f"{name}: {error}")
    if not rows:
        raise MissingArms("; ".join(missing))
    note = (
        f"{FULL} shots, points. The best single uniform layout is the one with the lowest validation loss over the suite; the "
        "best per task has the lowest of the task, mean over seeds; the oracle is chosen on test and can be had by nobody."
    )
    return "\n\n".join([note, markdown(header, rows), *([f"Left out: {'; '.join(missing)}."] if missing else [])])


def uniform_layouts(records: Records) -> str:
    """The validation losses by which the best single uniform layout is chosen, on the pairs that all of them have."""
    measured = [
        [level(records, arm, measure=measure, beside=UNIFORM) for measure in ("validation_loss", "accuracy")] for arm in UNIFORM
    ]
    rows = [
        [arm, spread(loss.over_seeds, 4), spread(accuracy.over_seeds)]
        for arm, (loss, accuracy) in zip(UNIFORM, measured, strict=True)
    ]
    return (
        f"{counted(measured[0][0])}, intervals over seeds. The best single uniform layout, by validation loss, is "
        f"`{best_uniform(records)}`.\n\n{markdown(['arm', 'validation loss', 'test accuracy, %'], rows)}"
    )


def per_task(records: Records) -> str:
    """Every task, on the pairs that have all the arms of the table."""
    uniform, random = best_uniform(records), random_arms(records)
    found = grid(records, [ZERO_SHOT, uniform, EQUAL_BUDGET, PAPER, OURS, *random])
    zero_shot, single, equal, paper, ours = np.moveaxis(found.values[..., :5], -1, 0)
    layouts = found.values[..., 5:]
    columns = {
        "zero-shot": zero_shot,
        f"best single uniform ({uniform})": single,
        EQUAL_BUDGET: equal,
        "mean random": layouts.mean(axis=-1),
        "best random, by its mean on test": best_by_mean(layouts),
        PAPER: paper,
        OURS: ours,
    }
    estimates = [estimate(found.tasks, values) for values in columns.values()]
    rows = [[task, *(spread(one.by_task[task]) for one in estimates)] for task in found.tasks]
    rows.append(["**mean, over seeds**", *(spread(one.over_seeds) for one in estimates)])
    rows.append(["**mean, over tasks**", *(spread(one.over_tasks) for one in estimates)])
    return f"{counted(estimates[-1])}; {len(random)} random layouts.\n\n{markdown(['task', *columns], rows)}"


def random_layouts(records: Records) -> str:
    """Rank and regret of ours among the random layouts."""
    place = standing(records)
    ranks = list(place.rank_by_task.values())
    rows = [
        ["ours minus their mean, points", *both(minus_mean_random(records), sign=True)],
        [f"rank among {place.layouts + 1} at each pair (1 is best)", *both(place.rank)],
        ["share that ours beats at each pair", *both(place.beaten, 2)],
        *([f"{name}, points", *both(regret(records, name), sign=True)] for name in REGRETS),
    ]
    parts = variances(records)
    tasks = [
        [task, number(place.rank_by_task[task]), *(number(variance**0.5, 2) for variance in (one.layout, one.seed, one.rest)),
         f"{100 * one.layout / one.total:.0f} %" if one.total else "–"]
        for task, one in parts.items() if task in place.rank_by_task
    ]  # fmt: skip
    header = ["task", "rank of ours, by means over seeds", "layout, sd in points", "seed, sd", "rest, sd", "layout's part"]
    return (
        f"{counted(place.rank)}. Regret is what the best random layout is better than ours: `regret_best_mean` takes each task's "
        "best by its mean on test, `regret_each` the best at every pair; both are chosen on what they are judged by, so they are "
        "biased upwards, the second most. `regret_leave_one_out` chooses on the other seeds.\n\n"
        f"{markdown(['measure', 'over seeds', 'over tasks'], rows)}\n\n"
        f"The mean of the ranks by means over seeds is {np.mean(ranks):.1f}. The parts of the variance are of the random layouts "
        f"alone (two-way random effects).\n\n{markdown(header, tasks)}"
    )


def _agreement_row(name: str, one: Agreement) -> list[str]:
    return [name, f"{100 * one.equal:.0f}", number(one.distance, 2), number(math.nan if one.rank is None else one.rank, 2)]


def _average(agreements: Iterable[Agreement]) -> Agreement:
    """Leaves out undefined correlations."""
    equal, distance, rank = zip(*((one.equal, one.distance, one.rank) for one in agreements), strict=True)
    known = [value for value in rank if value is not None]
    return Agreement(float(np.mean(equal)), float(np.mean(distance)), float(np.mean(known)) if known else None)


PAIRS: list[tuple[str, str, int]] = [
    *((arm, f"{kind}-both-{tokens}", FULL) for tokens, arm in BUDGETS.items() for kind in ("uniform", "longer")),
    *((arm, PAPER, FULL) for arm in BUDGETS.values()),
    *((OURS, PAPER, shots) for shots in FEW),
    ("uniform-both-4", PAPER, FULL),
    (f"{OURS}:budget-4", EQUAL_BUDGET, FULL),
    (f"{OURS}:budget-2", "uniform-both-4", FULL),
    *((f"{OURS}:{part}", EQUAL_BUDGET, FULL) for part in ("fresh", "uniform", "mixture", "mixture-sharpened")),
    (OURS, f"{OURS}:mixture", FULL),
    (f"{OURS}:mixture-sharpened", f"{OURS}:mixture", FULL),
    *((f"{OURS}:fresh", other, FULL) for other in (f"{OURS}:mixture-fresh", f"{OURS}:halves-fresh", "transfer")),
    *((OURS, other, FULL) for other in ("image-12", "longer-image-12")),
    *((f"uniform-{branch}-2", f"half-{branch}-4", FULL) for branch in ("both", "image", "text")),
]
"""What docs/evidence.md compares: an arm, another and the shots; first of all ours with fewer tokens and its like."""


def pairs_of_arms(records: Records) -> str:
    """The difference of two arms, on all tasks and on those that chose nothing."""
    rows, others = [], elsewhere(records)
    for arm, other, shots in PAIRS:
        try:
            gain = difference(records, arm, other, shots)
        except MissingArms:
            continue
        try:
            apart = both(difference(others, arm, other, shots), sign=True)
        except MissingArms:
            apart = ["", ""]
        rows.append([arm, other, shots, *both(gain, sign=True), *apart, *extent(gain)])
    if not rows:
        raise MissingArms(f"no records of {OURS} beside those of {PAPER} or of uniform layouts")
    header = ["arm", "minus", "shots", "over seeds", "over tasks", "elsewhere, over seeds", "over tasks", "tasks", "pairs"]
    return f"Points. Elsewhere: without {', '.join(DEVELOPED_ON)}.\n\n{markdown(header, rows)}"


def prompt_scales(records: Records) -> str:
    """The gain by the prompt scale: accuracy minus that of the prompts as trained, and the worst task with it and without."""
    rows = []
    for shots in (*FEW, FULL):
        for arm in (EQUAL_BUDGET, PAPER, OURS):
            try:
                gain = level(records, arm, shots, "prompt_scale", beside=[ZERO_SHOT])
                worst = [difference(records, arm, ZERO_SHOT, shots, which).worst() for which in ("accuracy", "unscaled_accuracy")]
            except MissingArms:
                continue
            cells = [f"{spread(points, sign=True)} ({task})" for task, points in worst]
            rows.append([shots, arm, *both(gain, 2, sign=True), *cells, *extent(gain)])
    if not rows:
        raise MissingArms(f"no records of {EQUAL_BUDGET}, {PAPER} or {OURS} beside those of {ZERO_SHOT}")
    header = ["shots", "arm", "by the prompt scale, over seeds", "over tasks", "worst task", "without it", "tasks", "pairs"]
    return f"Points; the worst task is that of the lowest mean above zero-shot.\n\n{markdown(header, rows)}"


def found_layouts(records: Records) -> str:
    """Do the found layouts agree over seeds, and more than over tasks?"""
    layouts = layouts_of(records)
    within = agreement_within(layouts)
    rows = []
    if within:
        rows.append(_agreement_row("same task, other seed (mean of tasks)", _average(within.values())))
    if len(layouts) > 1:
        rows.append(_agreement_row("other task", agreement_between(layouts)))
        means = np.stack([task.mean(axis=0) for task in layouts.values()])
        rows.append(_agreement_row("mean layouts of two tasks", agreement(means)))
    try:
        random = [next(iter(layouts_of(records, arm).values()))[0] for arm in random_arms(records)]
        rows.append(_agreement_row("two random layouts", agreement(np.stack(random))))
    except MissingArms:
        pass
    rows += [_agreement_row(task, one) for task, one in within.items()]
    if not rows:
        raise MissingArms(f"too few layouts of {OURS}")
    header = ["pairs of layouts", "equal rows, %", "distance, tokens per row", "rank correlation"]
    count = sum(map(len, layouts.values()))
    return f"{FULL} shots, {len(layouts)} tasks, {count} layouts of ours.\n\n{markdown(header, rows)}"


def few_shots(records: Records) -> str:
    """At each number of shots: what training adds to zero-shot, by task."""
    return "\n\n".join(_few_shots(records, shots) for shots in sorted({record["shots"] for record in records}))


def _few_shots(records: Records, shots: int) -> str:
    zero_shot = level(records, ZERO_SHOT, shots)
    arms = [arm for arm in [*UNIFORM[:4], PAPER, OURS] if any((r["arm"], r["shots"]) == (arm, shots) for r in records)]
    gains = [difference(records, arm, ZERO_SHOT, shots) for arm in arms]
    rows = [
        [task, spread(own), *(spread(gain.by_task[task], sign=True) if task in gain.by_task else "" for gain in gains)]
        for task, own in zero_shot.by_task.items()
    ]
    rows.append(["**mean, over seeds**", spread(zero_shot.over_seeds), *(spread(g.over_seeds, sign=True) for g in gains)])
    rows.append(["**mean, over tasks**", spread(zero_shot.over_tasks), *(spread(g.over_tasks, sign=True) for g in gains)])
    rows.append(["**worst task**", "", *(f"{number(g.worst()[1].mean, sign=True)} ({g.worst()[0]})" for g in gains)])
    rows.append(["**tasks, pairs**", _extent(zero_shot), *map(_extent, gains)])
    header = ["task", "zero-shot, %", *(f"{arm} minus it, points" for arm in arms)]
    return f"Shots: {shots}. Every arm on the (task, seed) pairs that it has.\n\n{markdown(header, rows)}"


def _extent(one: Estimate) -> str:
    return ", ".join(map(str, extent(one)))


def ablations(records: Records) -> str:
    """Ours and what becomes of it when a part is changed."""
    names = [arm for arm in arms_of(records) if arm.startswith(f"{OURS}:")]
    if not names:
        raise MissingArms(f"no records of {OURS}:*")
    accuracy = level(records, OURS)
    rows = [[OURS, spread(accuracy.over_seeds), "", "", *extent(accuracy)]]
    for arm in names:
        accuracy, change = level(records, arm, beside=[OURS]), difference(records, arm, OURS)
        rows.append([arm, spread(accuracy.over_seeds), *both(change, sign=True), *extent(change)])
    return markdown(["arm", "accuracy, %", f"minus {OURS}, over seeds", "over tasks", "tasks", "pairs"], rows)


def costs(records: Records) -> str:
    """Steps and images, and how many times those of the same training without a search.

    Not seconds: runs that share a stack share them, and others ran beside (`python -m benchmarks seconds` times them in turn).
    """
    measures = ("steps", "images")
    rows = []
    for arm in arms_of(records):
        means = [level(records, arm, measure=measure, beside=[EQUAL_BUDGET]) for measure in measures]
        times = [ratio(records, arm, measure=measure) for measure in measures]
        absolute = [number(one.over_tasks.mean, 0) for one in means]
        rows.append([arm, *absolute, *(number(one.over_tasks.mean, 2) for one in times), *extent(means[0])])
    header = ["arm", *measures, *(f"{measure}, relative" for measure in measures), "tasks", "pairs"]
    return (
        f"Means over {FULL} shots' (task, seed) pairs, search and training together; an image counts each time it goes forward "
        f"and backward. Relative: mean of the pairs' ratios to `{EQUAL_BUDGET}`.\n\n{markdown(header, rows)}"
    )


SECTIONS: dict[str, Table] = {
    "Targets": targets,
    "Targets, on the tasks that chose nothing": targets_elsewhere,
    "Ours against each competitor": competitors,
    "Every arm over the suite": suite,
    "The uniform layouts": uniform_layouts,
    "Every task": per_task,
    "Random layouts of the same budget": random_layouts,
    "Pairs of arms": pairs_of_arms,
    "The layouts found": found_layouts,
    "Few shots": few_shots,
    "The prompt scale": prompt_scales,
    "Ablations": ablations,
    "Cost": costs,
}


def evidence(records: Records) -> str:
    """The result part of docs/evidence.md; a section that cannot be made yet says which arms are missing."""
    commits = ", ".join(sorted({record["commit"] for record in records}))
    parts = [f"{len(records)} results of commits {commits}." if records else "No results yet."]
    for heading, table in SECTIONS.items():
        try:
            body = table(records)
        except MissingArms as error:
            body = f"Left out: {error}."
        parts.append(f"### {heading}\n\n{body}")
    return "\n\n".join(parts) + "\n"
