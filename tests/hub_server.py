"""A hub of data sets on loopback: the few requests that `datasets` and huggingface_hub make of one."""

from __future__ import annotations

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "a" * 40
OTHER_COMMIT = "b" * 40


class Hub:
    """`sets` is the files of each data set, by its name and its commit; `heads` is the commit that is its newest."""

    def __init__(self) -> None:
        self.sets: dict[tuple[str, str], dict[str, bytes]] = {}
        self.heads: dict[str, str] = {}
        self.requests: list[str] = []
        self.sent: Counter[str] = Counter()  # bytes of each file, by its path in its data set
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.requests.append(f"{self.command} {self.path}")
                path = unquote(urlsplit(self.path).path)
                if path.startswith("/api/datasets/"):
                    self._say(*hub._about(path.removeprefix("/api/datasets/")))
                else:
                    self._say(*hub._file(path.removeprefix("/datasets/"), self.headers.get("Range")))

            do_HEAD = do_POST = do_GET

            def _say(self, status: int, body: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def put(self, name: str, files: dict[str, bytes], commit: str = COMMIT) -> None:
        """A data set's newest commit."""
        self.sets[name, commit] = files
        self.heads[name] = commit

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _about(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        owner, _, path = path.partition("/")
        name, *rest = path.split("/")
        name = f"{owner}/{name}"
        kind, revision, *folder = rest or ("revision", self.heads.get(name, ""))
        commit = self.heads.get(name, "") if revision == "main" else revision
        if name not in self.heads:
            return _no("RepoNotFound")
        if (name, commit) not in self.sets:
            return _no("RevisionNotFound")
        files = self.sets[name, commit]
        if kind == "revision":
            siblings = [{"rfilename": file} for file in files]
            return _json({"_id": "1", "id": name, "sha": commit, "siblings": siblings})
        prefix = "".join(f"{part}/" for part in folder)
        return _json(_tree(files, prefix)) if kind == "tree" else _no("EntryNotFound")

    def _file(self, path: str, wanted: str | None) -> tuple[int, bytes, dict[str, str]]:
        owner, name, _, commit, *rest = path.split("/")
        data = self.sets.get((f"{owner}/{name}", commit), {}).get("/".join(rest))
        if data is None:
            return _no("EntryNotFound")
        headers = {"ETag": f'"{hash(data)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if not wanted:
            self.sent["/".join(rest)] += len(data)
            return 200, data, headers
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        end = int(last) + 1 if last else len(data)
        self.sent["/".join(rest)] += end - int(first)
        span = f"bytes {first}-{end - 1}/{len(data)}"
        return 206, data[int(first) : end], {**headers, "Content-Range": span}


def _tree(files: dict[str, bytes], prefix: str) -> list[dict[str, Any]]:
    below = [file.removeprefix(prefix) for file in files if file.startswith(prefix)]
    folders = dict.fromkeys(file.partition("/")[0] for file in below if "/" in file)
    return [
        {"type": "directory", "oid": "d" * 40, "size": 0, "path": f"{prefix}{folder}"} for folder in folders
    ] + [
        {"type": "file", "oid": "f" * 40, "size": len(files[prefix + file]), "path": f"{prefix}{file}"}
        for file in below
        if "/" not in file
    ]


def _json(value: Any) -> tuple[int, bytes, dict[str, str]]:
    return 200, json.dumps(value).encode(), {"Content-Type": "application/json"}


def _no(code: str) -> tuple[int, bytes, dict[str, str]]:
    return 404, b"{}", {"X-Error-Code": code}
