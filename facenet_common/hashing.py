"""SHA-256 of files."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

_CHUNK = 1 << 18  # bytes; fits into the processor's cache
_WAIT = 0.002  # seconds between two reads of a file that is being written


def sha256_file(path: Path, complete: threading.Event | None = None) -> str:
    """Return the SHA-256 of the file's bytes, in hexadecimal.

    Args:
        path: The file.
        complete: If given, the file is still being written, from front to back, until this event
            is set; it is hashed meanwhile.

    Raises:
        OSError: The file can't be read.

    Examples:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp(), "empty")
        >>> path.touch()
        >>> sha256_file(path)
        'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
    """
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_CHUNK))
    with path.open("rb", buffering=0) as file:
        while True:
            last = complete is None or complete.is_set()  # before the rest is read
            while size := file.readinto(buffer):
                digest.update(buffer[:size])
            if last or complete is None:
                return digest.hexdigest()
            complete.wait(_WAIT)
