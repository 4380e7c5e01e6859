"""`page`: a page of the system's Chromium, driven by playwright. One browser a test, so that no event loop stays."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_chromium() -> str | None:
    """Path of the Chromium or Chrome program."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


@pytest.fixture
def page() -> Iterator[Page]:
    """An empty page, 1280 x 900 px; its timeouts are 15 s. Script errors are collected in `page.errors`."""
    program = find_chromium()
    if program is None:
        pytest.skip("system: chromium not found")
    api = pytest.importorskip("playwright.sync_api", reason="package: playwright not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, headless=True, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(15_000)
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        yield page
        browser.close()
