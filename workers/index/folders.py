"""The folders of the embedded index: one for each version of a collection, and one file that says which are live.

`shop@1/` and `shop@2/` are made whole under another name first and are renamed away before they are removed; the
file is replaced in one step. So a process that dies anywhere leaves what the next start understands. An empty folder
keeps the number of a version that was dropped.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from shared.errors import StartError
from workers.index.interface import split_key, version_key

CARD = "card.json"
_LIVE = "live.json"
_UNBORN = ".new-"
_DROPPED = ".old-"


class Folders:
    """One process may own them: StartError for a second. `live` is the version of each name that is."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)
        self._claim = _claim(root)
        _sweep(root)
        _take_over(root)
        written = _read(root / _LIVE)
        self.live = self._settled(written)
        if self.live != written:
            self._write_at_start()

    def standing(self) -> list[str]:
        """Every version that stands."""
        return sorted(path.parent.name for path in self._root.glob(f"*@*/{CARD}"))

    def of(self, key: str) -> Path:
        return self._root / key

    def make(self, key: str, fill: Callable[[Path], None]) -> None:
        """A folder with what `fill` puts into it, whole or not at all."""
        unborn = Path(tempfile.mkdtemp(prefix=_UNBORN, dir=self._root))
        try:
            fill(unborn)
            unborn.rename(self.of(key))
        except Exception:
            shutil.rmtree(unborn, ignore_errors=True)
            raise

    def remove(self, key: str, let_go: Callable[[], object]) -> None:
        """It is gone with the renaming, which is one step. `let_go` closes what is open in it, when little can fail."""
        dropped = tempfile.mkdtemp(prefix=_DROPPED, dir=self._root)
        let_go()
        shutil.rmtree(self.of(key).rename(dropped), ignore_errors=True)
        self.of(key).mkdir()

    def newest(self, name: str) -> int:
        """The highest number that a version of this name has had."""
        return max(self._numbers(name), default=0)

    def forget(self, name: str) -> None:
        """Nothing of this name is live, and all of its numbers can be given again."""
        del self.live[name]
        for number in self._numbers(name):
            shutil.rmtree(self.of(version_key(name, number)))  # not empty where a file manager looked into it

    def go_live(self, name: str, version: int) -> None:
        live = self.live | {name: version}
        self._write(live)
        self.live = live

    def close(self) -> None:
        """Let another process have them."""
        self._claim.close()

    def _numbers(self, name: str) -> list[int]:
        split = (split_key(path.name) for path in self._root.glob(f"{name}@*"))
        return [number for plain, number in split if plain == name and number]

    def _write_at_start(self) -> None:
        """Before anything is made: a version that comes to stand later must not be live by what was written once."""
        try:
            self._write(self.live)
        except OSError as error:
            raise StartError(f"{self._root / _LIVE} cannot be written: {error.strerror}.") from error

    def _write(self, live: dict[str, int]) -> None:
        path = self._root / f"{_UNBORN}{_LIVE}"
        with path.open("w") as file:
            json.dump(live, file)
            file.flush()
            os.fsync(file.fileno())
        path.replace(self._root / _LIVE)
        _sync(self._root)

    def _settled(self, written: dict[str, int]) -> dict[str, int]:
        """Of a name whose live version is not written down, or is gone, the oldest is: that one was whole once."""
        all_versions: dict[str, list[int]] = defaultdict(list)
        for key in self.standing():
            name, version = split_key(key)
            if version:
                all_versions[name].append(version)
        return {
            name: written[name] if written.get(name) in versions else min(versions)
            for name, versions in all_versions.items()
        }


def _claim(root: Path) -> TextIO:
    """Hold the folders until the file is closed or the process dies."""
    claim = (root / ".lock").open("w")
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        claim.close()
        raise StartError(
            f"Another process uses the store in {root}; stop it, or give another folder."
        ) from error
    return claim


def _sweep(root: Path) -> None:
    """Remove what a process left that died while it made or dropped something."""
    for prefix in (_UNBORN, _DROPPED):
        for path in root.glob(f"{prefix}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _take_over(root: Path) -> None:
    """A collection from before there were versions is its own version 1."""
    for card in list(root.glob(f"*/{CARD}")):
        folder = card.parent
        if split_key(folder.name)[1]:
            continue
        first = root / version_key(folder.name, 1)
        if first.exists():
            raise StartError(
                f"{folder} and {first} both hold version 1 of a collection; move one of them away."
            )
        folder.rename(first)


def _read(path: Path) -> dict[str, int]:
    try:
        return {str(name): int(version) for name, version in json.loads(path.read_bytes()).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        raise StartError(
            f"{path} does not say which versions are live: {error}. Bring it back from a copy, or remove it to have "
            "the oldest version of every collection live."
        ) from error


def _sync(folder: Path) -> None:
    """A file's new name outlives a power cut only when its folder is written too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
