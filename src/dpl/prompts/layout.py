"""A prompt layout: how many learned context tokens each layer of each branch gets. It is what the search finds."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dpl.errors import DplError


def _lengths(branch: str, lengths: Iterable[int]) -> tuple[int, ...]:
    """`lengths` as a tuple of plain ints; DplError where one is no whole number >= 0 or none is there."""
    if isinstance(lengths, str) or not isinstance(lengths, Iterable):
        raise DplError(f"layout: {branch} must be a list with one length per layer, got {lengths!r}")
    lengths = tuple(lengths)
    if not lengths:
        raise DplError(f"layout: {branch} has no layers; give one length per layer, 0 for none")
    for length in lengths:
        if isinstance(length, bool) or not hasattr(length, "__index__") or length < 0:
            raise DplError(f"layout: {branch} has the length {length!r}; lengths are whole numbers from 0")
    return tuple(int(length) for length in lengths)


@dataclass(frozen=True)
class PromptLayout:
    """One context length (tokens, >= 0) per layer and per branch.

    Raises `DplError` where a length is not a whole number >= 0 or a branch has no layers.
    """

    image: tuple[int, ...]
    text: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "image", _lengths("image", self.image))
        object.__setattr__(self, "text", _lengths("text", self.text))

    @classmethod
    def uniform(cls, length: int, image_layers: int, text_layers: int) -> "PromptLayout":
        """The hand-made layout: `length` tokens in every layer of both branches."""
        return cls((length,) * image_layers, (length,) * text_layers)

    @classmethod
    def from_scores(
        cls,
        image: Sequence[Sequence[float]],
        text: Sequence[Sequence[float]],
        options: Sequence[int],
        budget: int | None = None,
    ) -> "PromptLayout":
        """The layout of at most `budget` tokens in all whose options' scores, (layers x options) matrices, sum highest.

        Without a budget that is the best option of every row. Of equals the first option wins, so the fewest tokens.
        """
        rows = [[float(score) for score in row] for row in (*image, *text)]
        for row in rows:
            if len(row) != len(options):
                raise DplError(f"layout: a row of {len(row)} scores does not fit the {len(options)} options {options}")
            if not all(map(math.isfinite, row)):
                raise DplError(f"layout: the scores {row} are not all finite")
        lengths = [options[row.index(max(row))] for row in rows] if budget is None else _best_within(rows, options, budget)
        return cls(tuple(lengths[: len(image)]), tuple(lengths[len(image) :]))

    @classmethod
    def from_json(cls, text: str) -> "PromptLayout":
        """Reads `{"image": [..], "text": [..]}`; `DplError` for anything else."""
        try:
            data = json.loads(text)
        except ValueError as error:
            raise DplError(f"layout: not JSON ({error})") from None
        if not isinstance(data, dict) or set(data) != {"image", "text"}:
            raise DplError('layout: must look like {"image": [2, 0, 1], "text": [0, 4, 0]}')
        return cls(_lengths("image", data["image"]), _lengths("text", data["text"]))

    @classmethod
    def load(cls, path: Path) -> "PromptLayout":
        """Reads a layout.json; `DplError` names the file where it is missing or wrong."""
        try:
            return cls.from_json(path.read_text())
        except OSError as error:
            raise DplError(f"{path}: cannot read the layout ({error.strerror})") from None
        except (DplError, UnicodeDecodeError) as error:
            raise DplError(f"{path}: {error}") from None

    def to_json(self) -> str:
        """`{"image": [..], "text": [..]}`."""
        return json.dumps({"image": list(self.image), "text": list(self.text)})

    @property
    def tokens(self) -> int:
        """How many prompt tokens the layout has in all."""
        return sum(self.image) + sum(self.text)

    def __repr__(self) -> str:
        def show(lengths: tuple[int, ...]) -> str:
            return " ".join(map(str, lengths))

        return f"PromptLayout(image: {show(self.image)} | text: {show(self.text)} | {self.tokens} tokens)"


def _best_within(rows: Sequence[Sequence[float]], options: Sequence[int], budget: int) -> list[int]:
    """A knapsack with one choice per row: best[b] is the highest sum of the rows so far with at most b tokens."""
    best, choices = [0.0] * (budget + 1), []
    for row in rows:
        fitting = [(option, score) for option, score in zip(options, row, strict=True) if option <= budget]
        choice = [0] * (budget + 1)
        after = [float("-inf")] * (budget + 1)
        for option, score in fitting:
            for tokens in range(option, budget + 1):
                if best[tokens - option] + score > after[tokens]:
                    after[tokens], choice[tokens] = best[tokens - option] + score, option
        best = after
        choices.append(choice)
    lengths: list[int] = []
    for choice in reversed(choices):
        lengths.append(choice[budget])
        budget -= lengths[-1]
    return lengths[::-1]


def check_options(options: Sequence[int]) -> tuple[int, ...]:
    """`options` as a tuple; `DplError` unless they ascend from 0 and leave a choice."""
    options = tuple(options)
    ascending = all(a < b for a, b in zip(options, options[1:], strict=False))
    if len(options) < 2 or options[0] != 0 or not ascending:
        raise DplError(f"options {' '.join(map(str, options))}: must ascend from 0 with at least one more, e.g. 0 1 2 4")
    return options
