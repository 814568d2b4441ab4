"""The registry, and ``InceptionResnetV1(pretrained=...)`` on weights that the converter made."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the networks need torch")
pytest.importorskip("requests", reason="downloads need requests")

import torch
from support.loopback import Files, serving
from torch import nn

import facenet_models
from facenet_common.errors import DownloadError, UsageError, WeightsError
from facenet_common.published import CASIA_STATE_SHA256, FILES
from facenet_models import InceptionResnetV1, PNet
from facenet_models.weights import pretrained
from facenet_models.weights.files import load_state_dict
from facenet_models.weights.pretrained import locate
from facenet_models.weights.registry import INCEPTION, Pretrained, Weights, find

pytestmark = pytest.mark.usefixtures("cache")

VGGFACE2, CASIA = "20180402-114759-vggface2.pt", "20180408-102900-casia-webface.pt"


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a converted demo checkpoint under the name of the VGGFace2 weights."""
    from click.testing import CliRunner

    from converter.cli.convert import command
    from converter.demo import write_demo

    folder = tmp_path_factory.mktemp("release")
    write_demo(folder / "demo")
    out = str(folder / VGGFACE2)
    done = CliRunner().invoke(command, ["--checkpoint", str(folder / "demo"), "--out", out])
    assert done.exit_code == 0, done.output
    shutil.rmtree(folder / "demo")
    return folder


@pytest.fixture(scope="session")
def state(release: Path) -> dict[str, torch.Tensor]:
    return load_state_dict(release / VGGFACE2)


@pytest.fixture
def here(release: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: ARG001 # which clears the variable, before it is set
    """FACENET_WEIGHTS names `release`."""
    monkeypatch.setenv("FACENET_WEIGHTS", str(release))
    return release


@pytest.fixture
def address(release: Path) -> Iterator[str]:
    """`release` over HTTP."""
    with serving(partial(Files, directory=release)) as address:
        yield address


def same(model: nn.Module, state: dict[str, torch.Tensor], *, but: str = " ") -> bool:
    mine = model.state_dict()
    assert mine.keys() == state.keys()
    return all(torch.equal(mine[name], state[name]) for name in state if not name.startswith(but))


# --- The registry ---------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", Pretrained, ids=lambda entry: entry.name)
def test_each_entry_is_complete(entry: Pretrained) -> None:
    weights = entry.value
    assert dataclasses.is_dataclass(weights)
    with pytest.raises(dataclasses.FrozenInstanceError):
        weights.url = ""  # type: ignore[misc] # that is the point
    assert entry.name == weights.name.upper().replace("-", "_")
    assert issubclass(getattr(facenet_models, weights.architecture), nn.Module)
    assert weights.url.startswith("https://")
    assert weights.url.endswith("/" + weights.file)
    assert weights.sha256 is None or re.fullmatch("[0-9a-f]{64}", weights.sha256)
    for text in (weights.training_set, weights.origin, weights.licence, weights.preprocessing):
        assert len(text) > 5
    is_inception = weights.architecture == INCEPTION
    for value in (weights.classes, weights.embedding_size, weights.lfw_accuracy):
        assert (value is not None) == is_inception
    assert weights.image_size is not None
    assert find(weights.name, weights.architecture) is weights


def test_no_two_entries_share_anything_that_tells_them_apart() -> None:
    for field in ("name", "file", "url"):
        assert len({getattr(entry.value, field) for entry in Pretrained}) == 5
    assert len(Pretrained) == len(Pretrained.__members__)  # equal values would be one


def test_the_published_figures() -> None:
    vggface2, casia = Pretrained.VGGFACE2.value, Pretrained.CASIA_WEBFACE.value
    assert (vggface2.classes, vggface2.lfw_accuracy) == (8631, 0.9965)
    assert (casia.classes, casia.lfw_accuracy) == (10575, 0.9905)
    assert vggface2.embedding_size == casia.embedding_size == 512
    assert (vggface2.file, casia.file) == (VGGFACE2, CASIA)


@pytest.mark.parametrize("name", ["pnet", "rnet", "onet"])
def test_hashes_are_those_of_the_published_files(
    reference_dir: Path, name: str, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    weights = Pretrained[name.upper()].value
    file = reference_dir / "published" / weights.file
    assert sha256(file.read_bytes()).hexdigest() == weights.sha256
    pretrained.check_file(weights, file)
    monkeypatch.setenv("FACENET_WEIGHTS", str(file.parent))
    assert locate(weights) == file
    monkeypatch.delenv("FACENET_WEIGHTS")
    cache.mkdir(parents=True)
    (cache / weights.file).write_bytes(file.read_bytes() + b"\n")
    with pytest.raises(WeightsError, match="SHA-256 is wrong"):
        locate(weights)


# --- The constructor ------------------------------------------------------------------------------


def test_facenet_pytorchs_quick_start(here: Path, state: dict[str, torch.Tensor]) -> None:
    resnet = InceptionResnetV1(pretrained="vggface2").eval()
    assert same(resnet, state)
    assert all(
        value.dtype in (torch.float32, torch.int64) for value in resnet.state_dict().values()
    )
    assert all(p.requires_grad and p.device.type == "cpu" for p in resnet.parameters())
    images = torch.randn(2, 3, 80, 80, generator=torch.Generator().manual_seed(8))
    with torch.inference_mode():
        embeddings = resnet(images)
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))
        resnet.classify = True
        assert resnet(images).shape == (2, 8631)
        loaded = InceptionResnetV1().eval()
        features = {name: value for name, value in state.items() if not name.startswith("logits")}
        loaded.load_state_dict(features)
        assert torch.equal(loaded(images), embeddings)
    assert (resnet.pretrained, resnet.num_classes) == ("vggface2", None)
    assert here.is_dir()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("classify", [False, True])
