"""Publishing: to a folder, and through channels that alter, add or lose files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from publishing import contents

from facenet_common.errors import OutputError, UsageError
from facenet_common.progress import Progress
from facenet_release.channels import OnProgress, is_remote, open_channel
from facenet_release.channels.folder import FolderChannel
from facenet_release.checking.check import CheckOptions, check
from facenet_release.documents.manifest import MANIFEST, Manifest
from facenet_release.errors import AbsentError, ChannelError, CheckFailedError, TakenError
from facenet_release.publish import check_address, fetch, publish

pytestmark = pytest.mark.tensorflow
NOTHING = CheckOptions()


def test_a_folder_gets_the_release_and_keeps_it(small_release: Path, tmp_path: Path) -> None:
    target = tmp_path / "published"
    for _ in range(2):  # the second time there is nothing to do
        checked = publish(small_release, str(target), NOTHING, Progress())
        assert checked.folder == target
        assert contents(target) == contents(small_release)
    assert check_address(str(target), NOTHING, Progress()).manifest == checked.manifest
    assert [path.name for path in tmp_path.iterdir()] == ["published"]


@pytest.mark.parametrize("change", ["altered", "more", "fewer"])
def test_nothing_is_overwritten(change: str, small_release: Path, tmp_path: Path) -> None:
    target = tmp_path / "published"
    publish(small_release, str(target), NOTHING, Progress())
    if change == "fewer":
        (target / "pnet.pt").unlink()
    else:
        (target / ("pnet.pt" if change == "altered" else "x")).write_bytes(b"other")
    before = contents(target)
    with pytest.raises(TakenError, match="something else"):
        publish(small_release, str(target), NOTHING, Progress())
    assert contents(target) == before


def test_a_file_is_no_place_to_publish_to(small_release: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(UsageError, match="is a file"):
        publish(small_release, str(tmp_path / "file"), NOTHING, Progress())
    with pytest.raises(UsageError, match="does not exist"):
        publish(small_release, str(tmp_path / "no" / "folder"), NOTHING, Progress())
    assert (tmp_path / "file").read_bytes() == b"x"


def test_a_release_is_not_published_inside_itself(release_copy: Path) -> None:
    before = contents(release_copy)
    for place in (release_copy / "sub", release_copy / ".." / release_copy.name / "sub"):
        with pytest.raises(UsageError, match="inside itself"):
            publish(release_copy, str(place), NOTHING, Progress())
    assert contents(release_copy) == before
    publish(release_copy, str(release_copy), NOTHING, Progress())  # there is nothing to do


def test_what_is_no_release_is_not_published(release_copy: Path, tmp_path: Path) -> None:
    (release_copy / "pnet.pt").write_bytes(b"altered")
    with pytest.raises(CheckFailedError):
        publish(release_copy, str(tmp_path / "published"), NOTHING, Progress())
    assert not (tmp_path / "published").exists()


def test_another_release_than_was_asked_for_is_not_published(
    small_release: Path, tmp_path: Path
) -> None:
    options = CheckOptions(manifest_sha256="0" * 64)
    with pytest.raises(CheckFailedError, match="not the release"):
        publish(small_release, str(tmp_path / "published"), options, Progress())
    assert not (tmp_path / "published").exists()


def test_a_copy_that_breaks_off_leaves_nothing(
    small_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, copied = shutil.copyfile, []

    def breaking(source: Path, target: Path) -> object:
        if len(copied) == 3:
            raise OSError(28, "No space left on device")
        copied.append(target)
        return before(source, target)

    monkeypatch.setattr(shutil, "copyfile", breaking)
    with pytest.raises(OutputError, match="could not be written"):
        publish(small_release, str(tmp_path / "published"), NOTHING, Progress())
    assert not list(tmp_path.iterdir())


def test_addresses_that_are_none(tmp_path: Path) -> None:
    for address in ("", "ftp://host/x", "s3://bucket/x"):
        with pytest.raises(UsageError, match="no address"):
            open_channel(address)
    for address in ("github:o/r@v", "oci://h/n:t", "hf:o/r"):
        assert is_remote(address)
    (tmp_path / "file").touch()
    with pytest.raises(AbsentError):
        open_channel(str(tmp_path / "no")).names()
    with pytest.raises(ChannelError):
        open_channel(str(tmp_path / "file")).names()


def test_a_name_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    channel = FolderChannel(str(tmp_path / "folder"))
    with pytest.raises(AbsentError):
        channel.download("../secret", tmp_path / "copy", 10, lambda _: None)


class Altering(FolderChannel):
    """A folder's channel that lists more files, or sends other bytes."""

    def __init__(
        self, folder: Path, edit: Callable[[str, bytes], bytes], more: Sequence[str]
    ) -> None:
        super().__init__(str(folder))
        self._edit, self._more = edit, more

    def names(self) -> Sequence[str]:
        return [*super().names(), *self._more]

    def download(self, name: str, target: Path, limit: int, on_progress: OnProgress) -> None:
        super().download(name, target, limit, on_progress)
        target.write_bytes(self._edit(name, target.read_bytes()))


