"""Text files as people have them: UTF-8 with or without a byte-order mark, or what the mark says."""

from __future__ import annotations

import codecs

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decoded(content: bytes) -> str:
    """Decodes the bytes of a text file.

    Raises:
        ValueError: If they are not UTF-8, nor what their byte-order mark says; the message goes on from a file's name.
    """
    encoding = next((name for mark, name in MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        hint = ", perhaps Latin-1" if encoding == "utf-8" else ""
        name = "UTF-8" if encoding.startswith("utf-8") else f"the {encoding.upper()} that its first bytes announce"
        raise ValueError(
            f"is not {name} (byte 0x{content[error.start]:02x} in line {line}){hint}; save it as UTF-8"
        ) from None
    if "\0" in text:
        raise ValueError("holds zero bytes, as UTF-16 without a byte-order mark does; save it as UTF-8")
    return text
