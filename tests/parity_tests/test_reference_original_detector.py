"""The original's detect_face, run as it is; what needs no checkout of it runs a miniature."""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from support.fakes import mtcnn_npy, npy_of_pickle

import parity_tests.reference.original_detector as subject
from converter.sources import mtcnn_npy as mtcnn_source
from facenet_common.errors import FormatError, MissingPackageError, ParityError, UsageError
from parity_tests.probes import probes, require_complete
from parity_tests.reference.original import GraphValues, original
from parity_tests.reference.original_detector import (
    FOLDER_VARIABLE,
    ORIGINAL_GRAPH,
    OriginalDetector,
    load_detect_face,
    original_available,
    original_graph,
)
from parity_tests.reference.runner import (
    OWN_GRAPH,
    ReferenceRunner,
    weights_from_arrays,
    weights_in_graph,
)
from parity_tests.reference.tf1_shim import Numpy, OpenCV, load_source, tf1_graph
from parity_tests.tf_graphs import MTCNN_NETS
from parity_tests.tf_graphs.float64 import in_float64

NETS = [("pnet", 1), ("rnet", 2), ("onet", 3)]
BLACK = np.zeros((20, 30, 3), np.uint8)

# Nets of one layer, with all that is peculiar about the original: TF1's sizes and variables,
# np.load, a literal compared with `is`.
MINIATURE = """
import os
import cv2
import numpy as np
import tensorflow as tf

class Net(object):
    def __init__(self, inputs):
        data = inputs["data"]
        size = data.get_shape()[-1].value
        with tf.variable_scope("scale"):
            self.product = data * tf.get_variable("weights", [size])
            self.product += tf.get_variable("biases", [size])
        self.answers = [tf.identity(self.product, name) for name in self.names]

    def load(self, path, session):
        for layer, values in np.load(path, encoding="latin1").item().items():
            with tf.variable_scope(layer, reuse=True):
                for name, value in values.items():
                    session.run(tf.get_variable(name).assign(value))

class PNet(Net):
    names = "conv4-2/BiasAdd", "prob1"

class RNet(Net):
    names = "conv5-2/conv5-2", "prob1"

class ONet(Net):
    names = "conv6-2/conv6-2", "conv6-3/conv6-3", "prob1"

def create_mtcnn(session, folder):
    made = []
    for number, kind in enumerate((PNet, RNet, ONet), 1):
        with tf.variable_scope(kind.__name__.lower()):
            data = tf.placeholder(tf.float32, (None, None, None, 3), "input")
            net = kind({"data": data})
            net.load(os.path.join(folder, "det%d.npy" % number), session)
        made.append(lambda x, data=data, net=net: session.run(net.answers, {data: x}))
    return made

def detect_face(img, minsize, pnet, rnet, onet, threshold, factor):
    if factor is "text" or img.max() == 0:
        return np.empty((0, 9)), np.empty(0)
    if img.max() == 255:
        cv2.resize(img, (2, 2))
    sums = [net(img[None])[0].sum() for net in (pnet, rnet, onet)]
    return np.array([sums + [minsize, factor]]), np.ones((10, 1), np.float32)
"""


def write_source(folder: Path, text: str = MINIATURE) -> Path:
    path = folder / "src" / "align" / "detect_face.py"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return folder


@pytest.fixture
def miniature(tmp_path: Path) -> Path:
    """A checkout whose detect_face.py is `MINIATURE`."""
    return write_source(tmp_path / "checkout")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A folder of weights for it: net number n multiplies by n and adds nothing."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for number in (1, 2, 3):
        scale = np.full(3, number, np.float32)
        arrays = {"scale/weights": scale, "scale/biases": np.zeros(3, np.float32)}
        (folder / f"det{number}.npy").write_bytes(mtcnn_npy(arrays))
    return folder


