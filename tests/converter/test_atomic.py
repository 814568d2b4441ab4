"""Output appears whole under its name, or not at all: full disks, kills, Ctrl-C, crowds."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support import fakes

from converter.cli import convert
from converter.sources import open_source
from facenet_common.atomic import atomic_file, atomic_folder, check_target
from facenet_common.errors import OutputError, UsageError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="locks and signals are POSIX's")

PROGRAM = "from converter.cli.convert import command; command()"
# The writer stops before its second tensor, says so, and waits for what the test has in mind.
STOPPING = """
import sys, time
import converter.dtypes as dtypes
count = 0
def stop(array, real=dtypes.as_bytes):
    global count
    count += 1
    if count == 2:
        print("writing", flush=True)
        time.sleep(1.5)  # a second thread may be here, which Ctrl-C waits for
    return real(array)
dtypes.as_bytes = stop
"""


@pytest.fixture(scope="module")
def pnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small whole model, as a bundle."""
    return fakes.write_bundle(tmp_path_factory.mktemp("pnet"), fakes.pnet_arrays())


@pytest.fixture(scope="module")
def expected(pnet: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What converting `pnet` to .pt gives."""
    out = tmp_path_factory.mktemp("expected") / "x.pt"
    assert run(pnet, out).exit_code == 0
    return out.read_bytes()


def run(source: Path, out: Path | str, *options: str) -> Result:
    arguments = ["--checkpoint", str(source), "--out", str(out), *options]
    return CliRunner().invoke(convert.command, arguments)


def start(source: Path, out: Path | str, *options: str, before: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", before + PROGRAM, "--checkpoint", source, "--out", out, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


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


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("absent/x.pt", "does not exist"),
        ("a file/x.pt", "does not exist"),
        ("folder.pt", "is a folder"),
        ("there.pt", "exists already"),
        ("dangling.pt", "exists already"),
        ("n" * 300 + ".pt", ""),
        ("x.h5", "no format"),
    ],
)
def test_refused_before_any_work(out: str, says: str, pnet: Path, tmp_path: Path) -> None:
    (tmp_path / "a file").write_bytes(b"")
    (tmp_path / "folder.pt").mkdir()
    (tmp_path / "there.pt").write_bytes(b"precious")
    (tmp_path / "dangling.pt").symlink_to(tmp_path / "gone")
    before = names(tmp_path)
    result = run(pnet, tmp_path / out)
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code in (1, 2)
    assert result.stderr.startswith("Error: ")
    assert says in result.stderr
    assert names(tmp_path) == before
    assert (tmp_path / "there.pt").read_bytes() == b"precious"


@pytest.mark.parametrize("out", ["/", "/.", "", ".", "..", "./", "/dev/null/x.pt"])
def test_impossible_folders(
    out: str, pnet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(pnet, out, "--overwrite")
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")


def test_overwrite(pnet: Path, expected: bytes, tmp_path: Path) -> None:
    out = tmp_path / "x.pt"
    out.write_bytes(b"old")
    assert run(pnet, out).exit_code == 2
    assert out.read_bytes() == b"old"
    assert run(pnet, out, "--overwrite").exit_code == 0
    assert out.read_bytes() == expected
    assert names(tmp_path) == ["x.pt"]


def test_a_link_as_output_is_replaced_not_followed(
    pnet: Path, expected: bytes, tmp_path: Path
) -> None:
    (tmp_path / "pointee").write_bytes(b"precious")
    (tmp_path / "x.pt").symlink_to("pointee")
    assert run(pnet, tmp_path / "x.pt", "--overwrite").exit_code == 0
    assert (tmp_path / "pointee").read_bytes() == b"precious"
    assert (tmp_path / "x.pt").read_bytes() == expected


def test_onto_itself(expected: bytes, tmp_path: Path) -> None:
    """The source is read while its name is taken over; a failure must leave it."""
    out = tmp_path / "x.pt"
    out.write_bytes(expected)
    result = run(out, out, "--overwrite")
    assert result.exit_code in (0, 2)
    assert fakes.loaded(open_source(out))
    assert out.read_bytes() == expected
    assert names(tmp_path) == ["x.pt"]


def test_a_folder_onto_itself(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    prefix = fakes.write_bundle(folder, fakes.pnet_arrays())
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    result = run(prefix, f"{folder}/", "--overwrite")
    assert result.exit_code == 2
    assert "other files" in result.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert names(tmp_path) == ["model"]


def test_full_disk(pnet: Path, tmp_path: Path) -> None:
    """A limit on file sizes stands for a full disk: both end in an error of write()."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
    for out in ("x.pt", "x.safetensors", "folder/"):
        process = start(pnet, f"{tmp_path}/{out}", before=limit)
        _, message = process.communicate(timeout=60)
        assert process.returncode == 1
        assert message.startswith("Error: the output could not be written")
        assert "Traceback" not in message
        assert names(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="mounts a small disk")
def test_full_disk_indeed(pnet: Path, tmp_path: Path) -> None:
    command = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(tmp_path)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        for out in ("x.pt", "x.safetensors", "folder/"):
            result = run(pnet, f"{tmp_path}/{out}")
            assert result.exit_code == 1, repr(result.exception)
            assert "No space left" in result.stderr
            assert "free some space" in result.stderr
            assert names(tmp_path) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


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


# --- signals


@pytest.mark.parametrize("out", ["x.pt", "x.safetensors", "folder/"])
def test_ctrl_c(out: str, pnet: Path, tmp_path: Path) -> None:
    process = start(pnet, f"{tmp_path}/{out}", before=STOPPING)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    assert [name for name in names(tmp_path) if name.endswith(".partial")]
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=30)
    assert process.returncode == 130
    assert message.strip() == "Interrupted; no unfinished output was left behind"
    assert names(tmp_path) == []


