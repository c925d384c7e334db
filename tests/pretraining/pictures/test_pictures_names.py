"""Names: Unicode's for emoji, concepts for icons, titles for clip art."""

import pytest

from pretraining.pictures import names
from pretraining.pictures.names import Label

DATA = [
    {"label": "dog face", "hexcode": "1F436", "tags": ["pet", "dog"], "group": 3, "subgroup": 34},
    {"label": "flag: Peru", "hexcode": "1F1F5-1F1EA", "tags": ["PE"], "group": 9, "subgroup": 97},
    {"label": "red heart", "hexcode": "2764-FE0F", "group": 0, "subgroup": 14},
    {"label": "light skin tone", "hexcode": "1F3FB", "group": 2, "subgroup": 32},
    {"label": "regional indicator F", "hexcode": "1F1EB"},
]
SUBGROUPS = {"34": "animal-mammal", "97": "country-flag", "14": "heart", "32": "skin-tone"}


@pytest.fixture
def labels():
    return names.emoji_labels(DATA, {"1F436": "dog", "2764-FE0F": ["heart", "<3"]}, SUBGROUPS)


def test_emoji_have_unicode_names_first_then_shortcodes(labels):
    assert labels["1f436"] == Label(("dog face", "dog"), ("pet", "dog"), "animal-mammal")
    assert labels["2764"].names == ("red heart", "heart")
    assert labels["1f1f5-1f1ea"].names == ("flag of peru",)


def test_components_and_regional_indicators_are_no_emoji(labels):
    assert set(labels) == {"1f436", "2764", "1f1f5-1f1ea"}


def test_an_identifier_is_matched_by_code_point_by_name_and_by_alias(labels):
    slugs = {names.slug(label.names[0]): label for label in labels.values()}
    dog = labels["1f436"]
    assert names.match_emoji("hound", {}, {"hound": "1f436"}, labels, slugs) is dog
    assert names.match_emoji("dog-face", {}, {}, labels, slugs) is dog
    assert names.match_emoji("hound", {"hound": ["dog-face"]}, {}, labels, slugs) is dog
    assert names.match_emoji("flag-peru", {}, {}, labels, slugs) is labels["1f1f5-1f1ea"]


@pytest.mark.parametrize("icon", ["waving-hand-medium-dark", "vampire-light", "ear-dark-skin-tone"])
def test_skin_tones_are_left_out(labels, icon):
    assert names.match_emoji(icon, {}, {}, labels, {}) is None


@pytest.mark.parametrize(
    ("icon", "name"),
    [("shopping-cart-outline", "shopping cart"), ("home-2-fill", "home"), ("bell-duotone-rounded", "bell"), ("24-outline", "")],
)
def test_an_icons_concept_lacks_style_and_size(icon, name):
    assert names.icon_name(icon, frozenset()) == name


def test_affixes_of_a_set_are_style_too():
    assert names.icon_name("cat-freehand", frozenset({"freehand"})) == "cat"


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("LED Circle (Blue)", "led circle"),
        ("Part of the Flat Icon Collection (Wed Aug 25)", ""),
        ("Bullet Hole 02", "bullet hole"),
        ("one two three four five", ""),
    ],
)
def test_a_title_names_a_thing_or_nothing(title, name):
    assert names.title_name(title) == name
