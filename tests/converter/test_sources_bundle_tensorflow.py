"""The bundle reader and writer against TensorFlow's own, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import fakes

from converter import dtypes
from converter.dtypes import BFLOAT16, STRING, Array
from converter.sources import open_source
from converter.sources.mapped_file import MappedFile
from converter.sources.tensorflow.bundle import index_path, shard_path
from converter.sources.tensorflow.partitioned import slice_key
from converter.sources.tensorflow.sstable import read_table
from converter.writers import bundle as bundle_writer
from facenet_common.errors import FormatError

pytestmark = pytest.mark.tensorflow

Write = Callable[..., Path]


@pytest.fixture(scope="module")
def write() -> Write:
    """`write_variables` of the support package, which needs TensorFlow."""
    from support.tf_checkpoints import write_variables

    return write_variables


@pytest.fixture(scope="module")
def tf() -> Any:
    from parity_tests.frameworks import tensorflow

    return tensorflow()


def theirs(
    tf: Any, prefix: Path, written: Mapping[str, Any] | None = None
) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Everything that TensorFlow's reader yields.

    It can't put slices of some types together (half, uint64, …); what was `written` is taken then.
    """
    reader = tf.train.load_checkpoint(str(prefix))
    found = {}
    for name in reader.get_variable_to_shape_map():
        if name == "_CHECKPOINTABLE_OBJECT_GRAPH":
            continue
        dtype = reader.get_variable_to_dtype_map()[name].name
        try:
            array = reader.get_tensor(name)
        except ValueError as error:
            if written is None or "not supported" not in str(error):
                raise
            array = np.asarray(written[name])
        shape = tuple(reader.get_variable_to_shape_map()[name])
        found[name] = (dtype, shape, b"" if dtype == "string" else array.tobytes())
    return found


def numbers(dtype: Any, shape: tuple[int, ...] = (3, 5)) -> Array:
    """Any bits: NaN, denormals and all."""
    rng = np.random.default_rng(3)
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    return np.frombuffer(rng.bytes(dtype.itemsize * int(np.prod(shape))), dtype).reshape(shape)


def mixed() -> dict[str, Any]:
    import ml_dtypes

    types = [d.storage for d in dtypes.DTYPES if d.storage and d is not BFLOAT16]
    arrays: dict[str, Any] = {f"of/{np.dtype(t).name}": numbers(t) for t in types}
    return arrays | {
        "of/bfloat16": numbers(np.uint16).view(ml_dtypes.bfloat16),
        "of/string": np.array([[b"one", b""], [b"three" * 100, b"\0\xff"]], object),
        "a/string": np.array(b"alone", object),
        "no/strings": np.zeros((0,), "S1").astype(object),
        "scalar": np.float32(2.5),
        "scalar/int": np.int64(-1),
        "empty": np.zeros((0, 3), np.float32),
        "empty/last": np.zeros((2, 0), np.float64),
        "of/rank4": numbers("<f4", (3, 3, 2, 4)),
        "of/rank6": numbers("<f4", (1, 2, 1, 3, 1, 2)),
        "name with spaces/ü/重み": numbers("<f4", (2,)),
    }


def plain(count: int) -> dict[str, Any]:
    return {f"layer/{n:04d}/weights": np.full((2, n % 5), n, np.float32) for n in range(count)}


CASES: dict[str, tuple[Callable[[], Mapping[str, Any]], dict[str, Any]]] = {
    "one": (lambda: {"w": np.arange(3, dtype=np.float32)}, {}),
    "mixed": (mixed, {}),
    "mixed, 3 shards": (mixed, {"shards": 3}),
    "mixed, partitioned": (mixed, {"partitioned": True}),
    "mixed, partitioned, 4 shards": (mixed, {"partitioned": True, "shards": 4}),
    "17 entries": (lambda: plain(17), {}),
    "300 entries, 7 shards": (lambda: plain(300), {"shards": 7}),
    "some partitioned": (lambda: plain(40), {"partitioned": {"layer/0003/weights"}}),
    "empty ones alone": (lambda: {"e": np.zeros((0, 3), np.float32)}, {}),
    "a shard of empty ones": (
        lambda: {"e": np.zeros((0,), np.float32), "w": np.ones(3, np.float32)},
        {"shards": 2},
    ),
    "long names": (
        lambda: {f"{'deep/' * 400}{n:05d}": np.float32(n) for n in range(700)},
        {},
    ),
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, write: Write) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def make(case: str) -> Path:
        if case not in made:
            values, how = CASES[case]
            made[case] = write(tmp_path_factory.mktemp("bundle") / "m", values(), **how)
        return made[case]

    return make


@pytest.mark.parametrize("case", CASES)
def test_reader_equals_tensorflows(case: str, checkpoints: Callable[[str], Path], tf: Any) -> None:
    prefix = checkpoints(case)
    written = CASES[case][0]() if "partitioned" in case else None
    assert fakes.loaded(open_source(prefix)) == theirs(tf, prefix, written)


def test_long_names_fill_several_blocks(checkpoints: Callable[[str], Path]) -> None:
    """The case above is what it claims: an index of more than one block of 256 KiB."""
    prefix = checkpoints("long names")
    file = MappedFile(index_path(prefix))
    keys = sum(len(key) for key in read_table(file))
    assert file.size > 1 << 18 or keys > 1 << 18


