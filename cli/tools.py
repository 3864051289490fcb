"""Commands that need the extra `tools`. They are imported when one is called: that takes a second, and may fail."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any

import click

from cli.errors import Refused

_PACKAGES = frozenset({"numpy", "pyarrow", "matplotlib", "PIL"})


class Tool(click.Command):
    """Stands for the command at `place`, `module:name`, until it is called."""

    def __init__(self, name: str, place: str, summary: str) -> None:
        super().__init__(name, short_help=summary)
        self._place = place

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """The context of the command itself. Raises Refused where the extra is not installed."""
        try:
            command: click.Command = resolve_name(self._place)
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing not in _PACKAGES:
                raise
            raise Refused(
                f"`lookalike {self.name}` needs {missing}; run `pip install 'lookalike[tools]'`."
            ) from error
        return command.make_context(info_name, args, parent, **extra)


TOOLS = (
    Tool("evaluate", "cli.evaluate:evaluate", "How often the nearest images have the same label."),
    Tool("duplicates", "cli.duplicates:duplicates", "Find images that are the same, or nearly."),
    Tool("export", "cli.export:export", "Write a collection, vectors and all, to a folder."),
    Tool("import", "cli.export:import_", "Bring an exported folder back; nothing is embedded again."),
)
