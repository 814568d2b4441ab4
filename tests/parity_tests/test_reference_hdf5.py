"""Recorded references: what is written is read, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from facenet_common.errors import MissingPackageError, ParityError
from parity_tests.reference.hdf5 import SCHEMA, Store, is_hdf5, write

h5py = pytest.importorskip("h5py", reason='needs h5py: pip install "facenet-parity[parity]"')

ABOUT = {"name": "model.ckpt-275", "dims": {"embedding": 4}, "scale": 0.17}
ARRAYS = {
    "feeds/noise": np.arange(2 * 5 * 4 * 3, dtype=np.float32).reshape(2, 5, 4, 3),
    "answers/float64": np.linspace(0, 1, 8).reshape(2, 4),
    "activations/Net/Conv2d_1a/Relu:0": np.float32([[[[1.5, -2.0]]], [[[0.0, 3.25]]]]),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "reference.h5", ABOUT, ARRAYS.items())
    return tmp_path / "reference.h5"


def test_what_is_written_is_read(path: Path) -> None:
    assert is_hdf5(path)
    with Store(path) as store:
        assert store.about == ABOUT
        assert store.shapes == {name: array.shape for name, array in ARRAYS.items()}
        for name, array in ARRAYS.items():
            found = store.read(name)
            assert found.dtype == array.dtype
            assert np.array_equal(found, array)
            assert np.array_equal(store.read(name, 1), array[:1])


@settings(max_examples=25, deadline=None)
@given(
    array=arrays(
        st.sampled_from([np.float32, np.float64]), array_shapes(min_dims=1, max_dims=4, max_side=5)
    )
)
def test_any_array_comes_back_bit_for_bit(
    array: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("any") / "a.h5"
    write(path, {}, [("a", array)])
    with Store(path) as store:
        assert store.read("a").tobytes() == array.tobytes()


def test_rows_are_read_without_the_rest(tmp_path: Path) -> None:
    """Bytes of a later chunk are damaged: the first rows are still there, all of them aren't."""
    path = tmp_path / "large.h5"
    large = np.random.default_rng(1).standard_normal((4, 600_000)).astype(np.float32)
    write(path, {}, [("large", large)])
    data = bytearray(path.read_bytes())
    at = data.index(large[3].tobytes()[:64])
    data[at] ^= 1
    path.write_bytes(data)
    with Store(path) as store:
        assert np.array_equal(store.read("large", 2), large[:2])
        with pytest.raises(ParityError, match="damaged at 'large'"):
            store.read("large")


def test_the_same_twice_is_the_same_file(path: Path, tmp_path: Path) -> None:
    write(tmp_path / "again.h5", ABOUT, ARRAYS.items())
    assert path.read_bytes() == (tmp_path / "again.h5").read_bytes()


def test_a_failure_leaves_the_old_file(path: Path) -> None:
    before = path.read_bytes()

    def broken() -> Any:
        yield "a", np.zeros((1, 1), np.float32)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(path, {}, broken())
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_every_flipped_byte_is_noticed_or_harmless(path: Path) -> None:
    """For each damaged byte: a clear refusal, or the same content."""
    whole = path.read_bytes()
    content = set()
    for data in (json.dumps(ABOUT).encode(), *(array.tobytes() for array in ARRAYS.values())):
        start = whole.index(data)
        content |= {*range(start, start + len(data))}
    refused: dict[int, str] = {}
    for at in sorted({*range(0, len(whole), 7), *content}):
        damaged = bytearray(whole)
        damaged[at] ^= 0xFF
        path.write_bytes(damaged)
        try:
            with Store(path) as store:
                assert store.about == ABOUT
                for name, array in ARRAYS.items():
                    assert np.array_equal(store.read(name), array), at
        except ParityError as error:
            refused[at] = str(error)
    assert content <= refused.keys()
    assert all("recorded reference" in text for text in refused.values())
    assert all("facenet capture" in text for text in refused.values())


