"""Building: all or nothing, resumed by hash, alone in its folder, and the same every time."""

from __future__ import annotations

import hashlib
import json
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from publishing import contents
from support.small_release import alter, write_inputs, write_recipe

from facenet_common.errors import OutputError, ParityFailedError, UsageError
from facenet_release.building import build as building
from facenet_release.building import job as jobs
from facenet_release.building.build import build, plan
from facenet_release.building.inputs import find_inputs
from facenet_release.building.job import Job
from facenet_release.building.staging import Staging, staging
from facenet_release.checking.check import CheckOptions, check
from facenet_release.documents.manifest import PROVENANCE, parse
from facenet_release.documents.recipe import read
from facenet_release.errors import CheckFailedError, ReleaseError

pytestmark = pytest.mark.tensorflow


def test_a_release_holds_what_the_recipe_says(small_release: Path) -> None:
    manifest = parse((small_release / "manifest.json").read_bytes())
    names = {file.name for file in manifest.files}
    assert {artifact.file for model in manifest.models for artifact in model.artifacts} == {
        *("pnet.pt", "pnet.safetensors", "pnet.onnx"),
        *("rnet.pt", "rnet.safetensors"),
    }
    assert names | {"manifest.json", "SHA256SUMS", PROVENANCE} == set(contents(small_release))
    assert {"pnet.md", "pnet.parity.html", "pnet.onnx.parity.json", "README.md"} < names
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=small_release,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_nothing_in_a_release_names_a_folder_of_this_machine(small_release: Path) -> None:
    for name, data in contents(small_release).items():
        for folder in (small_release.parent, Path.home(), Path.cwd()):
            assert str(folder).encode() not in data, name


def test_two_builds_in_two_folders_are_equal(small_release: Path, tmp_path: Path) -> None:
    """The second one in a process of its own, as users build."""
    write_inputs(tmp_path)
    recipe = tmp_path / "release.toml"
    recipe.write_bytes((small_release / "release.toml").read_bytes())
    build(read(recipe), tmp_path / "elsewhere", processes=1)
    one, two = contents(small_release), contents(tmp_path / "elsewhere")
    assert one.keys() == two.keys()
    assert {name for name in one if one[name] != two[name]} <= {PROVENANCE}
    said = [json.loads(data[PROVENANCE]) for data in (one, two)]
    for statement in said:
        del statement["predicate"]["runDetails"]["metadata"]
    assert said[0] == said[1]


def test_a_dry_run_makes_nothing(inputs: Path) -> None:
    before = set(inputs.iterdir())
    recipe = read(write_recipe(inputs))
    one, _ = plan(recipe, inputs / "dist")
    assert one.input.model.name == "pnet"
    assert one.finished == {"pnet.pt": False, "pnet.safetensors": False}
    assert set(inputs.iterdir()) - before == {inputs / "release.toml"}


