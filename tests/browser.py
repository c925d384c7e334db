"""Pages in headless Chromium, one browser for all tests: `open_page(path or URL)`. Where it is missing, a skip that is seen."""

import io
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Error, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
skipped: list[str] = []
"""The tests that needed a browser and had none."""


def missing() -> str | None:
    """What is not there that a browser test needs, and how it is had; None where all is."""
    for package in ("playwright", "axe_playwright_python"):
        if find_spec(package) is None:
            return f"{package} is not installed; make test installs it"
    return None if CHROMIUM else "there is no Chromium; make test installs it as root, else: apt-get install chromium"


@dataclass
class Tab:
    """An open page, with all that it complained of and all that it asked for (URLs, itself first)."""

    page: "Page"
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def findings(self) -> list[dict[str, Any]]:
        """What axe-core finds serious or critical: rule, help, and the elements."""
        from axe_playwright_python.sync_playwright import Axe

        violations = Axe().run(self.page).response["violations"]
        return [
            {"rule": found["id"], "help": found["help"], "elements": [node["html"][:200] for node in found["nodes"]]}
            for found in violations
            if found["impact"] in ("serious", "critical")
        ]

    def until(self, expression: str, seconds: float = 10) -> None:
        """Waits until the JavaScript `expression` is true; not by Playwright's own way, which pages that allow no eval refuse."""
        end = time.monotonic() + seconds
        while not self.page.evaluate(expression):
            assert time.monotonic() < end, f"after {seconds} s still not: {expression}"
            self.page.wait_for_timeout(20)

    def picture(self, full_page: bool = False) -> np.ndarray:
        """A screenshot, uint8 (height, width, 3)."""
        return np.asarray(Image.open(io.BytesIO(self.page.screenshot(full_page=full_page))).convert("RGB"))

    def overflow(self) -> int:
        """By how many pixels the page is wider than its window; 0 where it has no sideways scroll."""
        return self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


@pytest.fixture(scope="session")
def chromium() -> "Iterator[Browser]":
    """The browser of all tests, started when the first needs it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Nothing that a test opens is foreign; as root, as in containers, Chromium starts only without its sandbox.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(request: pytest.FixtureRequest) -> Iterator[Callable[..., Tab]]:
    """`open_page(path or URL, width=1200, height=900, dark=False, still=False)`: a fresh `Tab`, loaded.

    `dark` and `still` (less motion) are what the person prefers. Tabs are closed after the test.
    """
    if (reason := missing()) is not None:
        skipped.append(request.node.nodeid)
        pytest.skip(reason)
    browser: "Browser" = request.getfixturevalue("chromium")
    contexts = []

    def opened(place: Path | str, width: int = 1200, height: int = 900, dark: bool = False, still: bool = False) -> Tab:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce" if still else "no-preference",
        )
        contexts.append(context)
        tab = Tab(context.new_page())

        def complained(message: "ConsoleMessage") -> None:
            if message.type in ("error", "warning"):
                tab.errors.append(message.text)

        def broke(error: "Error") -> None:
            tab.errors.append(str(error))

        tab.page.on("console", complained)
        tab.page.on("pageerror", broke)
        tab.page.on("request", lambda asked: tab.requests.append(asked.url))
        tab.page.goto(place.resolve().as_uri() if isinstance(place, Path) else place)
        return tab

    yield opened
    for context in contexts:
        context.close()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Says in red that pages were not looked at."""
    if skipped:
        terminalreporter.write_sep("!", f"{len(skipped)} browser tests were SKIPPED: {missing()}", red=True, bold=True)