@pytest.fixture
def no_submodule(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(subject, "_SUBMODULE", tmp_path / "third_party")


@pytest.fixture
def untouched(tensorflow: Any) -> Iterator[None]:
    """Fails the test if the process is not as before it."""
    v1 = tensorflow.compat.v1

    def state() -> dict[str, Any]:
        return {
            "plain sizes": isinstance(tensorflow.TensorShape((1,))[0], int),
            "eager": tensorflow.executing_eagerly(),
            "resources": v1.resource_variables_enabled(),
            "control flow": v1.control_flow_v2_enabled(),
            "tensorflow": id(sys.modules["tensorflow"]),
            "numpy": id(sys.modules["numpy"]),
            "load": id(np.load),
            "import": id(__import__),
            "path": list(sys.path),
            "modules": [name for name in sys.modules if "detect_face" in name],
        }

    before = state()
    del before["modules"]
    yield
    after = state()
    assert [
        m for m in after.pop("modules") if not m.endswith("test_reference_original_detector")
    ] == []
    assert after == before
    assert before["plain sizes"]
    assert before["eager"]


def golden(reference_dir: Path) -> dict[str, Any]:
    with np.load(reference_dir / "golden" / "mtcnn_nets.npz") as arrays:
        return dict(arrays)


# --- where it is


def test_the_variable_names_the_folder(miniature: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(miniature))
    assert original_available() == miniature


@pytest.mark.usefixtures("no_submodule")
def test_the_submodule_serves_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert original_available() is None
    write_source(tmp_path / "third_party")
    assert original_available() == tmp_path / "third_party"
    monkeypatch.setenv(FOLDER_VARIABLE, "")
    assert original_available() == tmp_path / "third_party"


def test_the_submodule_is_beside_the_packages() -> None:
    root = Path(__file__).parents[2]
    assert root / "third_party" / "davidsandberg_facenet" == subject._SUBMODULE
    assert str(subject._SUBMODULE.relative_to(root)) in (root / ".gitmodules").read_text()


def test_a_wrong_folder_is_not_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(ParityError, match=f"{FOLDER_VARIABLE} doesn't name") as caught:
        original_available()
    assert str(tmp_path / "src" / "align" / "detect_face.py") in str(caught.value)


# --- the shim


def test_stand_ins_are_seen_by_the_module_only(tmp_path: Path) -> None:
    path = tmp_path / "old.py"
    path.write_text(
        "import json, os.path as p\n"
        "from os.path import join\n"
        "def late(unused: 1 = None):\n"
        "    import json as j\n"
        "    return j\n"
    )
    module = load_source(path, "_old", {"json": "stand-in"})
    assert module.json == module.late() == "stand-in"
    assert module.p is os.path
    assert module.join is os.path.join
    assert module.late.__annotations__ == {"unused": 1}  # no __future__ of the loader's
    assert sys.modules["json"] is json
    assert "_old" not in sys.modules


@pytest.mark.parametrize("text", ["def broken(", "import no_such_module_anywhere", "1 / 0", "\0"])
def test_what_does_not_load_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "old.py").write_text(text)
    with pytest.raises(ParityError, match="can't be loaded"):
        load_source(tmp_path / "old.py", "_old", {})
    with pytest.raises(ParityError, match="can't read"):
        load_source(tmp_path / "absent.py", "_old", {})


def test_weights_are_read_as_the_original_expects(weights: Path) -> None:
    loaded = Numpy().load(str(weights / "det2.npy"), encoding="latin1").item()
    assert list(loaded) == ["scale"]
    assert loaded["scale"]["weights"].tolist() == [2, 2, 2]
    assert Numpy().float32 is np.float32


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def write_bomb(path: Path, proof: Path) -> None:
    holder = np.empty((), object)
    holder[()] = {"scale": {"weights": Bomb(proof)}}
    path.write_bytes(npy_of_pickle(pickle.dumps(holder, 2)))


def test_opencv_is_asked_for_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    opencv = OpenCV()
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingPackageError, match=r"needs opencv-python-headless"):
        _ = opencv.resize


@pytest.mark.tensorflow
@pytest.mark.usefixtures("untouched")
def test_tf1_ends_with_its_graph(tensorflow: Any) -> None:
    v1 = tensorflow.compat.v1
    with tf1_graph() as graph:
        made = v1.get_variable("w", (3,))
        assert made.get_shape()[-1].value == 3
        assert made.op.type == "VariableV2"
        assert v1.get_default_graph() is graph
        with tf1_graph():
            pass
        assert made.get_shape()[-1].value == 3
    with pytest.raises(RuntimeError, match="inside"), tf1_graph():
        raise RuntimeError("inside")


# --- the miniature


@pytest.mark.tensorflow
@pytest.mark.usefixtures("untouched")
def test_the_module_is_loaded_as_it_is(miniature: Path) -> None:
    before = sorted(miniature.rglob("*"))
    module = load_detect_face(miniature)
    assert module.__file__ == str(miniature / "src" / "align" / "detect_face.py")
    assert module.PNet.names == ("conv4-2/BiasAdd", "prob1")
    assert sorted(miniature.rglob("*")) == before  # no bytecode either


@pytest.mark.tensorflow
def test_another_module_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match=r"not davidsandberg/facenet's(?s:.*)no ONet"):
        load_detect_face(write_source(tmp_path, MINIATURE.replace("ONet", "QNet")))


@pytest.mark.tensorflow
@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("net", "number"), NETS)
def test_its_graph_serves(
    miniature: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, net: str, number: int
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(miniature))
    source = weights / f"det{number}.npy"
    values = GraphValues(mtcnn_source.open(source), net)
    graph, variables = original(net, {}, mtcnn_source.FORMAT, source, None, values)
    assert graph.description == ORIGINAL_GRAPH
    size = MTCNN_NETS[net].size or 13
    images = np.ones((2, size, size, 3), np.float32)
    with ReferenceRunner(graph, variables) as runner:
        answers = runner.run(images)
    assert len(answers) == len(MTCNN_NETS[net].outputs)
    for answer in answers:
        np.testing.assert_array_equal(answer, images * number)