def test_another_number_of_classes_gives_a_new_classifier(
    state: dict[str, torch.Tensor], classify: bool
) -> None:
    model = InceptionResnetV1(classify=classify, pretrained="vggface2", num_classes=5)
    assert same(model, state, but="logits.")
    assert model.logits is not None
    assert model.logits.weight.shape == (5, 512)
    assert model.logits.weight.std() > 0
    assert model.classify is classify
    trained = InceptionResnetV1("vggface2", classify, 8631)
    assert same(trained, state)


@pytest.mark.usefixtures("here")
def test_the_classifier_of_the_weights_is_used() -> None:
    model = InceptionResnetV1("vggface2", True, None, 0.1, "meta")
    assert model.logits is not None
    assert model.logits.out_features == 8631
    assert model.dropout.p == 0.1
    assert {value.device.type for value in model.parameters()} == {"meta"}


def test_a_path_may_hold_any_sizes(tmp_path: Path) -> None:
    torch.manual_seed(9)
    small = InceptionResnetV1(num_classes=4, embedding_size=128).half()
    state = {k: v for k, v in small.state_dict().items() if "num_batches" not in k}
    for path in (tmp_path / "own.pt", str(tmp_path / "own.pt")):
        torch.save(state, tmp_path / "own.pt")
        model = InceptionResnetV1(path)
        assert model.last_linear.weight.dtype == torch.float32  # the network's type, not the file's
        assert same(model.half(), small.state_dict())
    features = {k: v for k, v in state.items() if not k.startswith("logits")}
    torch.save(features, tmp_path / "features.pt")
    assert InceptionResnetV1(tmp_path / "features.pt").logits is None
    with pytest.raises(ValueError, match="holds no classifier: pass num_classes"):
        InceptionResnetV1(tmp_path / "features.pt", classify=True)
    with pytest.raises(ValueError, match="embedding_size is 128 in"):
        InceptionResnetV1(tmp_path / "own.pt", embedding_size=512)


def test_weights_of_another_network_are_refused_by_name(tmp_path: Path) -> None:
    torch.save(PNet().state_dict(), tmp_path / "p.pt")
    with pytest.raises(WeightsError, match="do not fit InceptionResnetV1") as caught:
        InceptionResnetV1(tmp_path / "p.pt")
    assert "conv2d_1a.conv.weight" in str(caught.value)
    assert str(tmp_path / "p.pt") in str(caught.value)


@pytest.mark.parametrize("name", ["vggface", "VGGFace2", "pnet", ""])
def test_an_unknown_name_lists_the_known(name: str) -> None:
    with pytest.raises(UsageError, match="no pretrained weights of this name") as caught:
        InceptionResnetV1(name)
    assert "vggface2, casia-webface, or the path" in str(caught.value)


def test_a_path_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        InceptionResnetV1(str(tmp_path / "absent.pt"))


# --- Where weights are looked for -----------------------------------------------------------------


def test_an_address_in_facenet_weights_is_downloaded_once(
    address: str, cache: Path, monkeypatch: pytest.MonkeyPatch, state: dict[str, torch.Tensor]
) -> None:
    monkeypatch.setenv("FACENET_WEIGHTS", address + "/")
    assert same(InceptionResnetV1("vggface2"), state)
    file = locate(Pretrained.VGGFACE2.value)
    assert file.parent.parent == cache  # not where the registry's own would be
    assert file.with_name(VGGFACE2 + ".sha256").is_file()
    monkeypatch.setenv("FACENET_OFFLINE", "1")
    assert locate(Pretrained.VGGFACE2.value) == file
    with pytest.raises(DownloadError, match="FACENET_OFFLINE"):
        InceptionResnetV1("casia-webface")


