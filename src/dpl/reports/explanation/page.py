"""Renders the maps of `dpl explain` as one self-contained page: no network, no script."""

from markupsafe import Markup
from PIL import Image

from dpl.reports.explanation.grid import SIZE, Row, Sheet
from dpl.reports.overlay import overlay, scale
from dpl.reports.web.accuracy import percent
from dpl.reports.web.pixels import data_uri
from dpl.utils.templates import environment, source
from dpl.utils.text import printable


def page(sheet: Sheet) -> bytes:
    """Renders the page in the style of the report; the same sheet gives the same bytes.

    Args:
        sheet: the maps of all images and models.

    Returns:
        The page as UTF-8.
    """
    templates = environment("reports/explanation", "reports/web", percent=percent)
    templates.globals |= {"zip": zip}
    style = source(templates, "report.css")
    rows = [(row, data_uri(_plain(row)), _overlays(row)) for row in sheet.rows]
    colours = {"style": Markup(style), "scale": data_uri(scale(160, 14)), "size": SIZE}
    written = templates.get_template("explain.html.j2").render(sheet=sheet, rows=rows, **colours)
    return (printable(written.strip()) + "\n").encode()


def _plain(row: Row) -> Image.Image:
    return Image.fromarray(row.picture).resize((SIZE, SIZE), Image.Resampling.BICUBIC)


def _overlays(row: Row) -> list[str]:
    return [data_uri(overlay(row.picture, view.heat, SIZE)) for view in row.views]