@pytest.mark.tensorflow
@pytest.mark.usefixtures("no_submodule")
def test_the_projects_own_graph_serves_without(weights: Path) -> None:
    graph, _ = original("rnet", {}, mtcnn_source.FORMAT, weights / "det2.npy", None, {})
    assert graph.description == OWN_GRAPH


@pytest.mark.tensorflow
@pytest.mark.usefixtures("untouched")
def test_what_fails_while_building_is_told(tmp_path: Path) -> None:
    folder = write_source(tmp_path, MINIATURE.replace("tf.identity", "tf.no_such_name"))
    with pytest.raises(ParityError, match=r"can't build onet(?s:.*)no_such_name"):
        original_graph("onet", folder)


@pytest.mark.tensorflow
@pytest.mark.usefixtures("untouched")
def test_a_graph_with_other_operations_is_refused(tmp_path: Path) -> None:
    text = MINIATURE.replace("self.product +=", "tf.io.read_file('x'); self.product +=")
    original_graph("pnet", write_source(tmp_path / "unused", text))  # cut away
    text = MINIATURE.replace(
        "tf.identity(self.product, name)", "tf.matrix_inverse(self.product, name=name)"
    )
    with pytest.raises(ParityError, match="MatrixInverse"):
        original_graph("pnet", write_source(tmp_path / "used", text))


@pytest.mark.tensorflow
@pytest.mark.usefixtures("untouched")
def test_the_detector_runs(miniature: Path, weights: Path) -> None:
    with OriginalDetector(miniature, weights) as detector:
        boxes, points = detector.detect(BLACK + np.uint8(1), minsize=17, factor=0.5)
        pixels = BLACK.size
        assert boxes.tolist() == [[pixels, 2 * pixels, 3 * pixels, 17, 0.5]]
        assert points.shape == (10, 1)
        boxes, points = detector.detect(BLACK)
        assert (boxes.shape, points.shape) == ((0, 5), (10, 0))


@pytest.mark.tensorflow
def test_the_detector_says_that_opencv_is_missing(
    miniature: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OriginalDetector(miniature, weights) as detector:
        monkeypatch.setitem(sys.modules, "cv2", None)
        with pytest.raises(MissingPackageError, match=r"needs opencv-python-headless"):
            detector.detect(BLACK + np.uint8(255))


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("image", "options"),
    [
        (BLACK.astype(np.float32), {}),
        (BLACK[..., 0], {}),
        (BLACK[..., :2], {}),
        (BLACK[:0], {}),
        (BLACK, {"minsize": 0}),
        (BLACK, {"factor": 1.0}),
        (BLACK, {"factor": 0.0}),
        (BLACK, {"thresholds": (0.6, 0.7)}),
    ],
)
def test_arguments_are_checked(
    miniature: Path, weights: Path, image: Any, options: dict[str, Any]
) -> None:
    with (
        OriginalDetector(miniature, weights) as detector,
        pytest.raises(ValueError, match=r"^(an image is|minsize must be)"),
    ):
        detector.detect(image, **options)


@pytest.mark.tensorflow
def test_what_fails_while_detecting_is_told(tmp_path: Path, weights: Path) -> None:
    folder = write_source(tmp_path, MINIATURE.replace("if img.max() == 255", "if np.empty()"))
    refused = pytest.raises(ParityError, match=r"can't run on this image(?s:.*)TypeError")
    with OriginalDetector(folder, weights) as detector, refused:
        detector.detect(BLACK + np.uint8(1))


@pytest.mark.tensorflow
@pytest.mark.usefixtures("untouched")
def test_a_pickle_is_never_run(miniature: Path, weights: Path, tmp_path: Path) -> None:
    write_bomb(weights / "det2.npy", tmp_path / "proof")
    with pytest.raises(FormatError, match=r"det2\.npy"), OriginalDetector(miniature, weights):
        pass
    assert not (tmp_path / "proof").exists()
    np.load(weights / "det2.npy", allow_pickle=True)  # with this it goes off
    assert (tmp_path / "proof").exists()


@pytest.mark.tensorflow
@pytest.mark.usefixtures("untouched")
def test_weights_that_do_not_fit_are_refused(miniature: Path, weights: Path) -> None:
    def refusal(arrays: dict[str, Any]) -> str:
        (weights / "det3.npy").write_bytes(mtcnn_npy(arrays))
        with pytest.raises(ParityError) as caught, OriginalDetector(miniature, weights):
            pass
        return str(caught.value)

    three = np.ones(3, np.float32)
    assert "no onet/scale/biases, 1 missing" in refusal({"scale/weights": three})
    assert "other" in refusal({"other/weights": three})
    assert "[4]" in refusal({"scale/weights": np.ones(4, np.float32)})
    (weights / "det3.npy").unlink()
    with pytest.raises(UsageError, match=r"det3\.npy"), OriginalDetector(miniature, weights):
        pass


