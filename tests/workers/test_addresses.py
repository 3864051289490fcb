from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest

from shared.errors import FailureCode, ItemError
from tests.dns_server import PUBLIC, Zone, seen_here, seen_in_own_network, why_no_own_network
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
ON_THE_INTERNET = """
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


@pytest.mark.parametrize("address", ON_THE_INTERNET.split())
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
    """Stands in for the resolver where a test must hold its answer back or count the questions."""

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
        "`http://rebind.example/` leads to an address that is not public (the worker's log has it); "
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


def test_only_a_failed_lookup_that_may_pass_says_so(names: Names, addresses: Addresses) -> None:
    assert failure(addresses, "nowhere.example").again_after is None
    names.answering.clear()
    assert failure(addresses, "slow.example", seconds=0.1).again_after == 0


# What a stranger's URL may be lured to. Nothing here may so much as open a socket to an internal address.

LURES = """
    0.0.0.0 10.0.0.5 100.64.0.1 100.100.100.200 127.0.0.1 127.8.8.8 168.63.129.16 169.254.169.254 169.254.170.2
    169.254.169.123 172.17.0.1 192.0.0.192 192.168.0.1 198.18.0.1
"""
LURES6 = """
    :: ::1 0:0:0:0:0:0:0:1 0000:0000:0000:0000:0000:0000:0000:0001 0::1 ::0001 ::ffff:0:0 ::ffff:0.0.0.0 fe80::1
    fe80::a9fe:a9fe febf::1 fec0::1 fc00::1 fd00::1 fd00:ec2::254 fd00:ec2::23 fd20:ce::254 fd00:42::42 ff02::1
    64:ff9b:1::7f00:1 100::1 2001::1 2001:db8::1 2001:10::1 3fff::1 5f00::1 ::1%lo ::1%25lo fe80::1%25eth0 fe80::1%1
"""
NAMES = {
    "localtest.example": ["A 127.0.0.1"],
    "127.0.0.1.nip.example": ["A 127.0.0.1"],
    "metadata.google.internal": ["A 169.254.169.254"],
    "metadata": ["A 169.254.169.254"],
    "instance-data": ["A 169.254.169.254"],
    "metadata.azure.internal": ["A 168.63.129.16"],
    "metadata.tencentyun.com": ["A 169.254.0.23"],
    "metadata.platformequinix.com": ["A 192.168.7.7"],
    "rancher-metadata": ["A 169.254.169.250"],
    "kubernetes.default.svc.cluster.local": ["A 10.96.0.1"],
    "host.docker.internal": ["A 172.17.0.1"],
    "redis": ["A 172.18.0.2"],
    "qdrant": ["A 172.18.0.3"],
    "router.lan": ["A 192.168.1.1"],
    "six.example": ["AAAA ::1"],
    "mapped.example": ["AAAA ::ffff:127.0.0.1"],
    "compatible.example": ["AAAA ::127.0.0.1"],
    "nat64.example": ["AAAA 64:ff9b::7f00:1"],
    "6to4.example": ["AAAA 2002:7f00:1::"],
    "teredo.example": ["AAAA 2001:0:7f00:1::80ff:fffe"],
    "local.example": ["AAAA fe80::1"],
    "unique-local.example": ["AAAA fd00:ec2::254"],
    "zero.example": ["A 0.0.0.0", "AAAA ::"],
    "xn--bcher-kva.example": ["A 10.0.0.5"],
}
TRICKS = """
    http://{0}\\@{1}/ http://{1}@{0}/ http://{1}:80@{0}/ http://{1}\\@{0}/ http://{1}%40{0}/ http://{0}%40{1}/
    http://:@{0}/ http://a:b@{0}/ http://{1}#@{0}/ http://{1}?@{0}/ http://{1}/@{0}/ http://{0}#@{1}/ http://{0}?@{1}/
    http:///{0}/ http:////{0}/ http:/{0}/ http:{0}/ //{0}/ ///{0}/ {0}/ {0}:80/ http:\\\\{0}\\ http:\\{0}/ http://\\{0}/
    http://{0}: http://{0}:0/ http://{0}:00080/ http://{0}:443/ https://{0}/ https://{0}:80/ http://{0}:65616/
    http://{0}:80:80/ http://{0}:+80/ http://{0}:８０/ http://{0}:22/ http://{0}:6379/ HTTP://{0}/ hTtP://{0}/ HTTPS://{0}/
    file://{0}/etc/passwd ftp://{0}/ gopher://{0}:6379/_INFO dict://{0}:11211/ ldap://{0}/ ws://{0}/ jar:http://{0}!/
    url:http://{0}/ feed:http://{0}/ view-source:http://{0}/ http+unix://{0}/ http://http://{0}/ http://[{0}]/
    http://{0},{1}/ http://{1},{0}/ http://{0};{1}/ http://{0}%20.example/ http://{0}%00.example/ http://{0}%09/
    http://{0}%0d%0aHost:%20{1}/ http://{0}%2f.example/ http://{0}%23.example/ http://{0}.:80/ http://.{0}/ http://{0}../
    http://www.{0}/ http://{0}.example@{0}/ http://[::ffff:{0}]/ http://[::{0}]/ http://[::1]@{0}/ http://{1}@[::1]/
