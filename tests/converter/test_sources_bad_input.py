"""Every bad file is refused with one message: quickly, and in little memory."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest
from support import fakes, hostile

from converter.sources import open_source
from facenet_common.errors import FacenetError

TESTS = Path(__file__).parents[1]


# --- sizes that lie: one process with little memory opens them all


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, object]]:
    """Return the outcome of each case, see support/attempt.py; none if it killed the process."""
    command = [sys.executable, "-m", "support.attempt"]
    found: dict[str, dict[str, object]] = {}
    left = list(hostile.FILES)
    for _ in range(5):  # a hang or a crash costs a new process; nobody needs more than five
        run = subprocess.run(
            [*command, *left], cwd=TESTS, capture_output=True, text=True, timeout=300, check=False
        )
        lines = [json.loads(line) for line in run.stdout.splitlines()]
        found |= {line["name"]: line for line in lines if "outcome" in line}
        if run.returncode == 0:
            break
        assert lines, run.stderr
        found.setdefault(lines[-1]["name"], {"outcome": "hung or crashed", "seconds": 1e9})
        left = [name for name in hostile.FILES if name not in found]
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS and /proc are Linux's")
@pytest.mark.parametrize("name", hostile.FILES)
def test_refused_quickly_and_in_little_memory(
    name: str, outcomes: dict[str, dict[str, object]]
) -> None:
    outcome = outcomes[name]
    assert outcome["outcome"] in ("FormatError", "UsageError")
    assert float(str(outcome["seconds"])) < 10


# --- every byte matters

ARRAYS = fakes.some_arrays()
MASKS = (0x01, 0x20, 0x80, 0xFF)


def attempt(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]] | None:
    """Everything in the file; None where it is refused. Any other exception is the test's end."""
    try:
        return fakes.loaded(open_source(path))
    except FacenetError as error:
        str(error)
        return None


class Victim:
    """A good file to damage, and what names it as a source."""

    def __init__(self, file: Path, source: Path | None = None) -> None:
        self.file, self.source = file, source or file
        self.good = file.read_bytes()
        self.content = attempt(self.source)
        assert self.content, "the undamaged file can be read"

    def with_bytes(self, data: bytes) -> dict[str, tuple[str, tuple[int, ...], bytes]] | None:
        self.file.write_bytes(data)
        return attempt(self.source)

    def flips(self) -> dict[str, int]:
        """How many flipped bytes are refused, unnoticed (same tensors) or change something."""
        counts = {"refused": 0, "unnoticed": 0, "changed": 0}
        data = bytearray(self.good)
        for position in range(len(data)):
            for mask in MASKS:
                data[position] ^= mask
                found = self.with_bytes(bytes(data))
                data[position] ^= mask
                unnoticed = "unnoticed" if found == self.content else "changed"
                counts["refused" if found is None else unnoticed] += 1
        return counts

    def truncations(self) -> list[int]:
        """The lengths at which the file still yields something."""
        return [n for n in range(len(self.good)) if self.with_bytes(self.good[:n]) is not None]

    def extensions(self) -> list[bytes]:
        """Return what can be appended without being noticed."""
        tails = (b"\0", b"x", bytes(100), b"PK\x05\x06" + bytes(18), b"\0" * 70_000, self.good)
        return [tail[:9] for tail in tails if self.with_bytes(self.good + tail) is not None]


def bundle(folder: Path, part: str) -> Victim:
    prefix = fakes.write_bundle(folder, ARRAYS)
    return Victim(prefix.with_name(f"{prefix.name}.{part}"), prefix)


def written(folder: Path, name: str, data: bytes) -> Victim:
    (folder / name).write_bytes(data)
    return Victim(folder / name)


@pytest.mark.parametrize("part", ["index", "data-00000-of-00001"])
def test_bundle_no_damaged_byte_yields_tensors(part: str, tmp_path: Path) -> None:
    victim = bundle(tmp_path, part)
    counts = victim.flips()
    assert counts == {"refused": len(MASKS) * len(victim.good), "unnoticed": 0, "changed": 0}
    assert victim.truncations() == []
    assert victim.extensions() == []


def test_saver_v1_no_damaged_byte_yields_tensors(tmp_path: Path) -> None:
    victim = written(tmp_path, "m.ckpt", fakes.saver_v1_of(ARRAYS))
    counts = victim.flips()
    assert counts == {"refused": len(MASKS) * len(victim.good), "unnoticed": 0, "changed": 0}
    assert victim.truncations() == []
    assert victim.extensions() == []


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damage_to_an_archive_never_changes_tensors(method: int, tmp_path: Path) -> None:
    """What may pass: times, attributes and comments, and names of files that nobody asks for."""
    inside = {k: a for k, a in ARRAYS.items() if a.dtype != bool and a.ndim}
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("m/x.pb", fakes.frozen_graph(inside))
    victim = Victim(tmp_path / "a.zip", tmp_path / "a.zip" / "m" / "x.pb")
    counts = victim.flips()
    assert counts["changed"] == 0
    assert counts["refused"] > counts["unnoticed"]
    assert victim.truncations() == []


def test_pt_zip_damage_never_changes_tensors(tmp_path: Path) -> None:
    """Return the bytes that may change: times, attributes and padding of the archive."""
    victim = Victim(fakes.write_pt(tmp_path / "x.pt", ARRAYS))
    counts = victim.flips()
    assert counts["changed"] == 0
    assert counts["refused"] > counts["unnoticed"]
    assert victim.truncations() == []
    assert victim.extensions() == []


