from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from shared.errors import FailureCode, ItemError
from workers.addresses import Addresses, is_plain_host, is_public

INTERNAL = """
    0.0.0.0 0.1.2.3 10.0.0.5 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 168.63.129.16 169.254.169.254
    169.254.170.2 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1
    198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
    :: ::1 ::127.0.0.1 ::8.8.8.8 ::ffff:10.0.0.5 ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::ffff:168.63.129.16
    ::ffff:0:8.8.8.8 64:ff9b::10.0.0.5 64:ff9b::169.254.169.254 64:ff9b::168.63.129.16 64:ff9b:1::8.8.8.8
    100::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:10::1 2001:20::1 2001:db8::1 2002:a00:5:: 2002:7f00:1::
    2002:808:808:: 3fff::1 4000::1 5f00::1 fc00::1 fd00:ec2::254 fd20:ce::254 fe80::1 fe80::1%eth0 fec0::1 ff02::1
"""
PUBLIC = """
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.1 100.63.255.255 100.128.0.1 126.255.255.255 128.0.0.1 168.63.129.15
    172.15.255.255 172.32.0.1 192.0.1.1 198.17.255.255 198.20.0.1 223.255.255.255
    2606:4700:4700::1111 2a00:1450:4001::200e 2001:4860:4860::8888 ::ffff:8.8.8.8 64:ff9b::8.8.8.8
"""
ODD_HOSTS = """
    127.1 127.0.1 0 1 2130706433 0x7f000001 0x7f.0.0.1 0x 0177.0.0.1 017700000001 127.0.0.1. 127.0.0.01 256.1.1.1
    1.2.3.4.5 example.0x7f [::1%lo] [::1%25lo] [fe80::1 [] [v1.x] [1.2.3.4] 127%2e0.0.1 a%00b a..b .a a|b a_b! a:b .
"""
PLAIN_HOSTS = """
    example.com example.com. localhost a-.example my_bucket.example xn--bcher-kva.example 1.2.3.4 3m.example
    0x7f.example [::1] [2606:4700::1111] [::ffff:1.2.3.4]
"""


@pytest.mark.parametrize("address", INTERNAL.split())
def test_an_internal_address_is_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC.split())
def test_an_address_on_the_internet_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "host",
    [*ODD_HOSTS.split(), "", "a b", "é.example", "x" * 64 + ".example", ".".join(["x" * 60] * 5)],
)
def test_an_odd_spelling_is_not_a_plain_host(host: str) -> None:
    assert not is_plain_host(host)


@pytest.mark.parametrize("host", PLAIN_HOSTS.split())
def test_an_honest_host_is_plain(host: str) -> None:
    assert is_plain_host(host)


