"""The `lookalike` command."""

from __future__ import annotations

import click

from cli.collections import collections
from cli.ingest import ingest
from cli.jobs import jobs
from cli.keys import keys
from cli.reindex import reindex
from cli.report import report
from cli.search import search
from cli.tools import TOOLS
from cli.up import up
from shared.settings import Settings


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def lookalike(context: click.Context) -> None:
    """Self-hosted visual search.

    `lookalike up` starts it on this machine. The other commands speak to the one at LOOKALIKE_URL
    (default http://127.0.0.1:8080), with the key in LOOKALIKE_API_KEY where it wants one.
    """
    try:
        context.obj = Settings()
    except ValueError as error:
        raise click.UsageError(f"A LOOKALIKE_… variable cannot be used: {error}") from error


for command in (up, ingest, search, jobs, collections, keys, reindex, report, *TOOLS):
    lookalike.add_command(command)


def main() -> None:
    """The console script."""
    lookalike(prog_name="lookalike")


if __name__ == "__main__":
    main()
