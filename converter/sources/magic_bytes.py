"""Recognise files by their first bytes: formats, and common files that are not weights."""

from __future__ import annotations

from pathlib import Path

_AGAIN = "download the file again, and compare its size with the publisher's"

# The first bytes (in lower case, without leading white space), the kind of file, the next step.
_KINDS: tuple[tuple[bytes, str, str], ...] = (
    (
        b"version https://git-lfs",
        "a Git LFS pointer: a text in the place of the file",
        "run `git lfs pull` in the repository that holds it",
    ),
    (
        b"<!doctype html",
        "an HTML page, such as a download service shows instead of a large file",
        "download the file itself: open the link in a browser, or use a tool such as gdown",
    ),
    (
        b"<html",
        "an HTML page, such as a download service shows instead of a large file",
        "download the file itself: open the link in a browser, or use a tool such as gdown",
    ),
    (b"<?xml", "an XML document, such as a storage service sends for an error", _AGAIN),
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"pk\x03\x04", "a zip archive", "unpack it first, unless it is a .pt file under another name"),
    (b"\x89hdf\r\n", "an HDF5 file, perhaps of Keras", "give it its suffix .h5"),
    (b"\x93numpy", "a NumPy .npy file", "give it its suffix .npy"),
    (b"\x80\x02", "a Python pickle", "give a .pt file that torch.save wrote, or a det*.npy file"),
)


def starts_with(path: Path, magic: bytes) -> bool:
    """Return whether `path` is a file on the disk that starts with `magic`. Raises OSError.

    Examples:
        >>> starts_with(Path("/tmp"), b"")
        False
    """
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def describe(head: bytes) -> tuple[str, str]:
    """Return the kind of a file that starts with the bytes `head`, and the next step.

    Examples:
        >>> describe(b"\\x1f\\x8b\\x08")
        ('a gzip archive', 'unpack it first')
    """
    if not head.strip(b"\0"):
        return "only zero bytes, as an interrupted download leaves them", _AGAIN
    start = head.lstrip().lower()
    for magic, found, next_step in _KINDS:
        if start.startswith(magic):
            return found, next_step
    return f"an unknown file that starts with bytes {head[:16].hex(' ')}", _AGAIN
