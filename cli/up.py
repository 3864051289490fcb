"""`lookalike up`: the parts that production runs, on this machine."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

import click

from cli.address import is_loopback, local_url
from cli.errors import Refused
from cli.folder import DataFolder
from cli.guard import Guard
from cli.parts import all_parts, environment
from cli.supervisor import Supervisor
from shared.settings import Settings


@click.command()
@click.option("--host", help="Address to serve on.  [default: 127.0.0.1]")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port to serve on; 0 takes a free one.  [default: 8080]"
)
@click.option(
    "--data", type=click.Path(path_type=Path), help="Folder to keep everything in.  [default: lookalike-data]"
)
@click.pass_obj
def up(settings: Settings, host: str | None, port: int | None, data: Path | None) -> None:
    """Run everything on this machine, until Ctrl-C."""
    host = host or settings.host
    _refuse_an_open_door(host, settings)
    folder = DataFolder(data or settings.data)
    port = _free_port(host, settings.port if port is None else port)
    chosen = settings.model_copy(update={"host": host, "port": port, "data": folder.path})
    url = local_url(host, port)
    folder.sign(url)

    sockets = _sockets_folder()
    with Guard(sockets, folder.lock) as guard:
        supervisor = Supervisor(all_parts(chosen, sockets), environment(chosen, sockets), folder, guard)
        click.echo("Starting Lookalike")
        clean = supervisor.run(
            when_ready=lambda: click.echo(f"Lookalike is ready: {url}  (data in {folder.path}, Ctrl-C stops)")
        )
    click.echo("Stopped.")
    if not clean:
        raise click.exceptions.Exit(1)


def _refuse_an_open_door(host: str, settings: Settings) -> None:
    if not is_loopback(host) and settings.api_keys is None:
        raise Refused(
            f"Serving on {host} would let everyone who reaches this machine in. Set LOOKALIKE_API_KEYS "
            "(`key=search+ingest+admin`) first, or leave --host out to serve this machine alone."
        )


def _free_port(host: str, port: int) -> int:
    """The port, or a free one for 0, tried before anything starts."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
            return int(trial.getsockname()[1])
    except OSError as error:
        raise Refused(
            f"Lookalike cannot serve on {host}, port {port} ({error.strerror}). "
            "Stop the program that does, or choose another with --port or --host."
        ) from error


def _sockets_folder() -> Path:
    # Not $TMPDIR, which can be long: a unix socket's path must stay under 104 bytes on macOS, 108 on Linux.
    return Path(tempfile.mkdtemp(prefix="lookalike-", dir="/tmp"))
