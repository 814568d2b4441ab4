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
from parity_tests.candidate import onnx_runner as onnx_candidate  # noqa: E402
from parity_tests.candidate.onnx_runner import OnnxCandidate, onnx_facts  # noqa: E402
from parity_tests.candidate.torch_runner import CandidateRunner  # noqa: E402

SIZE = 16  # of an embedding here
DIMS = {"embedding": SIZE}


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).standard_normal(shape, np.float32)


def foreign(
    path: Path,
    outputs: dict[str, int] | None = None,
    *,
    batch: int | str = "n",
    image: tuple[int | str, ...] = (3, "h", "w"),
    dtype: int = TensorProto.FLOAT,
    change: Callable[[Any], None] = lambda _model: None,
) -> Path:
    """A small network of nobody's: mean colour, then one dense layer for each output."""
    outputs = outputs or {"y": SIZE}
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["flat"], axes=[2, 3], keepdims=0),
    ]
    weights = []
    for name, size in outputs.items():
        values = np.arange(3 * size).reshape(3, size).astype(kind) / (3 * size)
        weights.append(numpy_helper.from_array(values.astype(kind), f"{name}.weight"))
        nodes.append(helper.make_node("MatMul", ["flat", f"{name}.weight"], [name]))
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info("x", dtype, [batch, *image])],
        [helper.make_tensor_value_info(n, dtype, [batch, size]) for n, size in outputs.items()],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
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
        assert candidate.dtypes == ("float32",)
        assert candidate.model is None
        found = candidate.run(images)
    assert [a.shape for a in found] == [a.shape for a in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


def test_a_file_of_logits_is_refused(tmp_path: Path) -> None:
    path = foreign(tmp_path / "m.onnx", {"logits": SIZE})
    with pytest.raises(ParityError, match=r"(?s)does not give the embeddings.*--classify"):
        answers(path, noise(1, 8, 8, 3))


def test_foreign_files_are_recognised_by_their_shapes(tmp_path: Path) -> None:
    assert onnx_facts(foreign(tmp_path / "a")) == ("inception_resnet_v1", {"embedding": SIZE})
    assert onnx_facts(foreign(tmp_path / "b", {"p": 2, "r": 4})) == ("rnet", {})
    assert onnx_facts(foreign(tmp_path / "c", {"r": 4, "l": 10, "p": 2})) == ("onet", {})
    both = foreign(tmp_path / "d", {"classes": 30, "embeddings": SIZE})
    assert onnx_facts(both) == ("inception_resnet_v1", {"embedding": SIZE})
    with pytest.raises(
        ParityError, match=r"(?s)not fit any known network.*one \(0, 9\), two \(0, 9\)"
    ):
        onnx_facts(foreign(tmp_path / "e", {"one": 9, "two": 9}))


def test_foreign_outputs_are_matched_by_shape(tmp_path: Path) -> None:
    path = foreign(tmp_path / "m.onnx", {"a": 2, "b": 10, "c": 4})
    images = noise(3, 8, 8, 3)
    assert [a.shape for a in answers(path, images, "onet")] == [(3, 4), (3, 10), (3, 2)]
    twice = foreign(tmp_path / "m.onnx", {"a": 2, "b": 4, "c": 4})
    with pytest.raises(ParityError, match=r"(?s)regression of rnet.*with 4 numbers.*c \['n', 4\]"):
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


@pytest.mark.parametrize(
    ("dtype", "name", "wide"),
    [(TensorProto.DOUBLE, "float64", np.float64), (TensorProto.FLOAT16, "float16", np.float32)],
)
def test_other_types(dtype: int, name: str, wide: type, tmp_path: Path) -> None:
    path = foreign(tmp_path / "m.onnx", dtype=dtype)
    with OnnxCandidate(path, "inception_resnet_v1", DIMS) as candidate:
        (found,) = candidate.run(noise(2, 8, 8, 3))
        assert candidate.dtypes == (name,)
    assert found.dtype == wide


def test_images_that_do_not_fit(tmp_path: Path) -> None:
    path = foreign(tmp_path / "m.onnx", image=(3, 8, 9))
    assert answers(path, noise(1, 8, 9, 3))
    with pytest.raises(ParityError, match=r"(?s)another size.*expected: +8 by 9.*found: +8 by 8"):
        answers(path, noise(1, 8, 8, 3))

    def second_input(model: Any) -> None:
        model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1]))

    foreign(path, image=("h", "w", 3))
    with pytest.raises(ParityError, match=r"(?s)one floating point input.*x: tensor\(float\)"):
        answers(path, noise(1, 8, 8, 3))
    foreign(path, change=second_input)
    with pytest.raises(ParityError, match=r"(?s)one floating point input.*z: tensor\(float\)"):
        answers(path, noise(1, 8, 8, 3))


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
    monkeypatch.setattr(onnx_candidate, "MAX_BYTES", 5_000)
    with pytest.raises(ParityError, match=r"(?s)larger than any.*at most 5,000.*found: +10,000"):
        onnx_facts(path)
    monkeypatch.setattr(onnx_candidate, "MAX_BYTES", 100)
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
