"""A report as a test reads it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from dpl.reports.web.html import write_report

VOID = {"meta", "link", "input", "img"}
BLOCKS = {"dt", "dd", "td", "th", "li", "p"}  # text after them is apart from text in them


class Page(HTMLParser):
    """What a test asks of a page: visible text, all attributes, balanced tags, the contents of scripts and pictures."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.elements: list[str] = []
        self.scripts: list[str] = []
        self.stack: list[str] = []
        self.feed(source)
        self.close()
        assert self.stack == []
        self.pictures = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", source, flags=re.DOTALL)]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag
        if tag in BLOCKS:
            self.texts.append(" ")

    def handle_data(self, data: str) -> None:
        if "script" in self.stack:
            self.scripts.append(data)
        elif "style" not in self.stack:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).replace("\u202f", " ").split())

    def values(self, name: str) -> list[str]:
        return [value for _, attribute, value in self.attributes if attribute == name]


def read(run: Path) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def cells(picture: ElementTree.Element) -> list[ElementTree.Element]:
    """The cells of a heatmap: title, ground, shade, number."""
    return [part for part in picture.iter("g") if "cell" in part.get("class", "").split()]


def heat_cells(page: Page, branch: str) -> list[ElementTree.Element]:
    """Those of the page's heatmap of `branch`."""
    (picture,) = [picture for picture in page.pictures if picture.get("id") == f"heat-{branch}"]
    return cells(picture)


def history(page: Page) -> dict[str, Any]:
    """What the page's slider is given."""
    return json.loads(next(script for script in page.scripts if script.startswith("{")))