@pytest.mark.parametrize("out", ["x.pt", "folder/"])
def test_kill_in_the_middle(out: str, pnet: Path, tmp_path: Path) -> None:
    process = start(pnet, f"{tmp_path}/{out}", before=STOPPING)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    process.kill()
    process.communicate()
    left = names(tmp_path)
    assert len(left) == 1
    assert left[0].endswith(".partial"), "nothing under the final name"
    assert run(pnet, f"{tmp_path}/{out}").exit_code == 0
    assert names(tmp_path) == [out.rstrip("/")], "the next run sweeps"


def test_kill_at_random_moments(expected: bytes, pnet: Path, tmp_path: Path) -> None:
    """Whenever it comes, the final name is absent or whole."""
    random.seed(7)
    seen = set()
    out = tmp_path / "x.pt"
    for number in range(15):
        process = start(pnet, out, "--overwrite")
        time.sleep(random.uniform(0.05, 0.35) if number else 20 * 0.05)
        process.kill()
        process.communicate()
        seen.add(out.exists())
        if out.exists():
            assert out.read_bytes() == expected
            out.unlink()
    assert run(pnet, out).exit_code == 0
    assert names(tmp_path) == ["x.pt"]
    assert True in seen, "at least the first was given enough time"


def test_two_at_once(expected: bytes, pnet: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.pt"
    for _ in range(3):
        processes = [start(pnet, out, "--overwrite") for _ in range(3)]
        for process in processes:
            _, message = process.communicate(timeout=60)
            assert process.returncode == 0, message
        assert out.read_bytes() == expected
        assert names(tmp_path) == ["x.pt"]


def test_two_folders_at_once(pnet: Path, tmp_path: Path) -> None:
    """One of them may lose; what is there in the end is whole, and nothing else is."""
    source = tmp_path / "x.pt"
    assert run(pnet, source).exit_code == 0
    out = tmp_path / "out"
    out.mkdir()
    processes = [start(source, f"{out}/model/", "--overwrite") for _ in range(3)]
    ends = []
    for process in processes:
        _, message = process.communicate(timeout=60)
        assert process.returncode in (0, 1), message
        assert "Traceback" not in message
        ends.append(process.returncode)
    assert 0 in ends
    assert fakes.loaded(open_source(out / "model" / "model.ckpt"))
    assert names(out) == ["model"]
