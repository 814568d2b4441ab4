"""SavedModels and object-based checkpoints, as TensorFlow writes them, read without TensorFlow."""

from __future__ import annotations

import contextlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import fakes

from converter.convert import Request, convert
from converter.resolve import resolve
from converter.sources import open_source
from converter.sources.tensorflow import bundle, saved_model
from converter.sources.tensorflow.protobuf import encode
from facenet_common.errors import FacenetError, FormatError

Values = dict[str, Any]


def _tf1(tf: Any, folder: Path, values: Values, *, constants: bool = False, **how: Any) -> None:
    """Export by TensorFlow 1's builder: variables, or after freezing constants."""
    tf = tf.compat.v1
    with tf.Graph().as_default() as graph, tf.Session() as session:
        made = [tf.get_variable(n, initializer=tf.constant(v), **how) for n, v in values.items()]
        tf.add_n([tf.reduce_sum(variable) for variable in made], name="output")
        session.run(tf.global_variables_initializer())
        if constants:
            frozen = tf.graph_util.convert_variables_to_constants(
                session, graph.as_graph_def(), ["output"]
            )
    if constants:
        with tf.Graph().as_default(), tf.Session() as session:
            tf.import_graph_def(frozen, name="")
            _build(tf, session, folder)
    else:
        with graph.as_default(), tf.Session() as session:
            session.run(tf.global_variables_initializer())
            _build(tf, session, folder)


def _build(tf: Any, session: Any, folder: Path) -> None:
    builder = tf.saved_model.Builder(str(folder))
    builder.add_meta_graph_and_variables(session, [tf.saved_model.tag_constants.SERVING])
    builder.save()


def _module(tf: Any, values: Values) -> Any:
    module = tf.Module()
    module.held = [tf.Variable(value, name=name) for name, value in values.items()]
    return module


def _exports(tf: Any, folder: Path, values: Values) -> dict[str, Path]:
    """Write every shape; return what a user would name."""
    folder.mkdir(exist_ok=True)
    _tf1(tf, folder / "tf1", values, use_resource=False)
    _tf1(tf, folder / "resource", values, use_resource=True)
    _tf1(tf, folder / "constants", values, constants=True, use_resource=False)
    _tf1(tf, folder / "resource constants", values, constants=True, use_resource=True)
    tf.saved_model.save(_module(tf, values), str(folder / "tf2"))
    frozen = tf.Module()
    frozen.call = tf.function(
        lambda: [tf.identity(tf.constant(v, name=n), f"{n}/read") for n, v in values.items()],
        input_signature=[],
    )
    tf.saved_model.save(frozen, str(folder / "functions"))
    saved = tf.train.Checkpoint(model=_module(tf, values)).save(str(folder / "objects" / "ckpt"))
    return {path.name: path for path in folder.iterdir()} | {"prefix": Path(saved)}