def test_pt_zip_data_is_covered_whole(tmp_path: Path) -> None:
    """Every byte of a record, of its name and of its place is: flip each in turn."""
    victim = Victim(fakes.write_pt(tmp_path / "x.pt", ARRAYS))
    with zipfile.ZipFile(victim.file) as archive:
        infos = archive.infolist()
    for info in infos:
        header = victim.good[info.header_offset : info.header_offset + 30]
        name_size, extra_size = header[26] | header[27] << 8, header[28] | header[29] << 8
        start = info.header_offset + 30 + name_size + extra_size
        name = range(info.header_offset + 30, info.header_offset + 30 + name_size)
        for position in [*name, *range(start, start + info.file_size)]:
            data = bytearray(victim.good)
            data[position] ^= 0x04
            assert victim.with_bytes(bytes(data)) is None, (info.filename, position)


WITHOUT_CHECKSUMS = {
    "frozen graph": lambda folder: written(
        folder,
        "x.pb",
        fakes.frozen_graph({k: a for k, a in ARRAYS.items() if a.dtype != bool and a.ndim}),
    ),
    **{
        f"npy, protocol {protocol}": lambda folder, protocol=protocol: written(
            folder,
            "x.npy",
            fakes.mtcnn_npy({k: a for k, a in ARRAYS.items() if "/" in k}, protocol),
        )
        for protocol in (2, 5)
    },
    "pt legacy": lambda folder: written(
        folder,
        "x.pt",
        fakes.pt_legacy(
            fakes.one_tensor(fakes.tensor_pickle(4, [2, 2], [2, 1], legacy=True)),
            ["0"],
            (4).to_bytes(8, "little") + bytes(range(16)),
        ),
    ),
    "safetensors": lambda folder: Victim(fakes.write_safetensors(folder / "x.safetensors", ARRAYS)),
}


@pytest.mark.parametrize("name", WITHOUT_CHECKSUMS)
def test_without_checksums_sizes_still_add_up(name: str, tmp_path: Path) -> None:
    """Values and names may change unseen; `attempt` lets no other exception pass, and `loaded`
    compares what is announced with what comes.
    """
    victim = WITHOUT_CHECKSUMS[name](tmp_path)
    counts = victim.flips()
    assert counts["refused"] > 0.3 * sum(counts.values())
    if name != "frozen graph":  # a protocol buffer may end behind any field
        assert victim.truncations() == []
        assert victim.extensions() == []
    else:
        for length in victim.truncations():
            found = victim.with_bytes(victim.good[:length])
            assert found is not None
            assert victim.content is not None
            assert found.items() <= victim.content.items()


def test_bundle_damage_on_a_larger_one(tmp_path: Path) -> None:
    """Every 13th byte of an index with many entries, and bytes of every tensor."""
    arrays = fakes.pnet_arrays()
    for part, step in (("index", 13), ("data-00000-of-00001", 401)):
        prefix = fakes.write_bundle(tmp_path / part, arrays)
        victim = Victim(prefix.with_name(f"{prefix.name}.{part}"), prefix)
        for position in range(0, len(victim.good), step):
            data = bytearray(victim.good)
            data[position] ^= 1 << position % 8
            assert victim.with_bytes(bytes(data)) is None, (part, position)
        for length in range(0, len(victim.good), step):
            assert victim.with_bytes(victim.good[:length]) is None, (part, length)


def test_data_of_another_bundle_is_refused(tmp_path: Path) -> None:
    one = fakes.write_bundle(tmp_path / "one", fakes.pnet_arrays(1))
    two = fakes.write_bundle(tmp_path / "two", fakes.pnet_arrays(2))
    name = f"{one.name}.data-00000-of-00001"
    (one.parent / name).write_bytes((two.parent / name).read_bytes())
    assert attempt(one) is None


def test_padding_may_hold_nothing(tmp_path: Path) -> None:
    """Zeros between tensors are alignment; anything else is data that nobody mentions."""
    values = bytes(range(1, 5))
    entry = fakes.entry_proto([1], offset=4, checksum=fakes.data_checksum(values))
    for padding, good in ((bytes(4), True), (b"\0\0\1\0", False)):
        prefix = fakes.write_index(tmp_path / "m", {b"w": entry}, padding + values)
        assert (attempt(prefix) is not None) == good


# --- files that may not be read, or change


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="must be able to become nobody")
@pytest.mark.parametrize("what", ["x.pt", "x.npy", "x.pb", "folder/x.pt", "m.index", "m"])
def test_unreadable(what: str, tmp_path: Path) -> None:
    """As another user, for whom permissions hold."""
    (tmp_path / "folder").mkdir()
    fakes.write_pt(tmp_path / "folder" / "x.pt", ARRAYS)
    for name in ("x.pt", "x.npy", "x.pb"):
        (tmp_path / name).write_bytes(b"weights")
        (tmp_path / name).chmod(0)
    fakes.write_bundle(tmp_path, ARRAYS, "m")
    (tmp_path / "m.index").chmod(0)
    (tmp_path / "folder").chmod(0)
    reader, writer = os.pipe()
    with warnings.catch_warnings():  # of threads, which other tests started
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        answer = "nothing"
        with contextlib.suppress(BaseException):
            for parent in (tmp_path, *tmp_path.parents[:2]):
                parent.chmod(0o755)
            os.setuid(65534)
            from converter.resolve import resolve

            try:
                resolve(str(tmp_path / what)).open()
                answer = "opened"
            except FacenetError as error:
                answer = f"{type(error).__name__}: {error}"
            except BaseException as error:
                answer = f"raised {error!r}"
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    answer = os.read(reader, 10_000).decode()
    os.close(reader)
    os.waitpid(child, 0)
    (tmp_path / "folder").chmod(0o755)
    assert answer.startswith("UsageError"), answer
    assert "ermission" in answer
    assert what.split("/")[0] in answer
