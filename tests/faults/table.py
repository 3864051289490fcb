"""What the suite found, one row a fault."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median


@dataclass
class Row:
    """`lost` and `doubled` are images, `stuck` are rounds with no end, `recoveries` are seconds."""

    fault: str
    rounds: int = 0
    lost: int = 0
    doubled: int = 0
    stuck: int = 0
    recoveries: list[float] = field(default_factory=list)

    @property
    def half(self) -> str:
        return f"{median(self.recoveries):.1f}" if self.recoveries else "–"

    @property
    def longest(self) -> str:
        return f"{max(self.recoveries):.1f}" if self.recoveries else "–"


def as_markdown(rows: Iterable[Row]) -> str:
    """Recovery: until what was held or lost at that moment has ended."""
    head = (
        "| fault | rounds | lost | doubled | stuck | recovery p50 (s) | max (s) |\n"
        + "| --- |"
        + " ---: |" * 6
    )
    lines = [
        f"| {row.fault} | {row.rounds} | {row.lost} | {row.doubled} | {row.stuck} | {row.half} | {row.longest} |"
        for row in rows
    ]
    return "\n".join([head, *lines]) + "\n"