def fetched(channel: FolderChannel, folder: Path) -> None:
    folder.mkdir()
    fetch(channel, folder, NOTHING, Progress())
    check(folder, NOTHING)


def test_what_is_fetched_is_what_the_manifest_names(small_release: Path, tmp_path: Path) -> None:
    def same(_: str, data: bytes) -> bytes:
        return data

    fetched(Altering(small_release, same, ()), tmp_path / "a")
    for number, name in enumerate(("../evil", "more.pt", "/etc/x")):
        folder = tmp_path / f"b{number}"
        with pytest.raises(CheckFailedError) as error:
            fetched(Altering(small_release, same, [name]), folder)
        assert f"{name}: not a file of this release" in str(error.value)
        assert [path.name for path in folder.iterdir()] == [MANIFEST]
    with pytest.raises(AbsentError, match="holds no release"):
        fetched(Altering(tmp_path / "a" / "..", same, ()), tmp_path / "c")


def test_what_is_not_published_whole_is_said_whole(release_copy: Path, tmp_path: Path) -> None:
    for name in ("rnet.pt", "pnet.md"):
        (release_copy / name).unlink()
    with pytest.raises(CheckFailedError) as error:
        fetched(FolderChannel(str(release_copy)), tmp_path / "a")
    assert error.value.findings == ("pnet.md: not published", "rnet.pt: not published")


def test_what_was_altered_on_the_way_is_noticed(small_release: Path, tmp_path: Path) -> None:
    def other(name: str, data: bytes) -> bytes:
        return data[:-1] + bytes([data[-1] ^ 1]) if name == "rnet.pt" else data

    with pytest.raises(CheckFailedError) as error:
        fetched(Altering(small_release, other, ()), tmp_path / "a")
    assert "rnet.pt: altered" in str(error.value)


def test_another_release_than_was_asked_for_is_not_downloaded(
    small_release: Path, tmp_path: Path
) -> None:
    options = CheckOptions(manifest_sha256="0" * 64)
    (tmp_path / "a").mkdir()
    with pytest.raises(CheckFailedError, match="not the release"):
        fetch(FolderChannel(str(small_release)), tmp_path / "a", options, Progress())
    assert [path.name for path in (tmp_path / "a").iterdir()] == [MANIFEST]


def test_what_is_wrong_is_said_of_the_address(release_copy: Path) -> None:
    """And not of the copy, which is gone by then."""
    data = bytearray((release_copy / "rnet.pt").read_bytes())
    data[-1] ^= 1
    (release_copy / "rnet.pt").write_bytes(data)
    with pytest.raises(CheckFailedError) as error:
        check_address(str(release_copy), NOTHING, Progress())
    assert error.value.file == str(release_copy)


def test_a_copy_that_can_not_be_written_is_not_the_folders_fault(
    small_release: Path, tmp_path: Path
) -> None:
    channel = FolderChannel(str(small_release))
    with pytest.raises(OutputError, match="could not be written"):
        channel.download("rnet.pt", tmp_path / "no" / "x", 10**6, lambda _: None)
    (tmp_path / "folder" / "x").mkdir(parents=True)
    with pytest.raises(ChannelError, match="can't be read"):
        FolderChannel(str(tmp_path / "folder")).download("x", tmp_path / "y", 10**6, lambda _: None)


def test_larger_files_than_the_manifest_allows_are_not_read(
    release_copy: Path, tmp_path: Path
) -> None:
    with (release_copy / "rnet.pt").open("ab") as file:
        file.write(b"\0" * 5000)
    with pytest.raises(ChannelError, match="larger"):
        fetched(FolderChannel(str(release_copy)), tmp_path / "a")


def test_a_channel_that_loses_or_swaps_the_unnamed_files_is_noticed(
    small_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provenance is in no manifest, yet must come back as it was sent."""

    class Swapping(FolderChannel):
        def publish(self, files: Sequence[Path], manifest: Manifest, progress: Progress) -> None:
            super().publish(files, manifest, progress)
            path = tmp_path / "published" / "provenance.intoto.json"
            path.write_bytes(path.read_bytes().replace(b"local", b"other"))

    monkeypatch.setattr("facenet_release.publish.open_channel", Swapping)
    with pytest.raises(ChannelError, match="differ from the files sent"):
        publish(small_release, str(tmp_path / "published"), NOTHING, Progress())
