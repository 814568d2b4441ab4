"""Real releases, of MTCNN's small nets or of all models: recipes, inputs, what is built of them.

tests/facenet_release/conftest.py imports the fixtures for its tests.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest

from converter.architectures import ONET, PNET, RNET
from converter.demo import write_demo
from converter.rules import Rule
from converter.sources import open_source
from facenet_common.errors import FacenetError
from facenet_common.hashing import sha256_file
from facenet_release.building.assemble import builder_of
from facenet_release.building.build import build
from facenet_release.building.job import Job, JobResult
from facenet_release.building.workers import FinishedJob, OnProgress
from facenet_release.checking.check import CheckOptions, check
from facenet_release.documents.attestations import provenance
from facenet_release.documents.manifest import MANIFEST, PROVENANCE, SUMS, File, Manifest, parse
from facenet_release.documents.recipe import Recipe, read
from facenet_release.errors import CheckFailedError
from support.fakes import mtcnn_npy

NETS = {"pnet": ("det1.npy", PNET), "rnet": ("det2.npy", RNET), "onet": ("det3.npy", ONET)}
LARGE = {  # the checkpoint's folder, and how many classes it has
    "20180402-114759-vggface2": ("20180402-114759", 8631),
    "20180408-102900-casia-webface": ("20180408-102900", 10575),
}


def write_inputs(folder: Path) -> None:
    """det1.npy to det3.npy: the real ones where the reference data is, else random ones."""
    reference = os.environ.get("FACENET_REFERENCE_DIR", "")
    for file, architecture in NETS.values():
        real = Path(reference) / "mtcnn" / file
        if reference and real.is_file():
            shutil.copy(real, folder / file)
            continue
        rng = np.random.default_rng(list(file.encode()))
        arrays = {
            row.source: (rng.random(row.shape, np.float32) - np.float32(0.5)) * np.float32(0.2)
            for row in architecture.rows
            if isinstance(row, Rule)
        }
        (folder / file).write_bytes(mtcnn_npy(arrays))


def alter(path: Path) -> None:
    """Change one bit of a net's file, so that it can still be read: of a weight."""
    data = path.read_bytes()
    for position in range(len(data) // 2, len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        try:
            for ref in open_source(path).values():
                ref.load()
        except FacenetError:
            continue
        return
    raise AssertionError(f"{path} can't be altered")


def model_toml(folder: Path, name: str, more: str = "") -> str:
    """A recipe's entry of one net, with the hash of what lies in `folder`."""
    file = NETS[name][0]
    sha256 = sha256_file(folder / file)
    return f'[[model]]\nname = "{name}"\nsha256 = {{ "{file}" = "{sha256}" }}\n{more}\n'


def write_recipe(
    folder: Path,
    names: Sequence[str] = ("pnet", "rnet"),
    more: Mapping[str, str] = {},  # never written to
) -> Path:
    """A recipe in `folder` for nets whose files are there; `more` adds lines to a net's entry."""
    text = '[release]\nname = "small"\nversion = "1.0.0"\n\n'
    text += "\n".join(model_toml(folder, name, more.get(name, "")) for name in names)
    (folder / "release.toml").write_text(text, encoding="utf-8")
    return folder / "release.toml"


def write_all(folder: Path) -> dict[str, str]:
    """Five models in `folder`, and a recipe for them; gives the source of each, by its name.

    The large ones are demo checkpoints of the published sizes.
    """
    for source, classes in LARGE.values():
        write_demo(folder / source, classes=classes)
    write_inputs(folder)
    sources = {name: source for rows in (LARGE, NETS) for name, (source, _) in rows.items()}
    text = '[release]\nname = "facenet-weights"\nversion = "1.0.0"\n'
    for name, source in sources.items():
        place = folder / source
        files = sorted(place.glob("model*")) if place.is_dir() else [place]
        text += f'[[model]]\nname = "{name}"\n[model.sha256]\n'
        text += "".join(f'"{file.name}" = "{sha256_file(file)}"\n' for file in files)
    (folder / "release.toml").write_text(text, encoding="utf-8")
    return sources


def run_here(
    jobs: Sequence[Job], processes: int, logs: Path, on_progress: OnProgress
) -> list[FinishedJob]:
    """Run jobs one after another, in this process, which has imported their libraries already."""
    del processes, logs

    def run(job: Job) -> JobResult:
        name = job.input.model.name
        return job.run(lambda task, minor=False: on_progress(name, task, minor))

    return [FinishedJob(run(job), 0.0) for job in jobs]


@pytest.fixture(scope="session")
def small_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built release of P-Net, with ONNX, and R-Net, its inputs beside it. Not to be altered."""
    pytest.importorskip("tensorflow", reason="judging needs TensorFlow")
    pytest.importorskip("onnxruntime", reason='ONNX: pip install "facenet-parity[release]"')
    folder = tmp_path_factory.mktemp("small")
    write_inputs(folder)
    recipe = write_recipe(folder, more={"pnet": 'formats = ["pt", "safetensors", "onnx"]'})
    # In a process of its own, as users build: what other tests have set here moves figures.
    build(read(recipe), folder / "dist", processes=1)
    return folder / "dist"


@pytest.fixture
def release_copy(small_release: Path, tmp_path: Path) -> Path:
    """A copy of `small_release`, to be altered."""
    return Path(shutil.copytree(small_release, tmp_path / "dist"))


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds run in this process."""
    monkeypatch.setattr("facenet_release.building.build.run_jobs", run_here)


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A folder with the three nets' files."""
    folder = tmp_path / "inputs"
    folder.mkdir()
    write_inputs(folder)
    return folder


def reseal(folder: Path, edit: Callable[[Manifest], Manifest] = lambda manifest: manifest) -> None:
    """Have manifest, sums and provenance agree with what lies in `folder`, as a forger would.

    Files that are gone leave the manifest; `edit` then alters it further.
    """
    manifest = parse((folder / MANIFEST).read_bytes())
    files = [
        File(file.name, path.stat().st_size, sha256_file(path), file.role)
        for file in manifest.files
        if (path := folder / file.name).is_file()
    ]
    manifest = edit(replace(manifest, files=tuple(files)))
    data = manifest.to_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    (folder / MANIFEST).write_bytes(data)
    (folder / SUMS).write_bytes(manifest.sums(sha256))
    now = datetime(2026, 1, 31, tzinfo=timezone.utc)
    statement = provenance(
        manifest, sha256, started=now, finished=now, builder=builder_of({}), versions={}
    )
    (folder / PROVENANCE).write_bytes(statement)


def findings(folder: Path, options: CheckOptions = CheckOptions()) -> str:  # noqa: B008 # frozen
    """Return the findings of a check that must fail, one on a line."""
    with pytest.raises(CheckFailedError) as error:
        check(folder, options)
    assert error.value.exit_code == 1
    return "\n".join(error.value.findings)


def recipe_of(folder: Path, text: str) -> Recipe:
    """The recipe that `text` is, in `folder`."""
    (folder / "release.toml").write_text(text, encoding="utf-8")
    return read(folder / "release.toml")
