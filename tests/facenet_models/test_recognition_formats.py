"""Embeddings in files: what is saved is loaded again; damaged and foreign files are refused."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facenet_common.errors import FacenetError, OutputError, UsageError
from facenet_models.recognition import Embeddings, Miss
from facenet_models.recognition.formats.table import FORMAT

ENDINGS = (".npz", ".parquet")


def some(count: int = 5, size: int = 4, misses: int = 2) -> Embeddings:
    """Embeddings of two people, and misses whose names sort among theirs."""
    vectors = np.random.default_rng(count).normal(size=(count, size)).astype(np.float32)
    names = tuple(f"{('Ann', 'Bob')[i % 2]}/{i}.jpg" for i in range(count))
    return Embeddings(names, vectors, tuple(Miss(f"Ann/x{i}.jpg", "no ✓") for i in range(misses)))


def same(a: Embeddings, b: Embeddings) -> bool:
    return (
        a.names == b.names
        and a.misses == b.misses
        and a.vectors.dtype == b.vectors.dtype
        and np.array_equal(a.vectors, b.vectors) | (len(a) == 0)  # no rows: any size will do
    )


@pytest.fixture(params=ENDINGS)
def ending(request: pytest.FixtureRequest) -> str:
    if request.param == ".parquet":
        pytest.importorskip("pyarrow")
    return str(request.param)


@pytest.mark.parametrize(
    "embeddings",
    [some(), some(misses=0), some(1, 512), some(0, 4, 3), some(0, 0, 2), some(40, 1, 1)],
    ids=["some", "no-miss", "one", "misses-only", "misses-without-size", "one-number"],
)
def test_files_give_back_what_was_saved(
    tmp_path: Path, ending: str, embeddings: Embeddings
) -> None:
    path = tmp_path / f"x{ending}"
    embeddings.save(path)
    assert same(Embeddings.load(path), embeddings)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


text = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=9
)


@settings(max_examples=30, deadline=None)
@given(
    names=st.lists(text, unique=True, max_size=6),
    misses=st.integers(0, 6),
    reason=text,
    ending=st.sampled_from(ENDINGS),
)
def test_any_names_survive(
    tmp_path_factory: pytest.TempPathFactory,
    names: list[str],
    misses: int,
    reason: str,
    ending: str,
) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    kept, missed = names[misses:], names[:misses]
    embeddings = Embeddings(
        tuple(kept),
        np.arange(len(kept) * 3, dtype=np.float32).reshape(-1, 3),
        tuple(Miss(name, reason) for name in missed),
    )
    path = tmp_path_factory.mktemp("any") / f"x{ending}"
    embeddings.save(path)
    assert same(Embeddings.load(path), embeddings)


def test_the_same_embeddings_give_the_same_bytes(tmp_path: Path, ending: str) -> None:
    some().save(tmp_path / f"a{ending}")
    some().save(tmp_path / f"b{ending}")
    assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()


def test_parquet_is_a_table_for_others(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    some(2, 3, 1).save(tmp_path / "x.parquet")
    rows = parquet.read_table(tmp_path / "x.parquet").to_pylist()
    assert [(row["name"], row["label"], row["miss"]) for row in rows] == [
        ("Ann/0.jpg", "Ann", None),
        ("Bob/1.jpg", "Bob", None),
        ("Ann/x0.jpg", None, "no ✓"),
    ]
    assert rows[1]["vector"] == some(2, 3, 1).vectors[1].tolist()
    assert rows[2]["vector"] is None


def test_an_existing_file_is_kept_unless_told(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"x{ending}"
    path.write_bytes(b"precious")
    with pytest.raises(UsageError, match="exists already"):
        some().save(path)
    assert path.read_bytes() == b"precious"
    some().save(path, overwrite=True)
    assert len(Embeddings.load(path)) == 5


def test_a_failed_write_leaves_nothing(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path, __: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match=r"(?s)could not be written.*No space left"):
        some().save(tmp_path / f"x{ending}")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_ending_and_an_absent_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"(?s)suffix.*\.npz or \.parquet"):
        some().save(tmp_path / "x.csv")
    with pytest.raises(UsageError, match="no such file"):
        Embeddings.load(tmp_path / "x.npz")
    with pytest.raises(UsageError, match="folder does not exist"):
        some().save(tmp_path / "absent" / "x.npz")


def test_without_pyarrow_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"(?s)Parquet needs pyarrow.*facenet-parity\[parquet\]"):
        some().save(tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_no_unicode_go_into_npz_only(tmp_path: Path) -> None:
    odd = Embeddings(("Ann/\udcff.jpg",), np.ones((1, 2), np.float32))  # a byte of a file's name
    odd.save(tmp_path / "x.npz")
    assert same(Embeddings.load(tmp_path / "x.npz"), odd)
    pytest.importorskip("pyarrow")
    with pytest.raises(UsageError, match=r"(?s)UTF-8.*udcff.*\.npz"):
        odd.save(tmp_path / "x.parquet")


def npz(**changes: np.ndarray | bytes | None) -> bytes:
    """A good file of embeddings with some of its arrays changed, raw, or left out."""
    arrays: dict[str, np.ndarray | bytes | None] = {
        "format": np.array(FORMAT),
        "names": np.array(["a", "b"]),
        "vectors": np.ones((2, 3), np.float32),
        "miss_names": np.array(["c"]),
        "miss_reasons": np.array(["no face found"]),
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, value in (arrays | changes).items():
            if isinstance(value, bytes):
                archive.writestr(f"{name}.npy", value)
            elif value is not None:
                with archive.open(f"{name}.npy", "w") as file:
                    np.lib.format.write_array(file, value)
    return out.getvalue()


def header(shape: str, descr: str = "<f4") -> bytes:
    """The start of an .npy file."""
    content = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}".encode()
    content += b" " * (117 - len(content)) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(content).to_bytes(2, "little") + content


def test_the_file_that_is_changed_below_is_good(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(npz())
    assert Embeddings.load(tmp_path / "x.npz").names == ("a", "b")
    (tmp_path / "x.npz").write_bytes(npz(vectors=header("(2, 1)") + bytes(8)))
    assert Embeddings.load(tmp_path / "x.npz").vectors.tolist() == [[0], [0]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a zip"),
        (b"nonsense", "not a zip"),
        (npz()[:-40], "not a zip"),
        (npz(format=None), "format"),
        (npz(vectors=None), "vectors"),
        (npz(format=np.array("other")), "mark .* is missing"),
        (npz(names=np.array([1, 2])), "not a list of strings"),
        (npz(names=np.array([["a", "b"]])), "not a list of strings"),
        (npz(names=np.array(["a"])), "numbers of names and embeddings"),
        (npz(names=np.array(["a", "a"])), "same name"),
        (npz(names=np.array(["a", "c"])), "same name"),
        (npz(miss_reasons=np.array(["x", "y"])), "numbers of misses"),
        (npz(vectors=np.ones((2, 3))), "float32"),
        (npz(vectors=np.full((2, 3), np.nan, np.float32)), "NaN"),
        (npz(vectors=header("(1000000000000, 3)") + bytes(24)), "the size of vectors"),
        (npz(vectors=header("(-2, 3)") + bytes(24)), "the size of vectors|negative"),
        (npz(vectors=header("(2, 3)") + bytes(20)), "the size of vectors"),
        (npz(vectors=header("(2,)", "|O") + b"cos\nsystem\n"), "the size of vectors|Object arrays"),
        (npz(vectors=header("(1,)", "|O") + b"cos\nsys."), "Object arrays"),
        (npz(vectors=b"\x93NUMPY\x02\x00"), "npy format"),
        (npz(vectors=b"nonsense"), "magic"),
        (npz(names=header("(2,)", "<U1") + b"\xff" * 8), "invalid character"),
    ],
)
def test_a_damaged_npz_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(data)
    with pytest.raises(FacenetError, match=f"(?s)({message})") as caught:
        Embeddings.load(path)
    assert str(path) in str(caught.value)


def test_a_flipped_byte_of_an_npz_is_noticed_or_harmless(tmp_path: Path) -> None:
    path, good = tmp_path / "x.npz", npz()
    noticed = 0
    for i in range(0, len(good), 3):
        path.write_bytes(good[:i] + bytes([good[i] ^ 0x41]) + good[i + 1 :])
        try:
            got = Embeddings.load(path)
        except FacenetError:
            noticed += 1
        else:  # a date, say
            assert got.names == ("a", "b")
            assert got.vectors.tolist() == [[1] * 3] * 2
            assert got.misses == (Miss("c", "no face found"),)
    assert noticed > len(good) / 6


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    size = 64 * 2**20
    data = bytearray(npz(vectors=header(f"({size // 4},)")))
    start = data.rindex(b"vectors.npy") - 46  # of the array's entry in the archive's directory
    assert data[start : start + 4] == b"PK\x01\x02"
    data[start + 24 : start + 28] = size.to_bytes(4, "little")  # its declared size
    path = tmp_path / "x.npz"
    path.write_bytes(data)
    with pytest.raises(FacenetError, match=f"declares {size} bytes"):
        Embeddings.load(path)


def columns() -> dict[str, object]:
    pa = pytest.importorskip("pyarrow")
    return {
        "name": ["a", "b", "c"],
        "vector": pa.array([[1.0, 2.0], [3.0, 4.0], None], pa.list_(pa.float32(), 2)),
        "miss": pa.array([None, None, "no face found"], pa.string()),
    }


def changes() -> list[tuple[Callable[[dict[str, object]], object], str]]:
    """Changes of the columns, each with the message that follows."""

    def put(key: str, values: list[object], kind: str) -> Callable[[dict[str, object]], object]:
        def change(table: dict[str, object]) -> None:
            pa = pytest.importorskip("pyarrow")
            types = {
                "text": pa.string(),
                "int": pa.int64(),
                "vector": pa.list_(pa.float32(), 2),
                "double": pa.list_(pa.float64(), 2),
                "ragged": pa.list_(pa.float32()),
            }
            table[key] = pa.array(values, types[kind])

        return change

    pairs: list[object] = [[1.0, 2.0], [3.0, 4.0], None]
    return [
        (lambda table: table.pop("vector"), "column .* is missing"),
        (put("name", ["a", "a", "c"], "text"), "same name"),
        (put("name", ["a", None, "c"], "text"), "empty"),
        (put("name", [1, 2, 3], "int"), "not strings"),
        (put("vector", pairs, "double"), "vectors have the type"),
        (put("vector", [[1.0], [3.0, 4.0], None], "ragged"), "vectors have the type"),
        (put("vector", [[1.0, 2.0], None, None], "vector"), "has an embedding"),
        (put("vector", [[1.0, 2.0], None, [1.0, 2.0]], "vector"), "is null"),
        (put("vector", [[1.0, 2.0], [3.0, None], None], "vector"), "contains nulls"),
        (put("miss", [None, "x", None], "text"), "come last"),
    ]


@pytest.mark.parametrize("number", range(10))
def test_a_foreign_parquet_is_refused(tmp_path: Path, number: int) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path, table = tmp_path / "x.parquet", columns()
    parquet.write_table(pa.table(table, metadata={"format": FORMAT}), path)
    assert Embeddings.load(path).names == ("a", "b")
    change, message = changes()[number]
    change(table)
    parquet.write_table(pa.table(table, metadata={"format": FORMAT}), path)
    with pytest.raises(FacenetError, match=f"(?s)({message})"):
        Embeddings.load(path)


def test_a_damaged_parquet_is_refused(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "x.parquet"
    some().save(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FacenetError, match="expected a file of embeddings"):
        Embeddings.load(path)
    parquet.write_table(pa.table(columns()), path)
    with pytest.raises(FacenetError, match=r"mark .* is missing"):
        Embeddings.load(path)
