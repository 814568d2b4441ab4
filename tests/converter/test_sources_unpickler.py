"""Hostile pickles are inert in every file that carries one, and harmless ones are understood."""

from __future__ import annotations

import contextlib
import io
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import fakes, hostile

from converter.sources import open_source, unpickler
from converter.sources.plain_data import MAX_DEPTH, PickleError
from converter.sources.pytorch.state_dict import CONSTRUCTORS, persistent_storage
from facenet_common.errors import FormatError

GADGETS = list(hostile.gadgets(Path("x")))


def write(folder: Path, carrier: str, body: bytes) -> Path:
    path = folder / carrier
    path.write_bytes(hostile.CARRIERS[carrier](body))
    return path


# --- programs


def test_every_gadget_works(tmp_path: Path) -> None:
    """The control: Python's own unpickler runs each of them, so the test below can fail."""
    program = (
        "import pickle, sys\ntry: pickle.load(open(sys.argv[1], 'rb'))\nexcept BaseException: pass"
    )
    running = {}
    for number, name in enumerate(GADGETS):
        witness, path = tmp_path / f"{number}.witness", tmp_path / f"{number}.pkl"
        path.write_bytes(hostile.gadgets(witness)[name])
        command = [sys.executable, "-c", program, str(path)]
        running[name] = witness, subprocess.Popen(command, stderr=subprocess.DEVNULL)
    for _, process in running.values():
        process.wait(60)
    assert [name for name, (witness, _) in running.items() if not witness.exists()] == []


@pytest.mark.parametrize("carrier", hostile.CARRIERS)
@pytest.mark.parametrize("name", GADGETS)
def test_gadgets_are_inert(name: str, carrier: str, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    path = write(tmp_path, carrier, hostile.gadgets(witness)[name])
    with pytest.raises(FormatError) as caught:
        fakes.loaded(open_source(path))
    assert not witness.exists()
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("carrier", hostile.CARRIERS)
def test_no_module_is_imported(carrier: str, tmp_path: Path) -> None:
    """A name alone would import its module, and run that, without a call."""
    (tmp_path / "evil_module.py").write_text(f"open({str(tmp_path / 'witness')!r}, 'w')")
    path = write(tmp_path, carrier, b"\x80\x02cevil_module\nanything\n.")
    sys.path.insert(0, str(tmp_path))
    try:
        with pytest.raises(FormatError, match="can't be read") as caught:
            open_source(path)
    finally:
        sys.path.remove(str(tmp_path))
    assert "evil_module" in str(caught.value), "it says what was asked for"
    assert "evil_module" not in sys.modules
    assert not (tmp_path / "witness").exists()


# --- data: what is read is what pickle.loads reads


def read(body: bytes) -> object:
    return unpickler.load(io.BytesIO(body), {})


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(PLAIN, st.integers(2, 5))
def test_plain_data_is_what_pickle_reads(value: object, protocol: int) -> None:
    body = pickle.dumps(value, protocol)
    reader = io.BytesIO(body + b"rest")
    assert unpickler.load(reader, {}) == value
    assert reader.read(9) == b"rest", "it stops behind the pickle"


@given(st.binary(max_size=200), st.integers(3, 5))
def test_bytes_are_what_pickle_reads(value: bytes, protocol: int) -> None:
    assert read(pickle.dumps(value, protocol)) == value


@given(st.binary(max_size=80))
def test_any_bytes_are_data_or_a_pickle_error(data: bytes) -> None:
    with contextlib.suppress(PickleError):
        read(data)


@given(st.data())
def test_any_program_is_data_or_a_pickle_error(data: st.DataObject) -> None:
    """Random operations with right arguments get further than random bytes."""
    pieces = [b"(", b"N", b"\x88", b"]", b"}", b")", b"\x85", b"\x86", b"\x87", b"t", b"2", b"a"]
    pieces += [b"e", b"s", b"u", b"h\0", b"q\0", b"\x94", b"K\1", b"U\1k", b"R", b"b", b"Q", b"."]
    pieces += [b"ccollections\nOrderedDict\n"]
    body = b"\x80\x04" + b"".join(data.draw(st.lists(st.sampled_from(pieces), max_size=60))) + b"."
    with contextlib.suppress(PickleError):
        unpickler.load(io.BytesIO(body), CONSTRUCTORS, persistent_storage)


def nested(depth: int) -> object:
    value: object = None
    for _ in range(depth):
        value = (value,)
    return value


def test_depth_is_capped() -> None:
    read(pickle.dumps(nested(MAX_DEPTH), 2))
    with pytest.raises(PickleError, match="levels"):
        read(pickle.dumps(nested(MAX_DEPTH + 1), 2))


@pytest.mark.parametrize("name", ["nested tuples", "nested lists", "nested dicts", "marks alone"])
def test_deep_nesting_is_refused_for_its_depth(name: str) -> None:
    with pytest.raises(PickleError, match=r"levels|mark|not text"):
        read(hostile.PICKLES[name])


def test_operations_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpickler, "MAX_OPERATIONS", 50)
    read(b"\x80\x02(" + b"N" * 40 + b"t.")
    with pytest.raises(PickleError, match="operations"):
        read(b"\x80\x02(" + b"N" * 60 + b"t.")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("number as a key of an OrderedDict", "not text"),
        ("doubled tuples, hashed by OrderedDict", "not text"),
        ("an OrderedDict of a dict", "not made from a list"),
        ("half a surrogate pair as a name", "UTF-8"),
        ("a key twice", "twice"),
        ("BINBYTES8 of 2^62", "2^62|bytes"),
        ("EXT1", "EXT1"),
        ("NEWOBJ", "NEWOBJ"),
        ("NEXT_BUFFER", "NEXT_BUFFER"),
    ],
)
def test_the_message_says_why(name: str, says: str, tmp_path: Path) -> None:
    path = write(tmp_path, "zip.pt", hostile.PICKLES[name])
    with pytest.raises(FormatError) as caught:
        open_source(path)
    assert re.search(says, str(caught.value))


def test_messages_escape_what_terminals_obey(tmp_path: Path) -> None:
    path = write(tmp_path, "zip.pt", hostile.PICKLES["a name with escapes"])
    with pytest.raises(FormatError) as caught:
        open_source(path)
    assert "\x1b" not in str(caught.value)
    assert "\\x1b[2Jos" in str(caught.value)
