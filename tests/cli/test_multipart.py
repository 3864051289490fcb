"""cli/multipart.py: a large file as part of a body."""

from __future__ import annotations

from email.parser import BytesParser
from pathlib import Path

from cli.multipart import Multipart


def test_the_body_is_what_it_says_and_holds_the_file_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / 'a "quoted".parquet'
    path.write_bytes(bytes(range(256)) * 10_000)
    with path.open("rb") as file:
        body = Multipart("source", '{"split": "ü"}', "file", path, file)
        sent = b"".join(body)
    assert len(sent) == len(body)
    parts = (
        BytesParser().parsebytes(f"Content-Type: {body.content_type}\r\n\r\n".encode() + sent).get_payload()
    )
    assert [part.get_payload(decode=True) for part in parts] == ['{"split": "ü"}'.encode(), path.read_bytes()]
    assert parts[1].get_filename() == "a _quoted_.parquet"
