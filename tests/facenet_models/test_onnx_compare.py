"""The check of an export: right ones pass at every size, wrong ones fail, for every network."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from torch import nn  # noqa: E402

from facenet_common.errors import ExportError  # noqa: E402
from facenet_models import InceptionResnetV1, ONet, PNet, RNet  # noqa: E402
from facenet_models.networks.architectures import describe, from_state_dict  # noqa: E402
from facenet_models.onnx.compare import compare  # noqa: E402
from facenet_models.onnx.graph import to_onnx  # noqa: E402

NETS = {"pnet": PNet, "rnet": RNet, "onet": ONet}
SIZES = {"pnet": (64, 64), "rnet": (24, 24), "onet": (48, 48)}
PNET_SIZES = [(12, 12), (13, 40), (64, 64), (96, 128), (200, 300)]


def detector(name: str) -> nn.Module:
    torch.manual_seed(3)
    model = NETS[name]().eval()
    for layer in model.modules():
        if isinstance(layer, nn.PReLU):
            nn.init.uniform_(layer.weight, -0.5, 0.5)
    return model


def exported(model: nn.Module, change: Callable[[Any], None] | None = None) -> bytes:
    outputs, image = describe(model).shapes()
    data = to_onnx(model, outputs, image=image)
    if change is None:
        return data
    proto = onnx.load_model_from_string(data)
    change(proto)
    return bytes(proto.SerializeToString())


# --- right ones


@pytest.mark.parametrize("size", PNET_SIZES)
@pytest.mark.parametrize("batch", [1, 3])
def test_the_real_weights_pass_at_every_size(
    reference_dir: Path, size: tuple[int, int], batch: int
) -> None:
    """At 64x64 and most sizes above, 2e-6 is exceeded by one of the many numbers."""
    state = torch.load(reference_dir / "published" / "pnet.pt", weights_only=True)
    model = from_state_dict(state)
    compare(exported(model), model, [(batch, *size)])


@pytest.mark.parametrize("name", ["rnet", "onet"])
def test_the_real_weights_pass(reference_dir: Path, name: str) -> None:
    state = torch.load(reference_dir / "published" / f"{name}.pt", weights_only=True)
    model = from_state_dict(state)
    for batch in (1, 7, 64):
        compare(exported(model), model, [(batch, *SIZES[name])])


@pytest.mark.parametrize("name", NETS)
def test_rounding_of_any_extent_passes(name: str) -> None:
    """Sums that nearly cancel round more coarsely than any number that could be fixed here."""
    model = detector(name)
    head = "conv4_2" if name == "pnet" else f"dense{'5_2' if name == 'rnet' else '6_2'}"
    before = {
        "pnet": ("conv3", "prelu3"),
        "rnet": ("dense4", "prelu4"),
        "onet": ("dense5", "prelu5"),
    }
    layer, slope = before[name]
    with torch.no_grad():
        model.get_parameter(f"{layer}.bias").fill_(1000.0)
        model.get_parameter(f"{slope}.weight").fill_(1.0)
        weight = model.get_parameter(f"{head}.weight")
        weight -= weight.mean(1, keepdim=True)
    assert compare(exported(model), model, [(2, *SIZES[name])]) > 2e-6


def test_the_embeddings_of_any_length_pass(model: InceptionResnetV1) -> None:
    for classify in (False, True):
        model.classify = classify
        compare(exported(model), model, [(1, 80, 80), (2, 75, 96)])


# --- wrong ones


def set_epsilon(proto: Any) -> None:
    node = next(n for n in proto.graph.node if n.name == "conv2d_4a.bn")
    next(a for a in node.attribute if a.name == "epsilon").f = 1e-5


def drop(kind: str, number: int = 0) -> Callable[[Any], None]:
    """Let a node return its input."""

    def change(proto: Any) -> None:
        node = [n for n in proto.graph.node if n.op_type == kind][number]
        node.op_type = "Identity"
        del node.input[1:]
        del node.attribute[:]

    return change


def reverse_slopes(proto: Any) -> None:
    tensor = next(t for t in proto.graph.initializer if t.name == "prelu3.weight")
    values = onnx.numpy_helper.to_array(tensor)[::-1].copy()
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def set_pads(name: str) -> Callable[[Any], None]:
    """Pad below and to the right with what a convolution padded above and to the left."""

    def change(proto: Any) -> None:
        node = next(n for n in proto.graph.node if n.name == name)
        pads = next(a for a in node.attribute if a.name == "pads")
        top, left, bottom, right = pads.ints
        pads.ints[:] = [top - 1, left - 1, bottom + 1, right + 1]

    return change


def shift_pool(proto: Any) -> None:
    """Begin a pooling one pixel earlier, with the same size of its output."""
    node = next(n for n in proto.graph.node if n.op_type == "MaxPool")
    next(a for a in node.attribute if a.name == "ceil_mode").i = 0
    node.attribute.add(name="pads", type=onnx.AttributeProto.INTS, ints=[1, 1, 0, 0])


def round_weight(name: str) -> Callable[[Any], None]:
    """Round a layer's weights to float16."""

    def change(proto: Any) -> None:
        tensor = next(t for t in proto.graph.initializer if t.name == name)
        values = onnx.numpy_helper.to_array(tensor)
        rounded = values.astype(np.float16).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(rounded, tensor.name))

    return change


