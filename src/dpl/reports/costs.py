"""What a run costs: parameters, seconds, memory, and operations beside those of other layouts."""

from typing import Any

from dpl.reports import figures
from dpl.reports.figures import duration, plural
from dpl.reports.run_folder import RunFolder
from dpl.reports.schema import Cost, Operations


def costs(run: RunFolder) -> dict[str, Any] | None:
    """Facts in words, and rows of operations where they were counted; None where nothing was trained."""
    metrics = run.metrics
    if metrics is None:
        return None
    facts = [("Learned", plural(metrics.trainable_parameters, "parameter"))]
    if metrics.seconds is not None:
        facts.append(("Time", duration(metrics.seconds)))
    if metrics.peak_memory_bytes is not None:
        facts.append(("Peak memory", f"{metrics.peak_memory_bytes / 2**20:,.0f}\u202fMiB"))
    return {"facts": facts, "rows": _rows(run, metrics.cost) if metrics.cost else []}


def _rows(run: RunFolder, cost: Cost) -> list[dict[str, Any]]:
    """The frozen model, the run's layout, and the uniform ones by length."""
    own, layers = sum(run.layout.image) + sum(run.layout.text), len(run.layout.image) + len(run.layout.text)
    lengths = sorted({one.length: one for one in cost.uniform}.items())
    layouts: list[tuple[str, str, int, Operations]] = [("frozen", "frozen, no prompts", 0, cost.frozen)]
    layouts.append(("own", "this run", own, cost))
    layouts += [("uniform", f"{length} in every layer", length * layers, one) for length, one in lengths]
    most = max(_more(one.image, cost.frozen.image) for _, _, _, one in layouts)
    near = min((abs(tokens - own) for kind, _, tokens, _ in layouts if kind == "uniform"), default=None)
    rows = []
    for kind, name, tokens, one in layouts:
        more = _more(one.image, cost.frozen.image)
        rows.append(
            {
                "kind": kind,
                "name": name,
                "tokens": tokens,
                "image": gflops(one.image),
                "classes": gflops(one.classes),
                "more": f"{100 * more:+.1f}\u202f%".replace("-", "\u2212") if kind != "frozen" else "",
                "track": figures.bar_track(f"{name}: {100 * more:.1f} % more for an image", max(more, 0), most, kind == "own"),
                "near": kind == "uniform" and abs(tokens - own) == near,
            }
        )
    return rows


def _more(operations: float, frozen: float) -> float:
    """How much more than the frozen model's, as a share of it."""
    return operations / frozen - 1 if frozen else 0.0


def gflops(value: float) -> str:
    """With three digits that count, or all of those in front of the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"
