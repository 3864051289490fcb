"""Which addresses a fetch may reach, and where a host name leads."""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
import time
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from shared.errors import FailureCode, ItemError
from shared.settings import Network

log = logging.getLogger("lookalike.fetch")

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

WEB_PORTS = frozenset({80, 443})
CACHE_SECONDS = 60.0
CACHED_HOSTS = 4096

# Refused whatever `is_global` says: its answer differs between Python versions, and it knows no cloud.
_REFUSED = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",  # carrier-grade NAT, and a cloud's metadata service
            "127.0.0.0/8",
            "168.63.129.16/32",  # Azure's host, reachable from every machine there
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
            "2001::/23",  # Teredo and other protocol assignments
            "2001:db8::/32",
            "2002::/16",  # 6to4 wraps any IPv4 address
            "3fff::/20",
        ),
    )
)
_UNICAST = ipaddress.IPv6Network("2000::/3")  # all other IPv6 space is local, reserved or a wrapping of IPv4
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

_NAME = re.compile(r"(?=.{1,254}$)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?")
_ENDS_IN_A_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?")


def is_public(address: IPAddress) -> bool:
    """Whether `address` is out on the internet. IPv4 inside IPv6 (mapped, NAT64) is judged as the IPv4 it is."""
    address = _unwrapped(address)
    if address.version == 6 and address not in _UNICAST:
        return False
    return address.is_global and not any(address in network for network in _REFUSED)


def is_plain_host(host: str) -> bool:
    """Whether a URL's lower-case host is a DNS name, a dotted IPv4 or a bracketed IPv6 address, plainly spelled.

    `127.1`, `0x7f000001`, `2130706433`, `0177.0.0.1`, `127.0.0.1.`, zone ids and percent signs are not: honest
    URLs never need them, and resolvers differ on what they mean.
    """
    if host.startswith("[") and host.endswith("]"):
        return "%" not in host and _is_address(ipaddress.IPv6Address, host[1:-1])
    if _ENDS_IN_A_NUMBER.fullmatch(host):
        return _is_address(ipaddress.IPv4Address, host)
    return _NAME.fullmatch(host) is not None


@dataclass(frozen=True)
class Endpoint:
    """A checked address, in the form that `socket.connect` takes."""

    family: socket.AddressFamily
    sockaddr: tuple[Any, ...]


class Addresses:
    """Looks names up, remembers them for a minute, and lets no address pass that a fetch must not reach."""

    def __init__(self, allow: tuple[Network, ...], threads: int) -> None:
        self._allow = allow
        # getaddrinfo knows no timeout, so it runs where nobody waits for it longer than they want to.
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="lookup")
        self._lookups: dict[str, tuple[float, Future[list[tuple[Any, ...]]]]] = {}

    def resolve(self, host: str, port: int, *, seconds: float, url: str) -> list[Endpoint]:
        """Every address of `host`, each checked, in the resolver's order; `url` is for the error's sentence.

        ItemError: dns_failed, timeout, address_refused (also when only one of several addresses is refused).
        """
        endpoints: dict[Endpoint, None] = {}
        for family, _, _, _, sockaddr in self._look_up(host, seconds, url):
            self._check(ipaddress.ip_address(sockaddr[0]), port, url)
            endpoints[Endpoint(family, (sockaddr[0], port, *sockaddr[2:]))] = None
        return list(endpoints)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _look_up(self, host: str, seconds: float, url: str) -> list[tuple[Any, ...]]:
        lookup = self._lookup(host)
        try:
            return lookup.result(timeout=seconds)
        except (TimeoutError, CancelledError) as error:
            lookup.cancel()  # one that still waits for a thread must not keep other names waiting
            self._lookups.pop(host, None)
            raise ItemError(
                FailureCode.TIMEOUT, f"`{url}`: the name `{host}` was not resolved in time.", again_after=0
            ) from error
        except (OSError, UnicodeError) as error:
            self._lookups.pop(host, None)
            may_pass = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
            raise ItemError(
                FailureCode.DNS_FAILED,
                f"`{url}`: the name `{host}` does not resolve ({error}).",
                again_after=0 if may_pass else None,
            ) from error

    def _lookup(self, host: str) -> Future[list[tuple[Any, ...]]]:
        """The lookup under way or lately done, so that many threads asking for one name ask once."""
        now = time.monotonic()
        started, lookup = self._lookups.get(host, (0.0, None))
        if lookup is None or now - started > CACHE_SECONDS:
            if len(self._lookups) >= CACHED_HOSTS:
                self._lookups.clear()
            lookup = self._threads.submit(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
            self._lookups[host] = now, lookup
        return lookup

    def _check(self, address: IPAddress, port: int, url: str) -> None:
        if any(_unwrapped(address) in network or address in network for network in self._allow):
            return
        if not is_public(address):
            # Not in the row: whoever may submit URLs shall not read the internal DNS from it.
            log.info(
                "refused %s, where `%s` leads", address, url, extra={"code": FailureCode.ADDRESS_REFUSED}
            )
            raise ItemError(
                FailureCode.ADDRESS_REFUSED,
                f"`{url}` leads to an address that is not public (the worker's log has it); "
                "LOOKALIKE_FETCH_ALLOW can allow it.",
            )
        if port not in WEB_PORTS:
            raise ItemError(
                FailureCode.ADDRESS_REFUSED,
                f"`{url}` is on port {port}, and only 80 and 443 are fetched; "
                f"LOOKALIKE_FETCH_ALLOW can allow {address}.",
            )


def _unwrapped(address: IPAddress) -> IPAddress:
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address


def _is_address(kind: type[IPAddress], text: str) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True
