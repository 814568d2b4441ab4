"""Checks of a release's files before they are sent, and what differs at the other end."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from publishing import Recorded, Tiny, files_of

from facenet_release.channels.common import differences, examine, summarise
from facenet_release.errors import CheckFailedError


def test_files_are_hashed_in_the_order_of_their_names(tiny_release: Tiny) -> None:
    folder, manifest = tiny_release
    recorded = Recorded()
    local = examine(files_of(folder)[::-1], manifest, recorded)
    assert list(local) == [path.name for path in files_of(folder)]
    for file in local.values():
        data = file.path.read_bytes()
        assert (file.size, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert recorded.stages == {"hash": sum(file.size for file in local.values())}
    assert recorded.done == recorded.total


def test_all_that_is_wrong_is_said_at_once(tiny_release: Tiny, tmp_path: Path) -> None:
    folder, manifest = tiny_release
    bad = bytes((folder / "pnet.pt").stat().st_size)
    (folder / "pnet.pt").write_bytes(bad)
    (folder / "a name.txt").write_text("a")
    other = tmp_path / "other" / "SHA256SUMS"
    other.parent.mkdir()
    other.write_text("another")
    with pytest.raises(CheckFailedError) as caught:
        examine([*files_of(folder), other], manifest, Recorded())
    taken, unsafe, altered = caught.value.findings
    assert unsafe == "a name.txt: the name is unsafe or taken"
    assert taken == "SHA256SUMS: the name is unsafe or taken"
    assert altered.startswith("pnet.pt: ")
    assert hashlib.sha256(bad).hexdigest() in altered


def test_differences_have_their_names(tiny_release: Tiny) -> None:
    folder, manifest = tiny_release
    local = examine(files_of(folder), manifest, Recorded())
    there = {name: file.sha256 for name, file in local.items()}
    assert differences(local, there) == []
    del there["manifest.json"]
    there["more"] = None
    there["pnet.pt"] = "0" * 64
    found = differences(local, there)
    assert found == ["manifest.json: not there", "more: there only", "pnet.pt: other contents"]
    assert summarise(found) == ", ".join(found)
    assert summarise(found * 2).endswith("more: there only, and 1 more")
