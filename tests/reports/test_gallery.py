import base64
import re
from io import BytesIO

import pytest
from PIL import Image

from dpl.data.load import BUILTIN
from dpl.reports import gallery
from dpl.reports.gallery import write_gallery
from dpl.utils.errors import DplError


@pytest.fixture
def few(monkeypatch):
    """Three tasks only, one of them not drawn by dpl: to be quick."""
    monkeypatch.setattr(gallery, "BUILTIN", {name: BUILTIN[name] for name in ("digits", "counting", "stripes")})


def test_a_page_shows_an_image_of_every_class_and_needs_nothing_else(few, tmp_path):
    write_gallery(tmp_path / "tasks.html")
    page = (tmp_path / "tasks.html").read_text()
    pictures = [Image.open(BytesIO(base64.b64decode(code))) for code in re.findall(r"base64,([^\"]+)", page)]
    assert len(pictures) == 10 + 6 + 12 and {picture.size for picture in pictures} == {(8, 8), (48, 48)}
    assert "three shapes" in page and "a texture of {}." in page and "http" not in page


def test_a_sheet_has_a_row_for_every_task(few, tmp_path):
    write_gallery(tmp_path / "tasks.PNG")
    with Image.open(tmp_path / "tasks.PNG") as sheet:
        assert sheet.width > 12 * 96 and sheet.height > 3 * 96


@pytest.mark.parametrize("name", ["tasks.gif", "tasks", "no/such/folder/tasks.html"])
def test_a_file_that_cannot_be_written_is_one_clear_line(few, tmp_path, name: str):
    with pytest.raises(DplError, match=name) as error:
        write_gallery(tmp_path / name)
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())
