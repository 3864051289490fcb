"""One figure of the table: two things measured side by side in one call, and what their ratio should be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """`ours` ÷ `theirs`, both in `unit`, against `at_least` or `at_most`; with neither it is reported only.

    `note` says in a line what the two sides are. `profile` says what `ours` consists of, as amounts by name in
    `profile_unit`, and `figure` is a picture of it. A row whose `ours` is None was not run: `note` says why.
    """

    section: str
    name: str
    ours: float | None
    theirs: float | None
    unit: str
    note: str
    at_least: float | None = None
    at_most: float | None = None
    profile: Mapping[str, float] = field(default_factory=dict)
    profile_unit: str = ""
    figure: Path | None = None

    @classmethod
    def not_run(cls, section: str, name: str, why: str) -> Row:
        return cls(section, name, None, None, "", f"not run: {why}")

    @property
    def ratio(self) -> float | None:
        if self.ours is None or not self.theirs:
            return None
        return self.ours / self.theirs

    @property
    def target(self) -> str:
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        return f"≤ {self.at_most:g}" if self.at_most is not None else ""

    @property
    def verdict(self) -> str:
        """`met`, `short`, `not run`, or nothing where there is no target."""
        if self.ratio is None:
            return "not run"
        if self.at_least is not None:
            return "met" if self.ratio >= self.at_least else "short"
        if self.at_most is not None:
            return "met" if self.ratio <= self.at_most else "short"
        return ""
