"""The store process and its client: restarts, kills, forks, and who may call."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from contextlib import suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from pathlib import Path

import pytest

from shared.errors import IndexUnavailable
from tests.workers.index.conftest import ROOT, StoreProcess
from tests.workers.index.shop import CARD, OTHER_CARD, fill, image
from workers.index.store_client import StoreClient, key_file


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_store_asked_to_stop_ends_with_0_and_keeps_everything(
    store: StoreProcess, number: signal.Signals
) -> None:
    index = StoreClient(store.socket)
    fill(index)
    assert store.stop(number) == 0
    assert not store.socket.exists()
    store.start()
    assert index.count("shop") == 8


def test_a_killed_store_loses_nothing_that_it_acknowledged(store: StoreProcess) -> None:
    index = StoreClient(store.socket)
    index.create("shop", CARD)
    for run in range(3):
        index.upsert("shop", [image(f"{run}/{n}") for n in range(500)])
        store.stop(signal.SIGKILL)
        store.start()
        assert index.count("shop") == (run + 1) * 500


def test_a_killed_store_has_the_version_live_that_was_put_live_last(store: StoreProcess) -> None:
    index = StoreClient(store.socket)
    fill(index)
    index.create("shop@2", OTHER_CARD)
    for _ in range(4):
        swaps: list[int] = []
        swapping = threading.Thread(target=swap_until_it_is_killed, args=(store.socket, swaps))
        swapping.start()
        while len(swaps) < 3:
            assert swapping.is_alive()
        store.stop(signal.SIGKILL)
        swapping.join()
        store.start()
        live = index.find("shop")
        assert live is not None
        # The last one that was answered, or the one that was asked for and not answered any more.
        assert live.version in (swaps[-1], 3 - swaps[-1])
        assert (index.count("shop@1"), index.count("shop@2")) == (8, 0)
        assert index.count("shop") == {1: 8, 2: 0}[live.version]


def swap_until_it_is_killed(socket: Path, swaps: list[int]) -> None:
    """`swaps` are those that were answered."""
    index = StoreClient(socket)
    with suppress(OSError, EOFError, AuthenticationError):
        while True:
            version = 2 - len(swaps) % 2
            index._ask("go_live", ("shop", version), {})  # once, where a call would be sent again
            swaps.append(version)


def test_callers_wait_for_a_store_that_restarts(store: StoreProcess) -> None:
    index = StoreClient(store.socket)
    fill(index)
    store.stop(signal.SIGKILL)
    counted: list[int] = []
    threads = [threading.Thread(target=lambda: counted.append(index.count("shop"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    store.start()
    for thread in threads:
        thread.join()
    assert counted == [8, 8, 8, 8]


def test_a_store_that_stays_away_is_unavailable(store: StoreProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.index.store_client._PATIENCE", 0.3)
    index = StoreClient(store.socket)
    index.ping()
    store.stop(signal.SIGKILL)
    for ask in (index.ping, lambda: index.count("shop")):
        with pytest.raises(IndexUnavailable, match="does not answer"):
            ask()


def test_a_store_that_hangs_is_unavailable(store: StoreProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.index.store_client._ANSWER", 0.3)
    monkeypatch.setattr("workers.index.store_client._PATIENCE", 0.0)
    index = StoreClient(store.socket)
    fill(index)
    assert store.process is not None
    store.process.send_signal(signal.SIGSTOP)
    os.waitpid(store.process.pid, os.WUNTRACED)  # until it has stopped
    try:
        with pytest.raises(IndexUnavailable, match="no answer to `count`"):
            index.count("shop")
    finally:
        store.process.send_signal(signal.SIGCONT)


def test_a_forked_child_has_a_connection_of_its_own(store: StoreProcess) -> None:
    index = StoreClient(store.socket)
    fill(index)
    child = os.fork()
    if child == 0:
        try:
            correct = all(index.count("shop") == 8 for _ in range(200))
        finally:
            os._exit(0 if correct else 1)
    assert all(len(index.scroll("shop")[0]) == 8 for _ in range(200))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_socket_and_its_key_are_the_users_own(store: StoreProcess) -> None:
    assert stat.S_IMODE(store.socket.stat().st_mode) == 0o700
    assert stat.S_IMODE(key_file(store.socket).stat().st_mode) == 0o600


def test_a_caller_without_the_key_is_not_heard_and_harms_nobody(store: StoreProcess) -> None:
    with pytest.raises(AuthenticationError):
        Client(str(store.socket), "AF_UNIX", authkey=b"guess")
    StoreClient(store.socket).ping()


def test_a_second_store_on_the_folder_says_why_it_ends(store: StoreProcess) -> None:
    command = [sys.executable, "-m", "workers.index.store", "--socket", str(store.socket)]
    second = subprocess.run(
        [*command, "--folder", str(store.folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert second.returncode == 1
    assert second.stderr.startswith("Another process uses the store in")
    StoreClient(store.socket).ping()


def test_a_socket_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    socket = tmp_path / ("long" * 40)
    command = [sys.executable, "-m", "workers.index.store", "--socket", str(socket)]
    ended = subprocess.run(
        [*command, "--folder", str(tmp_path / "d")], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"The store cannot listen on {socket}")


def test_the_store_never_loads_a_model_library() -> None:
    code = (
        "import sys, workers.index.store; sys.exit(bool({'torch', 'transformers', 'PIL'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_stopped_store_keeps_no_new_caller_waiting(
    store: StoreProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.index.store_client._PATIENCE", 0.3)
    index = StoreClient(store.socket)
    os.kill(store.process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(IndexUnavailable, match="does not answer"):
            index.ping()
        with pytest.raises(IndexUnavailable, match="does not answer"):
            index.count("shop")
    finally:
        os.kill(store.process.pid, signal.SIGCONT)
    monkeypatch.undo()
    index.ping()
