"""Distances, identities, and embeddings in files."""

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
from facenet_models.recognition import Embeddings, Match, Miss, distance, identify
from facenet_models.recognition import embedding_files as subject

ENDINGS = (".npz", ".parquet")


def some(count: int = 5, size: int = 4, misses: int = 2) -> Embeddings:
    """Embeddings of two people, and misses whose names sort among theirs."""
    vectors = np.random.default_rng(count).normal(size=(count, size)).astype(np.float32)
    names = tuple(f"{('Ann', 'Bob')[i % 2]}/{i}.jpg" for i in range(count))
    return Embeddings(names, vectors, tuple(Miss(f"Ann/x{i}.jpg", "no ✓") for i in range(misses)))


# --- distance ---------------------------------------------------------------------------------


def test_euclidean_distance_is_squared() -> None:
    assert distance([0, 0, 0], [1, 2, 2]) == 9
    assert distance([[1, 0], [0, 3]], [[0, 1], [0, 1]]).tolist() == [2, 4]


@pytest.mark.parametrize(
    ("b", "turn"), [([2, 0], 0), ([1, 1], 0.25), ([0, 5], 0.5), ([-3, 0], 1), ([1, -1], 0.25)]
)
def test_cosine_distance_is_the_angle_in_half_turns(b: list[float], turn: float) -> None:
    assert distance([1, 0], b, "cosine") == pytest.approx(turn, abs=1e-12)


def test_distances_broadcast() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 1, 8)), rng.normal(size=(5, 8))
    for metric in ("euclidean", "cosine"):
        got = distance(a, b, metric)
        assert got.shape == (3, 5)
        assert got.dtype == np.float64
        assert got[2, 4] == pytest.approx(float(distance(a[2, 0], b[4], metric)), rel=1e-12)


def test_a_vector_and_itself_have_no_angle_between_them() -> None:
    vectors = np.random.default_rng(0).normal(size=(1000, 16))
    with np.errstate(invalid="ignore"):
        ratios = np.sum(vectors**2, 1) / np.linalg.norm(vectors, axis=1) ** 2
    assert (ratios > 1).any()  # where arccos is NaN
    assert distance(vectors, vectors, "cosine") == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize(
    ("a", "b", "metric", "message"),
    [
        ([1, 2], [1, 2, 3], "euclidean", "differ in size"),
        (1, 2, "euclidean", "differ in size"),
        ([1, 2], [1, 2], "manhattan", "(?s)unknown metric.*euclidean or cosine.*manhattan"),
        ([0, 0], [1, 2], "cosine", "length zero"),
    ],
)
def test_what_has_no_distance_is_refused(
    a: object, b: object, metric: object, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        distance(a, b, metric)  # type: ignore[arg-type] # that is the test


# --- identify ---------------------------------------------------------------------------------

GALLERY = Embeddings(
    ("Ann/1.jpg", "Ann/2.jpg", "Bob/1.jpg", "Cid.jpg"),
    np.array([[0, 0], [4, 0], [1, 0], [9, 0]], np.float32),
)


def test_an_identity_is_as_near_as_its_nearest_image() -> None:
    got = identify([3.5, 0], GALLERY, k=9)
    assert got == [
        [
            Match("Ann", "Ann/2.jpg", 0.25),
            Match("Bob", "Bob/1.jpg", 6.25),
            Match("Cid", "Cid.jpg", 30.25),
        ]
    ]


def test_the_threshold_and_k_cut_the_list() -> None:
    assert [m.label for m in identify([3.5, 0], GALLERY, threshold=6.25, k=3)[0]] == ["Ann"]
    assert [m.label for m in identify([3.5, 0], GALLERY, threshold=6.26, k=3)[0]] == ["Ann", "Bob"]
    assert [m.label for m in identify([3.5, 0], GALLERY, k=2)[0]] == ["Ann", "Bob"]
    assert identify([3.5, 0], GALLERY, threshold=0.1) == [[]]


def test_equal_distances_go_by_label() -> None:
    gallery = Embeddings(("b/1.jpg", "a/1.jpg"), np.ones((2, 2), np.float32))
    assert [match.label for match in identify([0, 0], gallery, k=2)[0]] == ["a", "b"]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    k=st.integers(1, 6),
    metric=st.sampled_from(["euclidean", "cosine"]),
)
def test_identities_equal_those_of_a_plain_search(seed: int, k: int, metric: str) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(12, 3)).astype(np.float32)
    gallery = Embeddings(tuple(f"P{rng.integers(4)}/{i}.jpg" for i in range(12)), vectors)
    query = Embeddings(("x", "y"), rng.normal(size=(2, 3)).astype(np.float32))
    threshold = float(rng.uniform(0, 1))
    for row, found in zip(
        query.vectors,
        identify(query, gallery, threshold, k, metric),
        strict=True,  # type: ignore[arg-type] # drawn
    ):
        best: dict[str, float] = {}
        for label, other in zip(gallery.labels, vectors, strict=True):
            far = float(distance(row, other, metric))  # type: ignore[arg-type] # drawn
            best[label] = min(far, best.get(label, 9e9))
        expected = sorted((far, label) for label, far in best.items() if far < threshold)[:k]
        assert [(match.distance, match.label) for match in found] == expected


@pytest.mark.parametrize(
    "options", [{"k": 0}, {"gallery": Embeddings((), np.empty((0, 2), np.float32))}]
)
def test_nobody_to_name_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        identify([0, 0], **({"gallery": GALLERY} | options))  # type: ignore[arg-type] # that is the test


# --- Embeddings -------------------------------------------------------------------------------


