"""Files that Keras itself wrote: all tensors bit for bit, and the model's own answers."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from support import fakes, keras_models

from converter.architectures import INCEPTION_RESNET_V1
from converter.convert import Request, convert
from converter.sources import open_source
from converter.sources.keras import model as notes
from parity_tests.open_sides import FeedOptions
from parity_tests.verify import Options, verify

torch = pytest.importorskip("torch", reason='needs torch: pip install "facenet-parity[parity]"')
pytestmark = pytest.mark.tensorflow

LAST = "Bottleneck_BatchNorm"


class Saved(NamedTuple):
    """Files of one model, its values by ``LAYER/VARIABLE``, its answers to `images`."""

    folder: Path
    values: dict[str, np.ndarray]
    images: np.ndarray
    answers: np.ndarray


def _save(model: Any, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on formats of old
        if path.name.endswith(".weights.h5"):
            model.save_weights(path)
        elif path.name == "weights_of_keras_2.h5":
            from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

            h5py = pytest.importorskip("h5py")
            with h5py.File(path, "w") as file:
                save_weights_to_hdf5_group(file, model)
        else:
            model.save(path)
    return path


@pytest.fixture(scope="module")
def saved(tensorflow: Any, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """A model with random weights, saved in every way; its answers after Keras loaded it again."""
    del tensorflow
    keras = pytest.importorskip("keras", minversion="3.0", reason="needs Keras 3")
    folder = tmp_path_factory.mktemp("keras")
    model = keras_models.facenet(keras)
    values = keras_models.fill(model)
    for name in FILES:
        _save(model, folder / name)
    images = np.random.default_rng(1).standard_normal((2, 160, 160, 3), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = keras.models.load_model(folder / "facenet.h5", safe_mode=False, compile=False)
        answers = loaded.predict(images, verbose=0)
    return Saved(folder, values, images, answers)


FILES = ("facenet.h5", "facenet.keras", "facenet.weights.h5", "weights_of_keras_2.h5")


def _of_tensorflow(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`values` by TensorFlow's names, from the table of layers."""
    port = INCEPTION_RESNET_V1.keras
    assert port is not None
    words = {"kernel": "weights", "bias": "biases"}
    found = {}
    for name, value in values.items():
        layer, _, variable = name.partition("/")
        found[f"{port.layers[layer]}/{words.get(variable, variable)}"] = value
    return found


@pytest.mark.parametrize("name", FILES)
def test_all_490_tensors_bit_for_bit(name: str, saved: Saved) -> None:
    catalog = open_source(saved.folder / name)
    found = fakes.loaded(catalog)
    assert len(found) == 490
    assert found == fakes.expected(_of_tensorflow(saved.values))
    known = name in ("facenet.h5", "facenet.keras")
    assert (notes.NOT_NORMALISED.format(last=LAST) in catalog.notes) == known
    assert (notes.UNKNOWN_END in catalog.notes) != known
    assert any("21 layers" in note and "not run" in note for note in catalog.notes) == known


@pytest.mark.usefixtures("tensorflow")
def test_deepfaces_names_and_a_normalised_model(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    model = keras_models.facenet(keras, 8, size=80, deepface=True, normalised=True)
    assert "Block17_7_Branch_7_Conv2d_0b_1x7" in {layer.name for layer in model.layers}
    values = keras_models.fill(model)
    catalog = open_source(_save(model, tmp_path / "facenet.h5"))
    assert fakes.loaded(catalog) == fakes.expected(_of_tensorflow(values))
    assert notes.GOES_ON.format(last=LAST, more="normalize") in catalog.notes


def test_verify_takes_the_keras_file_as_reference(saved: Saved, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pt"
    convert(Request(str(saved.folder / "facenet.h5"), str(weights)))
    feeds = FeedOptions(count=3, kinds=("noise",))
    reference = str(saved.folder / "facenet.h5")
    report = verify(reference, str(weights), Options(feeds=feeds, probes="none"))
    assert report.passed
    assert {gate.name: gate.status for gate in report.gates} == dict.fromkeys(
        ("weights", "float64", "float32", "task"), "passed"
    )
    assert any(notes.NOT_NORMALISED.format(last=LAST) in note for note in report.notes)


def test_the_keras_model_itself_gives_the_converted_networks_embeddings(
    saved: Saved, tmp_path: Path
) -> None:
    """Loaded by Keras from the file that is converted; only its output is normalised here."""
    from facenet_models import InceptionResnetV1

    convert(Request(str(saved.folder / "facenet.keras"), str(tmp_path / "weights.pt")))
    network = InceptionResnetV1(pretrained=str(tmp_path / "weights.pt")).eval()
    with torch.no_grad():
        found = network(torch.from_numpy(saved.images.transpose(0, 3, 1, 2).copy())).numpy()
    norms = np.linalg.norm(saved.answers, axis=1, keepdims=True)
    assert norms.min() > 2, "Keras does not normalise"
    assert np.linalg.norm(found - saved.answers / norms, axis=1).max() < 1e-5
    assert np.linalg.norm(found[0] - found[1]) > 0.01, "the images are told apart"
