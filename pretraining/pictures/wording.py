"""Captions of pictures, each with the tags that a picture must have for the caption to be true.

A tag is a string: "name:dog", "about:pet", "group:animal-mammal", "style:emoji", "ink:red", "ground:blue".
"""

import random
from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from pretraining.captions import COLOURS, article
from pretraining.pictures.names import Label

TEMPLATES = (
    "{a}", "{name}", "{name}.", "a photo of {a}.", "a picture of {a}.", "an image of {a}.", "a drawing of {a}.", "this is {a}.",
    "an icon of {a}.", "an emoji of {a}.", "a photo of the {name}.", "a picture of the {name}.",
)  # fmt: skip
ABOUT = ("something about {}.", "{}", "a picture that shows {}.", "related to {}.")
GROUPS = {  # subgroups of Unicode's emoji, as a caption says them
    "face-smiling": "a smiling face", "face-affection": "a face in love", "face-tongue": "a face with tongue",
    "face-neutral-skeptical": "a sceptical face", "face-sleepy": "a sleepy face", "face-unwell": "a sick face",
    "face-concerned": "a worried face", "face-negative": "an angry face", "cat-face": "a cat face",
    "monkey-face": "a monkey face", "heart": "a heart", "hand-fingers-open": "a hand", "hand-fingers-partial": "a hand",
    "hand-single-finger": "a hand", "hand-fingers-closed": "a fist", "hands": "hands", "body-parts": "a body part",
    "person": "a person", "person-gesture": "a person", "person-role": "a profession", "person-fantasy": "a fantasy figure",
    "person-activity": "a person in action", "person-sport": "a sportsperson", "family": "a family",
    "animal-mammal": "a mammal", "animal-bird": "a bird", "animal-amphibian": "an amphibian", "animal-reptile": "a reptile",
    "animal-marine": "a sea animal", "animal-bug": "an insect", "plant-flower": "a flower", "plant-other": "a plant",
    "food-fruit": "a fruit", "food-vegetable": "a vegetable", "food-prepared": "a dish", "food-asian": "an asian dish",
    "food-marine": "seafood", "food-sweet": "a dessert", "drink": "a drink", "dishware": "tableware", "place-map": "a map",
    "place-geographic": "a landscape", "place-building": "a building", "place-religious": "a place of worship",
    "transport-ground": "a land vehicle", "transport-water": "a boat", "transport-air": "an aircraft", "time": "a clock",
    "sky-weather": "the sky", "event": "a celebration", "award-medal": "an award", "sport": "sports equipment",
    "game": "a game", "arts-crafts": "arts and crafts", "clothing": "clothing", "sound": "sound", "music": "music",
    "musical-instrument": "a musical instrument", "phone": "a telephone", "computer": "a computer",
    "light-video": "light and video", "book-paper": "paper", "money": "money", "mail": "mail", "writing": "a writing tool",
    "office": "office supplies", "lock": "a lock", "tool": "a tool", "science": "science", "medical": "medicine",
    "household": "a household object", "transport-sign": "a transport sign", "warning": "a warning sign", "arrow": "an arrow",
    "religion": "a religious symbol", "zodiac": "a zodiac sign", "av-symbol": "a media symbol",
    "math": "a mathematical symbol", "punctuation": "punctuation", "keycap": "a key", "alphanum": "letters",
    "geometric": "a geometric shape", "country-flag": "a flag", "flag": "a flag", "hotel": "a hotel symbol",
}  # fmt: skip


def tags(label: Label, styles: Sequence[str], ink: int, ground: int) -> frozenset[str]:
    """Everything that captions may say of a picture.

    Args:
        label: Its names.
        styles: Words for its style.
        ink: Index of its only colour, or -1.
        ground: Index of the background's colour, or -1.
    """
    said = {f"name:{name}" for name in label.names} | {f"about:{word}" for word in (*label.names, *label.keywords)}
    said |= {f"style:{style}" for style in styles}
    said |= {f"group:{GROUPS[label.group]}"} if label.group in GROUPS else set()
    said |= {f"ink:{COLOURS[ink]}"} if ink >= 0 else set()
    return frozenset(said | ({f"ground:{COLOURS[ground]}"} if ground >= 0 else set()))


def caption(label: Label, styles: Sequence[str], ink: int, ground: int, rng: random.Random) -> tuple[str, frozenset[str]]:
    """A random true caption of a picture, and the tags that it claims; arguments as in `tags`."""
    name, chance = label.names[0] if rng.random() < 0.7 else rng.choice(label.names), rng.random()
    claims = {f"name:{name}"}
    if chance < 0.10 and label.keywords:
        word = rng.choice(label.keywords)
        return rng.choice(ABOUT[:1] + ABOUT[2:]).format(word), frozenset({f"about:{word}"})
    if chance < 0.17 and label.group in GROUPS:
        phrase = GROUPS[label.group]
        return rng.choice(("{}", "{}.", "a photo of {}.", "a picture of {}.")).format(phrase), frozenset({f"group:{phrase}"})
    if chance < 0.27:
        style = rng.choice(styles)
        return f"{article(style)} of {article(name)}.", frozenset(claims | {f"style:{style}"})
    if chance < 0.40 and ink >= 0:
        return f"{article(COLOURS[ink] + ' ' + name)}", frozenset(claims | {f"ink:{COLOURS[ink]}"})
    if chance < 0.45 and ground >= 0:
        phrase = f"{article(name)} on {article(COLOURS[ground])} background"
        return phrase, frozenset(claims | {f"ground:{COLOURS[ground]}"})
    return rng.choice(TEMPLATES).format(a=article(name), name=name), frozenset(claims)


def satisfied(shown: Sequence[frozenset[str]], claimed: Sequence[frozenset[str]]) -> Bool[Tensor, "pictures captions"]:
    """Which pictures have every tag that a caption claims."""
    index = {tag: number for number, tag in enumerate(sorted(set().union(*claimed)))}

    def rows(sets: Sequence[frozenset[str]]) -> Tensor:
        table = torch.zeros(len(sets), len(index))
        for row, members in enumerate(sets):
            table[row, [index[tag] for tag in members if tag in index]] = 1
        return table

    lacking = (1 - rows(shown)) @ rows(claimed).T
    return lacking == 0
