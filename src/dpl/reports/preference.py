"""What a search preferred, whichever its method: heatmaps of both branches, and their history for the page's slider."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from dpl.reports.charts import epochs_of
from dpl.reports.heatmap import STRONG, Grid, Heat, colour_scale, heatmap
from dpl.reports.run_folder import BRANCHES, RunFolder
from dpl.reports.schema import Branches, Layout
from dpl.reports.settling import settled

Values = list[list[int]]  # layers x rows of the grid, in tenths of its unit


@dataclass(frozen=True)
class Preference:
    """What the room of a kind of search says of a run; lists have an entry per epoch."""

    words: str
    """The template with the macros `preferred` and `converged`, both given `facts`."""
    facts: dict[str, Any]
    grid: Grid
    values: Branches[list[Values]]
    darkest: Sequence[int]
    """The value, of either branch, that is drawn darkest."""
    layouts: Sequence[Layout]
    """What the search would have chosen."""
    outlined: Callable[[int], list[bool]]
    """The rows that belong to a layer of the given length."""
    titles: Branches[str]
    descriptions: Branches[str]
    """The last heatmaps in words."""
    captions: Branches[str]
    charts: Sequence[dict[str, Any]]

    def section(self, run: RunFolder) -> dict[str, Any]:
        """The heatmaps after the last epoch, and every epoch's for the page's slider, layer by layer."""
        # The last epoch shows the layout the run really has, should it not be what the search says.
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
            "settled": settled(epochs_of(run), self.layouts),
        }


def script_json(value: Any) -> Markup:
    """JSON that is safe inside <script>: nothing in it can end the element or open a comment."""
    text = json.dumps(value, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def budget(run: RunFolder, noun: str) -> str | None:
    """What a layer may have on average, like `6 tokens`; None where there was no limit, as in older runs."""
    search = run.config.settings.get("search")
    given = search.get("budget") if isinstance(search, dict) else None
    return f"{given:g} {noun}{'' if given == 1 else 's'}" if isinstance(given, int | float) and given > 0 else None
