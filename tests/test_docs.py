"""The documents say what is there: the command reference is current, links lead somewhere, no unfinished words."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """Names of the headings, as a forge makes links of them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_the_command_reference_is_current():
    command = [sys.executable, str(ROOT / "docs" / "generate_cli.py"), "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_inside_the_project_lead_somewhere(page):
    for target in LINK.findall(page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = page if not path else (page.parent / path)
        assert place.exists(), f"{named(page)}: {target} leads nowhere"
        assert not anchor or anchor in anchors(place), f"{named(page)}: no heading for {target}"


def test_decisions_are_numbered_without_a_gap_and_say_what_was_rejected():
    pages = sorted((ROOT / "docs" / "adr").glob("*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    assert len(pages) >= 5
    for page in pages:
        text = page.read_text()
        for heading in ("## Decision", "## Rejected", "## Consequences"):
            assert heading in text, f"{named(page)} has no {heading}"
        assert len(text.split()) < 700, f"{named(page)} is longer than a page"


def test_the_licence_is_the_whole_apache_licence():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert len(text) > 10_000


def test_the_changelog_has_the_version_of_the_package():
    version = re.search(r"^version = (.+)$", (ROOT / "setup.cfg").read_text(), re.MULTILINE)
    text = (ROOT / "CHANGELOG.md").read_text()
    assert version is not None
    assert "## [Unreleased]" in text or f"## [{version[1]}]" in text
    assert "Keep a Changelog" in text
