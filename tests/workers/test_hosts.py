from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate

import pytest

from shared.errors import FailureCode, ItemError, StartError
from workers.hosts import Hosts, NoTurn, headers_by_origin, origin_of, seconds_to_wait

SHOP, OTHER = "http://shop.example:80", "http://other.example:80"


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything happens ten times as fast."""
    monkeypatch.setattr("workers.hosts.WAIT_SECONDS", 0.2)
    monkeypatch.setattr("workers.hosts._FIRST_INTERVAL", 0.05)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.hosts.WAIT_SECONDS", 60.0)


def missed(hosts: Hosts, origin: str) -> ItemError:
    with pytest.raises(ItemError) as caught:
        hosts.turn(origin, f"{origin}/a.jpg")
    return caught.value


def answer(hosts: Hosts, origin: str, status: int, retry_after: float = 0.0) -> None:
    with hosts.turn(origin, f"{origin}/a.jpg") as turn:
        turn.answered(status, retry_after)


# Turns


@pytest.mark.usefixtures("patient")
def test_no_more_than_so_many_fetch_from_one_host_at_once() -> None:
    hosts, lock = Hosts(3), threading.Lock()
    now, most = 0, 0

    def fetch(_: int) -> None:
        nonlocal now, most
        with hosts.turn(SHOP, "url"):
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.001)
            with lock:
                now -= 1

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(fetch, range(200)))
    assert most == 3


@pytest.mark.usefixtures("patient")
def test_turns_are_given_first_come_first() -> None:
    hosts, order = Hosts(1), []

    def fetch(number: int) -> None:
        with hosts.turn(SHOP, "url"):
            order.append(number)

    with ThreadPoolExecutor(8) as threads, hosts.turn(SHOP, "url"):
        for number in range(8):
            threads.submit(fetch, number)
            while len(hosts._hosts[SHOP].line) <= number:
                time.sleep(0.001)
    assert order == list(range(8))


@pytest.mark.usefixtures("hurried")
def test_a_turn_missed_at_a_busy_host_is_no_try_and_may_be_had_later() -> None:
    hosts = Hosts(1)
    with hosts.turn(SHOP, "url"):
        error = missed(hosts, SHOP)
        with hosts.turn(OTHER, "url"):
            pass
    assert isinstance(error, NoTurn)
    assert error.code is FailureCode.TIMEOUT
    assert error.again_after == 0
    assert "LOOKALIKE_FETCH_PER_HOST" in error.detail
    with hosts.turn(SHOP, "url"):
        pass


def test_a_turn_ends_with_the_fetch_that_broke() -> None:
    hosts = Hosts(1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), hosts.turn(SHOP, "url"):
            raise ZeroDivisionError


# Pace


@pytest.mark.parametrize("status", [429, 503])
def test_a_host_that_asks_to_be_left_alone_is_not_asked(status: int) -> None:
    hosts = Hosts(8)
    answer(hosts, SHOP, status, retry_after=60)
    error = missed(hosts, SHOP)
    assert isinstance(error, NoTurn)
    assert error.again_after is not None
    assert 0 < error.again_after <= 60
    answer(hosts, OTHER, 200)


def test_a_host_that_refuses_time_and_again_answers_for_all_of_its_urls() -> None:
    hosts = Hosts(8)
    for _ in range(8):
        answer(hosts, SHOP, 429, retry_after=0.01)
        hosts._hosts[SHOP].opens_at = 0
    answer(hosts, SHOP, 429, retry_after=60)
    error = missed(hosts, SHOP)
    assert not isinstance(error, NoTurn)
    assert error.code is FailureCode.HTTP_STATUS
    assert "429" in error.detail


def test_a_slow_but_honest_host_fails_nobody_unasked() -> None:
    hosts = Hosts(8)
    for _ in range(20):
        answer(hosts, SHOP, 429, retry_after=60)
        hosts._hosts[SHOP].opens_at = 0
        answer(hosts, SHOP, 200)
        hosts._hosts[SHOP].opens_at = 0
    answer(hosts, SHOP, 429, retry_after=60)
    assert isinstance(missed(hosts, SHOP), NoTurn)


def test_a_host_cannot_close_itself_for_long() -> None:
    hosts = Hosts(8)
    answer(hosts, SHOP, 429, retry_after=1e9)
    again_after = missed(hosts, SHOP).again_after
    assert again_after is not None
    assert again_after <= 120


@pytest.mark.parametrize("status", [200, 404, 500])
def test_no_other_answer_closes_a_host(status: int) -> None:
    hosts = Hosts(1)
    for _ in range(10):
        answer(hosts, SHOP, status, retry_after=60)


@pytest.mark.usefixtures("hurried")
def test_a_short_pause_is_waited_for() -> None:
    hosts = Hosts(8)
    answer(hosts, SHOP, 429, retry_after=0.1)
    answer(hosts, SHOP, 200)


@pytest.mark.usefixtures("hurried")
def test_refusals_without_a_time_make_the_pause_grow_until_nobody_waits_for_its_end() -> None:
    hosts = Hosts(8)
    for _ in range(3):
        answer(hosts, SHOP, 429)
    assert hosts._hosts[SHOP].interval == 0.2
    answer(hosts, SHOP, 429)
    assert hosts._hosts[SHOP].interval == 0.4
    assert isinstance(missed(hosts, SHOP), NoTurn)


@pytest.mark.usefixtures("hurried")
def test_refusals_of_fetches_that_ran_together_count_once() -> None:
    hosts = Hosts(8)
    turns = [hosts.turn(SHOP, "url") for _ in range(8)]
    for turn in turns:
        with turn:
            turn.answered(429, 0)
    assert hosts._hosts[SHOP].interval == 0.05


@pytest.mark.usefixtures("hurried")
def test_a_refused_host_is_asked_one_by_one_and_faster_with_each_good_answer() -> None:
    hosts = Hosts(8)
    for _ in range(2):
        answer(hosts, SHOP, 503)
    with hosts.turn(SHOP, "url"):
        assert hosts._hosts[SHOP].opens_at > time.monotonic()
    answer(hosts, SHOP, 200)
    assert hosts._hosts[SHOP].interval == pytest.approx(0.08)
    for _ in range(3):
        answer(hosts, SHOP, 200)
    assert hosts._hosts[SHOP].interval == 0


@pytest.mark.usefixtures("hurried")
def test_a_line_longer_than_the_pace_allows_is_no_try() -> None:
    hosts = Hosts(8)
    for _ in range(2):
        answer(hosts, SHOP, 429)

    def outcome(_: int) -> str:
        try:
            with hosts.turn(SHOP, "url") as turn:
                turn.answered(404, 0)
                return "asked"
        except NoTurn:
            return "missed"

    with ThreadPoolExecutor(16) as threads:
        outcomes = list(threads.map(outcome, range(16)))
    assert set(outcomes) == {"asked", "missed"}


# What is kept


def test_a_host_without_trouble_is_forgotten_at_once() -> None:
    hosts = Hosts(2)
    for number in range(100):
        answer(hosts, f"http://{number}.example:80", 200)
    assert not hosts._hosts


def test_the_memory_of_hosts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.hosts.KEPT_HOSTS", 10)
    hosts = Hosts(2)
    with hosts.turn(SHOP, "url") as turn:
        for number in range(100):
            answer(hosts, f"http://{number}.example:80", 429, retry_after=60)
            assert len(hosts._hosts) <= 10
        turn.answered(200, 0)


# Retry-After


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0),
        ("1", 1),
        (" 120 ", 120),
        ("999999999", 999_999_999),
        *[
            (nonsense, 0)
            for nonsense in (
                *(
                    None,
                    "",
                    "-1",
                    "+5",
                    "1.5",
                    "1e9",
                    "９",
                    "soon",
                    "9" * 5000,
                    "0x10",
                    "\x00",
                    "12 34",
                    "nan",
                ),
                *(
                    "Mon, 01 Jan 2001 00:00:00 GMT",
                    "Mon, 99 Foo 2031 99:99:99 GMT",
                    "Mon, 01 Jan 99999 00:00:00",
                ),
                *(
                    "Mon, 01 Jan 2031 00:00:00 +99999999999",
                    ",",
                    "Mon,",
                    "Mon, 01 Jan 0000 00:00:00 GMT",
                    "1 Jan",
                ),
            )
        ],
    ],
)
def test_a_retry_after_is_seconds_or_nothing(header: str | None, seconds: float) -> None:
    assert seconds_to_wait(header) == seconds


def test_a_retry_after_may_be_a_date() -> None:
    for header in (formatdate(time.time() + 90, usegmt=True), formatdate(time.time() + 90)):
        assert 60 < seconds_to_wait(header) <= 90


# The operator's headers

SECRET = "Bearer canary-51c7"


def test_origins_are_one_whatever_their_spelling() -> None:
    headers = headers_by_origin(
        {
            "HTTPS://CDN.Shop.Example": {"Authorization": SECRET},
            "https://cdn.shop.example:443": {"X-Shop": "1"},
            "http://cdn.shop.example:8080": {"X-Shop": "2"},
            "http://[::1]": {"X-Shop": "3"},
        }
    )
    assert headers == {
        origin_of("https", "cdn.shop.example", None): {"Authorization": SECRET, "X-Shop": "1"},
        origin_of("http", "cdn.shop.example", 8080): {"X-Shop": "2"},
        origin_of("http", "[::1]", 80): {"X-Shop": "3"},
    }


@pytest.mark.parametrize(
    "origin",
    [
        *("", "*", "cdn.shop.example", "//cdn.shop.example", "https:", "https://", "ftp://cdn.shop.example"),
        *(
            "https://cdn.shop.example/",
            "https://cdn.shop.example/a",
            "https://cdn.shop.example?a",
            "https://c#d",
        ),
        *(
            "https://cdn.shop.example:port",
            "https://cdn.shop.example:99999",
            "https://[::1",
            "https://*.shop.example",
        ),
        *(
            "https://me:canary-51c7@shop.example",
            "https://canary-51c7@shop.example",
            "https://shop.\nexample",
        ),
        *("https://127.1", "https://bücher.example", " https://cdn.shop.example"),
    ],
)
def test_a_misspelt_origin_stops_the_start_and_says_how_it_is_written(origin: str) -> None:
    with pytest.raises(StartError) as caught:
        headers_by_origin({origin: {"Authorization": SECRET}})
    assert "LOOKALIKE_FETCH_HEADERS" in caught.value.detail
    assert "https://cdn.shop.example" in caught.value.detail
    assert "canary" not in caught.value.detail


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Token", "canary\r\nX-More: canary"),
        ("X-Token", "canary\ncanary"),
        ("X-Token", "canary\x00"),
        ("X-Token", "canary€"),
        ("", "canary"),
        ("X Token", "canary"),
        ("Authorization: canary", "canary"),
        ("X-Token\r\n", "canary"),
        ("X-Tökén", "canary"),
        ("Host", "canary"),
        ("content-length", "canary"),
        ("Transfer-Encoding", "canary"),
        ("Accept-Encoding", "canary"),
    ],
)
def test_a_header_that_would_break_the_request_stops_the_start(name: str, value: str) -> None:
    with pytest.raises(StartError) as caught:
        headers_by_origin({"https://cdn.shop.example": {name: value}})
    assert "LOOKALIKE_FETCH_HEADERS, `https://cdn.shop.example`" in caught.value.detail
    assert "canary" not in caught.value.detail
