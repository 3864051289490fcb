"""What every bench is given: where to say what it does, where to write, the pictures, the model, the settings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.models import ensure_vit
from benchmarks.pictures import Corpora, ensure_corpora
from demo.radios import Radios, ensure
from shared.settings import Settings
from workers.plan import cores


@dataclass(frozen=True)
class Context:
    """One call of `make bench`. `scratch` goes at its end, `cache` stays for the next call."""

    console: Console
    scratch: Path
    cache: Path
    quick: bool

    def say(self, sentence: str) -> None:
        self.console.print(f"  [dim]{sentence}[/]", soft_wrap=True)

    def count(self, full: int, quick: int) -> int:
        """How many of something, by the form that was asked for."""
        return quick if self.quick else full

    def settings(self, **changes: Any) -> Settings:
        """The environment's, with this machine's own pictures allowed and the bench's model."""
        return Settings(**({"fetch_allow": "127.0.0.0/8", "model": str(self.vit)} | changes))

    @property
    def cores(self) -> int:
        return cores()

    @cached_property
    def radios(self) -> Radios:
        """The real photographs that everything is made from, downloaded the first time."""
        return ensure(self.cache, self.console)

    @cached_property
    def corpora(self) -> Corpora:
        """`small` (600 × 450), `large` (3000 × 2000) and `originals`, as files."""
        return ensure_corpora(self.radios, self.cache / "bench")

    @cached_property
    def vit(self) -> Path:
        """The folder of a ViT-S/16 with random weights, the same for everything that is compared."""
        return ensure_vit(self.cache / "bench")
