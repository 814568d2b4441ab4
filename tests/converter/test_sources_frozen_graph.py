"""Frozen graphs: constants read without TensorFlow, as TensorFlow's own protobuf writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support import fakes
from support.fakes import graph_bytes, node_proto, tensor_proto

from converter.sources import open_source
from converter.sources.tensorflow.protobuf import encode
from facenet_common.errors import FormatError

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


def opened(folder: Path, data: bytes) -> Any:
    path = folder / "g.pb"
    path.write_bytes(data)
    return open_source(path)


@given(
    st.dictionaries(
        NAMES.filter(lambda n: not n.endswith(("/read", "/ReadVariableOp", ":0"))),
        st.sampled_from(["<f4", "<f8", "<f2", "<i4", "|u1"]).flatmap(
            lambda t: hnp.arrays(t, SHAPES)
        ),
        min_size=1,
        max_size=5,
    )
)
def test_contents_are_read(tmp_path: Path, made: dict[str, Any]) -> None:
    assert fakes.loaded(opened(tmp_path, fakes.frozen_graph(made))) == fakes.expected(made)


@pytest.mark.tensorflow
def test_what_tensorflow_freezes(tmp_path: Path) -> None:
    """Scalars and repeated values are stored in other fields than arrays."""
    from parity_tests.frameworks import quiet_tensorflow, tensorflow

    tf = tensorflow().compat.v1
    values = {
        "matrix": np.arange(6, dtype=np.float32).reshape(2, 3),
        "scalar": np.float32(-0.5),
        "one": np.array([7.25], np.float32),
        "same": np.full((3, 4), 2.5, np.float32),
        "wide": np.array([1e300, -1.0]),
        "wide scalar": np.float64(1e-300),
        "zeros": np.zeros((5, 5), np.float32),
        "empty": np.zeros((0, 3), np.float32),
        "scope/half": np.arange(4, dtype=np.float16),
    }
    with quiet_tensorflow(), tf.Graph().as_default() as graph:
        for name, value in values.items():
            constant = tf.constant(value, name=name.replace(" ", "_"))
            tf.identity(constant, name=f"{constant.op.name}/read")
        tf.constant([1, 2, 2, 1], name="strides")
        data = graph.as_graph_def().SerializeToString()
    catalog = opened(tmp_path, data)
    expected = {name.replace(" ", "_"): np.asarray(value) for name, value in values.items()}
    assert fakes.loaded(catalog) == fakes.expected(expected)
    assert "1 constants" in catalog.notes[0]


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ([1.5], [1.5] * 4),
        ([1.5, 2.5], [1.5, 2.5, 2.5, 2.5]),
        ([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_the_last_value_repeats(
    stored: list[float], expected: list[float], packed: bool, tmp_path: Path
) -> None:
    values = np.array(stored, "<f4")
    bits = values.view("<u4")
    extra = encode(5, values.tobytes())
    if not packed:
        extra = b"".join(encode(5, int(word), fixed32=True) for word in bits)
    ref = opened(tmp_path, graph_bytes({"w": tensor_proto([2, 2], extra=extra)}))["w"]
    assert ref.load().reshape(-1).tolist() == expected
    assert not ref.load().flags.writeable


def test_only_what_a_read_follows_is_a_variable(tmp_path: Path) -> None:
    tensor = tensor_proto(content=bytes(4))
    graph = b"".join(
        [
            graph_bytes({"w": tensor}),
            node_proto("epsilon", "Const", tensor),
            node_proto("a/read", "Identity", source="other"),
            node_proto("other", "Const", tensor),
            node_proto("x/read", "Const", tensor),
        ]
    )
    assert list(opened(tmp_path, graph)) == ["w"]


@pytest.mark.tensorflow
def test_weights_without_an_identity(tensorflow: Any, tmp_path: Path) -> None:
    """Resource variables are read by another operation, and tools for inference remove it."""
    from parity_tests.frameworks import quiet_tensorflow

    tf = tensorflow.compat.v1
    values = fakes.pnet_arrays()
    with quiet_tensorflow(), tf.Graph().as_default() as graph, tf.Session() as session:
        made = [
            tf.get_variable(name, initializer=tf.constant(value), use_resource=True)
            for name, value in values.items()
        ]
        total = tf.add_n([tf.reduce_sum(variable * 2.0) for variable in made])
        tf.identity(total, name="output")
        session.run(tf.global_variables_initializer())
        frozen = tf.graph_util.convert_variables_to_constants(
            session, graph.as_graph_def(), ["output"]
        )
        smaller = tf.graph_util.remove_training_nodes(frozen, ["output"])
    reads = [sum("ReadVariableOp" in node.name for node in made.node) for made in (frozen, smaller)]
    assert reads == [len(values), 0], "the second has lost the Identities"
    for made in (frozen, smaller):
        catalog = opened(tmp_path, made.SerializeToString())
        assert fakes.loaded(catalog) == fakes.expected(values)


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        (tensor_proto([2], content=bytes(4)), "found:    1 values"),
        (tensor_proto([1], content=bytes(8)), "found:    2 values"),
        (tensor_proto([1], content=bytes(3)), "found:    0 values"),
        (tensor_proto([3]), "found:    0 values"),
        (tensor_proto([0], content=bytes(4)), "found:    1 values"),
        (tensor_proto([8 << 30], extra=encode(5, bytes(4))), "found:    1 values"),
    ],
)
def test_sizes_that_lie_are_refused_on_loading(tensor: bytes, says: str, tmp_path: Path) -> None:
    ref = opened(tmp_path, graph_bytes({"w": tensor}))["w"]
    with pytest.raises(FormatError, match="number of values") as caught:
        ref.load()
    assert says in str(caught.value)
    assert caught.value.tensor == "w"


def test_one_value_may_stand_for_a_few_megabytes_only(tmp_path: Path) -> None:
    few = tensor_proto([1 << 20], extra=encode(5, bytes(4)))
    many = tensor_proto([1 << 23], extra=encode(5, bytes(4)))
    assert opened(tmp_path, graph_bytes({"w": few}))["w"].load().shape == (1 << 20,)
    with pytest.raises(FormatError):
        opened(tmp_path, graph_bytes({"w": many}))["w"].load()


@given(st.binary(max_size=120))
def test_any_bytes_are_refused_or_read(tmp_path: Path, data: bytes) -> None:
    try:
        fakes.loaded(opened(tmp_path, b"\x0a" + data))
    except FormatError as error:
        str(error)


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    "kind", ["int8", "uint8", "int16", "int32", "int64", "bool", "float16", "bfloat16", "float64"]
)
def test_small_constants_of_every_type_equal_tensorflows(
    tensorflow: Any, tmp_path: Path, kind: str
) -> None:
    tf = tensorflow
    values = np.array([[-3, 0, 2], [1, 7, 5]])
    constant = tf.cast(values, kind)
    graph = tf.compat.v1.GraphDef()
    for name, value in (("v", constant), ("scalar", constant[0, 0])):
        node = graph.node.add(name=name, op="Const")
        node.attr["dtype"].type = constant.dtype.as_datatype_enum
        node.attr["value"].tensor.dtype = constant.dtype.as_datatype_enum
        made = tf.make_tensor_proto(value.numpy(), shape=value.shape)
        node.attr["value"].tensor.CopyFrom(made)
        if made.tensor_content:  # spell it in the typed field instead
            node.attr["value"].tensor.CopyFrom(_typed(tf, made))
        graph.node.add(name=f"{name}/read", op="Identity", input=[name])
    path = tmp_path / "g.pb"
    path.write_bytes(graph.SerializeToString())
    catalog = open_source(path)
    for name, value in (("v", constant), ("scalar", constant[0, 0])):
        assert catalog[name].dtype.name == kind
        assert catalog[name].load().tobytes() == value.numpy().tobytes()


def _typed(tf: Any, made: Any) -> Any:
    """The same TensorProto with its values in the field of their type."""
    array = tf.make_ndarray(made)
    field = {
        "float64": "double_val",
        "int64": "int64_val",
        "bool": "bool_val",
        "float16": "half_val",
        "bfloat16": "half_val",
    }.get(array.dtype.name, "int_val")
    values = array.reshape(-1)
    if field == "half_val":
        values = values.view(np.uint16)
    typed = type(made)(dtype=made.dtype, tensor_shape=made.tensor_shape)
    getattr(typed, field).extend(values.tolist())
    return typed
