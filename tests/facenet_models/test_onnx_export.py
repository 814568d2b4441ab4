"""ONNX files: their outputs, their metadata, and the check before they are written."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from torch import nn  # noqa: E402

from facenet_common.errors import ExportError, FacenetError, UsageError, WeightsError  # noqa: E402
from facenet_models import InceptionResnetV1, ONet, PNet, RNet  # noqa: E402
from facenet_models.networks.architectures import describe, from_state_dict  # noqa: E402
from facenet_models.onnx import export  # noqa: E402
from facenet_models.onnx.export import export_onnx  # noqa: E402
from facenet_models.onnx.graph import to_onnx  # noqa: E402


def run(path: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": images}), strict=True))


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).standard_normal(shape, np.float32)


def detector(net: type[nn.Module]) -> nn.Module:
    torch.manual_seed(3)
    model = net().eval()
    for layer in model.modules():
        if isinstance(layer, nn.PReLU):
            nn.init.uniform_(layer.weight, -0.5, 0.5)
    return model


def changed(model: InceptionResnetV1) -> InceptionResnetV1:
    """Return a copy with one of its 23 million weights changed."""
    other = copy.deepcopy(model)
    other.last_linear.weight.data[3, 5] += 0.1
    return other


@pytest.fixture(scope="module")
def written(built: InceptionResnetV1, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(built, path)
    return path


def test_batch_and_size_are_free(built: InceptionResnetV1, written: Path) -> None:
    for shape in ((1, 3, 75, 75), (2, 3, 75, 120), (4, 3, 96, 80)):
        images = noise(*shape)
        with torch.inference_mode():
            expected = built(torch.from_numpy(images)).numpy()
        found = run(written, images)["embeddings"]
        assert np.linalg.norm(found - expected, axis=1).max() <= 1e-5  # measured: 5e-7


def test_weights_keep_their_names_and_bits(built: InceptionResnetV1, written: Path) -> None:
    stored = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(written).graph.initializer
    }
    used = [
        name
        for name in built.state_dict()
        if not name.startswith("logits.") and not name.endswith("num_batches_tracked")
    ]
    assert len(used) > 600
    for name in used:
        assert stored[name].tobytes() == built.state_dict()[name].numpy().tobytes(), name


def test_the_same_model_gives_the_same_bytes(
    built: InceptionResnetV1, written: Path, tmp_path: Path
) -> None:
    again = export_onnx(copy.deepcopy(built), tmp_path / "other name.onnx")
    assert again.path.read_bytes() == written.read_bytes()
    assert again.size == written.stat().st_size
    other = export_onnx(changed(built), tmp_path / "changed.onnx")
    assert other.sha256 != again.sha256


def test_the_file_says_what_it_is(written: Path) -> None:
    proto = onnx.load(written)
    assert {prop.key: prop.value for prop in proto.metadata_props} == {
        "facenet.architecture": "inception_resnet_v1",
        "facenet.classes": "11",
        "facenet.embedding": "512",
        "facenet.outputs": "embeddings",
        "facenet.preprocessing": "RGB, (pixel - 127.5) / 128, NCHW",
    }
    onnx.checker.check_model(proto, full_check=True)
    shapes = [
        [edge.dim_param or edge.dim_value for edge in value.type.tensor_type.shape.dim]
        for value in (*proto.graph.input, *proto.graph.output)
    ]
    assert shapes == [["batch", 3, "height", "width"], ["batch", 512]]


def test_logits(model: InceptionResnetV1, tmp_path: Path) -> None:
    model.classify = True
    done = export_onnx(model, tmp_path / "m.onnx", batch=2, size=80)
    images = noise(2, 3, 80, 80)
    with torch.inference_mode():
        expected = model(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(run(done.path, images)["logits"], expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(Exception, match="Got: 1 Expected: 2"):
        run(done.path, images[:1])


@pytest.mark.parametrize("opset", [16, 18, 21])
@pytest.mark.parametrize(("net", "size"), [(PNet, (41, 30)), (RNet, (24, 24)), (ONet, (48, 48))])
def test_detection_networks(
    net: type[nn.Module], size: tuple[int, int], opset: int, tmp_path: Path
) -> None:
    model = detector(net)
    done = export_onnx(model, tmp_path / "m.onnx", opset=opset)
    names = list(describe(model).outputs)
    for count in (0, 1, 3):
        images = noise(count, 3, *size)
        found = run(done.path, images)
        assert list(found) == names
        with torch.inference_mode():
            expected = model(torch.from_numpy(images))
        for name, part in zip(names, expected, strict=True):
            np.testing.assert_allclose(found[name], part.numpy(), rtol=1e-4, atol=1e-5)


def test_p_net_of_a_fixed_size_declares_its_maps(tmp_path: Path) -> None:
    done = export_onnx(detector(PNet), tmp_path / "m.onnx", batch=2, size=(41, 30))
    session = ort.InferenceSession(done.path, providers=["CPUExecutionProvider"])
    declared = [output.shape for output in session.get_outputs()]
    assert declared == [list(a.shape) for a in run(done.path, noise(2, 3, 41, 30)).values()]


def test_the_real_weights(reference_dir: Path, tmp_path: Path) -> None:
    for name in ("pnet", "rnet", "onet"):
        state = torch.load(reference_dir / "published" / f"{name}.pt", weights_only=True)
        done = export_onnx(from_state_dict(state), tmp_path / f"{name}.onnx")
        assert done.architecture.name == name


def test_a_wrong_weight_is_noticed(
    built: InceptionResnetV1, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def sloppy(model: Any, *args: Any, **kwargs: Any) -> bytes:
        return to_onnx(changed(model), *args, **kwargs)

    monkeypatch.setattr(export, "to_onnx", sloppy)
    with pytest.raises(
        ExportError, match=r"(?s)embeddings differ.*4 times the distance that rounding"
    ):
        export_onnx(built, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_unsupported_models_and_options_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    model = detector(RNet)
    cases: list[tuple[nn.Module, dict[str, Any], str]] = [
        (RNet(), {}, "training mode"),
        (detector(PNet).double(), {}, r"(?s)only float32.*torch\.float64"),
        (nn.Linear(2, 2).eval(), {}, r"(?s)none of the networks.*Linear"),
        (model, {"opset": 12}, "(?s)opset.*16 to"),
        (model, {"opset": 1000}, "(?s)opset.*found: +1000"),
        (model, {"size": 25}, "(?s)this size.*24 by 24.*25 by 25"),
        (detector(PNet), {"size": (11, 40)}, "(?s)at least 12 by 12.*11 by 40"),
        (model, {"batch": 0}, "batch must be at least 1"),
    ]
    for refused, options, message in cases:
        with pytest.raises(UsageError, match=message):
            export_onnx(refused, out, **options)
    model.register_module("prelu1", nn.GELU().eval())
    with pytest.raises(UsageError, match=r"(?s)can't be exported as ONNX.*GELU"):
        export_onnx(model, out)
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_kept_unless_told(tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    out.write_text("precious")
    with pytest.raises(UsageError, match="exists already"):
        export_onnx(detector(PNet), out)
    assert out.read_text() == "precious"
    export_onnx(detector(PNet), out, overwrite=True)
    onnx.load(out)
    with pytest.raises(UsageError, match="folder does not exist"):
        export_onnx(detector(PNet), tmp_path / "no" / "m.onnx")


def test_without_onnx_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(FacenetError, match=r"(?s)needs onnx, which.*facenet-parity\[onnx\]"):
        export_onnx(detector(PNet), tmp_path / "m.onnx")


def test_recognising_a_state_dict() -> None:
    model = from_state_dict(InceptionResnetV1(num_classes=7, embedding_size=128).state_dict())
    assert describe(model).dims == {"embedding": 128, "classes": 7}
    assert not model.training
    bare = InceptionResnetV1(embedding_size=16).state_dict()
    without = {k: v for k, v in bare.items() if not k.endswith("num_batches_tracked")}
    assert describe(from_state_dict(without)).dims == {"embedding": 16}
    for net in (PNet, RNet, ONet):
        assert type(from_state_dict(net().state_dict())) is net


def test_a_foreign_state_dict_is_refused() -> None:
    state = PNet().state_dict()
    with pytest.raises(WeightsError, match=r"(?s)those of PNet, the nearest.*no conv1\.bias"):
        from_state_dict({k: v for k, v in state.items() if k != "conv1.bias"})
    with pytest.raises(WeightsError, match=r"(?s)found: +fc\.weight"):
        from_state_dict({**state, "fc.weight": torch.zeros(1)})
    with pytest.raises(WeightsError, match=r"(?s)do not fit PNet.*size mismatch for conv1\.bias"):
        from_state_dict({**state, "conv1.bias": torch.zeros(11)})
    with pytest.raises(WeightsError, match="not those of a network"):
        from_state_dict({})
