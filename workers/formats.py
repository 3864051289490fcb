"""Which format bytes are in, and whether they are all there. Pillow never guesses: only the one plugin sees them."""

from __future__ import annotations

import re

from shared.errors import FailureCode, ItemError

# What is decoded, and what is known well enough to be named in a refusal; the first match counts.
_DECODED = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WEBP": rb"RIFF.{4}WEBP",
    "GIF": rb"GIF8[79]a",
    "BMP": rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0",
    "TIFF": rb"II[\x2a\x2b]\0|MM\0[\x2a\x2b]",
    "AVIF": rb".{4}ftyp(.{4}){0,12}avi[fs]",
}
_REFUSED = {
    "SVG": rb"(?:\xef\xbb\xbf)?\s*<(?:svg[\s>]|(?:\?xml|!--|!DOCTYPE svg).*<svg[\s>])",
    "HEIC": rb".{4}ftyp(?:hei[cxms]|hev[cx]|mif1|msf1)",
    "JPEG 2000": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "JPEG XL": rb"\0\0\0\x0cJXL |\xff\x0a",
    "JPEG XR": rb"II\xbc",
    "Photoshop": rb"8BPS",
    "PDF": rb"%PDF-",
    "PostScript": rb"%!PS|\xc5\xd0\xd3\xc6",
    "Windows icon": rb"\0\0[\x01\x02]\0[^\0]\0",
    "Apple icon": rb"icns",
    "DirectDraw surface": rb"DDS ",
    "netpbm": rb"P[1-6Ff]\s[\s\d#]|P7\s",
    "QOI": rb"qoif",
    "PCX": rb"\n[\0\2-\5][\0\1][\1\2\4\x08]",
    "SGI": rb"\x01\xda[\0\1][\1\2]",
    "Sun raster": rb"\x59\xa6\x6a\x95",
    "X bitmap": rb"#define\s+\w+_width\s",
    "X pixmap": rb"/\* XPM \*/",
    "Windows metafile": rb"\xd7\xcd\xc6\x9a|\x01\0\0\0.{36} EMF",
    "FITS": rb"SIMPLE  =",
    "FLIC animation": rb".{4}[\x11\x12]\xaf",
    "Blizzard texture": rb"BLP[12]",
    "OpenEXR": rb"\x76\x2f\x31\x01",
    "Radiance HDR": rb"#\?RADIANCE",
    "GIMP": rb"gimp xcf",
    "camera raw": rb"FUJIFILMCCD-RAW|.{4}ftypcrx",
}
_HTML = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html|head|body|script)", re.I)
_HEAD = 1024  # bytes that are looked at to tell a format

# How a complete file ends; Pillow's own messages are vague about files that were cut.
_LAST_BYTES = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82", "GIF": b"\0;"}
_TAIL = 1024  # junk after the end is common


def recognise(data: bytes) -> str:
    """The name of the format, as Pillow calls it. ItemError where it is none that is decoded."""
    if not data:
        raise ItemError(FailureCode.EMPTY, "The file has no bytes.")
    head = data[:_HEAD]
    for kind, signature in _DECODED.items():
        if re.match(signature, head, re.DOTALL):
            return kind
    for kind, signature in _REFUSED.items():
        if re.match(signature, head, re.DOTALL):
            readable = ", ".join(_DECODED)
            detail = f"The picture is in the format {kind}, which is not read. These are: {readable}."
            raise ItemError(FailureCode.UNSUPPORTED_FORMAT, detail)
    what = "are an HTML page" if _HTML.match(head) else "begin like no known picture"
    raise ItemError(FailureCode.NOT_AN_IMAGE, f"The {len(data):,} bytes {what}.")


def is_cut(kind: str, data: bytes, reason: str) -> bool:
    """Whether a file that failed to decode, for Pillow's `reason`, is one that ends too early."""
    if kind in _LAST_BYTES and reason != "Truncated File Read":  # that is a header that goes on past the end
        return _LAST_BYTES[kind] not in data[-_TAIL:]
    return _promised(kind, data) > len(data) or "truncated" in reason.lower()


def _promised(kind: str, data: bytes) -> int:
    """The bytes that the file's own structure says it has at least."""
    end = 0
    if kind == "BMP":
        end = int.from_bytes(data[2:6], "little")
    elif kind == "WEBP":
        end = 8 + int.from_bytes(data[4:8], "little")
    elif kind == "TIFF":  # where its directory stands
        end = int.from_bytes(data[4:8], "little" if data[:1] == b"I" else "big")
    elif kind == "AVIF":  # a row of boxes, each with its size
        while (size := int.from_bytes(data[end : end + 4], "big")) >= 8:
            end += size
    return end
