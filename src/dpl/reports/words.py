"""What the prompts say: how long they are as vectors, and the words that those of the text branch are nearest to."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from dpl.explain.stored import Explanation, LayerNorms, PromptWords
from dpl.reports.figures import LEFT, columns
from dpl.reports.run_folder import BRANCHES, RunFolder
from dpl.reports.svg import picture, tag, ticks

FEW = 24  # up to so many text prompts the page shows their words at once, of more when asked to


def words(run: RunFolder, explanation: Explanation | None) -> dict[str, Any] | None:
    """Pictures of the norms and rows of the nearest words; None where the method learns no prompts."""
    if explanation is None or explanation.prompts is None:
        return None
    prompts = explanation.prompts
    rows = [
        {
            "layer": layer.layer,
            "prompt": number,
            "norm": norm,
            "words": [(near.word, near.cosine, near.cosine > prompts.chance) for near in nearest],
        }
        for layer in prompts.text
        for number, (norm, nearest) in enumerate(zip(layer.norms, layer.words, strict=True), start=1)
    ]
    longest = max(
        [prompts.token_norm, *(norm for branch in BRANCHES for layer in _layers(prompts, branch) for norm in layer.norms)]
    )
    return {
        "rows": rows,
        "open": len(rows) <= FEW,
        "near": sum(any(near for _, _, near in row["words"]) for row in rows),
        "chance": prompts.chance,
        "token_norm": prompts.token_norm,
        "branches": [
            {
                "name": branch,
                "picture": _norms(branch, len(run.layout[branch]), _layers(prompts, branch), longest, prompts.token_norm),
                "layers": len(run.layout[branch]),
            }
            for branch in BRANCHES
            if _layers(prompts, branch)
        ],
    }


def _layers(prompts: PromptWords, branch: str) -> Sequence[LayerNorms]:
    return prompts.image if branch == "image" else prompts.text


def _norms(branch: str, layers: int, found: Sequence[LayerNorms], longest: float, token_norm: float) -> Markup:
    """A dot per prompt in the column of its layer; in the text branch a line at the mean norm of the vocabulary's words."""
    width, column = columns(layers)
    rows = ticks(longest or 1)
    top, bottom = 14, 134

    def y(norm: float) -> float:
        return bottom - norm / rows[-1] * (bottom - top)

    parts = [tag("line", x1=LEFT, x2=width, y1=y(row), y2=y(row), class_="grid" if row else "base") for row in rows]
    parts += [tag("text", f"{row:g}", x=LEFT - 9, y=y(row) + 4, class_="end") for row in rows]
    parts += [tag("text", layer + 1, x=LEFT + (layer + 0.5) * column, y=bottom + 18, class_="middle") for layer in range(layers)]
    parts.append(tag("text", "layer", x=0, y=bottom + 18, class_="axis"))
    if branch == "text":
        parts.append(tag("line", x1=LEFT, x2=width, y1=y(token_norm), y2=y(token_norm), class_="reference"))
    for layer in found:
        for number, norm in enumerate(layer.norms):
            place = LEFT + (layer.layer - 1 + (number + 1) / (len(layer.norms) + 1)) * column
            told = tag("title", f"layer {layer.layer}, prompt {number + 1}: norm {norm:.3g}")
            parts.append(tag("circle", told, cx=place, cy=y(norm), r=3, class_=f"dot {branch}"))
    told = "; ".join(f"layer {layer.layer}: " + ", ".join(f"{norm:.3g}" for norm in layer.norms) for layer in found)
    return picture(f"norms-{branch}", f"Norms of the prompts of the {branch} branch", f"{told}.", width, bottom + 26, *parts)