def test_strings_are_listed_and_checked(checkpoints: Callable[[str], Path]) -> None:
    for case in ("mixed", "mixed, partitioned"):
        ref = open_source(checkpoints(case))["of/string"]
        assert (ref.dtype, ref.shape, ref.nbytes) == (STRING, (2, 2), 0)
        ref.verify()
        with pytest.raises(FormatError, match="strings"):
            ref.load()


@pytest.mark.parametrize("case", ["mixed", "mixed, partitioned"])
def test_damaged_strings_are_refused(
    case: str, checkpoints: Callable[[str], Path], tmp_path: Path
) -> None:
    source = checkpoints(case)
    prefix = tmp_path / "m"
    index_path(prefix).write_bytes(index_path(source).read_bytes())
    data = shard_path(source, 0, 1).read_bytes()
    at = data.index(b"threethree")
    shard_path(prefix, 0, 1).write_bytes(data[:at] + b"T" + data[at + 1 :])
    with pytest.raises(FormatError, match="checksum"):
        open_source(prefix)["of/string"].verify()


# --- partitions other than the first axis, by slices that TensorFlow itself lays out


@st.composite
def partitions(draw: st.DrawFn) -> tuple[tuple[int, ...], list[list[tuple[int, int]]]]:
    """A shape, and a grid of boxes that tile it."""
    shape = tuple(draw(st.lists(st.integers(1, 200), min_size=1, max_size=4)))
    shape = tuple(size if size < 9 or not n else size % 9 + 1 for n, size in enumerate(shape))
    boxes: list[list[tuple[int, int]]] = [[]]
    for size in shape:
        cuts = sorted(draw(st.sets(st.integers(1, max(1, size - 1)), max_size=2)) | {0, size})
        spans = [(a, b - a) for a, b in pairwise(cuts)]
        boxes = [[*box, span] for box in boxes for span in spans]
    return shape, boxes


@given(partitions(), st.sampled_from(["<f4", "<f2", "<i8", "|b1"]))
@settings(max_examples=20)
def test_partitions_along_every_axis(
    tf: Any, tmp_path: Path, case: tuple[tuple[int, ...], list[list[tuple[int, int]]]], dtype: str
) -> None:
    shape, boxes = case
    whole = numbers(dtype, shape)
    prefix = save_slices(tf, tmp_path / "m", "a/v", whole, boxes)
    ref = open_source(prefix)["a/v"]
    assert ref.shape == shape
    assert ref.load().tobytes() == whole.tobytes()
    assert theirs(tf, prefix, {"a/v": whole})["a/v"][2] == whole.tobytes()
    keys = {slice_key("a/v", spelled(box, shape)) for box in boxes if len(boxes) > 1}
    assert set(read_table(MappedFile(index_path(prefix)))) == {b"", b"a/v", *keys}


def spelled(box: list[tuple[int, int]], shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """An axis in whole is spelled so: start 0, length -1."""
    return [(0, -1) if b == (0, size) else b for b, size in zip(box, shape, strict=True)]


def save_slices(
    tf: Any, prefix: Path, name: str, whole: Array, boxes: list[list[tuple[int, int]]]
) -> Path:
    shape = " ".join(map(str, whole.shape))
    specs, pieces = [], []
    for box in boxes:
        extents = [
            "-" if length < 0 else f"{start},{length}"
            for start, length in spelled(box, whole.shape)
        ]
        specs.append(f"{shape} {':'.join(extents)}")
        pieces.append(whole[tuple(slice(start, start + length) for start, length in box)])
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=[name] * len(boxes),
        shape_and_slices=specs,
        tensors=[tf.constant(piece) for piece in pieces],
    )
    return prefix


# --- the writer


def test_writers_bundle_is_read_by_tensorflow(tf: Any, tmp_path: Path) -> None:
    arrays = {
        name: array
        for name, array in mixed().items()
        if np.asarray(array).dtype.kind not in "OS" and "bfloat16" not in name
    }
    arrays = {name: np.asarray(array) for name, array in arrays.items()} | plain(200)
    refs = [*fakes.refs(arrays), fakes.ref("of/bfloat16", numbers("<u2"), BFLOAT16)]
    bundle_writer.write(tmp_path, refs, fakes.no_progress)
    prefix = tf.train.latest_checkpoint(str(tmp_path))
    assert prefix == str(tmp_path / "model.ckpt")
    found = theirs(tf, Path(prefix))
    assert found == fakes.loaded(open_source(Path(prefix)))
    assert found == fakes.expected(arrays) | {
        "of/bfloat16": ("bfloat16", (3, 5), numbers("<u2").tobytes())
    }


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=300),
        st.lists(st.integers(0, 4), max_size=3),
        min_size=1,
        max_size=60,
    )
)
@settings(max_examples=25)
def test_writers_names_and_shapes_are_read_by_tensorflow(
    tf: Any, tmp_path: Path, shapes: dict[str, list[int]]
) -> None:
    arrays = {name: numbers("<f4", tuple(shape)) for name, shape in shapes.items()}
    prefix = fakes.write_bundle(tmp_path, arrays)
    assert theirs(tf, prefix) == fakes.expected(arrays) == fakes.loaded(open_source(prefix))


def test_tensorflow_writes_the_same_index(write: Write, tmp_path: Path) -> None:
    """Byte for byte, for more entries than a block has restart points."""
    arrays = plain(100)
    ours = fakes.write_bundle(tmp_path / "ours", arrays)
    its = write(tmp_path / "its" / "m", arrays)
    assert index_path(ours).read_bytes() == index_path(its).read_bytes()
    assert shard_path(ours, 0, 1).read_bytes() == shard_path(its, 0, 1).read_bytes()
