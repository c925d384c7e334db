"""Prompt layouts: the number of learned context tokens of each layer in each branch. The search returns one."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dpl.utils.errors import DplError


def check_lengths(branch: str, lengths: Iterable[int]) -> tuple[int, ...]:
    """Returns `lengths` as a tuple of ints.

    Args:
        branch: "image" or "text", for messages.
        lengths: context lengths, one per layer.

    Raises:
        DplError: there are none, or one is no whole number >= 0.
    """
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
    """A context length (number of tokens, >= 0) for each layer of each branch.

    Args:
        image: the lengths of the image branch, one per layer.
        text: the lengths of the text branch, one per layer.

    Raises:
        DplError: a length is not a whole number >= 0, or a branch has no layers.

    Example:

        >>> layout = PromptLayout(image=(2, 0, 1), text=(0, 4, 0))
        >>> layout.tokens
        7
        >>> layout.to_json()
        '{"image": [2, 0, 1], "text": [0, 4, 0]}'
    """

    image: tuple[int, ...]
    text: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "image", check_lengths("image", self.image))
        object.__setattr__(self, "text", check_lengths("text", self.text))

    @classmethod
    def uniform(cls, length: int, image_layers: int, text_layers: int) -> "PromptLayout":
        """Creates a layout of equal lengths.

        Args:
            length: number of tokens in every layer of both branches.
            image_layers: number of layers of the image branch.
            text_layers: number of layers of the text branch.
        """
        return cls((length,) * image_layers, (length,) * text_layers)

    @classmethod
    def from_scores(
        cls,
        image: Sequence[Sequence[float]],
        text: Sequence[Sequence[float]],
        options: Sequence[int],
        budget: int | None = None,
    ) -> "PromptLayout":
        """Chooses the layout with the highest sum of scores among those with at most `budget` tokens.

        Without a budget, every layer takes its best option. Of layouts with the same sum, one with the fewest tokens is chosen;
        among those, the last layer of the text branch takes its shortest length, then the layer before it, and so on.

        Args:
            image: (layers, options), the score of each option in each layer of the image branch.
            text: (layers, options), the same for the text branch.
            options: context lengths, ascending from 0.
            budget: most tokens in all layers of both branches; None for no limit.

        Raises:
            DplError: a row has not one score per option, or a score is not finite.

        Example: both layers prefer 4 tokens; with a budget of 5 the text branch gets them.

            >>> image, text = [[0.0, 0.5, 0.6]], [[0.0, 0.1, 0.9]]
            >>> PromptLayout.from_scores(image, text, options=(0, 1, 4))
            PromptLayout(image: 4 | text: 4 | 8 tokens)
            >>> PromptLayout.from_scores(image, text, options=(0, 1, 4), budget=5)
            PromptLayout(image: 1 | text: 4 | 5 tokens)
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
        """Reads the JSON object `{"image": [..], "text": [..]}`.

        Args:
            text: the JSON.

        Raises:
            DplError: `text` is anything else.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DplError(f"layout: not JSON ({error})") from None
        return cls.from_dict(data)

    @classmethod
    def from_dict(cls, data: object) -> "PromptLayout":
        """Reads the result of `to_dict`, as JSON gives it back.

        Raises:
            DplError: `data` is anything else.
        """
        if not isinstance(data, dict) or set(data) != {"image", "text"}:
            raise DplError('layout: must look like {"image": [2, 0, 1], "text": [0, 4, 0]}')
        return cls(check_lengths("image", data["image"]), check_lengths("text", data["text"]))

    @classmethod
    def load(cls, path: Path) -> "PromptLayout":
        """Reads a layout.json.

        Args:
            path: the file, or a folder that has it, such as a run folder.

        Raises:
            DplError: the file is missing or wrong; the message names it.
        """
        path = path / "layout.json" if path.is_dir() else path
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DplError(f"{path}: cannot read the layout ({error.strerror})") from None
        except (DplError, UnicodeDecodeError) as error:
            raise DplError(f"{path}: {error}") from None

    def to_dict(self) -> dict[str, list[int]]:
        """Returns the lengths as plain data: `{"image": [..], "text": [..]}`."""
        return {"image": list(self.image), "text": list(self.text)}

    def to_json(self) -> str:
        """Returns the JSON object `{"image": [..], "text": [..]}`."""
        return json.dumps(self.to_dict())

    def __getitem__(self, branch: str) -> tuple[int, ...]:
        """Returns the lengths of `branch`, "image" or "text"."""
        return self.image if branch == "image" else self.text

    @property
    def tokens(self) -> int:
        """Number of prompt tokens in all layers of both branches."""
        return sum(self.image) + sum(self.text)

    def __repr__(self) -> str:
        def show(lengths: tuple[int, ...]) -> str:
            return " ".join(map(str, lengths))

        return f"PromptLayout(image: {show(self.image)} | text: {show(self.text)} | {self.tokens} tokens)"


def _best_within(rows: Sequence[Sequence[float]], options: Sequence[int], budget: int) -> list[int]:
    """Solves a knapsack with one choice per row: best[b] is the highest sum of the rows so far with at most b tokens."""
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
    budget = best.index(best[budget])  # the fewest tokens that reach the highest sum
    lengths: list[int] = []
    for choice in reversed(choices):
        lengths.append(choice[budget])
        budget -= lengths[-1]
    return lengths[::-1]


def check_options(options: Sequence[int]) -> tuple[int, ...]:
    """Checks the context lengths that a search chooses from.

    Args:
        options: the lengths.

    Returns:
        The options as a tuple.

    Raises:
        DplError: the options do not ascend from 0, or there are fewer than two.
    """
    options = tuple(options)
    ascending = all(a < b for a, b in zip(options, options[1:], strict=False))
    if len(options) < 2 or options[0] != 0 or not ascending:
        raise DplError(f"options {' '.join(map(str, options))}: must ascend from 0 with at least one more, e.g. 0 1 2 4")
    return options
