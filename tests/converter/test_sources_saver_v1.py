"""Checkpoints of version 1: read without TensorFlow, as TensorFlow's own Saver writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support import fakes

from converter.convert import Request, convert
from converter.resolve import resolve
from converter.sources import open_source
from converter.sources.tensorflow import saver_v1
from converter.sources.tensorflow.sstable import MAGIC
from facenet_common.errors import FormatError

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
TYPES = st.sampled_from(["<f4", "<f8", "<f2", "<i8", "<i4", "<i2", "|i1", "|u1", "<u2", "|b1"])


@given(
    st.dictionaries(NAMES, TYPES.flatmap(lambda t: hnp.arrays(t, SHAPES)), min_size=1, max_size=5)
)
def test_contents_are_read(tmp_path: Path, made: dict[str, Any]) -> None:
    path = tmp_path / "m.ckpt-1"
    path.write_bytes(fakes.saver_v1_of(made))
    assert fakes.loaded(open_source(path)) == fakes.expected(made)


@given(st.binary(max_size=120))
def test_any_bytes_are_refused_or_read(tmp_path: Path, data: bytes) -> None:
    """Whatever the list of tensors and the first slice say, behind right checksums."""
    path = tmp_path / "m.ckpt"
    half = len(data) // 2
    for header, value in ((data, b""), (data[:half], data[half:])):
        pairs = [(b"", header), (fakes.whole_key("w", 1), value)]
        path.write_bytes(fakes.table_bytes([fakes.block_bytes(pairs)]))
        with pytest.raises(FormatError):
            fakes.loaded(open_source(path))


VALUES: dict[str, Any] = {
    "a/weights": np.arange(6, dtype=np.float32).reshape(2, 3) - 2.5,
    "half": np.array([1.5, -0.0, np.inf], np.float16),
    "empty": np.zeros((0, 3), np.float32),
    "step": np.array(7, np.int64),
    "switch": np.array([True, False]),
    "double": np.array([1e300, -1e-300]),
    "int": np.array([-3, 4], np.int32),
    "bytes": np.array([1, 255], np.uint8),
    "small": np.array([-1, 5], np.int8),
    "same": np.full((4, 4), 2.5, np.float32),
}


def _save(tf: Any, folder: Path, *, sharded: bool) -> dict[str, Any]:
    """Save `VALUES`, a partitioned variable and strings with TensorFlow; return their values."""
    folder.mkdir(exist_ok=True)
    tf = tf.compat.v1
    with tf.Graph().as_default(), tf.Session() as session:
        for name, value in VALUES.items():
            tf.get_variable(name, initializer=tf.constant(value), use_resource=False)
        pieces = tf.get_variable(
            "pieces",
            (7, 3),
            partitioner=tf.fixed_size_partitioner(3),
            initializer=tf.random_uniform_initializer(),
            use_resource=False,
        )
        tf.get_variable("words", initializer=tf.constant([b"x", b"yy"]), use_resource=False)
        session.run(tf.global_variables_initializer())
        saver = tf.train.Saver(write_version=tf.train.SaverDef.V1, sharded=sharded)
        saver.save(session, str(folder / "model.ckpt"), 7)
        return {**VALUES, "pieces": session.run(tf.convert_to_tensor(pieces))}


@pytest.mark.tensorflow
@pytest.mark.parametrize("sharded", [False, True])
def test_what_tensorflow_saves(tensorflow: Any, tmp_path: Path, sharded: bool) -> None:
    folder = tmp_path / "model"
    made = _save(tensorflow, folder, sharded=sharded)
    files = sorted(path.name for path in folder.iterdir() if saver_v1.is_part(path))
    assert files == ["model.ckpt-7-00000-of-00001" if sharded else "model.ckpt-7"]
    for name in (folder, folder / "model.ckpt-7", folder / files[0], folder / "model.ckpt-7.meta"):
        source = resolve(str(name))
        assert source.graph == folder / "model.ckpt-7.meta"
        found = fakes.loaded(source.open())
        assert found.pop("words") == ("string", (2,), b"")
        assert found == fakes.expected(made)


def test_tensors_convert(tmp_path: Path, values: dict[str, Any]) -> None:
    """From a folder of two steps: the same tensors as from a checkpoint of version 2."""
    folder = tmp_path / "pnet"
    folder.mkdir()
    other = {name: value + 1 for name, value in values.items()}
    (folder / "model.ckpt-7").write_bytes(fakes.saver_v1_of(other))
    (folder / "model.ckpt-80").write_bytes(fakes.saver_v1_of(values))
    receipt = convert(Request(str(folder), str(tmp_path / "v1.pt")))
    assert receipt.source_format == "tensorflow-saver-v1"
    prefix = fakes.write_bundle(tmp_path / "bundle", values)
    same = convert(Request(str(prefix), str(tmp_path / "v2.pt")))
    earlier = convert(Request(str(folder), str(tmp_path / "earlier.pt"), step=7))
    assert receipt.digest == same.digest != earlier.digest


def _shard(folder: Path, number: int, count: int, arrays: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    name = f"m.ckpt-5-{number:05d}-of-{count:05d}"
    (folder / name).write_bytes(fakes.saver_v1_of(arrays))


def test_several_files_are_one_checkpoint(tmp_path: Path) -> None:
    arrays = fakes.some_arrays()
    for number, name in enumerate(arrays):
        _shard(tmp_path / "m", number, len(arrays), {name: arrays[name]})
    for place in (tmp_path / "m", tmp_path / "m" / "m.ckpt-5"):
        assert fakes.loaded(resolve(str(place)).open()) == fakes.expected(arrays)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ([(0, 2, "a")], "not one complete set"),
        ([(0, 2, "a"), (1, 3, "b")], "not one complete set"),
        ([(0, 2, "a"), (1, 2, "b"), (2, 2, "c")], "not one complete set"),
        ([(0, 2, "a"), (1, 2, "a")], "hold the same tensor"),
    ],
)
def test_files_that_are_no_set_are_refused(
    files: list[tuple[int, int, str]], says: str, tmp_path: Path
) -> None:
    for number, count, name in files:
        _shard(tmp_path, number, count, {name: np.zeros(1, np.float32)})
    with pytest.raises(FormatError, match=says):
        open_source(tmp_path / "m.ckpt-5")


def test_an_index_of_version_2_is_not_taken_for_it(tmp_path: Path) -> None:
    prefix = fakes.write_bundle(tmp_path, fakes.some_arrays())
    index = prefix.with_name(f"{prefix.name}.index")
    assert index.read_bytes().endswith(MAGIC.to_bytes(8, "little"))
    assert not saver_v1.recognises(index)
    copy = tmp_path / "copy"
    copy.write_bytes(index.read_bytes())
    with pytest.raises(FormatError, match="damaged"):
        open_source(copy)
