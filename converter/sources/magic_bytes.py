"""What a file that isn't what it should be looks like, and what to do about it."""

from __future__ import annotations

_AGAIN = "fetch the file again, and check its size against the publisher's"

# First bytes (lower-cased, leading white space removed), what they tell, the next step.
_LOOKS: tuple[tuple[bytes, str, str], ...] = (
    (
        b"version https://git-lfs",
        "a Git LFS pointer: the text that stands for the file in a repository",
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
    (b"\x89hdf\r\n", "an HDF5 file (Keras?)", "give the TensorFlow checkpoint instead"),
    (b"\x93numpy", "a NumPy .npy file", "give it its suffix .npy"),
    (b"\x80\x02", "a Python pickle", "give a .pt file that torch.save wrote, or a det*.npy file"),
)


def describe(head: bytes) -> tuple[str, str]:
    """What a file that starts with `head` looks like, and the next step, for a message."""
    if not head.strip(b"\0"):
        return "nothing but zero bytes: a download that was cut off", _AGAIN
    start = head.lstrip().lower()
    for magic, found, next_step in _LOOKS:
        if start.startswith(magic):
            return found, next_step
    return f"bytes that start with {head[:16].hex(' ')}", _AGAIN
