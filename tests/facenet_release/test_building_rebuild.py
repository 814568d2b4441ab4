"""A rebuild gives the same bytes, and reports files that differ."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from publishing import contents
from support.small_release import reseal, write_inputs

from facenet_release.building import rebuild as rebuilding
from facenet_release.building.rebuild import rebuild
from facenet_release.documents.manifest import MANIFEST, parse

pytestmark = pytest.mark.tensorflow


def test_a_rebuild_gives_the_same_bytes_and_tells_if_not(
    release_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = release_copy.parent / "i"
    inputs.mkdir()
    write_inputs(inputs)
    done = rebuild(release_copy, inputs, None, lambda *_: None)
    assert done.reproduced
    assert not done.different
    assert len(done.same) == len(contents(release_copy)) - 3

    # A release whose file is another one: the same tensors in a file of torch's own.
    torch = pytest.importorskip("torch", reason='pip install "facenet-parity[release]"')
    file = release_copy / "rnet.pt"
    torch.save(torch.load(file, weights_only=True), file)
    (release_copy / "README.md").unlink()
    reseal(release_copy)
    monkeypatch.setattr(
        rebuilding,
        "check",
        lambda folder, *_: SimpleNamespace(manifest=parse((folder / MANIFEST).read_bytes())),
    )
    done = rebuild(release_copy, inputs, None, lambda *_: None)
    assert not done.reproduced
    assert (done.wrong, done.new) == (("rnet.pt",), ("README.md",))