def swap_softmax_axis(proto: Any) -> None:
    node = next(n for n in proto.graph.node if n.op_type == "Softmax")
    node.attribute[0].i = 0


WRONG = {
    "dropped PReLU": drop("PRelu"),
    "dropped last PReLU": drop("PRelu", -1),
    "slopes in another order": reverse_slopes,
    "softmax over images": swap_softmax_axis,
    "first layer in float16": round_weight("conv1.weight"),
    "no softmax": drop("Softmax"),
}
# In R- and O-Net the map would have another size, which their dense layers do not take.
WRONG_PNET = {"pooling begins elsewhere": shift_pool}


@pytest.mark.parametrize(
    ("name", "kind"),
    [*((name, kind) for kind in WRONG for name in NETS), *(("pnet", kind) for kind in WRONG_PNET)],
)
def test_a_wrong_detector_fails(name: str, kind: str) -> None:
    model = detector(name)
    with pytest.raises(ExportError, match=r"(?s)differ from torch's.*at most 4 times the distance"):
        compare(exported(model, (WRONG | WRONG_PNET)[kind]), model, [(3, *SIZES[name])])


@pytest.mark.parametrize(
    "kind", ["dropped last PReLU", "slopes in another order", "first layer in float16"]
)
def test_a_wrong_detector_fails_for_large_images(kind: str) -> None:
    """The more numbers, the farther rounding alone moves them together."""
    model = detector("pnet")
    with pytest.raises(ExportError, match="differ from torch's"):
        compare(exported(model, WRONG[kind]), model, [(1, 240, 320)])


@pytest.mark.parametrize(
    "change",
    [
        set_epsilon,
        drop("Relu", 5),
        set_pads("repeat_1.0.branch1.1.conv"),
        round_weight("last_linear.weight"),
        drop("Div"),
    ],
    ids=["epsilon", "ReLU", "padding", "float16", "no normalisation"],
)
def test_a_wrong_embedding_fails(built: InceptionResnetV1, change: Callable[[Any], None]) -> None:
    with pytest.raises(ExportError, match="embeddings differ from torch's"):
        compare(exported(built, change), built, [(1, 80, 80)])


def test_each_output_and_weight_is_compared() -> None:
    model = detector("rnet")
    data = exported(model)
    for name in ("prelu4.weight", "dense5_1.bias", "dense5_2.weight"):
        other = copy.deepcopy(model)
        other.get_parameter(name).data[1] += 0.01
        with pytest.raises(ExportError, match="differ"):
            compare(data, other, [(2, 24, 24)])


def test_another_shape_is_a_difference() -> None:
    model = detector("pnet")

    def stride(proto: Any) -> None:
        node = next(n for n in proto.graph.node if n.name == "conv4_2")
        next(a for a in node.attribute if a.name == "strides").ints[:] = [2, 2]
        del proto.graph.output[0].type.tensor_type.shape.dim[:]

    with pytest.raises(ExportError, match=r"(?s)regression have another shape.*found: +\(3, 4"):
        compare(exported(model, stride), model, [(3, 30, 30)])


def test_nan_is_a_difference() -> None:
    model = detector("pnet")
    data = exported(model)
    other = copy.deepcopy(model)
    other.get_parameter("conv4_2.bias").data[0] = float("nan")
    with pytest.raises(ExportError, match=r"(?s)the model's own regression are not.*found: +nan"):
        compare(data, other, [(1, 12, 12)])
    with pytest.raises(ExportError, match=r"(?s)exported model's regression are not.*found: +nan"):
        compare(exported(other), model, [(1, 12, 12)])
    assert np.isfinite(compare(data, model, [(1, 12, 12)]))
