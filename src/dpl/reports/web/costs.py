"""Cost section of the report: parameters, seconds, memory, and the operations of the run's layout and of others."""

from typing import Any

from dpl.reports.web import figures
from dpl.reports.web.figures import duration, plural
from dpl.schemas.run import Cost, Operations
from dpl.schemas.run_folder import RunFolder


def costs(run: RunFolder) -> dict[str, Any] | None:
    """Returns the costs of the run.

    Args:
        run: the run.

    Returns:
        The "facts" (names and values) and the "rows" of operations, empty if not counted; None without metrics.
    """
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
    """Returns a row for the frozen model, one for the run's layout, and one for each uniform layout by length."""
    own, layers = run.layout.tokens, len(run.layout.image) + len(run.layout.text)
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
    """Returns the additional operations as a share of the frozen model's; 0 if those are 0."""
    return operations / frozen - 1 if frozen else 0.0


def gflops(value: float) -> str:
    """Formats GFLOPs with three significant digits, from 100 on as an integer.

    Args:
        value: GFLOPs.

    Example:

        >>> gflops(2.9079), gflops(1234.5)
        ('2.91', '1,234')
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"
