"""Bad input gives one message and an exit code, no traceback, and no files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support import fakes, hostile

from converter.cli import convert, diff, inspect

# Refused for what the values are: their metadata are fine.
_LOADED_ONLY = {
    "NaN",
    "infinity",
    "one byte of the data",
    "a tensor missing",
}


# The mapping and the check of values know of tensors, not of files.
_FILE_NOT_NAMED = {
    "graph: shape [32 GiB]",
    "graph: one value for 32 GiB",
    "graph: a value wider than its type",
    "zip.pt: storage is missing",
    "zip.pt: storage is too short",
}


def run(command: object, *arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments))  # type: ignore[arg-type] # a click command


def check_refusal(result: Result) -> str:
    """One message on stderr, nothing on stdout; returns the message."""
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code in (1, 2)
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("Error:") == 1
    assert "Traceback" not in result.stderr
    assert all(c.isprintable() or c == "\n" for c in result.stderr)
    assert len(result.stderr) < 10_000
    return result.stderr


@pytest.mark.parametrize("name", hostile.CORPUS)
def test_convert(name: str, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    out.mkdir()
    source = hostile.CORPUS[name](folder)
    message = check_refusal(
        run(convert.command, "--checkpoint", str(source), "--out", str(out / "x.pt"))
    )
    assert not list(out.iterdir()), "no output, and no part of one"
    assert "found" in message or "next:" in message, "it says what was found, or what to do"
    if name not in _FILE_NOT_NAMED:
        assert str(folder) in message or str(source) in message, "it names the file"


@pytest.mark.parametrize("name", sorted(hostile.INCOMPLETE.keys() - _LOADED_ONLY))
def test_inspect(name: str, tmp_path: Path) -> None:
    source = hostile.INCOMPLETE[name](tmp_path)
    check_refusal(run(inspect.command, str(source)))


@pytest.mark.parametrize("name", [*hostile.INCOMPLETE, "html as x.pt", "bundle: 32 GiB in both"])
def test_json(name: str, tmp_path: Path) -> None:
    """With --json, the message is JSON on stdout, with the same parts."""
    source = hostile.CORPUS[name](tmp_path)
    result = run(
        convert.command, "--checkpoint", str(source), "--out", str(tmp_path / "x.pt"), "--json"
    )
    assert result.exit_code in (1, 2)
    assert result.stderr == ""
    parts = json.loads(result.stdout)
    assert parts["error"].endswith("Error")
    assert parts["problem"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("html as x.pt", ["HTML", "x.pt", "download"]),
        ("lfs as x.npy", ["Git LFS", "git lfs pull"]),
        ("gzip as x.pb", ["gzip", "unpack"]),
        ("hdf5 as x", ["HDF5"]),
        ("empty as x.pt", ["empty", "download"]),
        ("zeros as x.safetensors", ["zero bytes"]),
        ("html as index", ["HTML", ".index"]),
        ("html as data-00000-of-00001", [".data-00000-of-00001"]),
        ("no index", ["index is missing", "model.ckpt-1.index", ".data-00000-of-00001"]),
        ("no data file", ["data file", "is missing", ".data-00000-of-00001"]),
        ("several .meta files", ["several .meta", "a.meta, b.meta"]),
        ("a .meta file alone", ["the graph only"]),
        ("one byte of the data", ["checksum", "tensor:", "expected:", "found:", "next:"]),
        ("one byte of the index", ["index file is damaged", "checksum"]),
        ("NaN", ["tensor:", "conv2/weights", "nan at index [0, 0, 0, 0]", "--allow-nonfinite"]),
        ("infinity", ["conv2/weights", "-inf at index [2, 2, 9, 15]"]),
        ("a tensor missing", ["conv3/biases", "[32]"]),
        ("several models in a folder", ["one-1", "two-1", "pass the prefix of one of them"]),
        ("nothing there", ["absent"]),
        ("bundle: big-endian", ["big-endian"]),
        ("bundle: 32 GiB in both", ["tensor", "w"]),
        ("x.npy: numpy.ndarray called", ["never load"]),
    ],
)
def test_message(name: str, says: list[str], tmp_path: Path) -> None:
    source = hostile.CORPUS[name](tmp_path)
    message = check_refusal(
        run(convert.command, "--checkpoint", str(source), "--out", str(tmp_path / "out.pt"))
    )
    for words in says:
        assert words in message


def test_diff_names_the_bad_side(tmp_path: Path) -> None:
    good = fakes.write_pt(tmp_path / "good.pt", fakes.pnet_arrays())
    (tmp_path / "bad.pt").write_bytes(b"<html>")
    for pair in ((good, tmp_path / "bad.pt"), (tmp_path / "bad.pt", good)):
        assert "bad.pt" in check_refusal(run(diff.command, *map(str, pair)))


@pytest.mark.parametrize(
    "name",
    [
        "one byte of the data",
        "zip.pt: os.system",
        "NaN",
        "a name that is too long",
        "a FIFO as x.pb",
        "bundle: partitioned, too many parts",
    ],
)
def test_as_a_process(name: str, tmp_path: Path) -> None:
    """The same with the real thing: stderr, exit code, and time."""
    cases = hostile.CORPUS | {
        "zip.pt: os.system": lambda folder: _gadget(folder, tmp_path / "witness")
    }
    source = cases[name](tmp_path)
    program = "from converter.cli.convert import command; command()"
    done = subprocess.run(
        [sys.executable, "-c", program, "--checkpoint", source, "--out", tmp_path / "x.pt"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "x.pt").exists()
    assert not (tmp_path / "witness").exists()


def _gadget(folder: Path, witness: Path) -> Path:
    path = folder / "evil.pt"
    path.write_bytes(fakes.pt_zip(hostile.gadgets(witness)["os.system"]))
    return path


@pytest.mark.skipif(os.name != "posix", reason="file names of any bytes are POSIX")
def test_a_file_name_that_is_not_text(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\x1b[2J.pt")
    Path(path).write_bytes(b"<html>")
    check_refusal(run(convert.command, "--checkpoint", path, "--out", str(tmp_path / "x.pt")))