"""
TRICKS_WITH_SPACE = [
    "http://{0}\t/",
    "http://\t{0}/",
    "http://{0}\n/",
    "ht\ntp://{0}/",
    "http:\n//{0}/",
    "\x00http://{0}/",
    "\x1fhttp://{0}/",
    "http://{0}\x00/",
    "http://{0} {1}/",
    "http://{1} @{0}/",
    "http://{1}\r\n@{0}/",
    "http://{1}/\r\nHost: {0}\r\n/",
    "http://{0}\xa0/",
    "http://{0}\u200b/",
    "http://\ufeff{0}/",
    " http://{0}/ ",
]


def spellings(address: str) -> list[str]:
    """The ways of writing an IPv4 address that some client or resolver somewhere takes for that address."""
    a, b, c, d = parts = [int(part) for part in address.split(".")]
    number = int(ipaddress.IPv4Address(address))
    high, low = f"{number >> 16:x}", f"{number & 0xFFFF:x}"
    inverted = ~number & 0xFFFFFFFF
    return [
        address,
        f"{address}.",
        f"{a}.{b}.{c << 8 | d}",
        f"{a}.{b << 16 | c << 8 | d}",
        str(number),
        f"{number}.",
        str(number + 2**32),
        hex(number),
        f"0X{number:08X}",
        f"0x{number:024x}",
        f"0{number:o}",
        f"{a + 256}.{b}.{c}.{d}",
        ".".join(map(hex, parts)),
        ".".join(f"0{part:o}" for part in parts),
        ".".join(f"{part:03}" for part in parts),
        f"{a:#x}.{b}.0{c:o}.{d}",
        f"{a:#x}.{b << 16 | c << 8 | d}",
        "。".join(map(str, parts)),
        "．".join(map(str, parts)),
        "｡".join(map(str, parts)),
        address.translate({ord("0") + digit: "０１２３４５６７８９"[digit] for digit in range(10)}),
        address.translate({ord("0") + digit: "⓪①②③④⑤⑥⑦⑧⑨"[digit] for digit in range(10)}),
        address.translate({ord("0") + digit: "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗"[digit] for digit in range(10)}),
        address.replace(".", "%2e"),
        "".join(f"%{ord(character):02x}" for character in address),
        f"[::ffff:{address}]",
        f"[::FFFF:{high}:{low}]",
        f"[0:0:0:0:0:ffff:{high}:{low}]",
        f"[::{address}]",
        f"[::{high}:{low}]",
        f"[::ffff:0:{address}]",
        f"[64:ff9b::{address}]",
        f"[64:ff9b::{high}:{low}]",
        f"[64:ff9b:1::{high}:{low}]",
        f"[2002:{high}:{low}::]",
        f"[2002:{high}:{low}::{high}:{low}]",
        f"[2001:0:{high}:{low}::{inverted >> 16:x}:{inverted & 0xFFFF:x}]",
        f"[2001::{inverted >> 16:x}:{inverted & 0xFFFF:x}]",
        f"[fe80::5efe:{address}]",
        f"[::ffff:{address}%25lo]",
    ]


def lures() -> list[str]:
    hosts = [spelling for address in LURES.split() for spelling in spellings(address)]
    hosts += [f"[{address}]" for address in LURES6.split()]
    hosts += [
        "localhost",
        "LOCALHOST",
        "localhost.",
        "ⓛocalhost",
        "localhost。",
        "ip6-localhost",
        "loc\u00adalhost",
    ]
    tricks = [*TRICKS.split(), *TRICKS_WITH_SPACE]
    return [f"http://{host}/latest/meta-data/" for host in hosts] + [
        trick.format(address, PUBLIC) for address in ("127.0.0.1", "169.254.169.254") for trick in tricks
    ]


def is_harmless(url: str, outcome: dict[str, Any]) -> bool:
    """Whether no socket was opened but to the one public address, and what was not fetched is never asked again."""
    told = outcome["code"] in ("address_refused", "bad_url", "dns_failed") and outcome["again_after"] is None
    return set(outcome["connected"]) <= {PUBLIC} and (told or PUBLIC in outcome["connected"])


own_network = pytest.mark.skipif(
    why_no_own_network() is not None, reason=f"no network of our own here: {why_no_own_network()}"
)


@own_network
def test_no_lure_is_followed_where_every_address_answers() -> None:
    urls = lures() + [f"http://{name}/" for name in NAMES]
    redirects = [f"http://{PUBLIC}/redirect?to={quote(url)}" for url in urls if not {"\r", "\n"} & {*url}]
    seen = seen_in_own_network({name: [answer] for name, answer in NAMES.items()}, urls + redirects)
    outcomes = zip(urls + redirects, seen["fetched"], strict=True)
    assert [(url, outcome) for url, outcome in outcomes if not is_harmless(url, outcome)] == []
    assert seen["reached"] == [PUBLIC]
    assert len(urls) > 600


def test_no_lure_opens_a_socket_in_this_machines_network() -> None:
    urls = [url for url in lures() if PUBLIC not in url]
    outcomes = zip(urls, seen_here(urls)["fetched"], strict=True)
    assert [(url, outcome) for url, outcome in outcomes if not is_harmless(url, outcome)] == []


@own_network
def test_the_canary_sings_where_an_internal_address_is_allowed() -> None:
    urls = ["http://169.254.169.254/", "http://localtest.example/", "http://[::1]/"]
    seen = seen_in_own_network(
        {"localtest.example": [["A 127.0.0.1"]]}, urls, fetch_allow="169.254.0.0/16,127.0.0.0/8,::1/128"
    )
    assert [outcome["connected"] for outcome in seen["fetched"]] == [
        ["169.254.169.254"],
        ["127.0.0.1"],
        ["::1"],
    ]
    assert seen["reached"] == ["127.0.0.1", "169.254.169.254", "::1"]


ANSWERS: Zone = {
    "good.example": [[f"A {PUBLIC}"]],
    "moved.example": [["CNAME a.cdn.example", "CNAME b.cdn.example", f"A {PUBLIC}"]],
    "rebind.example": [[f"A {PUBLIC}"], ["A 127.0.0.1"]],
    "back.example": [["A 127.0.0.1"], [f"A {PUBLIC}"]],
    "mixed.example": [[f"A {PUBLIC}", "A 10.0.0.5"]],
    "mixed-first.example": [["A 10.0.0.5", f"A {PUBLIC}"]],
    "mixed-six.example": [[f"A {PUBLIC}", "AAAA ::1"]],
    "chain.example": [["CNAME a.cdn.example", "CNAME metadata.internal", "A 169.254.169.254"]],
    "nowhere.example": ["NXDOMAIN"],
    "no-data.example": [[]],
    "broken.example": ["SERVFAIL", [f"A {PUBLIC}"]],
    "silent.example": ["SILENCE", [f"A {PUBLIC}"]],
}


@own_network
@pytest.mark.parametrize(
    ("name", "outcomes"),
    [
        ("good.example", ["", ""]),
        ("moved.example", ["", ""]),
        ("rebind.example", ["", "address_refused"]),
        ("back.example", ["address_refused", ""]),
        *[
            (name, ["address_refused", "address_refused"])
            for name in ("mixed.example", "mixed-first.example", "mixed-six.example", "chain.example")
        ],
        *[(name, ["dns_failed", "dns_failed"]) for name in ("nowhere.example", "no-data.example")],
        *[(name, ["dns_failed again", ""]) for name in ("broken.example", "silent.example")],
    ],
)
def test_what_a_real_dns_server_answers_is_checked_before_it_is_connected_to(
    name: str, outcomes: list[str], answered: dict[str, list[str]]
) -> None:
    assert answered[name] == outcomes


@pytest.fixture(scope="module")
def answered() -> dict[str, list[str]]:
    """How two fetches from each name ended, the second of them after the first answer was forgotten."""
    seen = seen_in_own_network(ANSWERS, [f"http://{name}/{turn}" for name in ANSWERS for turn in (1, 2)])
    assert seen["reached"] == [PUBLIC]
    ends = [one["code"] + " again" * (one["again_after"] is not None) for one in seen["fetched"]]
    return {name: ends[2 * number : 2 * number + 2] for number, name in enumerate(ANSWERS)}


@own_network
def test_a_name_that_changes_between_a_redirects_hops_is_checked_on_each() -> None:
    to_itself = "http://rebind.example/redirect?to=http://rebind.example/secret"
    seen = seen_in_own_network({"rebind.example": ANSWERS["rebind.example"]}, [to_itself])
    assert seen["fetched"] == [{"code": "address_refused", "again_after": None, "connected": [PUBLIC]}]
    assert seen["reached"] == [PUBLIC]
