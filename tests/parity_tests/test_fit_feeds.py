"""``facenet verify`` of ONNX files, whatever sizes, layouts, inputs and types they have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from support.fakes import mtcnn_npy
from support.tf_checkpoints import write_checkpoint

from converter.architectures import ARCHITECTURES
from converter.convert import Request, convert
from converter.demo import value
from parity_tests.cli import capture_command, verify_command
from parity_tests.rounding import growth

torch = pytest.importorskip("torch", reason='needs torch: pip install "facenet-parity[parity]"')
onnx = pytest.importorskip("onnx", reason='needs onnx: pip install "facenet-parity[onnx]"')
pytest.importorskip("onnxruntime")
pytest.importorskip("h5py")
pytestmark = pytest.mark.tensorflow

Change = Callable[[Any], None]
PASSED = {"weights": "skipped", "float64": "skipped", "float32": "passed", "task": "passed"}


def run(command: Any, *arguments: object) -> Any:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def verified(folder: Path, reference: Path, candidate: Path) -> tuple[str, dict[str, Any]]:
    """Verify, and return the first line of the output and the report."""
    report = folder / "report.json"
    result = run(verify_command, reference, candidate, "--json", report)
    assert report.is_file(), result.output
    found = json.loads(report.read_text())
    assert result.exit_code == (0 if result.stdout.startswith("PASSED") else 1)
    return result.stdout.partition("\n")[0], found


def status(report: dict[str, Any]) -> dict[str, str]:
    return {gate["name"]: gate["status"] for gate in report["gates"]}


@pytest.fixture(scope="module")
def sides(tensorflow: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Any]:
    """A checkpoint, its record, and the model converted from it."""
    from facenet_models.networks.architectures import from_state_dict

    del tensorflow
    folder = tmp_path_factory.mktemp("onnx")
    write_checkpoint(folder / "20180402-114759", 128, 0, fill=value)
    convert(Request(str(folder / "20180402-114759"), str(folder / "vggface2.pt")))
    call = (folder / "20180402-114759", "--out", folder / "r.h5", "--count", 2, "--probes", "none")
    assert run(capture_command, *call).exit_code == 0
    model = from_state_dict(torch.load(folder / "vggface2.pt", weights_only=True))
    return folder / "20180402-114759", folder / "r.h5", model


@pytest.fixture
def exported(sides: tuple[Path, Path, Any], tmp_path: Path) -> Callable[..., Path]:
    """The model as an ONNX file without metadata, changed."""
    from facenet_models.networks.architectures import describe
    from facenet_models.onnx.graph import to_onnx

    def make(
        *changes: Change, size: tuple[int, int] | None = None, batch: int | None = None
    ) -> Path:
        outputs, image = describe(sides[2]).shapes(batch, size)
        proto = onnx.load_model_from_string(to_onnx(sides[2], outputs, image=image))
        for change in changes:
            change(proto)
        path = tmp_path / "candidate.onnx"
        path.write_bytes(proto.SerializeToString())
        return path

    return make


# --- changes of a file that keep what it computes


def as_tensorflow(proto: Any) -> None:
    """Take and name what tf2onnx makes of the original's frozen graph."""
    graph = proto.graph
    batch, _, height, width = (d.dim_param or d.dim_value for d in _dims(graph.input[0]))
    kind = onnx.TensorProto
    images = onnx.helper.make_tensor_value_info("input:0", kind.FLOAT, [batch, height, width, 3])
    phase = onnx.helper.make_tensor_value_info("phase_train:0", kind.BOOL, [])
    del graph.input[:]
    graph.input.extend([images, phase])
    two = onnx.numpy_helper.from_array(np.float32(2), "two")
    one = onnx.numpy_helper.from_array(np.float32(1), "one")
    graph.initializer.extend([one, two])
    front = [
        onnx.helper.make_node("Transpose", ["input:0"], ["upright"], perm=[0, 3, 1, 2]),
        onnx.helper.make_node("Where", ["phase_train:0", "two", "one"], ["factor"]),
        onnx.helper.make_node("Mul", ["upright", "factor"], ["images"]),
    ]
    nodes = [*front, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.node[-1].output[0] = graph.output[0].name = "embeddings:0"


def _dims(info: Any) -> Any:
    return info.type.tensor_type.shape.dim


def free_width(proto: Any) -> None:
    _dims(proto.graph.output[0])[1].dim_param = "width"


def renamed(proto: Any) -> None:
    proto.graph.node[-1].output[0] = proto.graph.output[0].name = "features"


def with_prelogits(proto: Any) -> None:
    """Add two outputs: the features before the last layer, and logits."""
    named = {node.name: node.output[0] for node in proto.graph.node}
    kind = onnx.TensorProto.FLOAT
    weight = onnx.numpy_helper.from_array(np.ones((128, 9), np.float32), "classes")
    proto.graph.initializer.append(weight)
    last = proto.graph.output[0].name
    proto.graph.node.append(onnx.helper.make_node("MatMul", [last, "classes"], ["logits"]))
    for name in (named["last_linear"], "logits"):
        proto.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, None))