def test_labels_are_the_folders() -> None:
    names = ("Ann/1.jpg", "family/Ann/1.jpg", "Bob.jpg", "0")
    assert Embeddings(names, np.ones((4, 2), np.float32)).labels == (
        "Ann",
        "family/Ann",
        "Bob",
        "0",
    )


@pytest.mark.parametrize(
    ("names", "vectors", "message"),
    [
        (("a",), np.ones((2, 3), np.float32), "differ in number"),
        (("a", "a"), np.ones((2, 3), np.float32), "same name"),
        (("a", ""), np.ones((2, 3), np.float32), "empty"),
        (("a", "b\0"), np.ones((2, 3), np.float32), "NUL"),
        (("a", "miss"), np.ones((2, 3), np.float32), "same name"),
        (("a", "b"), np.ones((2, 3)), "float32"),
        (("a", "b"), np.ones(2, np.float32), "float32 matrix"),
        (("a", "b"), np.array([[1, 2], [3, np.nan]], np.float32), "(?s)NaN.*that of b"),
        (("a", "b"), np.array([[np.inf, 2], [3, 1]], np.float32), "(?s)infinity.*that of a"),
    ],
)
def test_embeddings_that_fit_no_names_are_refused(
    names: tuple[str, ...], vectors: np.ndarray, message: str
) -> None:
    with pytest.raises(FacenetError, match=message):
        Embeddings(names, vectors, (Miss("miss", "no face found"),))


# --- Files ------------------------------------------------------------------------------------


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
    with pytest.raises(UsageError, match=r"(?s)ending.*\.npz or \.parquet"):
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
        "format": np.array(subject.FORMAT),
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
        (npz(format=np.array("other")), "not marked"),
        (npz(names=np.array([1, 2])), "no list of text"),
        (npz(names=np.array([["a", "b"]])), "no list of text"),
        (npz(names=np.array(["a"])), "differ in number"),
        (npz(names=np.array(["a", "a"])), "same name"),
        (npz(names=np.array(["a", "c"])), "same name"),
        (npz(miss_reasons=np.array(["x", "y"])), "differ in number"),
        (npz(vectors=np.ones((2, 3))), "float32"),
        (npz(vectors=np.full((2, 3), np.nan, np.float32)), "NaN"),
        (npz(vectors=header("(1000000000000, 3)") + bytes(24)), "another size"),
        (npz(vectors=header("(-2, 3)") + bytes(24)), "another size|negative"),
        (npz(vectors=header("(2, 3)") + bytes(20)), "another size"),
        (npz(vectors=header("(2,)", "|O") + b"cos\nsystem\n"), "another size|Object arrays"),
        (npz(vectors=header("(1,)", "|O") + b"cos\nsys."), "Object arrays"),
        (npz(vectors=b"\x93NUMPY\x02\x00"), "npy format"),
        (npz(vectors=b"nonsense"), "magic"),
        (npz(names=header("(2,)", "<U1") + b"\xff" * 8), "no character"),
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
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in ("format", "names", "miss_names", "miss_reasons", "vectors"):
            archive.writestr(f"{name}.npy", header(f"({size // 4},)"))
    data = bytearray(out.getvalue())
    start = data.rindex(b"PK\x01\x02")  # of the last array's entry in the directory
    data[start + 24 : start + 28] = size.to_bytes(4, "little")  # its size when unpacked
    path = tmp_path / "x.npz"
    path.write_bytes(data)
    with (
        zipfile.ZipFile(path) as archive,
        path.open("rb") as file,
        pytest.raises(subject._ForeignError, match=f"declares {size} bytes"),
    ):
        subject._read_npy(archive, "vectors.npy", file)


def columns() -> dict[str, object]:
    pa = pytest.importorskip("pyarrow")
    return {
        "name": ["a", "b", "c"],
        "vector": pa.array([[1.0, 2.0], [3.0, 4.0], None], pa.list_(pa.float32(), 2)),
        "miss": pa.array([None, None, "no face found"], pa.string()),
    }


def changes() -> list[tuple[Callable[[dict[str, object]], object], str]]:
    """What to do to the columns, and the message that follows."""

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
        (lambda table: table.pop("vector"), "no column"),
        (put("name", ["a", "a", "c"], "text"), "same name"),
        (put("name", ["a", None, "c"], "text"), "empty"),
        (put("name", [1, 2, 3], "int"), "no text"),
        (put("vector", pairs, "double"), "vectors of type"),
        (put("vector", [[1.0], [3.0, 4.0], None], "ragged"), "vectors of type"),
        (put("vector", [[1.0, 2.0], None, None], "vector"), "embedding too"),
        (put("vector", [[1.0, 2.0], None, [1.0, 2.0]], "vector"), "is null"),
        (put("vector", [[1.0, 2.0], [3.0, None], None], "vector"), "holds nulls"),
        (put("miss", [None, "x", None], "text"), "come last"),
    ]


@pytest.mark.parametrize("number", range(10))
def test_a_foreign_parquet_is_refused(tmp_path: Path, number: int) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path, table = tmp_path / "x.parquet", columns()
    parquet.write_table(pa.table(table, metadata={"format": subject.FORMAT}), path)
    assert Embeddings.load(path).names == ("a", "b")
    change, message = changes()[number]
    change(table)
    parquet.write_table(pa.table(table, metadata={"format": subject.FORMAT}), path)
    with pytest.raises(FacenetError, match=f"(?s)({message})"):
        Embeddings.load(path)


def test_a_damaged_parquet_is_refused(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "x.parquet"
    some().save(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FacenetError, match="not a file of embeddings"):
        Embeddings.load(path)
    parquet.write_table(pa.table(columns()), path)
    with pytest.raises(FacenetError, match="not marked"):
        Embeddings.load(path)
