"""The docs and the code tell one story."""

from __future__ import annotations

import re
from pathlib import Path

from shared.errors import RETRYABLE, FailureCode

ROOT = Path(__file__).parents[1]


def test_every_failure_code_is_explained_and_no_other() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| .+ \| (yes|no|for [^|]+) \| .+ \|$",
        (ROOT / "docs" / "failures.md").read_text(),
        re.M,
    )
    assert {code for code, _ in rows} == set(FailureCode)
    assert {code for code, helps in rows if helps == "yes"} == RETRYABLE


def test_every_file_that_the_architecture_names_stands() -> None:
    named = re.findall(
        r"`((?:api|workers|shared|cli|tests|docs)/[\w./]*)`", (ROOT / "ARCHITECTURE.md").read_text()
    )
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_links_between_the_pages_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    for page in pages:
        links = re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text())
        assert [link for link in links if not (page.parent / link).exists()] == [], page


def test_the_readme_names_targets_that_make_has() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    used = set(re.findall(r"\bmake (\w+)", (ROOT / "README.md").read_text()))
    assert used <= targets
    assert {"setup", "demo", "run", "test", "lint", "bench"} <= targets
