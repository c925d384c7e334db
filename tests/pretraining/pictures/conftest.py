"""A corpus of a few coloured squares in the shape that pretraining.pictures.corpus writes."""

import json

import numpy as np
import pytest

THINGS = ("cat", "dog", "key", "bell")
SOURCES = (
    ("vendor", "emoji", "train", True),
    ("lines", "icon", "train", False),
    ("clips", "clipart", "train", True),
    ("openmoji", "emoji", "shift", True),
)


@pytest.fixture
def corpus_folder(tmp_path):
    rng = np.random.default_rng(0)
    table = []
    for name, kind, split, colour in SOURCES:
        pixels = rng.integers(0, 256, (len(THINGS), 72, 72, 4), dtype=np.uint8)
        pixels[..., 3] = 255
        np.save(tmp_path / f"{name}.npy", pixels if colour else pixels[..., 3])
        lines = [{"id": thing, "names": [thing], "keywords": ["thing"], "group": ""} for thing in THINGS]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        table.append({"name": name, "kind": kind, "styles": [kind], "split": split, "colour": colour, "pictures": len(THINGS)})
    (tmp_path / "sources.json").write_text(json.dumps(table))
    return tmp_path
