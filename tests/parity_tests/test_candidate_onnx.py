"""ONNX files as candidates: the same answers as in torch, and no trust."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from facenet_common.errors import MissingPackageError, ParityError, UsageError  # noqa: E402
from parity_tests.candidate.onnx import file as onnx_file  # noqa: E402
from parity_tests.candidate.onnx.facts import onnx_facts  # noqa: E402
from parity_tests.candidate.onnx.runner import OnnxCandidate  # noqa: E402
from parity_tests.candidate.torch_runner import CandidateRunner  # noqa: E402

SIZE = 16  # of an embedding here
DIMS = {"embedding": SIZE}


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).standard_normal(shape, np.float32)


def foreign(
    path: Path,
    outputs: dict[str, int] | None = None,
    *,
    batch: int | str | None = "n",
    image: tuple[int | str | None, ...] | None = (3, "h", "w"),
    width: bool = True,
    switches: dict[str, tuple[int, Any]] | None = None,
    dtype: int = TensorProto.FLOAT,
    weights_in: int | None = None,
    opset: int = 17,
    last: bool = False,
    change: Callable[[Any], None] = lambda _model: None,
) -> Path:
    """A small network of nobody's: mean colour, then one dense layer for each output.

    Args:
        path: The file to write.
        outputs: Names and sizes.
        batch, image: Shape of the input; `image` None: undeclared.
        width: Declare the outputs' sizes.
        switches: More inputs: type and shape. If the first, a truth value, is set, outputs double.
        dtype: Of input and outputs.
        weights_in: Type of the weights; None: `dtype`.
        opset: ONNX operator set.
        last: Let it take images with channels last.
        change: Changes the model.
    """
    outputs = outputs or {"y": SIZE}
    kind = helper.tensor_dtype_to_np_dtype(weights_in or dtype)
    axes = [1, 2] if last else [2, 3]
    mean = helper.make_node("ReduceMean", ["x"], ["mean"], axes=axes, keepdims=0)
    cast = helper.make_node("Cast", ["mean"], ["flat"], to=weights_in or dtype)
    weights, nodes = [], [mean, cast]
    if opset >= 18:
        mean.attribute.remove(next(a for a in mean.attribute if a.name == "axes"))
        mean.input.append("axes")
        weights.append(numpy_helper.from_array(np.array(axes, np.int64), "axes"))
    switches = switches or {}
    first = next(
        (n for n, (_, sizes) in switches.items() if len(sizes) < 2 and 2 not in sizes), None
    )
    if first:
        nodes.append(helper.make_node("Cast", [first], ["asked"], to=weights_in or dtype))
        nodes.append(helper.make_node("Mul", ["flat", "asked"], ["more"]))
        nodes.append(helper.make_node("Add", ["flat", "more"], ["used"]))
    for name, size in outputs.items():
        values = np.arange(3 * size).reshape(3, size).astype(kind) / (3 * size)
        weights.append(numpy_helper.from_array(values.astype(kind), f"{name}.weight"))
        used = "used" if first else "flat"
        nodes.append(helper.make_node("MatMul", [used, f"{name}.weight"], [f"{name}.wide"]))
        nodes.append(helper.make_node("Cast", [f"{name}.wide"], [name], to=dtype))
    shape = None if image is None else [batch, *image]
    graph = helper.make_graph(
        nodes,
        "foreign",
        [
            helper.make_tensor_value_info("x", dtype, shape),
            *(helper.make_tensor_value_info(n, *value) for n, value in switches.items()),
        ],
        [
            helper.make_tensor_value_info(n, dtype, [batch, size if width else f"{n}.width"])
            for n, size in outputs.items()
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def say(**metadata: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        for key, value in metadata.items():
            model.metadata_props.add(key=f"facenet.{key}", value=value)

    return change


def answers(path: Path, images: np.ndarray, architecture: str = "inception_resnet_v1") -> Any:
    with OnnxCandidate(path, architecture, DIMS) as candidate:
        return candidate.run(images)


@pytest.mark.parametrize(
    ("name", "size"),
    [("InceptionResnetV1", (75, 80)), ("PNet", (30, 41)), ("RNet", (24, 24)), ("ONet", (48, 48))],
)
def test_an_exported_network_answers_as_in_torch(
    name: str, size: tuple[int, int], tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    import facenet_models
    from facenet_models.onnx.export import export_onnx

    torch.manual_seed(11)
    sizes = {"embedding_size": SIZE, "num_classes": 3} if name == "InceptionResnetV1" else {}
    model = getattr(facenet_models, name)(**sizes).eval()
    for layer in model.modules():
        if isinstance(layer, torch.nn.PReLU):
            torch.nn.init.uniform_(layer.weight, -0.5, 0.5)
    torch.save(model.state_dict(), tmp_path / "m.pt")
    path = export_onnx(model, tmp_path / "m.onnx").path
    architecture, dims = onnx_facts(path)
    assert dims == ({"embedding": SIZE, "classes": 3} if sizes else {})
    images = noise(2, *size, 3)
    with CandidateRunner(tmp_path / "m.pt", "torch", architecture, dims) as in_torch:
        expected = in_torch.run(images)
    with OnnxCandidate(path, architecture, dims) as candidate:
        assert candidate.name == "m.onnx"
        assert candidate.architecture == architecture
        assert candidate.precision == "float32"
        assert candidate.model is None
        found = candidate.run(images)
    assert [a.shape for a in found] == [a.shape for a in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


def test_a_file_of_logits_is_refused(tmp_path: Path) -> None:
    path = foreign(tmp_path / "m.onnx", {"logits": SIZE})
    with pytest.raises(ParityError, match=r"(?s)does not give the outputs of inc.*--classify"):
        answers(path, noise(1, 8, 8, 3))


def test_foreign_files_are_recognised_by_their_shapes(tmp_path: Path) -> None:
    assert onnx_facts(foreign(tmp_path / "a")) == ("inception_resnet_v1", {"embedding": SIZE})
    assert onnx_facts(foreign(tmp_path / "b", {"p": 2, "r": 4})) == ("rnet", {})
    assert onnx_facts(foreign(tmp_path / "c", {"r": 4, "l": 10, "p": 2})) == ("onet", {})
    both = foreign(tmp_path / "d", {"classes": 30, "embeddings": SIZE})
    assert onnx_facts(both) == ("inception_resnet_v1", {"embedding": SIZE})
    with pytest.raises(
        ParityError, match=r"(?s)not fit any known network.*one \[1, 9\], two \[1, 9\]"
    ):
        onnx_facts(foreign(tmp_path / "e", {"one": 9, "two": 9}))


def test_foreign_outputs_are_matched_by_shape(tmp_path: Path) -> None:
    path = foreign(tmp_path / "m.onnx", {"a": 2, "b": 10, "c": 4})
    images = noise(3, 8, 8, 3)
    assert [a.shape for a in answers(path, images, "onet")] == [(3, 4), (3, 10), (3, 2)]
    twice = foreign(tmp_path / "m.onnx", {"a": 2, "b": 4, "c": 4})
    with pytest.raises(ParityError, match=r"(?s)outputs of rnet.*with 4 numbers.*c \[1, 4\]"):
        answers(twice, images, "rnet")


def test_names_come_before_shapes(tmp_path: Path) -> None:
    path = foreign(tmp_path / "m.onnx", {"logits": SIZE, "embeddings": SIZE})
    images = noise(1, 8, 8, 3)
    (found,) = answers(path, images)
    kernel = np.arange(3 * SIZE).reshape(3, SIZE) / (3 * SIZE)
    np.testing.assert_allclose(found, images.mean((1, 2)) @ kernel, rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_fixed_batch_is_run_as_often_as_needed(batch: int, tmp_path: Path) -> None:
    images = noise(7, 8, 8, 3)
    (expected,) = answers(foreign(tmp_path / "free.onnx"), images)
    (found,) = answers(foreign(tmp_path / "fixed.onnx", batch=batch), images)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert found.shape == (7, SIZE)


# --- precision


@pytest.mark.parametrize(
    ("dtype", "weights_in", "precision"),
    [
        (TensorProto.FLOAT, TensorProto.FLOAT, "float32"),
        (TensorProto.FLOAT16, TensorProto.FLOAT16, "float16"),
        (TensorProto.FLOAT, TensorProto.FLOAT16, "float16"),  # keep_io_types
        (TensorProto.FLOAT16, TensorProto.FLOAT, "float16"),  # the images are rounded
        (TensorProto.DOUBLE, TensorProto.DOUBLE, "float32"),
    ],
)
def test_types(dtype: int, weights_in: int, precision: str, tmp_path: Path) -> None:
    images = noise(2, 8, 8, 3)
    (expected,) = answers(foreign(tmp_path / "plain.onnx"), images)
    path = foreign(tmp_path / "m.onnx", dtype=dtype, weights_in=weights_in)
    with OnnxCandidate(path, "inception_resnet_v1", DIMS) as candidate:
        (found,) = candidate.run(images)
        assert candidate.precision == precision
        assert any("float64" in note for note in candidate.notes) == (dtype == TensorProto.DOUBLE)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3)


def test_a_few_numbers_in_float16_do_not_widen_the_limits(tmp_path: Path) -> None:
    def halve(model: Any) -> None:
        small = numpy_helper.from_array(np.zeros(5, np.float16), "unused")
        model.graph.initializer.append(small)

    path = foreign(tmp_path / "m.onnx", change=halve)
    with OnnxCandidate(path, "inception_resnet_v1", DIMS) as candidate:
        assert candidate.precision == "float32"
        assert candidate.notes == (
            "0.094 of the candidate's weights are float16: judged as float32",
        )


# --- layouts and sizes


@pytest.mark.parametrize(
    ("image", "last"),
    [
        ((3, 12, 13), False),
        ((3, "h", "w"), False),
        ((None, None, None), False),
        (("c", "h", "w"), False),
        (None, False),
        ((12, 13, 3), True),
        (("h", "w", 3), True),
        ((None, None, None), True),
        (None, True),
    ],
)
@pytest.mark.parametrize("width", [True, False])
@pytest.mark.parametrize("batch", [1, 4, None, "n"])
def test_every_layout(
    image: tuple[int | str, ...] | None,
    last: bool,
    width: bool,
    batch: int | str | None,
    tmp_path: Path,
) -> None:
    """Declared shapes decide; where they leave it open, the layout with which the file runs."""
    images = noise(7, 12, 13, 3)
    (expected,) = answers(foreign(tmp_path / "plain.onnx"), images)
    path = foreign(tmp_path / "m.onnx", image=image, last=last, batch=batch, width=width)
    assert onnx_facts(path) == ("inception_resnet_v1", DIMS)
    (found,) = answers(path, images)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_network_that_is_fed_with_width_before_height(tmp_path: Path) -> None:
    """MTCNN in TensorFlow: NHWC files take the images as its graphs do, NCHW files upright."""
    images = noise(2, 24, 13, 3)
    first = foreign(tmp_path / "a.onnx", {"r": 4, "p": 2}, image=(3, 13, 24))
    last = foreign(tmp_path / "b.onnx", {"r": 4, "p": 2}, image=(24, 13, 3), last=True)
    for one, two in zip(answers(first, images, "rnet"), answers(last, images, "rnet"), strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-5)
    with pytest.raises(ParityError, match="another size"):
        answers(first, images.transpose(0, 2, 1, 3), "rnet")


@pytest.mark.parametrize("image", [(3, "h", 3), (3, 3, 3), (3, 5, 5), ("h", "w", 1)])
def test_images_without_three_channels_are_refused(image: Any, tmp_path: Path) -> None:
    path = foreign(tmp_path / "m.onnx", image=image)
    with pytest.raises(ParityError, match=r"(?s)does not take images as.*x: tensor\(float\)"):
        onnx_facts(path)


def test_a_file_that_runs_with_both_layouts_is_refused(tmp_path: Path) -> None:
    def flatten(model: Any) -> None:
        """Mean over everything: the colours are not told apart."""
        del model.graph.node[:]
        model.graph.node.append(
            helper.make_node("ReduceMean", ["x"], ["m"], axes=[1, 2, 3], keepdims=0)
        )
        model.graph.node.append(helper.make_node("Unsqueeze", ["m", "axis"], ["flat"]))
        model.graph.node.append(helper.make_node("MatMul", ["flat", "one"], ["y"]))
        for name, value in (("axis", np.array([1])), ("one", np.ones((1, SIZE), np.float32))):
            model.graph.initializer.append(numpy_helper.from_array(value, name))

    path = foreign(tmp_path / "m.onnx", image=(None, None, None), change=flatten)
    with pytest.raises(ParityError, match=r"(?s)ambiguous.*runs with both.*declare the shape"):
        onnx_facts(path)


def maps(path: Path, *, first: bool, same: bool = False) -> Path:
    """P-Net's outputs, as maps of the image's size less 11, channels first or last."""
    pool = helper.make_node("AveragePool", ["x"], ["pool"], kernel_shape=[12, 12])
    nodes, weights = [pool], []
    for name, size in (("a", 2), ("b", 2 if same else 4)):
        values = np.arange(3 * size).reshape(size, 3, 1, 1).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"{name}.weight"))
        out = name if first else f"{name}.first"
        nodes.append(helper.make_node("Conv", ["pool", f"{name}.weight"], [out]))
        if not first:
            nodes.append(helper.make_node("Transpose", [out], [name], perm=[0, 2, 3, 1]))
    graph = helper.make_graph(
        nodes,
        "maps",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in "ab"],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("first", [True, False])
def test_maps_with_channels_first_or_last(first: bool, tmp_path: Path) -> None:
    path = maps(tmp_path / "m.onnx", first=first)
    assert onnx_facts(path) == ("pnet", {})
    images = noise(2, 20, 14, 3)  # 20 wide, 14 high
    regression, probability = answers(path, images, "pnet")
    assert (regression.shape, probability.shape) == ((2, 9, 3, 4), (2, 9, 3, 2))
    window = images[1, 8:20, 2:14].mean((0, 1))
    np.testing.assert_allclose(
        probability[1, 8, 2], [window @ [0, 1, 2], window @ [3, 4, 5]], atol=1e-5
    )


def test_maps_that_fit_twice_are_refused(tmp_path: Path) -> None:
    path = maps(tmp_path / "m.onnx", first=True, same=True)
    with pytest.raises(ParityError, match="does not give the outputs of pnet"):
        answers(path, noise(1, 20, 14, 3), "pnet")


@pytest.mark.parametrize("opset", [9, 13, 18, 21])
def test_old_and_new_operator_sets(opset: int, tmp_path: Path) -> None:
    images = noise(3, 8, 8, 3)
    (expected,) = answers(foreign(tmp_path / "plain.onnx"), images)
    (found,) = answers(foreign(tmp_path / "m.onnx", opset=opset), images)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_images_that_do_not_fit(tmp_path: Path) -> None:
    path = foreign(tmp_path / "m.onnx", image=(3, 12, "w"))
    assert answers(path, noise(1, 12, 17, 3))
    with pytest.raises(
        ParityError, match=r"(?s)another size.*expected: +12 by any.*found: +13 by 13"
    ):
        answers(path, noise(1, 13, 13, 3))


# --- other inputs


@pytest.mark.parametrize(
    "switches",
    [
        {"phase_train:0": (TensorProto.BOOL, [])},
        {"any": (TensorProto.BOOL, [1])},
        {"is_training": (TensorProto.FLOAT, [])},
        {"train": (TensorProto.INT64, ["k"]), "other": (TensorProto.BOOL, [1, 1])},
    ],
)
def test_switches_are_turned_off_with_a_note(
    switches: dict[str, tuple[int, Any]], tmp_path: Path
) -> None:
    images = noise(2, 8, 8, 3)
    (expected,) = answers(foreign(tmp_path / "plain.onnx"), images)
    path = foreign(tmp_path / "m.onnx", switches=switches)
    assert onnx_facts(path) == ("inception_resnet_v1", DIMS)
    with OnnxCandidate(path, "inception_resnet_v1", DIMS) as candidate:
        (found,) = candidate.run(images)
        assert len(candidate.notes) == len(switches)
        assert f"input {next(iter(switches))!r} is set to " in candidate.notes[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "switches",
    [
        {"keep_probability": (TensorProto.FLOAT, [])},  # off would be 1
        {"flags": (TensorProto.BOOL, [2])},
        {"images:1": (TensorProto.FLOAT, ["n", 3, "h", "w"])},
        {"ages": (TensorProto.INT64, ["n", 8])},
    ],
)
def test_other_inputs_are_refused(switches: dict[str, tuple[int, Any]], tmp_path: Path) -> None:
    path = foreign(tmp_path / "m.onnx", switches=switches)
    with pytest.raises(ParityError, match=rf"(?s)does not take images as.*{next(iter(switches))}"):
        onnx_facts(path)


# --- several outputs


@pytest.mark.parametrize("name", ["embeddings", "embeddings:0", "scope/embeddings:0", "y"])
def test_embeddings_among_other_outputs(name: str, tmp_path: Path) -> None:
    """By name, else by the size that the reference has."""
    path = foreign(tmp_path / "m.onnx", {"logits": 30, name: SIZE, "ages": 7}, width=False)
    assert onnx_facts(path, "inception_resnet_v1", DIMS) == ("inception_resnet_v1", DIMS)
    images = noise(1, 8, 8, 3)
    (expected,) = answers(foreign(tmp_path / "plain.onnx"), images)
    np.testing.assert_allclose(answers(path, images)[0], expected, rtol=0, atol=1e-5)


def test_two_outputs_of_the_embeddings_size_are_ambiguous(tmp_path: Path) -> None:
    path = foreign(tmp_path / "m.onnx", {"one": SIZE, "two": SIZE})
    with pytest.raises(ParityError, match=r"(?s)does not give the outputs of.*of several that fit"):
        answers(path, noise(1, 8, 8, 3))
    with pytest.raises(ParityError, match=r"(?s)do not fit any known.*name the outputs as above"):
        onnx_facts(path, "inception_resnet_v1", DIMS)


def test_what_is_no_onnx_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with pytest.raises(UsageError, match="the ONNX file does not exist"):
        onnx_facts(path)
    whole = foreign(path).read_bytes()
    for data in (b"", b"PK\x03\x04 a zip", b"\x00" * 100, whole[: len(whole) // 2]):
        path.write_bytes(data)
        with pytest.raises(ParityError, match="damaged, or not ONNX"):
            onnx_facts(path)


def test_what_onnxruntime_refuses(tmp_path: Path) -> None:
    def custom(model: Any) -> None:
        model.graph.node[0].op_type = "Steal"
        model.graph.node[0].domain = "evil.example"
        model.opset_import.add(domain="evil.example", version=1)

    with pytest.raises(ParityError, match=r"(?s)can't load the ONNX file.*evil\.example"):
        answers(foreign(tmp_path / "m.onnx", change=custom), noise(1, 8, 8, 3))


def external(location: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    return change


def test_weights_beside_the_file_are_read(tmp_path: Path) -> None:
    images = noise(2, 8, 8, 3)
    plain = foreign(tmp_path / "plain.onnx")
    (expected,) = answers(plain, images)
    beside = foreign(tmp_path / "m.onnx", change=external("m.data"))
    with pytest.raises(ParityError, match=r"(?s)in another file, which is missing.*m\.data"):
        onnx_facts(beside)
    (tmp_path / "m.data").write_bytes(onnx.load(plain).graph.initializer[0].raw_data)
    (found,) = answers(beside, images)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "sub/weights", "..\\x", ""])
def test_files_elsewhere_are_not_opened(location: str, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for secret in (tmp_path / "secret", tmp_path / "sub" / "weights"):
        secret.write_bytes(bytes(3 * SIZE * 4))
    path = foreign(tmp_path / "sub" / "m.onnx", change=external(location))
    with pytest.raises(ParityError, match="outside its folder, which is not opened"):
        onnx_facts(path)


def test_links_and_subgraphs_do_not_lead_out(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(ParityError, match="outside its folder"):
        onnx_facts(foreign(tmp_path / "m.onnx", change=external("link")))

    def hidden(model: Any) -> None:
        tensor = numpy_helper.from_array(np.zeros(1, np.float32), "t")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../secret")
        inner = helper.make_node("Constant", [], ["c"], value=tensor)
        body = helper.make_graph([inner], "body", [], [])
        model.graph.node.append(helper.make_node("If", ["flag"], ["z"], then_branch=body))

    with pytest.raises(ParityError, match="outside its folder"):
        onnx_facts(foreign(tmp_path / "m.onnx", change=hidden))


def test_too_large_files_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = foreign(tmp_path / "m.onnx", change=external("m.data"))
    (tmp_path / "m.data").write_bytes(bytes(10_000))
    monkeypatch.setattr(onnx_file, "MAX_BYTES", 5_000)
    with pytest.raises(ParityError, match=r"(?s)larger than any.*at most 5,000.*found: +10,000"):
        onnx_facts(path)
    monkeypatch.setattr(onnx_file, "MAX_BYTES", 100)
    with pytest.raises(ParityError, match=r"(?s)larger than any.*at most 100 bytes"):
        onnx_facts(path)


@pytest.mark.parametrize(
    "metadata",
    [
        {"architecture": "resnet50"},
        {"architecture": "inception_resnet_v1"},
        {"architecture": "inception_resnet_v1", "embedding": "-1"},
        {"architecture": "inception_resnet_v1", "embedding": "512", "classes": "9" * 5000},
        {"architecture": "inception_resnet_v1", "embedding": "0"},
    ],
)
def test_impossible_metadata_are_refused(metadata: dict[str, str], tmp_path: Path) -> None:
    path = foreign(tmp_path / "m.onnx", change=say(**metadata))
    with pytest.raises(ParityError, match="metadata are invalid"):
        onnx_facts(path)


def test_metadata_that_lie_are_found_out(tmp_path: Path) -> None:
    lie = say(architecture="inception_resnet_v1", embedding="512")
    path = foreign(tmp_path / "m.onnx", change=lie)
    architecture, dims = onnx_facts(path)
    with (
        pytest.raises(ParityError, match="with 512 numbers for each image"),
        OnnxCandidate(path, architecture, dims),
    ):
        pass


@pytest.mark.parametrize("name", ["onnx", "onnxruntime"])
def test_without_the_package_the_message_says_what_to_install(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = foreign(tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPackageError, match=rf"(?s) {name}, .*facenet-parity\[onnx\]"):
        answers(path, noise(1, 8, 8, 3))
