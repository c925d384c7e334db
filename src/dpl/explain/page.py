"""Where models look, as one self-contained page: no network, no script."""

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from dpl.explain.overlay import overlay, scale
from dpl.explain.sheet import SIZE, Row, Sheet
from dpl.printable import printable
from dpl.reports.accuracy import percent
from dpl.reports.pixels import data_uri


def page(sheet: Sheet) -> bytes:
    """The page, in the look of the report; the same sheet gives the same bytes."""
    loader = ChoiceLoader([PackageLoader("dpl", "explain"), PackageLoader("dpl", "reports")])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"percent": percent}
    environment.globals |= {"zip": zip}
    style = loader.get_source(environment, "report.css")[0]
    rows = [(row, data_uri(_plain(row)), _overlays(row)) for row in sheet.rows]
    colours = {"style": Markup(style), "scale": data_uri(scale(160, 14)), "size": SIZE}
    written = environment.get_template("explain.html.j2").render(sheet=sheet, rows=rows, **colours)
    return (printable(written.strip()) + "\n").encode()


def _plain(row: Row) -> Image.Image:
    return Image.fromarray(row.picture).resize((SIZE, SIZE), Image.Resampling.BICUBIC)


def _overlays(row: Row) -> list[str]:
    return [data_uri(overlay(row.picture, view.heat, SIZE)) for view in row.views]