@pytest.fixture(scope="module")
def exports(tensorflow: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from parity_tests.frameworks import quiet_tensorflow

    with quiet_tensorflow():
        folder = tmp_path_factory.mktemp("exports")
        return _exports(tensorflow, folder, fakes.pnet_arrays())


SHAPES = [
    ("tf1", saved_model.FORMAT),
    ("resource", saved_model.FORMAT),
    ("constants", saved_model.FORMAT),
    ("resource constants", saved_model.FORMAT),
    ("tf2", saved_model.FORMAT),
    ("functions", saved_model.FORMAT),
    ("objects", bundle.OBJECT_BASED),
    ("prefix", bundle.OBJECT_BASED),
]


@pytest.mark.tensorflow
@pytest.mark.parametrize(("shape", "format"), SHAPES)
def test_what_tensorflow_exports(shape: str, format: str, exports: dict[str, Path]) -> None:
    catalog = resolve(str(exports[shape])).open()
    assert fakes.loaded(catalog) == fakes.expected(fakes.pnet_arrays())
    assert catalog.format == format


@pytest.mark.tensorflow
def test_an_archive_of_it_converts(exports: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "model.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for file in sorted(exports["tf2"].rglob("*")):
            out.write(file, Path("faces", file.relative_to(exports["tf2"])))
    receipt = convert(Request(str(path), str(tmp_path / "pnet.pt")))
    prefix = fakes.write_bundle(tmp_path / "bundle", fakes.pnet_arrays())
    assert receipt.digest == convert(Request(str(prefix), str(tmp_path / "same.pt"))).digest
    assert any("object graph" in note for note in receipt.plan.notes)


@pytest.mark.tensorflow
def test_damage_to_an_object_based_checkpoint_yields_no_tensors(
    exports: dict[str, Path], tmp_path: Path
) -> None:
    """Every 97th byte of both files: also those that hold the names and the counter of saves."""
    for end in (".index", ".data-00000-of-00001"):
        prefix = tmp_path / "ckpt"
        for file in exports["objects"].glob("ckpt-1.*"):
            (tmp_path / file.name.replace("ckpt-1", "ckpt")).write_bytes(file.read_bytes())
        victim = prefix.with_name(prefix.name + end)
        good = victim.read_bytes()
        for position in [*range(0, len(good), 97), len(good) - 1]:
            data = bytearray(good)
            data[position] ^= 0x10
            victim.write_bytes(data)
            with pytest.raises(FacenetError):
                fakes.loaded(open_source(prefix))
        victim.write_bytes(good)


@pytest.mark.tensorflow
def test_variables_that_are_missing(exports: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes((exports["tf1"] / "saved_model.pb").read_bytes())
    with pytest.raises(FormatError, match="variables of the SavedModel are missing"):
        resolve(str(tmp_path)).open()


def saved(graph: bytes) -> bytes:
    """A SavedModel of one GraphDef."""
    return encode(1, 1) + encode(2, encode(2, graph))


def test_two_constants_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "saved_model.pb"
    one, two = (fakes.frozen_graph({"w": np.float32([value])}) for value in (1, 2))
    path.write_bytes(saved(one) + saved(one))
    assert open_source(path)["w"].load() == 1
    path.write_bytes(saved(one) + saved(two))
    with pytest.raises(FormatError, match="damaged"):
        open_source(path)


def test_truncations_lose_tensors_only(tmp_path: Path) -> None:
    path = tmp_path / "saved_model.pb"
    arrays = {"a": np.arange(3, dtype="<f4"), "b": np.arange(2, dtype="<f8")}
    good = saved(fakes.frozen_graph(arrays))
    for length in range(len(good)):
        path.write_bytes(good[:length])
        with pytest.raises(FormatError):
            fakes.loaded(open_source(path))


@given(st.binary(max_size=120))
def test_any_bytes_are_refused_or_read(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "saved_model.pb"
    for content in (b"\x08" + data, saved(data), saved(encode(2, encode(1, data)))):
        path.write_bytes(content)
        with pytest.raises(FormatError):
            fakes.loaded(open_source(path))


@given(st.binary(max_size=120))
def test_any_object_graph_is_refused_or_read(tmp_path: Path, data: bytes) -> None:
    """Whatever it says, behind a right checksum."""
    from converter.sources.tensorflow.object_graph import KEY
    from converter.sources.tensorflow.protobuf import encode_varint

    for graph in (data, encode(1, encode(2, data))):
        size = encode_varint(len(graph))
        lengths = len(graph).to_bytes(4, "little")
        check = fakes.data_checksum(lengths).to_bytes(4, "little")
        content = size + check + graph
        whole = fakes.data_checksum(lengths + check + graph)
        entry = fakes.entry_proto([], dtype=7, size=len(content), checksum=whole)
        prefix = fakes.write_index(tmp_path / "m", {KEY.encode(): entry}, content)
        with contextlib.suppress(FormatError):
            assert len(open_source(prefix)) == 0
