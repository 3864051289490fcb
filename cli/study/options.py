"""Options that the commands share which study a collection."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def some_images(command: Command) -> Command:
    """`condition`: the JSON of a filter, or None."""
    words = "Qdrant's filter JSON: only these images, such as '{\"must\": […]}'."
    return click.option("--filter", "condition", help=words)(command)


def out_folder(files: str) -> Callable[[Command], Command]:
    """`out`: the folder that gets `files`."""
    return click.option(
        "--out",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path("."),
        show_default=True,
        help=f"Folder for {files}.",
    )
