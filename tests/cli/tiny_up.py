"""`lookalike up` with tiny parts: `python tiny_up.py DATA PART…`, each PART a kind and a name, `steady:a`.

A part that lives holds a lock on NAME.alive, so that whoever asks is told the truth, zombies included.
"""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
from pathlib import Path

import click

from cli.folder import DataFolder
from cli.guard import Guard
from cli.parts import Part, all_parts
from cli.supervisor import Supervisor
from shared.settings import Settings

LIVE = """
import fcntl, os, signal, sys, time
name = sys.argv[1]
def note(word):
    with open("notes", "a") as notes:
        notes.write(f"{word} {name}\\n")
def end(*_):
    note("stopped")
    sys.exit(0)
signal.signal(signal.SIGINT, lambda *_: note("interrupted"))
signal.signal(signal.SIGTERM, end)
"""
HOLD = """
alive = open(f"{name}.alive", "w")
fcntl.flock(alive, fcntl.LOCK_EX)
alive.write(str(os.getpid()))
alive.flush()
note("started")
while True:
    time.sleep(60)
"""
KINDS = {
    "steady": LIVE + HOLD,
    "stubborn": LIVE + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + HOLD,
    "slow": LIVE.replace("def end(*_):\n", "def end(*_):\n    time.sleep(2)\n") + HOLD,
    "late": "import time; print('still reading the map', flush=True); time.sleep(60)",
    # Lives once, and never again.
    "mortal": "import os, sys\nif os.path.exists(sys.argv[1] + '.alive'):\n    sys.exit(3)\n" + LIVE + HOLD,
    "dying": "import sys; print('no room on the disk', flush=True); sys.exit(3)",
    # Its child is in its group, holds the lock, and does not hear of the end.
    "parent": LIVE + "if os.fork() == 0:\n    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "    exec(sys.argv[2])\nwhile True:\n    time.sleep(60)\n",
}


def alive(folder: Path, name: str) -> bool:
    """Whether the part's process holds its lock."""
    path = folder / f"{name}.alive"
    if not path.exists():
        return False
    with path.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def tiny(folder: Path, kind: str, name: str) -> Part:
    command = (sys.executable, "-S", "-c", KINDS[kind], name, HOLD)
    return Part(
        name,
        command,
        lambda pid: None if alive(folder, name) else "nobody holds its lock",
        leads=True,
        patience=2 if kind == "late" else 30,
    )


@click.command()
@click.argument("data", type=Path)
@click.argument("kinds", nargs=-1)
def main(data: Path, kinds: tuple[str, ...]) -> None:
    folder = DataFolder(data)
    folder.sign("http://127.0.0.1:0")
    sockets = Path(tempfile.mkdtemp(prefix="lookalike-", dir="/tmp"))
    (data / "sockets").write_text(str(sockets))
    with Guard(sockets, folder.lock) as guard:
        parts = [
            all_parts(Settings(data=data, qdrant_url="http://unused"), sockets)[0]
            if one == "broker"
            else tiny(data, *one.split(":"))
            for one in kinds
        ]
        clean = Supervisor(parts, os.environ, folder, guard).run(lambda: click.echo("all are ready"))
    sys.exit(0 if clean else 1)


if __name__ == "__main__":
    main()