class Names:
    """Stands in for the resolver's answers: there is no DNS zone of our own to ask."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.asking = threading.Event()
        self.answering = threading.Event()
        self.answering.set()
        monkeypatch.setattr(socket, "getaddrinfo", self._getaddrinfo)

    def _getaddrinfo(self, host: str, port: None, **_: Any) -> list[tuple[Any, ...]]:
        self.asked.append(host)
        self.asking.set()
        self.answering.wait(30)
        if host not in self.answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, 0, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))
            for address in self.answers[host]
        ]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    names = Names(monkeypatch)
    yield names
    names.answering.set()


@pytest.fixture
def addresses() -> Iterator[Addresses]:
    addresses = Addresses((), threads=16)
    yield addresses
    addresses.close()


def resolve(addresses: Addresses, host: str, port: int = 80, seconds: float = 5.0) -> list[tuple[Any, ...]]:
    endpoints = addresses.resolve(host, port, seconds=seconds, url=f"http://{host}/")
    return [endpoint.sockaddr for endpoint in endpoints]


def failure(addresses: Addresses, host: str, port: int = 80, seconds: float = 5.0) -> ItemError:
    with pytest.raises(ItemError) as caught:
        resolve(addresses, host, port, seconds)
    return caught.value


def test_a_public_name_gives_all_its_addresses_in_order(names: Names, addresses: Addresses) -> None:
    names.answers["shop.example"] = ["2606:4700::1", "8.8.8.8", "8.8.8.8"]
    assert resolve(addresses, "shop.example", 443) == [("2606:4700::1", 443, 0, 0), ("8.8.8.8", 443)]


def test_one_internal_address_among_public_ones_refuses_the_name(names: Names, addresses: Addresses) -> None:
    names.answers["rebind.example"] = ["8.8.8.8", "10.0.0.5"]
    error = failure(addresses, "rebind.example")
    assert error.code is FailureCode.ADDRESS_REFUSED
    assert error.detail == (
        "`http://rebind.example/` resolves to 10.0.0.5, which is not a public address; "
        "LOOKALIKE_FETCH_ALLOW can allow it."
    )


@pytest.mark.parametrize("port", [22, 6379, 8080])
def test_a_port_other_than_the_webs_is_refused(port: int, names: Names, addresses: Addresses) -> None:
    names.answers["shop.example"] = ["8.8.8.8"]
    error = failure(addresses, "shop.example", port)
    assert error.code is FailureCode.ADDRESS_REFUSED
    assert f"port {port}" in error.detail


def test_an_allowed_address_is_exempt_from_the_address_and_the_port_rule(names: Names) -> None:
    names.answers |= {
        "in": ["10.1.2.3"],
        "mapped": ["::ffff:10.1.2.3"],
        "out": ["10.2.0.1"],
        "v6": ["fd00::7"],
    }
    allow = (ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00::/8"))
    addresses = Addresses(allow, threads=4)
    assert resolve(addresses, "in", 9000) == [("10.1.2.3", 9000)]
    assert resolve(addresses, "mapped", 9000) == [("::ffff:10.1.2.3", 9000, 0, 0)]
    assert resolve(addresses, "v6", 9000) == [("fd00::7", 9000, 0, 0)]
    assert failure(addresses, "out", 80).code is FailureCode.ADDRESS_REFUSED
    addresses.close()


def test_a_name_that_does_not_resolve_is_dns_failed_and_asked_for_again(
    names: Names, addresses: Addresses
) -> None:
    error = failure(addresses, "nowhere.example")
    assert error.code is FailureCode.DNS_FAILED
    assert error.retryable
    names.answers["nowhere.example"] = ["8.8.8.8"]
    assert resolve(addresses, "nowhere.example") == [("8.8.8.8", 80)]


def test_a_resolver_that_hangs_is_a_timeout(names: Names, addresses: Addresses) -> None:
    names.answering.clear()
    assert failure(addresses, "slow.example", seconds=0.1).code is FailureCode.TIMEOUT


def test_many_threads_asking_for_one_name_ask_once(names: Names, addresses: Addresses) -> None:
    names.answers["shop.example"] = ["8.8.8.8"]
    names.answering.clear()
    with ThreadPoolExecutor(1) as one:
        first = one.submit(resolve, addresses, "shop.example")
        assert names.asking.wait(30)
        with ThreadPoolExecutor(16) as many:
            others = [many.submit(resolve, addresses, "shop.example") for _ in range(32)]
            names.answering.set()
        assert {tuple(answer.result()) for answer in [first, *others]} == {(("8.8.8.8", 80),)}
    assert names.asked == ["shop.example"]


def test_an_answer_is_forgotten_after_its_time(
    names: Names, addresses: Addresses, monkeypatch: pytest.MonkeyPatch
) -> None:
    names.answers["shop.example"] = ["8.8.8.8"]
    resolve(addresses, "shop.example")
    monkeypatch.setattr("workers.addresses.CACHE_SECONDS", -1.0)
    names.answers["shop.example"] = ["127.0.0.1"]
    assert failure(addresses, "shop.example").code is FailureCode.ADDRESS_REFUSED


def test_the_memory_of_names_is_bounded(
    names: Names, addresses: Addresses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.addresses.CACHED_HOSTS", 10)
    for number in range(100):
        names.answers[f"{number}.example"] = ["8.8.8.8"]
        resolve(addresses, f"{number}.example")
    assert len(addresses._lookups) <= 10
