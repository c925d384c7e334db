"""The sources: open licences alone are trained on, and the held-out ones are in no training split."""

import json
from pathlib import Path

from pretraining.pictures import sources as s

LISTED = json.loads((Path(s.__file__).parent / "sources.json").read_text())
ABOUT = {"license": {"spdx": "MIT"}, "category": "UI 24px", "palette": False}


def test_training_reads_open_licences_alone():
    train = [source for source in LISTED if source["split"] == "train"]
    assert len(train) > 150
    assert {source["licence"] for source in train} <= set(s.OPEN_LICENCES)


def test_whole_vendors_styles_and_branches_are_held_out():
    split = {source["name"]: source["split"] for source in LISTED}
    assert {name for name, where in split.items() if where == "shift"} == {
        "openmoji", "game-icons", "glyphs-poly", "openclipart-animals", "openclipart-food",
    }  # fmt: skip
    assert {name for name, where in split.items() if where == "kept"} == {
        "fxemoji", "healthicons", "streamline-freehand", "streamline-freehand-color", "openclipart-transportation",
    }  # fmt: skip


def test_icon_sets_of_other_licences_brands_and_emoji_are_left_out():
    sets = {
        "good": ABOUT,
        "animated": ABOUT | {"tags": ["Contains Animations"]},
        "closed": ABOUT | {"license": {"spdx": "CC-BY-NC-4.0"}},
        "alike": ABOUT | {"license": {"spdx": "CC-BY-SA-4.0"}},
        "brands": ABOUT | {"category": "Logos"},
        "faces": ABOUT | {"category": "Emoji"},
        "game-icons": ABOUT,
    }
    assert {source.name: source.split for source in s.icon_sources(sets)} == {"good": "train", "game-icons": "shift"}


def test_names_of_sources_are_distinct():
    names = [source["name"] for source in LISTED]
    assert len(names) == len(set(names))
