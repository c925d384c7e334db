"""Names of pictures: emoji from Unicode's names and keywords, icons from their identifiers, clip art from its titles."""

import re
from dataclasses import asdict, dataclass

STYLE_WORDS = frozenset(
    ("outline", "outlined", "filled", "fill", "line", "linear", "bold", "light", "thin", "duotone", "solid", "regular", "rounded")
    + ("round", "sharp", "broken", "twotone", "two", "tone", "alt", "variant", "o", "s", "low", "high", "color", "flat")
    + ("sm", "lg", "xs", "md")
)
TONES = re.compile(r"-(light|medium-light|medium|medium-dark|dark|skin-tone|default|low)(-.*)?$")
TITLE_JUNK = re.compile(
    r"\(.*?\)|\b(part of|collection|inkscape|untitled|unnamed|architetto|icons?|theme|bw|by)\b.*", re.IGNORECASE
)


@dataclass(frozen=True)
class Label:
    """Names of one picture.

    Args:
        names: Names of the concept, the first one canonical.
        keywords: Words that are related to it.
        group: Subgroup of Unicode's emoji ("animal-mammal"), or "".
    """

    names: tuple[str, ...]
    keywords: tuple[str, ...] = ()
    group: str = ""

    def as_json(self) -> dict:
        """A dictionary for a line of JSON."""
        return asdict(self)


def plain(text: str) -> str:
    """Lower case, letters and digits and single spaces alone: "flag: Côte d'Ivoire" -> "flag of côte divoire"."""
    text = text.lower().replace("flag: ", "flag of ").replace("&", " and ")
    text = re.sub(r"[’'“”!?.*]", "", text)
    return " ".join(re.sub(r"[^\w]+|_", " ", text).split())


def slug(text: str) -> str:
    """The form of iconify's identifiers."""
    return plain(text).replace("flag of ", "flag ").replace(" ", "-")


def emoji_labels(data: list[dict], shortcodes: dict[str, str | list[str]], subgroups: dict[str, str]) -> dict[str, Label]:
    """Hexcode without variation selectors, lower case -> label, for all emoji but skin tones.

    Args:
        data: `en/data.json` of emojibase-data.
        shortcodes: `en/shortcodes/github.json` of emojibase-data, names by hexcode.
        subgroups: `subgroups` of its `meta/groups.json`.
    """
    labels = {}
    for entry in data:
        if "group" not in entry or entry["group"] == 2:  # regional indicators, components
            continue
        codes = shortcodes.get(entry["hexcode"], [])
        codes = [codes] if isinstance(codes, str) else codes
        other = [plain(code) for code in codes if len(code) > 2 and not any(c.isdigit() for c in code)]
        names: dict[str, None] = dict.fromkeys([plain(entry["label"]), *([] if entry["group"] == 9 else other)])
        keywords = [plain(tag) for tag in entry.get("tags", []) if tag.isascii() and len(tag) > 2]
        labels[hexcode(entry["hexcode"])] = Label(tuple(names), tuple(keywords), subgroups[str(entry["subgroup"])])
    return labels


def hexcode(code: str) -> str:
    """A hexcode in the form that all packages share."""
    return "-".join(part for part in code.lower().split("-") if part != "fe0f")


def match_emoji(
    icon: str, aliases: dict[str, list[str]], chars: dict[str, str], labels: dict[str, Label], slugs: dict[str, Label]
) -> Label | None:
    """The label of an emoji's identifier, by its code point or a name; None for skin tones and other variants."""
    if icon in chars:
        return labels.get(chars[icon])
    names = [icon, *aliases.get(icon, [])]
    known = next((slugs[name] for name in names if name in slugs), None)
    if known or TONES.search(icon):
        return known
    name = plain(re.sub(r"-?\d+$", "", icon.replace("-", " ")))
    return Label((name,)) if name and len(name.split()) <= 4 else None


def icon_name(icon: str, affixes: frozenset[str]) -> str:
    """An icon's concept: its identifier without words of style, sizes and numbers."""
    words = [word for word in icon.split("-") if word not in STYLE_WORDS and word not in affixes and not word.isdigit()]
    return " ".join(words)


def title_name(title: str) -> str:
    """A clip art's concept from its title; "" where the title names nothing."""
    name = re.sub(r"\b(\d+|[a-z])\b", " ", plain(TITLE_JUNK.sub(" ", title)))
    words = name.split()
    return " ".join(words) if 1 <= len(words) <= 4 and name.isascii() and max(map(len, words)) > 2 else ""
