"""Building: pictures keep their aspect, blanks are left out, a square canvas holds an icon of any shape."""

import numpy as np
import pytest
from PIL import Image

from pretraining.pictures import corpus

pytestmark = pytest.mark.slow  # nothing of dpl itself is tested here


def test_a_raster_is_fitted_without_its_border(tmp_path):
    image = Image.new("RGBA", (400, 300))
    image.paste((255, 0, 0, 255), (100, 100, 300, 200))  # 200 x 100
    image.save(tmp_path / "wide.png")
    pixels = corpus.draw(tmp_path / "wide.png", True)
    assert pixels is not None and pixels.shape == (72, 72, 4)
    rows, columns = np.nonzero(pixels[..., 3] > 128)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (18, 53, 0, 71)
    coverage = corpus.draw(tmp_path / "wide.png", False)
    assert coverage is not None and np.array_equal(coverage, pixels[..., 3])


def test_small_rasters_are_enlarged(tmp_path):
    Image.new("RGBA", (10, 10), (0, 0, 255, 255)).save(tmp_path / "small.png")
    pixels = corpus.draw(tmp_path / "small.png", False)
    assert pixels is not None and (pixels == 255).all()


def test_what_cannot_be_drawn_is_none(tmp_path):
    Image.new("RGBA", (20, 20)).save(tmp_path / "blank.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert corpus.draw(tmp_path / "blank.png", True) is None
    assert corpus.draw(tmp_path / "broken.png", True) is None


def test_an_icon_lies_in_the_middle_of_a_square():
    document = corpus.svg({"width": 10, "height": 20, "icons": {"pen": {"body": "<path/>", "width": 30}}}, "pen")
    assert 'viewBox="0.0 -5.0 30 30"' in document and "<path/>" in document


def test_only_titled_clip_art_is_taken_with_its_folders_as_keywords(tmp_path):
    from PIL.PngImagePlugin import PngInfo

    folder = tmp_path / "animals/birds"
    folder.mkdir(parents=True)
    for name, title in (("a", "Grey owl"), ("b", ""), ("c", "Part of a set")):
        about = PngInfo()
        about.add_text("Title", title)
        Image.new("RGBA", (8, 8), (9, 9, 9, 255)).save(folder / f"{name}.png", pnginfo=about)
    assert [(name, label.names, label.keywords) for name, label, _ in corpus.clipart_items(tmp_path / "animals")] == [
        ("birds/a.png", ("grey owl",), ("animals", "birds"))
    ]
