"""The study's results as docs/evidence.md and its pictures show them.

    python -m benchmarks evidence

Reads benchmarks/study/results, replaces what stands between the two marks in the page, and draws the pictures beside it.
"""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.study.plots import save_all
from benchmarks.study.records import RESULTS, read_records
from benchmarks.study.tables import evidence
from dpl.utils.errors import DplError
from dpl.utils.files import write_text

BEGIN, END = "<!-- results: python -m benchmarks evidence -->", "<!-- end of results -->"


@dataclass(frozen=True)
class Settings:
    """Where things are."""

    results: Path = RESULTS
    """The study's JSON lines."""
    page: Path = Path("docs/evidence.md")
    """The page with the two marks."""
    pictures: Path = Path("docs/evidence")
    """Where the pictures go."""


def main(settings: Settings) -> None:
    """Writes the page and the pictures, and says which."""
    records = read_records(settings.results)
    if not records:
        raise DplError(f"{settings.results}: no results; run python -m benchmarks study first")
    if not settings.page.exists():
        raise DplError(f"{settings.page}: no such page")
    text = settings.page.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise DplError(f"{settings.page}: must have one line {BEGIN!r} and one {END!r}")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    pictures = save_all(records, settings.pictures)
    write_text(settings.page, f"{before}{BEGIN}\n\n{evidence(records)}\n\n{END}{after}")
    print(f"{settings.page}, {', '.join(picture.name for picture in pictures)}: from {len(records)} results")
