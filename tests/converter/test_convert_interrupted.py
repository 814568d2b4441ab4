"""Conversions that fail or are interrupted: the output is complete, or nothing is left."""

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

pytestmark = pytest.mark.skipif(os.name != "posix", reason="locks and signals are POSIX's")

PROGRAM = "from converter.cli.convert import command; command()"
# The writer stops before its second tensor, prints a line, and waits for a signal.
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
    """Return the bytes that converting `pnet` to .pt writes."""
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
        ("x.h5", "no output format"),
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
    out = tmp_path / "x.pt"
    for _ in range(14):
        process = start(pnet, out, "--overwrite")
        time.sleep(random.uniform(0.05, 0.35))
        process.kill()
        process.communicate()
        if out.exists():
            assert out.read_bytes() == expected
            out.unlink()
    assert run(pnet, out).exit_code == 0
    assert out.read_bytes() == expected
    assert names(tmp_path) == ["x.pt"]


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
