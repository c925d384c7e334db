"""Search section of the report, common to all search methods: heatmaps of both branches and their history for the slider."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from dpl.prompts.layout import PromptLayout
from dpl.reports.web.charts import epochs_of
from dpl.reports.web.convergence import settled_epoch
from dpl.reports.web.heatmap import STRONG, Grid, Heat, colour_scale, heatmap
from dpl.schemas.run import Branches
from dpl.schemas.run_folder import BRANCHES, RunFolder

Values = list[list[int]]  # layers x rows of the grid, in tenths of its unit


@dataclass(frozen=True)
class Preference:
    """Content of the search section of a run, as the module of its search method builds it; lists have an entry per epoch."""

    words: str
    """The template with the macros `preferred` and `converged`, both given `facts`."""
    facts: dict[str, Any]
    grid: Grid
    values: Branches[list[Values]]
    darkest: Sequence[int]
    """The value, of either branch, with the darkest colour."""
    layouts: Sequence[PromptLayout]
    """The best layout after each epoch."""
    outlined: Callable[[int], list[bool]]
    """The rows that belong to a layer of the given length."""
    titles: Branches[str]
    descriptions: Branches[str]
    """Text alternatives of the last heatmaps."""
    captions: Branches[str]
    charts: Sequence[dict[str, Any]]

    def section(self, run: RunFolder) -> dict[str, Any]:
        """Returns the template data of the section.

        Args:
            run: the run.

        Returns:
            The heatmaps after the last epoch, and the values of every epoch as JSON for the slider, layer by layer.
        """
        # The last epoch shows the run's actual layout, even if it differs from the search's.
        layouts = [*self.layouts[:-1], run.layout]
        history: dict[str, Any] = {"epochs": epochs_of(run), "unit": self.grid.unit, "strong": STRONG, "darkest": self.darkest}
        branches = []
        for branch in BRANCHES:
            heats = [
                Heat(values, darkest, [self.outlined(length) for length in layout[branch]])
                for values, darkest, layout in zip(self.values[branch], self.darkest, layouts, strict=True)
            ]
            branches.append(
                {
                    "name": branch,
                    "heatmap": heatmap(branch, self.titles[branch], self.descriptions[branch], self.grid, heats[-1]),
                    "scale": colour_scale(branch, self.grid.scale),
                    "caption": self.captions[branch],
                    "layers": len(run.layout[branch]),
                    "differs": run.layout[branch] != self.layouts[-1][branch],
                }
            )
            history[branch] = {
                "values": [[value for layer in heat.values for value in layer] for heat in heats],
                "outlined": ["".join("01"[cell] for layer in heat.outlined for cell in layer) for heat in heats],
            }
        return {
            "words": self.words,
            "facts": self.facts,
            "branches": branches,
            "epochs": epochs_of(run),
            "json": script_json(history),
            "charts": self.charts,
            "settled": settled_epoch(epochs_of(run), self.layouts),
        }


def script_json(value: Any) -> Markup:
    """Encodes `value` as JSON that is safe inside <script>: it cannot end the element or open a comment."""
    text = json.dumps(value, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def budget(run: RunFolder, noun: str) -> str | None:
    """Writes the search's budget per layer, an average, as in `6 tokens`; None without a budget, as in older runs.

    Args:
        run: the run.
        noun: the unit in the singular, "token" or "prompt".
    """
    search = run.config.settings.get("search")
    given = search.get("budget") if isinstance(search, dict) else None
    return f"{given:g} {noun}{'' if given == 1 else 's'}" if isinstance(given, int | float) and given > 0 else None
