"""Example sheet of the built-in tasks: one row per task, with one test image per class."""

import base64
import io
import textwrap
from html import escape
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from dpl.data.load import BUILTIN, load_task
from dpl.data.paths import shown
from dpl.data.pixels.transforms import load_image
from dpl.data.task import Task
from dpl.utils.errors import DplError
from dpl.utils.files import write_bytes

TILE, GAP, LINE, CHARACTERS = 96, 8, 13, 16  # in pixels; CHARACTERS is the caption's line length
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Built-in tasks of dpl</title>
<style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 90em; padding: 0 1em; }}
h2 {{ margin: 1.5em 0 0.2em; }} p {{ margin: 0 0 0.6em; }}
.row {{ display: flex; flex-wrap: wrap; gap: 8px; }}
figure {{ margin: 0; width: 96px; font-size: 12px; text-align: center; }}
img {{ width: 96px; height: 96px; image-rendering: pixelated; }}
</style>
<h1>Built-in tasks</h1>
{rows}
</html>
"""


def write_gallery(path: Path) -> None:
    """Writes the sheet atomically as a self-contained page (.html) or an image (.png).

    Args:
        path: output file; its suffix selects the format.

    Raises:
        DplError: the suffix is another one, or the file cannot be written.
    """
    makers = {".html": _page, ".png": _sheet}
    maker = makers.get(path.suffix.lower())
    if maker is None:
        raise DplError(f"{shown(path)}: pictures go to a file that ends in {' or '.join(makers)}")
    rows = [(load_task(name), builtin.description) for name, builtin in BUILTIN.items()]
    write_bytes(path, maker([(task, description, _examples(task)) for task, description in rows]))


Row = tuple[Task, str, list[Image.Image]]


def _examples(task: Task) -> list[Image.Image]:
    """Returns the first test image of every class."""
    first = {item.label: item for item in reversed(task.test)}
    return [load_image(first[label]) for label in range(len(task.class_names))]


def _page(rows: list[Row]) -> bytes:
    return PAGE.format(rows="\n".join(_section(*row) for row in rows)).encode()


def _section(task: Task, description: str, images: list[Image.Image]) -> str:
    figures = "\n".join(
        f'<figure><img alt="" src="data:image/png;base64,{base64.b64encode(_png(image)).decode()}">'
        f"<figcaption>{escape(name)}</figcaption></figure>"
        for name, image in zip(task.class_names, images, strict=True)
    )
    summary = f"{description}. {len(task.test)} test images. &ldquo;{escape(task.templates[0])}&rdquo;"
    return f'<h2>{escape(task.name)}</h2>\n<p>{summary}</p>\n<div class="row">\n{figures}\n</div>'


def _sheet(rows: list[Row]) -> bytes:
    captions = [[textwrap.wrap(name, CHARACTERS) for name in task.class_names] for task, _, _ in rows]
    heights = [LINE + TILE + LINE * max(map(len, lines)) + 2 * GAP for lines in captions]
    width = GAP + max(len(images) for _, _, images in rows) * (TILE + GAP)
    sheet = Image.new("RGB", (width, sum(heights) + GAP), "white")
    draw, font, top = ImageDraw.Draw(sheet), ImageFont.load_default(), GAP
    for (task, description, images), lines, height in zip(rows, captions, heights, strict=True):
        draw.text((GAP, top), f"{task.name}: {description}", "black", font)
        for place, (image, caption) in enumerate(zip(images, lines, strict=True)):
            left = GAP + place * (TILE + GAP)
            sheet.paste(image.resize((TILE, TILE), Image.Resampling.NEAREST), (left, top + LINE + 4))
            for number, line in enumerate(caption):
                draw.text((left, top + 4 + TILE + LINE * (number + 1)), line, "black", font)
        top += height
    return _png(sheet)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
