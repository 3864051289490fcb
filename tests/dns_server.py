"""A DNS server with scripted answers, and a network of its own in which the system's resolver asks it.

`seen_in_own_network(zone, urls)` fetches with the real Fetcher in a process that has its own network and mounts:
every address there, public or internal, is this process and answers on the web's ports, so that whatever a
fetch may be lured to is really reached. `seen_here(urls)` fetches in this machine's network.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from shared.errors import ItemError
from shared.settings import Settings
from workers import addresses
from workers.fetch import Fetcher

PUBLIC = (
    "93.184.216.34"  # in the own network: a web server that redirects to `/redirect?to=…` and serves all else
)
_PORTS = (80, 443)
_FENCE = "127.99.99.99"  # connected to last, so that all connections before it are known to be counted
_CODES = {"SERVFAIL": 2, "NXDOMAIN": 3}
_TYPES = {"A": 1, "CNAME": 5, "AAAA": 28}

Answer = str | list[str]
Zone = Mapping[str, Sequence[Answer]]


class DnsServer:
    """Answers over UDP, with a TTL of 0, what its zone says.

    A zone names for each host its answers in turn, of which the last one stays: a list of records such as
    `["CNAME cdn.example", "A 127.0.0.1"]`, or one of the words NXDOMAIN, SERVFAIL and SILENCE. Each kind of
    address is counted for itself, because resolvers ask for A and AAAA at once.
    """

    def __init__(self, zone: Zone, address: tuple[str, int] = ("127.0.0.1", 53)) -> None:
        self._zone = zone
        self._asked: Counter[tuple[str, int]] = Counter()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(address)
        threading.Thread(target=self._serve, name="dns-server", daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                query, client = self._socket.recvfrom(4096)
                reply = self._reply(query)
                if reply is not None:
                    self._socket.sendto(reply, client)

    def _reply(self, query: bytes) -> bytes | None:
        name, end = _read_name(query, 12)
        (kind,) = struct.unpack_from(">H", query, end)
        answers = self._zone.get(name.lower(), ["NXDOMAIN"])
        answer = answers[min(self._asked[name, kind], len(answers) - 1)]
        self._asked[name, kind] += 1
        if answer == "SILENCE":
            return None
        records = list(_records(name, kind, answer)) if isinstance(answer, list) else []
        flags = 0x8580 | (_CODES[answer] if isinstance(answer, str) else 0)
        head = query[:2] + struct.pack(">HHHHH", flags, 1, len(records), 0, 0)
        return head + query[12 : end + 4] + b"".join(records)


def _read_name(query: bytes, at: int) -> tuple[str, int]:
    labels = []
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode("ascii", "replace"))
        at += 1 + length
    return ".".join(labels), at + 1


def _records(owner: str, asked: int, answer: list[str]) -> Iterator[bytes]:
    for record in answer:
        word, _, value = record.partition(" ")
        kind = _TYPES[word]
        if word == "CNAME":
            yield _record(owner, kind, _name(value))
            owner = value
        elif kind == asked:
            yield _record(owner, kind, ipaddress.ip_address(value).packed)


def _record(owner: str, kind: int, data: bytes) -> bytes:
    return _name(owner) + struct.pack(">HHIH", kind, 1, 0, len(data)) + data


def _name(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


class Everywhere:
    """A web server on all addresses at once that remembers at which of them it was reached."""

    def __init__(self) -> None:
        self.reached: set[str] = set()
        self._fenced = threading.Event()
        for port in _PORTS:
            listener = socket.create_server(
                ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128
            )
            threading.Thread(target=self._listen, args=(listener,), daemon=True).start()

    def _listen(self, listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            address = connection.getsockname()[0].removeprefix("::ffff:")
            if address == _FENCE:
                self._fenced.set()
                continue
            self.reached.add(address)
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            target = urlsplit(connection.recv(65536).split(b" ")[1].decode())
            to = parse_qs(target.query, keep_blank_values=True).get("to")
            head = f"HTTP/1.1 302 Found\r\nLocation: {to[0]}" if to else "HTTP/1.1 200 OK"
            connection.sendall(f"{head}\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody".encode())

    def all_reached(self) -> list[str]:
        socket.create_connection((_FENCE, 80)).close()
        assert self._fenced.wait(30)
        return sorted(self.reached)


@lru_cache
def why_no_own_network() -> str | None:
    """The reason that there can be none here, or None where there can."""
    try:
        made = subprocess.run([*_UNSHARE, "ip", "link", "set", "lo", "up"], capture_output=True, text=True)
    except OSError as error:
        return f"the commands unshare and ip are needed: {error}"
    return made.stderr.strip() or "unshare failed" if made.returncode else None


_UNSHARE = ("unshare", "--map-root-user", "--mount", "--net")


def seen_in_own_network(zone: Zone, urls: list[str], **settings: Any) -> dict[str, Any]:
    """As `seen_here`, and `reached`: at which addresses anything was connected to."""
    return _fetched_by([*_UNSHARE, sys.executable], {"zone": zone, "urls": urls, "settings": settings})


def seen_here(urls: list[str], **settings: Any) -> dict[str, Any]:
    """What came of fetching `urls` one after the other in a process of its own.

    `fetched`: for each URL its `code` ("" where it arrived), `again_after`, and to which addresses `connected`
    sockets were asked to go, as the interpreter's own audit saw it.
    """
    return _fetched_by([sys.executable], {"urls": urls, "settings": settings})


def _fetched_by(command: list[str], order: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [*command, "-m", "tests.dns_server"],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def _fetch(url: str, fetcher: Fetcher, connects: list[str]) -> dict[str, Any]:
    connects.clear()
    code, again_after = "", None
    try:
        fetcher.fetch(url)
    except ItemError as error:
        code, again_after = error.code.value, error.again_after
    return {"code": code, "again_after": again_after, "connected": list(connects)}


def _enter_own_network() -> None:
    """Make every address local, and the DNS server the only one that the system's resolver knows."""
    for command in (
        "ip link set lo up",
        "ip -4 route add local 0.0.0.0/0 dev lo",
        "ip -6 route add local ::/0 dev lo",
    ):
        subprocess.run(command.split(), check=True)
    for path, text in (
        ("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"),
        ("/etc/nsswitch.conf", "hosts: files dns\n"),
    ):
        with tempfile.NamedTemporaryFile("w") as ours:  # a mounted file outlives its name
            ours.write(text)
            ours.flush()
            subprocess.run(["mount", "--bind", ours.name, path], check=True)


def main() -> None:
    order = json.load(sys.stdin)
    everywhere = None
    if "zone" in order:
        _enter_own_network()
        DnsServer(order["zone"])
        everywhere = Everywhere()
    connects: list[str] = []

    def listen(event: str, args: tuple[Any, ...]) -> None:
        if event == "socket.connect":
            connects.append(args[1][0])

    sys.addaudithook(listen)
    addresses.CACHE_SECONDS = -1.0  # so that each fetch asks the resolver, as one a minute later would
    fetcher = Fetcher(Settings.model_validate({"fetch_timeout": 5, "fetch_threads": 16, **order["settings"]}))
    seen: dict[str, Any] = {"fetched": [_fetch(url, fetcher, connects) for url in order["urls"]]}
    if everywhere:
        seen["reached"] = everywhere.all_reached()
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
