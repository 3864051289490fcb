"""`lookalike keys`: make an API key."""

from __future__ import annotations

import hashlib
import secrets

import click

from cli.tables import print_json

_SCOPES = ("search", "ingest", "admin")
_SECRET_BYTES = 24


@click.command()
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(_SCOPES),
    multiple=True,
    default=("search",),
    show_default=True,
    help="What the key opens; may be given again.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the key and its entry as JSON.")
def keys(scopes: tuple[str, ...], as_json: bool) -> None:
    """Make an API key, and the entry that lets it in.

    The key is for whoever calls the API, and is shown this once. The entry holds only its hash, and goes into
    LOOKALIKE_API_KEYS of the API, after a comma where others stand there. Nothing is kept here.
    """
    key, entry = new_key(scopes)
    if as_json:
        print_json({"key": key, "entry": entry})
        return
    click.echo(f"key    {key}")
    click.echo(f"entry  {entry}")
    click.echo("The key is shown this once. Add the entry to LOOKALIKE_API_KEYS of the API.", err=True)


def new_key(scopes: tuple[str, ...]) -> tuple[str, str]:
    """A new key, `lk_<name>_<secret>`, and its entry, `lk_<name>:sha256:<hex>=<scope>+<scope>`."""
    name = f"lk_{secrets.token_hex(4)}"
    key = f"{name}_{secrets.token_hex(_SECRET_BYTES)}"
    # A plain fast hash: there is nothing to guess among 192 random bits.
    digest = hashlib.sha256(key.encode()).hexdigest()
    return key, f"{name}:sha256:{digest}={'+'.join(dict.fromkeys(scopes))}"
