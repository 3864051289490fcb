from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from shared.errors import FailureCode, ItemError
from workers.addresses import Addresses
from workers.deadlines import Attempt, Deadlines


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def addresses() -> Iterator[Addresses]:
    addresses = Addresses((), threads=1)
    yield addresses
    addresses.close()


def test_a_read_that_outlives_its_deadline_is_ended(
    pair: tuple[socket.socket, socket.socket], addresses: Addresses
) -> None:
    ours, _ = pair
    deadlines = Deadlines(0.1)
    with deadlines.attempt(addresses) as attempt:
        attempt.watch(ours)
        assert ours.recv(1) == b""  # would wait for ever
        assert attempt.over
        with pytest.raises(ItemError) as caught:
            attempt.remaining()
    deadlines.stop()
    assert caught.value.code is FailureCode.TIMEOUT


def test_a_connection_that_comes_after_the_deadline_is_ended_at_once(
    pair: tuple[socket.socket, socket.socket], addresses: Addresses
) -> None:
    attempt = Attempt(addresses, 60, 60)
    attempt.cut()
    attempt.watch(pair[0])
    assert pair[0].recv(1) == b""


def test_a_deadline_ends_only_the_connection_in_use(
    pair: tuple[socket.socket, socket.socket], addresses: Addresses
) -> None:
    ours, theirs = pair
    attempt = Attempt(addresses, 60, 60)
    attempt.watch(ours)
    attempt.close()
    attempt.cut()
    theirs.sendall(b"x")
    assert ours.recv(1) == b"x"


def test_a_descriptor_taken_over_by_another_is_still_the_one_that_is_ended(
    pair: tuple[socket.socket, socket.socket], addresses: Addresses
) -> None:
    ours, _ = pair
    attempt = Attempt(addresses, 60, 60)
    attempt.watch(ours)
    with socket.socket(fileno=ours.detach()) as taken:  # as TLS does
        attempt.cut()
        assert taken.recv(1) == b""
    attempt.close()


def test_time_in_which_a_fetch_stands_still_does_not_count(addresses: Addresses) -> None:
    attempt = Attempt(addresses, 60, 60)
    before = attempt.remaining()
    with attempt.standing_still():
        attempt.expire(time.monotonic() + 3600)
        assert not attempt.over
    assert before - 30 < attempt.remaining() <= before
    attempt.expire(time.monotonic() + 3600)
    assert attempt.over
