"""The whole of it, as a maintainer does it: five models, built, published, checked, built again.

The two large models are demo checkpoints of the published sizes; the MTCNN nets are the real ones
where the reference data is.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import registry as registries
from support.small_release import LARGE, NETS, write_all

from facenet_common.hashing import sha256_file
from facenet_release.documents.manifest import MANIFEST

pytestmark = [pytest.mark.tensorflow, pytest.mark.timeout(1800)]

FACENET = [sys.executable, "-c", "from converter.cli.main import facenet; facenet()", "release"]
KINDS = [
    f"{name}{part}.{form}"
    for name in LARGE
    for part in ("", "-features", "-logits")
    for form in ("pt", "safetensors")
] + [f"{net}.{form}" for net in NETS for form in ("pt", "safetensors")]


def facenet(folder: Path, *arguments: object) -> Any:
    """What a command prints as JSON; it must succeed."""
    command = [*FACENET, *map(str, arguments), "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the release of all five models has been built, in ``dist``."""
    pytest.importorskip("tensorflow", reason="judging needs TensorFlow")
    folder = tmp_path_factory.mktemp("whole")
    write_all(folder)
    built = facenet(folder, "build", "release.toml", "--out", "dist")
    assert [model["name"] for model in built["models"]] == [*LARGE, *NETS]
    return folder


def test_every_file_that_people_know_is_there_and_right(folder: Path) -> None:
    assert set(KINDS) <= {path.name for path in (folder / "dist").iterdir()}
    said = facenet(folder, "check", "dist")
    assert set(KINDS) <= said["files"].keys()


def test_a_rebuild_gives_the_same_bytes(folder: Path) -> None:
    said = facenet(folder, "rebuild", "dist")
    assert said["reproduced"]
    assert [*said["different"], *said["gone"], *said["new"]] == []


def test_published_to_a_folder_its_weights_are_used_by_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facenet(folder, "publish", "dist", "--to", folder / "published")
    facenet(folder, "check", folder / "published")
    use_by_name(str(folder / "published"), folder, monkeypatch)


def test_published_to_a_real_registry_its_weights_are_used_by_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with registries.serve(tmp_path / "registry") as registry:
        address = registry.address("1.0.0", "faces/weights")
        published = facenet(folder, "publish", "dist", "--to", address)
        assert published["manifest_sha256"] == sha256_file(folder / "dist" / MANIFEST)
        facenet(folder, "publish", "dist", "--to", address)  # there is nothing to do
        facenet(folder, "check", address)
        use_by_name(address, folder, monkeypatch)

        registry.alter(sha256_file(folder / "dist" / "pnet.pt"))
        command = [*FACENET, "check", address]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "pnet.pt" in done.stderr


def use_by_name(place: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``pretrained=`` takes its weights from the release."""
    torch = pytest.importorskip("torch", reason='pip install "facenet-parity[release]"')
    from facenet_models import MTCNN, InceptionResnetV1

    home = folder / f"home-{len(place)}"
    monkeypatch.setenv("TORCH_HOME", str(home))
    monkeypatch.setenv("FACENET_WEIGHTS", place)
    net = InceptionResnetV1(pretrained="vggface2", classify=True)
    expected = torch.load(folder / "dist" / "20180402-114759-vggface2.pt", weights_only=True)
    assert torch.equal(net.logits.weight, expected["logits.weight"])
    detector = MTCNN()
    state = torch.load(folder / "dist" / "onet.pt", weights_only=True)
    assert torch.equal(detector.onet.dense5.weight, state["dense5.weight"])
    cached = sorted(path.name for path in home.rglob("*.pt")) if home.exists() else []
    names = ["20180402-114759-vggface2.pt", "onet.pt", "pnet.pt", "rnet.pt"]
    assert cached == (names if "://" in place else [])
