"""How a command ends badly: one clear line on stderr, and the exit code."""

from __future__ import annotations

import click


class Refused(click.ClickException):
    """Nothing was started; the sentence says what to change. Exit code 2."""

    exit_code = 2


class GaveUp(click.ClickException):
    """A part cannot be kept running; the message ends with its log. Exit code 1."""


class Problem(click.ClickException):
    """The API refused, or does not answer. `code` is the API's short word, where it gave one. Exit code 1."""

    def __init__(self, detail: str, code: str | None = None) -> None:
        super().__init__(f"{detail} ({code})" if code else detail)
        self.code = code


class ItemsFailed(click.exceptions.Exit):
    """The job ended, and some of its items are not indexed. Exit code 1."""

    def __init__(self) -> None:
        super().__init__(1)