@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.7, 0.99])
def test_a_cut_file_is_refused(path: Path, part: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(ParityError, match="recorded reference"):
        Store(path)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_text("no HDF5 at all")
    with pytest.raises(ParityError, match="not an HDF5 file"):
        Store(tmp_path / "a.h5")
    with pytest.raises(ParityError, match="not an HDF5 file"):
        Store(tmp_path / "missing.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:  # somebody else's
        file["weights"] = np.zeros(3)
    with pytest.raises(ParityError, match="a schema that this version can't read"):
        Store(tmp_path / "b.h5")


def other_schema(file: Any, _: Path) -> None:
    file.attrs["schema"] = SCHEMA.replace("/2", "/3")


def soft_link(file: Any, _: Path) -> None:
    file["answers/other"] = h5py.SoftLink("/answers/float64")


def link_to_another_file(file: Any, folder: Path) -> None:
    del file["answers/float64"]
    file["answers/float64"] = h5py.ExternalLink(str(folder / "secret.h5"), "/answers/float64")


def data_outside(file: Any, folder: Path) -> None:
    del file["answers/float64"]
    (folder / "raw").write_bytes(bytes(64))
    file.create_dataset(
        "answers/float64", (2, 4), "<f8", external=[(str(folder / "raw"), 0, h5py.h5f.UNLIMITED)]
    )


def virtual_data(file: Any, folder: Path) -> None:
    del file["answers/float64"]
    layout = h5py.VirtualLayout((2, 4), "<f8")
    layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "answers/float64", (2, 4))
    file.create_virtual_dataset("answers/float64", layout)


def huge_but_empty(file: Any, _: Path) -> None:
    del file["answers/float64"]
    file.create_dataset("answers/float64", (2, 1 << 40), "<f8", chunks=(1, 1024))
    edit_manifest(file, lambda m: m["arrays"]["answers/float64"].update(shape=[2, 1 << 40]))


def compressed(file: Any, _: Path) -> None:
    del file["answers/float64"]
    file.create_dataset("answers/float64", data=np.zeros((2, 4)), compression="gzip")


def one_more(file: Any, _: Path) -> None:
    file["answers/more"] = np.zeros(3)


def one_less(file: Any, _: Path) -> None:
    del file["answers/float64"]


def another_type(file: Any, _: Path) -> None:
    del file["answers/float64"]
    file["answers/float64"] = np.zeros((2, 4), np.float32)


def strings(file: Any, _: Path) -> None:
    del file["answers/float64"]
    file["answers/float64"] = "text"
    edit_manifest(file, lambda m: m["arrays"]["answers/float64"].update(dtype="|O", shape=[]))


def another_manifest(file: Any, _: Path) -> None:
    edit_manifest(file, lambda m: m["about"].update(name="other"), rehash=False)


def manifest_without_parts(file: Any, _: Path) -> None:
    edit_manifest(file, lambda m: m.pop("arrays"))


def manifest_of_nonsense(file: Any, _: Path) -> None:
    edit_manifest(file, lambda m: m["arrays"].update({"answers/float64": [1, 2]}))


def edit_manifest(file: Any, change: Callable[[Any], object], *, rehash: bool = True) -> None:
    import hashlib

    manifest = json.loads(file["manifest"][:].tobytes())
    change(manifest)
    text = json.dumps(manifest).encode()
    del file["manifest"]
    file["manifest"] = np.frombuffer(text, np.uint8)
    if rehash:
        file.attrs["manifest_sha256"] = hashlib.sha256(text).hexdigest()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_schema, "a schema that this version can't read"),
        (soft_link, "has a link"),
        (link_to_another_file, "has a link"),
        (data_outside, "in another file"),
        (virtual_data, "in another file"),
        (huge_but_empty, "fewer bytes"),
        (compressed, "fewer bytes"),
        (one_more, "does not list"),
        (one_less, "lacks 'answers/float64'"),
        (another_type, "damaged"),
        (strings, "damaged"),
        (another_manifest, "another SHA-256"),
        (manifest_without_parts, "damaged"),
        (manifest_of_nonsense, "damaged"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_is_unsafe_or_wrong_is_refused(
    path: Path, change: Callable[[Any, Path], None], message: str
) -> None:
    write(path.parent / "secret.h5", ABOUT, ARRAYS.items())
    with h5py.File(path, "r+") as file:
        change(file, path.parent)
    with pytest.raises(ParityError, match="recorded reference") as caught:
        Store(path)
    assert message in str(caught.value)


def test_h5py_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(MissingPackageError, match=r'pip install "facenet-parity\[keras\]"'):
        write(tmp_path / "a.h5", {}, [])
