"""Output appears complete under its name, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from facenet_common.atomic import atomic_file, atomic_folder, check_target, hidden, write_file
from facenet_common.errors import OutputError, UsageError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="locks and signals are POSIX's")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail_after(path: Path, error: type[BaseException]) -> None:
    """Write half, then fail."""
    path.write_bytes(b"half")
    raise error


# --- the primitives


def test_file_appears_only_at_the_end(tmp_path: Path) -> None:
    out = tmp_path / "x.pt"
    with atomic_file(out) as partial:
        partial.write_bytes(b"whole")
        assert not out.exists()
        assert partial.parent == tmp_path
        assert partial.name.startswith("."), "hidden"
    assert names(tmp_path) == ["x.pt"]
    assert out.read_bytes() == b"whole"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("before", [None, b"old"])
def test_file_after_an_error(
    error: type[BaseException], before: bytes | None, tmp_path: Path
) -> None:
    out = tmp_path / "x.pt"
    if before:
        out.write_bytes(before)
    with pytest.raises(error), atomic_file(out) as partial:
        fail_after(partial, error)
    assert names(tmp_path) == (["x.pt"] if before else [])
    assert not before or out.read_bytes() == before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_folder_after_an_error(error: type[BaseException], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_bytes(b"old")
    with pytest.raises(error), atomic_folder(out) as partial:
        fail_after(partial / "old", error)
    assert names(tmp_path) == ["out"]
    assert (out / "old").read_bytes() == b"old"


def test_folder_is_replaced_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for content in (b"one", b"two"):
        with atomic_folder(out) as partial:
            (partial / "file").write_bytes(content)
        assert names(tmp_path) == ["out"]
        assert (out / "file").read_bytes() == content


def test_folder_never_takes_other_files_with_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_bytes(b"years of work")
    with pytest.raises(UsageError, match="other files"), atomic_folder(out) as partial:
        (partial / "file").write_bytes(b"new")
    assert (out / "thesis.tex").read_bytes() == b"years of work"
    assert names(tmp_path) == ["out"]
    assert names(out) == ["thesis.tex"]


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / ".x.pt.0123abcd.partial").write_bytes(b"half")
    (tmp_path / ".out.0123abcd.partial").mkdir()
    others = [".y.pt.0123abcd.partial", ".x.pt.other.partial", "x.pt.0123abcd.partial"]
    for name in others:
        (tmp_path / name).write_bytes(b"of others")
    with atomic_file(tmp_path / "x.pt") as partial:
        partial.write_bytes(b"")
    with atomic_folder(tmp_path / "out"):
        pass
    assert names(tmp_path) == sorted([*others, "x.pt", "out"])


def test_what_is_at_work_is_not_swept(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "x.pt") as one:
        with atomic_file(tmp_path / "x.pt") as other:
            assert one != other
            other.write_bytes(b"other")
        assert one.exists()
        one.write_bytes(b"one")
    assert (tmp_path / "x.pt").read_bytes() == b"one"
    assert names(tmp_path) == ["x.pt"]


def test_names_with_wildcards_sweep_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".xa.pt.0123abcd.partial").write_bytes(b"of another")
    with atomic_file(tmp_path / "x[ab].pt") as partial:
        partial.write_bytes(b"")
    with atomic_file(tmp_path / "x*.pt") as partial:
        partial.write_bytes(b"")
    assert ".xa.pt.0123abcd.partial" in names(tmp_path)


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network file systems have none; the output is written all the same."""

    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with atomic_file(tmp_path / "x.pt") as partial:
        partial.write_bytes(b"whole")
    with atomic_folder(tmp_path / "out") as partial:
        (partial / "file").write_bytes(b"whole")
    assert names(tmp_path) == ["out", "x.pt"]


def test_a_partial_file_that_is_swept_before_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between making a file and locking it another process may take it for abandoned."""
    import fcntl

    real, swept = fcntl.flock, []

    def sweep_first(handle: int, how: int) -> None:
        if not swept:
            swept.extend(tmp_path.glob(".*.partial"))
            swept[0].unlink()
        real(handle, how)

    monkeypatch.setattr("fcntl.flock", sweep_first)
    with atomic_file(tmp_path / "x.pt") as partial:
        assert partial.exists(), "the locked file is the one that is written to"
        partial.write_bytes(b"whole")
    assert swept
    assert names(tmp_path) == ["x.pt"]


# --- what can't be written


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="must be able to become nobody")
def test_a_folder_moved_aside_is_put_back(tmp_path: Path) -> None:
    aside = tmp_path / ".out.12345678.old.partial"  # as a kill between two renames leaves it
    aside.mkdir()
    (aside / "x").write_text("old")
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "out"):
        raise RuntimeError("and the next try fails too")
    assert (tmp_path / "out" / "x").read_text() == "old"
    aside.mkdir()
    with atomic_folder(tmp_path / "out") as partial:
        (partial / "x").write_text("new")
    assert (tmp_path / "out" / "x").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_unwritable_folder(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o755)
    for parent in (tmp_path, *tmp_path.parents[:3]):  # pytest's own, closed to others
        parent.chmod(parent.stat().st_mode | 0o055)
    os.seteuid(65534)
    try:
        with pytest.raises(OutputError) as caught, atomic_file(folder / "x.pt"):
            pass
        with pytest.raises(OutputError), atomic_folder(folder / "out"):
            pass
    finally:
        os.seteuid(0)
    assert "Permission denied" in str(caught.value)
    assert "write to a folder of yours" in str(caught.value)


def test_hidden_parent_is_a_message(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        check_target(tmp_path / ("n" * 300) / "x.pt", overwrite=False)


@pytest.mark.parametrize("name", ["n" * 251 + ".pt", "名" * 84 + ".pt", "名" * 80 + "aaa.pt"])
def test_long_names(name: str, tmp_path: Path) -> None:
    target = tmp_path / name
    write_file(target, b"weights")
    assert target.read_bytes() == b"weights"
    stale = hidden(target, ".00000000.partial")
    stale.touch()  # left over from a killed process
    write_file(target, b"again")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_long_names_have_hidden_names_of_their_own() -> None:
    first, second = (hidden(Path(f"/tmp/{'n' * 250}{end}"), ".lock") for end in "ab")
    assert first != second
    assert len(first.name) <= 255


def test_an_error_is_not_replaced_by_that_of_tidying_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, **_: object) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)

    def fail(_: Path) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), atomic_file(tmp_path / "weights.pt") as partial:
        fail(partial)