@pytest.mark.usefixtures("in_process")
def test_what_is_done_is_not_done_again(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = read(write_recipe(inputs))
    before, done = jobs.convert, []

    def counted(request: Any, progress: Any) -> Any:
        if Path(request.out).name == "rnet.safetensors" and len(done) < 4:
            raise OutputError("the disk is full")
        done.append(Path(request.out).name)
        return before(request, progress)

    monkeypatch.setattr(jobs, "convert", counted)
    out = inputs / "dist"
    with pytest.raises(OutputError, match="disk is full"):
        build(recipe, out)
    assert done == ["pnet.pt", "pnet.safetensors", "rnet.pt"]
    assert not out.exists()
    assert plan(recipe, out)[0].finished == {"pnet.pt": True, "pnet.safetensors": True}

    # What was finished then is altered, or lost its record: it is made anew; the rest is not.
    place = Staging(out)
    data = bytearray((place.release / "pnet.pt").read_bytes())
    data[1000] ^= 1
    (place.release / "pnet.pt").write_bytes(data)
    (place.steps / "convert rnet.pt.json").write_text("{")
    done.append("again:")
    build(recipe, out)
    assert done[4:] == ["pnet.pt", "rnet.pt", "rnet.safetensors"]
    assert not place.root.exists()
    check(out, CheckOptions())


@pytest.mark.usefixtures("in_process")
def test_other_inputs_make_a_step_anew(inputs: Path) -> None:
    recipe = read(write_recipe(inputs))
    out = inputs / "dist"
    with staging(out) as place:
        (place.release / "left.pt").write_bytes(b"of another recipe")
        (place.release / ".pnet.pt.12345678.partial").write_bytes(b"half")
    build(recipe, out)

    assert not (out / "left.pt").exists()
    assert not list(out.glob(".*"))


def test_an_existing_release_is_checked_and_left_alone(
    release_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_inputs(release_copy.parent)
    recipe = release_copy.parent / "release.toml"
    recipe.write_bytes((release_copy / "release.toml").read_bytes())
    monkeypatch.setattr("facenet_release.building.build.run_jobs", None)  # nothing may be run
    before = contents(release_copy)
    assert build(read(recipe), release_copy).jobs is None
    assert contents(release_copy) == before

    (release_copy / "pnet.pt").write_bytes(b"altered")
    with pytest.raises(CheckFailedError):
        build(read(recipe), release_copy)
    recipe.write_bytes(recipe.read_bytes() + b"# another\n")
    with pytest.raises(UsageError, match="never overwritten"):
        build(read(recipe), release_copy)


def test_places_that_no_release_can_have(inputs: Path) -> None:
    recipe = read(write_recipe(inputs))
    with pytest.raises(UsageError, match="does not exist"):
        build(recipe, inputs / "no" / "dist")
    with pytest.raises(UsageError, match="is a file, not a folder"):
        build(recipe, inputs / "det1.npy")

    with pytest.raises(UsageError, match="holds other files"):
        plan(recipe, Path("/"))
    with pytest.raises(UsageError, match="holds other files"):
        plan(recipe, inputs)


def test_a_folder_that_can_not_be_renamed_is_refused_at_once(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (inputs / "disk").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "disk")
    recipe = read(write_recipe(inputs))
    for given in (inputs / "disk", inputs / "disk" / "." / ""):
        with pytest.raises(UsageError, match="is a mount point") as error:
            build(recipe, given)
        assert "disk/release" in str(error.value)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("given", ["link", ".", "dist"])
def test_an_empty_folder_becomes_the_release_whatever_it_is_called(
    given: str, inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, real = read(write_recipe(inputs, ("rnet",))), inputs / "real"
    real.mkdir()
    (inputs / "link").symlink_to(real)
    monkeypatch.chdir(real if given == "." else inputs)
    assert build(recipe, Path(given)).folder == Path(given)
    check(inputs / "dist" if given == "dist" else real, CheckOptions())
    assert not list(inputs.glob(".*"))


def test_a_build_killed_at_its_very_end_leaves_nothing(
    release_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the renaming and the removal of what is left."""
    monkeypatch.setattr("facenet_release.building.build.run_jobs", None)
    with staging(release_copy) as place:
        (place.steps / "x").write_bytes(b"x")
    recipe = read(release_copy / "release.toml")
    assert build(recipe, release_copy).jobs is None
    assert not place.root.exists()


@pytest.mark.usefixtures("in_process")
def test_links_and_folders_are_no_finished_files(inputs: Path, tmp_path: Path) -> None:
    recipe, out = read(write_recipe(inputs, ("rnet",))), inputs / "dist"
    with staging(out) as place:
        (one,) = find_inputs(recipe)
        step, _ = Job(one, place).conversions()
        (place.release / "folder").mkdir()
        (place.release / "folder" / "x").write_bytes(b"x")
        (place.release / "rnet.safetensors").mkdir()
        (place.release / "rnet.pt").write_bytes(b"x")
        sha256 = hashlib.sha256(b"x").hexdigest()
        said = {"key": step.key, "outputs": {"rnet.pt": sha256}, "result": {}}
        (place.steps / "convert rnet.pt.json").write_text(json.dumps(said))
        assert step.finished_result() is not None
        (place.release / "rnet.pt").rename(tmp_path / "x")
        (place.release / "rnet.pt").symlink_to(tmp_path / "x")
        assert step.finished_result() is None
    build(recipe, out)
    check(out, CheckOptions())
    assert (tmp_path / "x").read_bytes() == b"x"


@pytest.mark.usefixtures("in_process")
def test_a_clock_that_is_set_back_does_no_harm(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = datetime(2999, 1, 31, tzinfo=timezone.utc)
    monkeypatch.setattr(
        "facenet_release.building.build.datetime", SimpleNamespace(now=lambda _: late)
    )
    build(read(write_recipe(inputs, ("rnet",))), inputs / "dist")
    said = json.loads((inputs / "dist" / PROVENANCE).read_bytes())["predicate"]["runDetails"]
    assert said["metadata"] == {
        "startedOn": "2999-01-31T00:00:00Z",
        "finishedOn": "2999-01-31T00:00:00Z",
    }


@pytest.mark.usefixtures("in_process")
def test_what_is_released_comes_from_the_bytes_that_are_named(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source is written to after it was hashed, while it is converted and judged."""
    before, source = jobs.convert, inputs / "det2.npy"
    data = source.read_bytes()

    def late(request: Any, progress: Any) -> Any:
        source.write_bytes(data)
        alter(source)
        return before(request, progress)

    recipe, out = read(write_recipe(inputs, ("rnet",))), inputs / "dist"
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "convert", late)
        with pytest.raises(ReleaseError, match="changed during") as error:
            build(recipe, out)
    assert error.value.file == str(source)
    assert not out.exists()
    # The bytes are right again. What was made of the others is there, and is not taken.
    source.write_bytes(data)
    with pytest.raises(ParityFailedError, match="rnet failed a gate"):
        build(recipe, out)
    assert not out.exists()


@pytest.mark.usefixtures("in_process")
def test_what_does_not_pass_its_own_check_gets_no_name(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = building.assemble

    def damaging(folder: Path, *rest: Any) -> None:
        before(folder, *rest)
        (folder / "rnet.md").write_bytes(b"x")

    monkeypatch.setattr(building, "assemble", damaging)
    with pytest.raises(CheckFailedError, match="failed its check"):
        build(read(write_recipe(inputs, ("rnet",))), inputs / "dist")
    assert not (inputs / "dist").exists()
