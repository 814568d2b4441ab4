"""SHA-256 of files, also of one that is still being written."""

from __future__ import annotations

import hashlib
import threading
import time
from pathlib import Path

import pytest

from facenet_common.hashing import sha256_file


@pytest.mark.parametrize("size", [0, 1, 1 << 18, (1 << 18) + 1, 3_000_000])
def test_a_file_at_rest(tmp_path: Path, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "x").write_bytes(data[:size])
    assert sha256_file(tmp_path / "x") == hashlib.sha256(data[:size]).hexdigest()


@pytest.mark.parametrize("pause", [0.0, 0.003])
def test_a_growing_file_is_hashed_to_its_end(tmp_path: Path, pause: float) -> None:
    path, complete, found = tmp_path / "x", threading.Event(), []
    path.touch()
    reader = threading.Thread(target=lambda: found.append(sha256_file(path, complete)))
    reader.start()
    expected = hashlib.sha256()
    with path.open("ab") as file:
        for number in range(40):
            piece = bytes([number]) * (number * 5003)
            expected.update(piece)
            file.write(piece)
            time.sleep(pause)
    complete.set()
    reader.join()
    assert found == [expected.hexdigest()]
