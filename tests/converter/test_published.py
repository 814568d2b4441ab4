"""Published files are recognised by their hash, and impostors by their name."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from converter.cli.inspect import command
from converter.convert import Request, convert
from converter.demo import write_demo
from converter.published import BY_INDEX, remark
from facenet_common.hashing import sha256_file
from facenet_common.published import BY_SHA256, FILES, SANDBERG, Published

MODEL = "20180402-114759"
PREFIX = f"model-{MODEL}.ckpt-275"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small checkpoint under the names of a published one."""
    folder = tmp_path / MODEL
    write_demo(folder, embedding=4, classes=2)
    for path in folder.glob("model.ckpt.*"):
        path.rename(folder / f"{PREFIX}{path.name.removeprefix('model.ckpt')}")
    (folder / "checkpoint").unlink()
    return folder


@pytest.fixture
def published(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, and the table has its hashes."""
    for path in folder.iterdir():
        if path.name in FILES:
            row = Published(path.name, MODEL, SANDBERG, sha256_file(path), 1)
            monkeypatch.setitem(FILES, path.name, row)  # type: ignore[arg-type] # a dict
            monkeypatch.setitem(BY_SHA256, row.sha256, row)  # type: ignore[arg-type] # a dict
    return folder


ONE_SOURCE = "SHA-256 stated by 1 independent source only"
IMPOSTOR = f"named like the published {MODEL} ({PREFIX}.index of {SANDBERG}), but another file"


def test_inspect_says_that_it_is_the_published_one(published: Path) -> None:
    run = CliRunner().invoke(command, [str(published), "--summary"])
    text = f"the published {MODEL} ({PREFIX}.index of {SANDBERG}): {ONE_SOURCE}{BY_INDEX}"
    assert text in run.output


def test_inspect_says_that_it_only_has_the_name(folder: Path) -> None:
    run = CliRunner().invoke(command, [str(folder), "--summary"])
    assert IMPOSTOR in run.output
    assert run.exit_code == 0


@pytest.mark.parametrize("hashed", [True, False])
def test_the_receipt_says_it_too(published: Path, hashed: bool, tmp_path: Path) -> None:
    request = Request(str(published), str(tmp_path / "out.pt"), hash_source=hashed)
    notes = convert(request).to_json()["notes"]
    both = f"the published {MODEL} of {SANDBERG}: {ONE_SOURCE}, for 2 files"
    index = f"the published {MODEL} ({PREFIX}.index of {SANDBERG}): {ONE_SOURCE}{BY_INDEX}"
    assert (both if hashed else index) in notes  # type: ignore[operator] # a list


def test_one_other_byte_of_the_data_is_seen(published: Path, tmp_path: Path) -> None:
    files = sorted(published.glob(f"{PREFIX}.*"))
    hashes = {path: sha256_file(path) for path in files}
    assert str(remark(files, hashes)).startswith("the published")
    hashes[files[0]] = "0" * 64
    assert f"({files[0].name} of" in str(remark(files, hashes))
    assert str(remark(files, hashes)).startswith("named like")
    del tmp_path


def test_a_renamed_one_is_recognised_by_its_hash(tmp_path: Path) -> None:
    row = FILES["20180402-114759-vggface2.pt"]
    path = tmp_path / "mine.pt"
    assert remark([path], {path: row.sha256}) == f"{row}: SHA-256 stated by 8 independent sources"
    assert remark([path], {path: "0" * 64}) is None
    assert remark([path]) is None, "nothing is hashed without a published name"