def one_size_inside(proto: Any) -> None:
    """Let it run for images of 160x160 only, though it declares that it takes every size."""
    zeros = onnx.numpy_helper.from_array(np.zeros((1, 3, 160, 160), np.float32), "zeros")
    proto.graph.initializer.append(zeros)
    proto.graph.node[0].input[0] = "padded"
    first = onnx.helper.make_node("Add", ["images", "zeros"], ["padded"])
    nodes = [first, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def in_float16(proto: Any) -> None:
    for tensor in proto.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            values = np.maximum(values, 1e-7) if tensor.name.endswith(".eps") else values
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), tensor.name))
    for info in (*proto.graph.input, *proto.graph.output):
        info.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16


SAME: dict[str, tuple[Change, ...]] = {
    "our own": (),
    "free width": (free_width,),
    "tf2onnx": (as_tensorflow,),
    "tf2onnx, free width": (as_tensorflow, free_width),
    "other name": (renamed, free_width),
    "other outputs": (with_prelogits,),
}


@pytest.mark.parametrize("kind", SAME)
@pytest.mark.parametrize("size", [None, (160, 160)])
def test_right_files_pass(
    sides: tuple[Path, Path, Any],
    exported: Callable[..., Path],
    tmp_path: Path,
    kind: str,
    size: tuple[int, int] | None,
) -> None:
    """Of any form. A fixed size leaves out the odd one; nothing else is left out."""
    path = exported(*SAME[kind], size=size, batch=2 if kind == "other name" else None)
    headline, report = verified(tmp_path, sides[1], path)
    assert headline.startswith("PASSED")
    assert status(report) == PASSED
    left_out = [note for note in report["notes"] if "left out" in note]
    only = "the feed 'odd size' is left out: the candidate takes images of 160 by 160 only"
    assert left_out == ([only] if size else [])
    assert len(report["embeddings"]) == (9 if size else 10)
    fed = any("'phase_train:0' is set to False" in note for note in report["notes"])
    assert fed == kind.startswith("tf2onnx")


def test_a_live_reference_gets_images_of_the_size(
    sides: tuple[Path, Path, Any], exported: Callable[..., Path], tmp_path: Path
) -> None:
    """The default of ``torch.onnx.export``: batch and size are fixed."""
    _, report = verified(tmp_path, sides[0], exported(as_tensorflow, size=(160, 160), batch=1))
    assert status(report) == PASSED
    assert [row.partition(":")[0] for row in report["feeds"]] == [
        "noise [5, 160, 160, 3]",
        "structured [5, 160, 160, 3]",
        "single [1, 160, 160, 3]",
        "extremes [4, 160, 160, 3]",
    ]
    assert any("'odd size' is left out" in note for note in report["notes"])


def test_a_size_that_the_reference_does_not_take(
    sides: tuple[Path, Path, Any], exported: Callable[..., Path]
) -> None:
    """The published graphs average over a window of 3x3; a record has images of its sizes only."""
    path = exported(size=(96, 112))
    result = run(verify_command, sides[0], path)
    assert result.exit_code == 1
    assert not result.stdout
    assert "the reference does not take images of the only size that the candidate" in result.stderr
    assert "96 by 112" in result.stderr
    result = run(verify_command, sides[1], path)
    assert result.exit_code == 1
    assert not result.stdout
    assert "the candidate takes none of the recorded images" in result.stderr
    assert "of 96 by 112 only" in result.stderr


def test_a_size_that_is_not_declared(
    sides: tuple[Path, Path, Any], exported: Callable[..., Path], tmp_path: Path
) -> None:
    """The odd size fails when it runs: it is left out with onnxruntime's reason."""
    headline, report = verified(tmp_path, sides[1], exported(one_size_inside))
    assert headline.startswith("PASSED")
    (note,) = [note for note in report["notes"] if "left out" in note]
    assert note.startswith("the feed 'odd size' is left out: the candidate takes images of other")
    assert len(report["embeddings"]) == 9


