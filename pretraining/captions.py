"""What an image shows, as a row of integers, and a small grammar of captions that each name a part of it.

Attributes are int64[batch, len(FIELDS)], -1 where a field does not apply; a caption's constraint is a row of the same form, -1
where the caption says nothing. An image satisfies a caption when it has every value that the caption names.
"""

import random
import string

import torch
from jaxtyping import Bool, Int
from torch import Tensor

FIELDS = ("kind", "digit", "letter", "case", "shape", "colour", "pattern", "count", "texture", "background")
KIND, DIGIT, LETTER, CASE, SHAPE, COLOUR, PATTERN, COUNT, TEXTURE, BACKGROUND = range(len(FIELDS))
IS_DIGIT, IS_LETTER, IS_SHAPE, IS_TEXTURE = range(4)

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LETTERS = tuple(string.ascii_lowercase)
SHAPES = (
    "circle", "square", "triangle", "star", "heart", "cross",
    "diamond", "pentagon", "hexagon", "ring", "arrow", "crescent",
)  # fmt: skip
COLOURS = (
    "red", "orange", "yellow", "green", "cyan", "blue",
    "purple", "pink", "brown", "black", "white", "gray",
)  # fmt: skip
PATTERNS = ("solid", "striped", "dotted", "checkered")
COUNTS = ("one", "two", "three", "four", "five")
TEXTURES = (
    "horizontal stripes", "vertical stripes", "diagonal stripes", "checks", "dots",
    "waves", "grid lines", "zigzags", "rings", "noise",
)  # fmt: skip

PREFIXES = (
    "a photo of {}.", "a photo of {}", "a picture of {}.", "an image of {}.",
    "{}", "{}.", "a drawing of {}.", "this is {}.",
)  # fmt: skip
SYMBOL = ("the {kind} {name}", "the {kind} {name}", "the {kind} {name}", "a {kind} {name}", "{kind} {name}", "a {name}", "{name}")
TEXTURED = ("a texture of {}", "a texture of {}", "{}", "a pattern of {}", "a surface with {}")
CASES = (("capital letter", "capital", "uppercase letter"), ("lowercase letter", "small letter", "lowercase"))
PRINTED = ("a printed {name}", "the written {kind} {name}")


def satisfied(
    attributes: Int[Tensor, "images fields"], constraints: Int[Tensor, "captions fields"]
) -> Bool[Tensor, "images captions"]:
    """Which images satisfy which captions."""
    wanted, shown = constraints[None], attributes[:, None]
    return ((wanted == -1) | (wanted == shown)).all(-1)


def plural(shape: str) -> str:
    """A shape's plural: crosses, stars."""
    return shape + ("es" if shape.endswith("s") else "s")


def article(phrase: str) -> str:
    """The phrase with its indefinite article."""
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def caption(row: list[int], rng: random.Random) -> tuple[str, tuple[int, ...]]:
    """A random true caption of an image and the constraint that it stands for."""
    said = [-1] * len(FIELDS)

    def say(*fields: int) -> None:
        for field in fields:
            said[field] = row[field]

    kind, chance = row[KIND], rng.random()
    if kind == IS_TEXTURE:
        say(TEXTURE)
        name = TEXTURES[row[TEXTURE]]
        phrase = rng.choice(TEXTURED).format(name)
    elif chance < (0.15 if kind == IS_SHAPE else 0.05):
        say(COLOUR)
        colour = COLOURS[row[COLOUR]]
        noun = rng.choice(("object", "object", "thing", "figure", "something", "shape"))
        if noun == "shape":
            say(KIND)
            noun = {IS_DIGIT: "digit", IS_LETTER: "letter", IS_SHAPE: "shape"}[kind]
            say(COUNT)  # -1 for a digit or letter
            noun = "s" if row[COUNT] > 1 else noun
        phrase = f"something {colour}" if noun == "something" else article(f"{colour} {noun}")
        if noun == "s":
            phrase = f"{COUNTS[row[COUNT] - 1]} {colour} shapes"
    elif kind == IS_SHAPE:
        phrase = shape_phrase(row, rng, say)
    else:
        phrase = symbol_phrase(row, rng, say)
    return rng.choice(PREFIXES).format(phrase), tuple(said)


def shape_phrase(row: list[int], rng: random.Random, say) -> str:
    """A shape or several of them, with some of colour, pattern and background named."""
    words, count = [], row[COUNT]
    say(COUNT)
    if rng.random() < 0.5:
        say(COLOUR)
        words.append(COLOURS[row[COLOUR]])
    if rng.random() < (0.6 if row[PATTERN] else 0.1):
        say(PATTERN)
        words.insert(rng.randrange(len(words) + 1), PATTERNS[row[PATTERN]])
    if rng.random() < 0.85:
        say(SHAPE)
        noun = SHAPES[row[SHAPE]]
    else:
        say(KIND)
        noun = "shape"
    phrase = article(" ".join([*words, noun])) if count == 1 else " ".join([COUNTS[count - 1], *words, plural(noun)])
    if row[BACKGROUND] >= 0 and rng.random() < 0.15:
        say(BACKGROUND)
        phrase += f" on {article(COLOURS[row[BACKGROUND]])} background"
    return phrase


def symbol_phrase(row: list[int], rng: random.Random, say) -> str:
    """A digit or letter, seldom only its kind, at times with its colour; 7 and seven alike."""
    if row[KIND] == IS_DIGIT:
        if rng.random() < 0.05:
            say(KIND)
            return rng.choice(("a digit", "a number"))
        say(DIGIT)
        forms = SYMBOL
        name = str(row[DIGIT]) if rng.random() < 0.6 else DIGITS[row[DIGIT]]
        kind = rng.choice(("digit", "digit", "number"))
        if rng.random() < 0.1:
            return rng.choice(PRINTED).format(name=name, kind=kind)
    else:
        say(LETTER)
        name = LETTERS[row[LETTER]]
        kind, forms = "letter", SYMBOL
        if rng.random() < 0.35:
            say(CASE)
            kind, forms = rng.choice(CASES[row[CASE]]), SYMBOL[:5]  # those that say it
    phrase = rng.choice(forms).format(kind=kind, name=name)
    if rng.random() < 0.1:
        say(COLOUR)
        phrase = f"{phrase} in {COLOURS[row[COLOUR]]}"
    return phrase


def captions(attributes: Int[Tensor, "images fields"], seed: int) -> tuple[list[str], Bool[Tensor, "images captions"]]:
    """One caption per image, those that read the same merged, and which images satisfy which of them."""
    rng = random.Random(seed)
    unique: dict[str, tuple[int, ...]] = dict(caption(row, rng) for row in attributes.tolist())
    return list(unique), satisfied(attributes, torch.tensor(list(unique.values())))