# --- the original itself


@pytest.fixture(scope="module")
def checkout(tensorflow: Any) -> Path:
    """The folder of the original; skips where there is none."""
    del tensorflow
    folder = original_available()
    if folder is None:
        pytest.skip(
            "src/align/detect_face.py of the original is absent: check out the submodule "
            f"third_party/davidsandberg_facenet, or set {FOLDER_VARIABLE}"
        )
    return folder


@pytest.mark.tensorflow
@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("net", "number"), NETS)
def test_the_originals_nets_answer_as_recorded(
    checkout: Path, reference_dir: Path, net: str, number: int
) -> None:
    pytest.importorskip("torch", reason='needs torch: pip install "facenet-parity[parity]"')
    from parity_tests.candidate.torch_runner import CandidateRunner

    graph = original_graph(net, checkout)
    source = mtcnn_source.open(reference_dir / "mtcnn" / f"det{number}.npy")
    values = dict(GraphValues(source, net))
    recorded = golden(reference_dir)
    images = recorded[f"{net}/input"]
    with ReferenceRunner(graph, weights_from_arrays(values, str(source))) as runner:
        answers = runner.run(images)
        table = probes(net)
        modules = {m for p in table for m in (p.module, *p.isolation.entry)}
        assert len(require_complete(table, runner.tensors, modules)) == len(table)
    for result, answer in zip(MTCNN_NETS[net].outputs, answers, strict=True):
        # Measured: 1.8e-7.
        np.testing.assert_allclose(answer, recorded[f"{net}/{result}"], rtol=0, atol=1e-6)

    images = images.astype(np.float64)
    with ReferenceRunner(in_float64(graph, values), weights_in_graph) as runner:
        wide = runner.run(images)
    published = reference_dir / "published" / f"{net}.pt"
    with CandidateRunner(published, "torch", net, {}, dtype="float64") as candidate:
        for one, other in zip(wide, candidate.run(images), strict=True):
            assert one.dtype == np.float64
            # Measured: 1.3e-15.
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


@pytest.mark.tensorflow
@pytest.mark.usefixtures("untouched")
def test_the_original_detects_as_recorded(checkout: Path, reference_dir: Path) -> None:
    pytest.importorskip("cv2", reason="needs OpenCV: pip install opencv-python-headless")
    image_module = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install pillow")
    recorded = json.loads((reference_dir / "golden" / "mtcnn_detect.json").read_text())["results"]
    assert len(recorded) == 7
    with OriginalDetector(checkout, reference_dir / "mtcnn") as detector:
        for key, expected in recorded.items():
            name, minsize = key.split("|minsize=")
            image = np.zeros((300, 300, 3), np.uint8)
            if not name.startswith("black"):
                image = np.asarray(image_module.open(reference_dir / name).convert("RGB"))
            boxes, points = detector.detect(image, int(minsize))
            assert boxes.shape == (len(expected["boxes"]), 5), key
            assert points.shape == (10, len(boxes)), key
            # Pixels; measured: 6e-5, of coordinates up to 1000.
            wanted = np.reshape(expected["boxes"], boxes.shape)
            np.testing.assert_allclose(boxes, wanted, rtol=0, atol=1e-3, err_msg=key)
            wanted = np.reshape(expected["points"], points.shape)
            np.testing.assert_allclose(points, wanted, rtol=0, atol=1e-3, err_msg=key)


@pytest.mark.tensorflow
def test_verify_says_which_graph_served(
    checkout: Path, reference_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("torch", reason='needs torch: pip install "facenet-parity[parity]"')
    from parity_tests.cli import verify_command

    def verify() -> Any:
        sides = reference_dir / "mtcnn" / "det3.npy", reference_dir / "published" / "onet.pt"
        options = "--probes", "blocks", "--json", tmp_path / "r.json"
        result = CliRunner().invoke(verify_command, [str(part) for part in (*sides, *options)])
        assert result.exit_code == 0, result.output
        report = json.loads((tmp_path / "r.json").read_text())
        assert {probe["verdict"] for probe in report["probes"]} == {"same"}
        return report["reference"]

    monkeypatch.setenv(FOLDER_VARIABLE, str(checkout))
    assert ORIGINAL_GRAPH in verify()
    monkeypatch.delenv(FOLDER_VARIABLE)
    monkeypatch.setattr(subject, "_SUBMODULE", tmp_path)
    assert OWN_GRAPH in verify()