def test_what_the_address_lacks_is_looked_for_in_the_registry(
    address: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACENET_WEIGHTS", address)
    with pytest.raises(DownloadError, match=r"can't be reached: http://127\.0\.0\.1:9/timesler/"):
        locate(Pretrained.CASIA_WEBFACE.value)
    assert not list(cache.rglob("*.pt"))


def test_the_file_must_be_the_one_that_the_registry_describes(
    release: Path, address: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (release / CASIA).hardlink_to(release / VGGFACE2)
    try:
        monkeypatch.setenv("FACENET_WEIGHTS", address)
        with pytest.raises(DownloadError, match="not the weight file") as caught:
            locate(Pretrained.CASIA_WEBFACE.value)
    finally:
        (release / CASIA).unlink()
    assert "8631" in str(caught.value)
    assert {path.suffix for path in cache.rglob("*") if path.is_file()} <= {".lock"}


def test_a_sums_file_in_the_folder_is_obeyed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = Pretrained.PNET.value
    torch.save(PNet().state_dict(), tmp_path / "pnet.pt")
    digest = sha256((tmp_path / "pnet.pt").read_bytes()).hexdigest()
    monkeypatch.setenv("FACENET_WEIGHTS", str(tmp_path))
    assert locate(weights) == tmp_path / "pnet.pt"
    assert [path.name for path in tmp_path.glob("pnet*")] == ["pnet.pt"]  # nothing is added
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  rnet.pt\n{digest} *pnet.pt\n")
    assert locate(weights) == tmp_path / "pnet.pt"
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  pnet.pt\n")
    with pytest.raises(WeightsError, match="SHA-256 is wrong"):
        locate(weights)


def test_safetensors_in_the_folder_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = pytest.importorskip("safetensors.torch")
    files.save_file(PNet().state_dict(), tmp_path / "pnet.safetensors")
    monkeypatch.setenv("FACENET_WEIGHTS", str(tmp_path))
    assert locate(Pretrained.PNET.value) == tmp_path / "pnet.safetensors"


@pytest.mark.parametrize("place", ["/no/such/folder", "ftp://host/folder"])
def test_a_place_that_is_none_is_a_usage_error(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACENET_WEIGHTS", place)
    with pytest.raises(UsageError, match="FACENET_WEIGHTS is not a folder"):
        InceptionResnetV1("vggface2")


def test_offline_the_message_says_everywhere_it_looked_in_order(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACENET_OFFLINE", "1")
    with pytest.raises(DownloadError, match="FACENET_OFFLINE forbids") as caught:
        InceptionResnetV1("vggface2")
    assert caught.value.file == str(cache / VGGFACE2)
    assert caught.value.found == f"FACENET_WEIGHTS is not set; no {VGGFACE2} in {cache}"
    place = tmp_path / "published"
    place.mkdir()
    monkeypatch.setenv("FACENET_WEIGHTS", str(place))
    other = VGGFACE2.replace(".pt", ".safetensors")
    with pytest.raises(DownloadError) as caught:
        InceptionResnetV1("vggface2")
    assert caught.value.found == (
        f"no {VGGFACE2} or {other} in {place} (FACENET_WEIGHTS); no {VGGFACE2} in {cache}"
    )
    monkeypatch.setenv("FACENET_WEIGHTS", "https://example.org/v1")
    with pytest.raises(DownloadError) as caught:
        InceptionResnetV1("vggface2")
    assert f"no {VGGFACE2} or {other} in {cache}/from-" in str(caught.value.found)
    assert "https://example.org/v1" in str(caught.value.found)


def test_what_facenet_pytorch_has_cached_is_used(release: Path, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / VGGFACE2).hardlink_to(release / VGGFACE2)
    digest = sha256((release / VGGFACE2).read_bytes()).hexdigest()
    weights = dataclasses.replace(Pretrained.VGGFACE2.value, sha256=digest)
    assert locate(weights) == cache / VGGFACE2


def test_another_file_under_a_published_name_is_refused_at_its_first_use(
    release: Path, cache: Path
) -> None:
    cache.mkdir(parents=True)
    (cache / VGGFACE2).hardlink_to(release / VGGFACE2)
    with pytest.raises(WeightsError, match="SHA-256 is wrong") as caught:
        InceptionResnetV1("vggface2")
    assert caught.value.expected == FILES[VGGFACE2].sha256


def test_the_state_of_casia_webface_where_it_is_at_hand() -> None:
    """One source states this hash; the file itself is looked for where facenet-pytorch keeps it."""
    weights = Pretrained.CASIA_WEBFACE.value
    path = Path.home() / ".cache" / "torch" / "checkpoints" / weights.file
    if not path.is_file():
        pytest.skip(f"{weights.file} is not at hand: {path.parent}")
    assert _state_sha256(load_state_dict(path)) == CASIA_STATE_SHA256


def _state_sha256(state: dict[str, Any]) -> str:
    digest = sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def test_the_hash_of_a_state_depends_on_names_values_and_nothing_else() -> None:
    one = {"b": torch.ones(2), "a": torch.tensor(3)}
    assert _state_sha256(one) == _state_sha256(dict(sorted(one.items())))
    want = sha256(b"a" + bytes([3, *[0] * 7]) + b"b" + b"\0\0\x80?" * 2).hexdigest()
    assert _state_sha256(one) == want


def test_the_registry_needs_no_torch() -> None:
    code = (
        "import sys; from facenet_models.weights.registry import Pretrained\n"
        "print({'torch', 'requests', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
    assert isinstance(Pretrained.PNET.value, Weights)