# --- wrong files


def unnormalised(proto: Any) -> None:
    node = proto.graph.node[-1]
    assert node.op_type == "Div"
    node.op_type = "Identity"
    del node.input[1:]


def other_weight(proto: Any) -> None:
    tensor = next(t for t in proto.graph.initializer if t.name == "last_linear.weight")
    values = onnx.numpy_helper.to_array(tensor).copy()
    values[0] += 0.01
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def swapped_rows(proto: Any) -> None:
    tensor = next(t for t in proto.graph.initializer if t.name == "last_linear.weight")
    values = onnx.numpy_helper.to_array(tensor)[::-1].copy()
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def test_embeddings_that_are_not_normalised_are_said_to_be(
    sides: tuple[Path, Path, Any], exported: Callable[..., Path], tmp_path: Path
) -> None:
    headline, report = verified(tmp_path, sides[1], exported(unnormalised))
    assert headline.startswith(
        "FAILED: the embeddings are not normalised; otherwise they agree to "
    )
    assert float(headline.split("agree to ")[1].split()[0]) < 1e-5
    assert "expected length 1, found" in headline
    assert status(report)["float32"] == "failed"


def test_embeddings_that_are_wrong_besides(
    sides: tuple[Path, Path, Any], exported: Callable[..., Path], tmp_path: Path
) -> None:
    for changes in ((unnormalised, other_weight), (other_weight,)):
        headline, _ = verified(tmp_path, sides[1], exported(*changes))
        assert headline.startswith("FAILED at")
        assert "normalised" not in headline


def test_float16_is_judged_as_coarsely_as_it_rounds(
    sides: tuple[Path, Path, Any], exported: Callable[..., Path], tmp_path: Path
) -> None:
    headline, report = verified(tmp_path, sides[1], exported(in_float16))
    assert headline.startswith("PASSED")
    assert "candidate.onnx (float16)" in headline
    gate = next(gate for gate in report["gates"] if gate["name"] == "float16")
    assert gate["tolerance"] == pytest.approx(1e-5 * 2**13)
    assert gate["measured"] > 1e-5
    headline, report = verified(tmp_path, sides[1], exported(swapped_rows, in_float16))
    assert headline.startswith("FAILED")


# --- maps


def test_maps_of_any_size_are_judged_alike(tensorflow: Any, tmp_path: Path) -> None:
    """P-Net for images that are not square: their height is the second axis in TensorFlow."""
    del tensorflow
    from facenet_models import PNet
    from facenet_models.onnx.export import export_onnx

    torch.manual_seed(5)
    model = PNet().eval()
    for layer in model.modules():
        if isinstance(layer, torch.nn.PReLU):
            torch.nn.init.uniform_(layer.weight, -0.5, 0.5)
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    arrays = {
        row.source: row.layout.invert(state[row.target]) for row in ARCHITECTURES["pnet"].rules
    }
    (tmp_path / "det1.npy").write_bytes(mtcnn_npy(arrays))
    measured = []
    for size in (None, (64, 90)):
        export_onnx(model, tmp_path / "p.onnx", size=size, overwrite=True)
        headline, report = verified(tmp_path, tmp_path / "det1.npy", tmp_path / "p.onnx")
        assert headline.startswith("PASSED")
        assert status(report) == {key: PASSED[key] for key in ("weights", "float64", "float32")}
        measured.append(next(g["measured"] for g in report["gates"] if g["name"] == "float32"))
    assert report["feeds"][0].startswith("noise [5, 90, 64, 3]")
    assert measured[0] / 3 < measured[1] < 3 * measured[0]  # 34 times as many numbers
    model.conv4_2.weight.data[1, 1] += 1e-3
    export_onnx(model, tmp_path / "p.onnx", size=(64, 90), overwrite=True)
    headline, _ = verified(tmp_path, tmp_path / "det1.npy", tmp_path / "p.onnx")
    assert headline.startswith("FAILED")


def test_the_usual_map_is_that_of_the_network() -> None:
    from facenet_models import PNet

    known = ARCHITECTURES["pnet"]
    assert known.feed_map == tuple(map(PNet.map_edge, known.feed_size))
    assert growth("pnet", 6 * 28) == 1
    assert growth("pnet", 6 * 28 * 9) == pytest.approx(3)
    assert growth("inception_resnet_v1", 512) == growth("rnet", 6) == 1
