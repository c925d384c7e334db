"""The sources of pictures: packages, emoji vendors, icon sets, clip-art branches, and which of them training never sees.

A source is `train` (pretraining), `shift` (the shifted tasks and the card's scores) or `kept` (held back for a later check).
"""

from dataclasses import dataclass
from typing import Literal

NPM = {
    "@iconify/json": "2.2.535",
    "@lobehub/fluent-emoji-3d": "1.1.0",
    "emojibase-data": "17.0.0",
}
DEBIAN = ("openclipart-png",)
OPEN_LICENCES = ("MIT", "Apache-2.0", "ISC", "OFL-1.1", "CC0-1.0", "CC-BY-4.0", "CC-BY-3.0", "Unlicense", "BSD-3-Clause")
LEFT_OUT = ("Logos", "Programming", "Flags / Maps", "Emoji")  # iconify categories: brands; flags and maps; emoji have a table

Kind = Literal["emoji", "icon", "clipart"]
Split = Literal["train", "shift", "kept"]


@dataclass(frozen=True)
class Source:
    """One set of pictures.

    Args:
        name: Folder of the shard; the iconify prefix where there is one.
        kind: How pictures are named and sampled.
        styles: Words for the style in captions, e.g. "flat emoji".
        licence: SPDX identifier.
        split: Whether pretraining may see it.
        colour: Whether pictures have colours of their own. Without, only coverage is stored.
    """

    name: str
    kind: Kind
    styles: tuple[str, ...]
    licence: str
    split: Split = "train"
    colour: bool = True


EMOJI = (
    Source("noto", "emoji", ("emoji", "flat emoji"), "Apache-2.0"),
    Source("noto-v1", "emoji", ("emoji", "shaded emoji"), "Apache-2.0"),
    Source("twemoji", "emoji", ("emoji", "flat emoji"), "CC-BY-4.0"),
    Source("fluent-emoji", "emoji", ("emoji", "glossy emoji"), "MIT"),
    Source("fluent-emoji-flat", "emoji", ("emoji", "flat emoji"), "MIT"),
    Source("fluent-emoji-high-contrast", "emoji", ("emoji", "silhouette"), "MIT", colour=False),
    Source("fluent-emoji-3d", "emoji", ("emoji", "3d emoji"), "MIT"),
    Source("emojione", "emoji", ("emoji", "flat emoji"), "CC-BY-4.0"),
    Source("emojione-monotone", "emoji", ("emoji", "silhouette"), "CC-BY-4.0", colour=False),
    Source("streamline-emojis", "emoji", ("emoji", "outlined emoji"), "CC-BY-4.0"),
    Source("openmoji", "emoji", ("emoji",), "CC-BY-SA-4.0", split="shift"),  # read, never trained on: share-alike
    Source("fxemoji", "emoji", ("emoji",), "Apache-2.0", split="kept"),
)
HELD_ICONS: dict[str, Split] = {
    "game-icons": "shift",
    "glyphs-poly": "shift",
    "streamline-freehand": "kept",  # a style family: drawn by hand
    "streamline-freehand-color": "kept",
    "healthicons": "kept",
}
CLIPART: dict[str, Split] = {  # top folders of openclipart; `shapes`, `special`, `unsorted`, `logos` have no names of things
    "buildings": "train", "computer": "train", "containers": "train", "decorations": "train", "education": "train",
    "electronics": "train", "geography": "train", "office": "train", "people": "train", "plants": "train", "recreation": "train",
    "science": "train", "signs_and_symbols": "train", "tools": "train",
    "animals": "shift", "food": "shift", "transportation": "kept",
}  # fmt: skip


def icon_sources(collections: dict[str, dict]) -> list[Source]:
    """The icon sets of iconify with an open licence, from its `collections.json`; brands, flags and emoji are left out."""
    sources = []
    for name, about in sorted(collections.items()):
        licence, category = about["license"].get("spdx"), about.get("category")
        if (
            licence not in OPEN_LICENCES
            or category in LEFT_OUT
            or name == "fluent-emoji"
            or "Contains Animations" in about.get("tags", ())
        ):
            continue
        colour = bool(about.get("palette"))
        styles = ("icon", "coloured icon") if colour else ("icon", "symbol", "pictogram")
        sources.append(Source(name, "icon", styles, licence, HELD_ICONS.get(name, "train"), colour))
    return sources


def clipart_sources() -> list[Source]:
    """The top folders of openclipart, each a source."""
    styles = ("clip art", "drawing", "cartoon")
    return [Source(f"openclipart-{name}", "clipart", styles, "CC0-1.0", split) for name, split in CLIPART.items()]
