"""What a picture says beside its pixels is never stored and never served."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path

import redis
from PIL import ExifTags, Image

from tests.image_server import ImageServer, picture
from tests.system.conftest import IMAGES_HOST
from tests.system.stack import Stack

CAMERA, OWNER, NOTE = "Camera-4711", "Erika Mustermann", "xmp-secret-0815"
LATITUDE = 48.137154


def telling(seed: int) -> bytes:
    """A JPEG whose EXIF holds a place, a camera and an owner, and whose XMP holds a note."""
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = CAMERA
    exif[ExifTags.Base.Artist] = OWNER
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(
        {ExifTags.GPS.GPSLatitudeRef: "N", ExifTags.GPS.GPSLatitude: (48.0, 8.0, 13.7544)}
    )
    buffer = io.BytesIO()
    picture(seed).save(buffer, "JPEG", exif=exif, xmp=f"<x:xmpmeta>{NOTE}</x:xmpmeta>".encode())
    return buffer.getvalue()


def test_the_place_the_camera_and_the_owner_of_a_picture_are_neither_stored_nor_served(
    stack: Stack, collection: str
) -> None:
    by_url, uploaded = telling(1), telling(2)
    assert Image.open(io.BytesIO(by_url)).getexif().get_ifd(ExifTags.IFD.GPSInfo)
    with ImageServer({"/telling.jpg": by_url}, host=IMAGES_HOST) as server:
        assert stack.ended(stack.submit(collection, [{"url": server.url("/telling.jpg")}]))["indexed"] == 1
    files = [("image", ("holiday.jpg", uploaded))]
    job = stack.ok("POST", f"/v1/collections/{collection}/images", files=files)["id"]
    assert stack.ended(job)["indexed"] == 1

    answers = [
        stack.ok("GET", f"/v1/collections/{collection}/images"),
        stack.search(collection, telling(1)),
        stack.ok("GET", f"/v1/jobs/{job}"),
    ]
    # fmt: off
    fields = {
        "id", "url", "sha256", "width", "height", "format", "bytes", "model", "indexed_at", "job", "thumbnail",
    }
    # fmt: on
    assert {name for image in answers[0]["images"] for name in image["payload"]["_image"]} == fields
    assert "GPS" not in json.dumps(answers)
    thumbnails, index = on_disk(stack.data / "files"), on_disk(stack.data / "index" / f"{collection}@1")
    assert thumbnails.count(b"WEBP") >= 2
    assert index
    kept = json.dumps(answers).encode() + index + thumbnails + values_in_redis(stack)
    for secret in (CAMERA, OWNER, NOTE, str(LATITUDE)):
        assert secret.encode() not in kept


def on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def values_in_redis(stack: Stack) -> bytes:
    """Every value of the broker, dumped."""
    (pid,) = stack.processes("valkey")
    command = ["ps", "-ww", "-o", "args=", "-p", str(pid)]
    title = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    client = redis.Redis(unix_socket_path=title.split("unixsocket:")[1].strip())
    return b"".join(client.dump(key) or b"" for key in client.scan_iter())
