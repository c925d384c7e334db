"""Prompt section of the report: norms of the prompts, and the vocabulary words nearest to each text prompt."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from dpl.reports.web.figures import LEFT, columns
from dpl.reports.web.svg import picture, tag, ticks
from dpl.schemas.explanation import Explanation, LayerNorms, PromptWords
from dpl.schemas.run_folder import BRANCHES, RunFolder

FEW = 24  # with more text prompts than this, the page hides their words until the reader opens them


def words(run: RunFolder, explanation: Explanation | None) -> dict[str, Any] | None:
    """Returns the template data: pictures of the norms and rows of the nearest words.

    Args:
        run: the run.
        explanation: its explanation; None if it has none.

    Returns:
        "rows": a row per text prompt with its nearest words; each word has its cosine and whether it exceeds chance. "open":
            whether the page shows the rows at once. "near": the number of rows with a word above chance. "chance", "token_norm":
            as in `PromptWords`. "branches": for each branch with prompts its picture. None if the run has no explanation or the
            explanation has no prompts.
    """
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
    """Draws the norm of each prompt as a dot in its layer's column; in the text branch, a line marks the mean word norm."""
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
            title = tag("title", f"layer {layer.layer}, prompt {number + 1}: norm {norm:.3g}")
            parts.append(tag("circle", title, cx=place, cy=y(norm), r=3, class_=f"dot {branch}"))
    text = "; ".join(f"layer {layer.layer}: " + ", ".join(f"{norm:.3g}" for norm in layer.norms) for layer in found)
    return picture(f"norms-{branch}", f"Norms of the prompts of the {branch} branch", f"{text}.", width, bottom + 26, *parts)
