"""Building: all or nothing, resumed by hash, alone in its folder, and the same every time."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import threading
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest
from publishing import contents
from support.small_release import alter, reseal, write_inputs, write_recipe

from facenet_common.errors import OutputError, ParityFailedError, UsageError
from facenet_common.hashing import sha256_file
from facenet_release.building import build as building
from facenet_release.building import job as jobs
from facenet_release.building import rebuild as rebuilding
from facenet_release.building import workers
from facenet_release.building.build import build, plan
from facenet_release.building.inputs import Input, find_inputs
from facenet_release.building.job import Job
from facenet_release.building.rebuild import rebuild
from facenet_release.building.staging import Staging, staging
from facenet_release.building.steps import Step
from facenet_release.checking.check import CheckOptions, check
from facenet_release.documents.manifest import MANIFEST, PROVENANCE, parse
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


def test_a_rebuild_gives_the_same_bytes_and_tells_if_not(
    release_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = release_copy.parent / "i"
    inputs.mkdir()
    write_inputs(inputs)
    done = rebuild(release_copy, inputs, None, lambda *_: None)
    assert done.reproduced
    assert not done.different
    assert len(done.same) == len(contents(release_copy)) - 3

    # A release whose file is another one: the same tensors in a file of torch's own.
    torch = pytest.importorskip("torch", reason='pip install "facenet-parity[release]"')
    file = release_copy / "rnet.pt"
    torch.save(torch.load(file, weights_only=True), file)
    (release_copy / "README.md").unlink()
    reseal(release_copy)
    monkeypatch.setattr(
        rebuilding,
        "check",
        lambda folder, *_: SimpleNamespace(manifest=parse((folder / MANIFEST).read_bytes())),
    )
    done = rebuild(release_copy, inputs, None, lambda *_: None)
    assert not done.reproduced
    assert (done.wrong, done.new) == (("rnet.pt",), ("README.md",))


def test_a_dry_run_makes_nothing(inputs: Path) -> None:
    before = set(inputs.iterdir())
    recipe = read(write_recipe(inputs))
    ((one, made), _) = plan(recipe, inputs / "dist")
    assert one.model.name == "pnet"
    assert made == {"pnet.pt": False, "pnet.safetensors": False}
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
    assert plan(recipe, out)[0][1] == {"pnet.pt": True, "pnet.safetensors": True}

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


def test_all_is_on_the_disk_before_and_after_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No power cut is tried here: what is asked for is the order."""
    done: list[object] = []
    rename = Path.rename
    for sync in ("sync_file", "sync_folder"):
        monkeypatch.setattr(
            f"facenet_release.building.staging.{sync}", lambda path: done.append(path.name)
        )
    monkeypatch.setattr(Path, "rename", lambda *paths: (done.append("rename"), rename(*paths)))
    with staging(tmp_path / "dist") as place:
        (place.release / "x").write_bytes(b"x")
        place.become()
    assert done == ["x", "release", "rename", tmp_path.name]


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


def test_a_step_is_known_by_all_that_it_depends_on(inputs: Path) -> None:
    (one,) = find_inputs(read(write_recipe(inputs, ("rnet",))))

    def key(given: Input) -> str:
        return Job(given, inputs, inputs, inputs).conversions()[0].key

    altered = replace(one, files=(replace(one.files[0], sha256="0" * 64),))
    renamed = replace(one, model=replace(one.model, name="other"))
    part = replace(one, outputs=(replace(one.outputs[0], part="features"),))
    assert len({key(given) for given in (one, replace(one), altered, renamed, part)}) == 4


def test_what_another_step_left_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(fact: int, *outputs: str) -> Step:
        return Step("x", {"fact": fact}, outputs, tmp_path, tmp_path)

    def work() -> dict[str, object]:
        for name in ("a", "b"):
            (tmp_path / name).write_bytes(b"x")
        return {"made": (1,)}

    assert step(1, "a", "b").do(work) == {"made": [1]}
    assert step(1, "a", "b").record() == {"made": [1]}
    assert step(2, "a", "b").record() is None
    assert step(1, "a").record() is None
    monkeypatch.setattr("facenet_release.building.steps.program", lambda: {"text": "another"})
    assert step(1, "a", "b").record() is None
    assert step(1, "a", "b").do(lambda: work() | {"made": 2}) == {"made": 2}


def test_an_existing_release_is_checked_and_left_alone(
    release_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_inputs(release_copy.parent)
    recipe = release_copy.parent / "release.toml"
    recipe.write_bytes((release_copy / "release.toml").read_bytes())
    monkeypatch.setattr("facenet_release.building.build.run", None)  # nothing may be run
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
    with pytest.raises(UsageError, match="a file has its name"):
        build(recipe, inputs / "det1.npy")

    with pytest.raises(UsageError, match="something else"):
        plan(recipe, Path("/"))
    with pytest.raises(UsageError, match="something else"):
        plan(recipe, inputs)


def test_a_folder_that_can_not_be_renamed_is_refused_at_once(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (inputs / "disk").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "disk")
    recipe = read(write_recipe(inputs))
    for given in (inputs / "disk", inputs / "disk" / "." / ""):
        with pytest.raises(UsageError, match="a disk is mounted") as error:
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


def test_what_others_may_have_prepared_is_not_built_upon(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, out = read(write_recipe(inputs)), inputs / "dist"
    root = Staging(out).root
    (inputs / "elsewhere").mkdir()
    root.symlink_to(inputs / "elsewhere")
    with pytest.raises(UsageError, match="somebody else's"):
        build(recipe, out)
    assert not list((inputs / "elsewhere").iterdir())
    root.unlink()
    root.mkdir()
    monkeypatch.setattr(os, "getuid", lambda: root.stat().st_uid + 1)
    with pytest.raises(UsageError, match="somebody else's"):
        build(recipe, out)
    assert not list(root.iterdir())


def test_a_build_killed_at_its_very_end_leaves_nothing(
    release_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the renaming and the removal of what is left."""
    monkeypatch.setattr("facenet_release.building.build.run", None)
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
        step, _ = Job(one, place.release, place.steps, place.failed).conversions()
        (place.release / "folder").mkdir()
        (place.release / "folder" / "x").write_bytes(b"x")
        (place.release / "rnet.safetensors").mkdir()
        (place.release / "rnet.pt").write_bytes(b"x")
        sha256 = hashlib.sha256(b"x").hexdigest()
        said = {"key": step.key, "outputs": {"rnet.pt": sha256}, "result": {}}
        (place.steps / "convert rnet.pt.json").write_text(json.dumps(said))
        assert step.record() is not None
        (place.release / "rnet.pt").rename(tmp_path / "x")
        (place.release / "rnet.pt").symlink_to(tmp_path / "x")
        assert step.record() is None
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


def test_a_build_goes_on_when_nobody_looks() -> None:
    queue: Any = SimpleQueue()
    seen = []

    def told(*said: object) -> None:
        seen.append(said)
        raise BrokenPipeError

    for row in (("a", "b", False), ("c", "d", True)):
        queue.put(row)
    finished = threading.Event()
    finished.set()
    workers._listen(queue, told, finished)
    assert len(seen) == 2


def test_two_builds_are_not_at_work_in_one_folder(inputs: Path) -> None:
    recipe = read(write_recipe(inputs))
    with staging(inputs / "dist"), pytest.raises(ReleaseError, match="another build"):
        build(recipe, inputs / "dist")


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
        with pytest.raises(ReleaseError, match="changed while") as error:
            build(recipe, out)
    assert error.value.file == str(source)
    assert not out.exists()
    # The bytes are right again. What was made of the others is there, and is not taken.
    source.write_bytes(data)
    with pytest.raises(ParityFailedError, match="rnet did not pass"):
        build(recipe, out)
    assert not out.exists()


def test_all_that_a_model_is_made_of_must_stay_as_it_was(inputs: Path) -> None:
    sha256 = sha256_file(inputs / "det3.npy")
    more = {"rnet": f'published = {{ file = "det3.npy", sha256 = "{sha256}" }}'}
    (one,) = find_inputs(read(write_recipe(inputs, ("rnet",), more)))
    one.require_unchanged()
    for name in ("det2.npy", "det3.npy"):
        data = (inputs / name).read_bytes()
        (inputs / name).write_bytes(data + b"x")
        with pytest.raises(ReleaseError, match="changed while"):
            one.require_unchanged()
        (inputs / name).unlink()
        with pytest.raises(ReleaseError, match="changed while"):
            one.require_unchanged()
        (inputs / name).write_bytes(data)


@pytest.mark.usefixtures("in_process")
def test_weights_that_fail_a_gate_are_not_released(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from parity_tests import verify as verifying

    before = verifying.verify

    def failing(*args: Any, **kwargs: Any) -> Any:
        report = before(*args, **kwargs)
        if "rnet" not in str(args[1]):
            return report
        gates = [replace(report.gates[0], status="failed"), *report.gates[1:]]
        return replace(report, gates=tuple(gates))

    monkeypatch.setattr(verifying, "verify", failing)
    out = inputs / "dist"
    with pytest.raises(ParityFailedError, match="rnet did not pass") as error:
        build(read(write_recipe(inputs)), out)
    assert not out.exists()
    page = Path(str(error.value.file))
    assert page.parent == Staging(out).failed
    assert "failed" in page.read_text(encoding="utf-8")
    assert not (Staging(out).release / "rnet.parity.json").exists()


@pytest.mark.usefixtures("in_process")
def test_comparison_with_what_was_published(inputs: Path) -> None:
    import torch

    from converter.convert import Request, convert

    convert(Request(str(inputs / "det1.npy"), str(inputs / "old.pt")))
    convert(Request(str(inputs / "det2.npy"), str(inputs / "other.pt")))
    state = torch.load(inputs / "other.pt", weights_only=True)
    bits = state["conv1.bias"].view(torch.int32)
    bits[0] += 3
    state["conv2.bias"].view(torch.int32)[1] += 1
    torch.save(state, inputs / "other.pt")
    more = {
        net: f'published = {{ file = "{file}", sha256 = "{sha256_file(inputs / file)}" }}'
        for net, file in (("pnet", "old.pt"), ("rnet", "other.pt"))
    }
    built = build(read(write_recipe(inputs, more=more)), inputs / "dist")
    assert built.jobs is not None
    assert [done.result.comparison for done in built.jobs] == ["identical", "<= 3 ULP"]
    said = json.loads((inputs / "dist" / "rnet.conversion.json").read_bytes())["published"]
    kinds = {row["name"]: row["kind"] for row in said["tensors"]}
    assert [kinds.pop(f"conv{i}.bias") for i in (1, 2)] == ["differs"] * 2
    assert set(kinds.values()) == {"identical"}
    # Published weights of another network.
    one = replace(built.jobs[1].result.input, published=inputs / "old.pt")
    compared = Job(one, inputs / "dist", inputs, inputs)._compare()
    assert compared is not None
    assert compared["verdict"] == "differs"


@pytest.mark.usefixtures("in_process")
def test_what_does_not_pass_its_own_check_gets_no_name(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = building.assemble

    def damaging(folder: Path, *rest: Any) -> None:
        before(folder, *rest)
        (folder / "rnet.md").write_bytes(b"x")

    monkeypatch.setattr(building, "assemble", damaging)
    with pytest.raises(CheckFailedError, match="not what it says"):
        build(read(write_recipe(inputs, ("rnet",))), inputs / "dist")
    assert not (inputs / "dist").exists()


@pytest.mark.usefixtures("in_process")
def test_another_comparison_is_made_anew(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from converter.convert import Request, convert

    convert(Request(str(inputs / "det2.npy"), str(inputs / "old.pt")))
    more = f'published = {{ file = "old.pt", sha256 = "{sha256_file(inputs / "old.pt")}" }}'
    recipe = read(write_recipe(inputs, ("rnet",)))
    with monkeypatch.context() as patch:
        patch.setattr(
            "facenet_release.building.build.assemble", None
        )  # so all steps are done, and kept
        with pytest.raises(TypeError):
            build(recipe, inputs / "dist")
    built = build(read(write_recipe(inputs, ("rnet",), {"rnet": more})), inputs / "dist")
    assert built.jobs is not None
    assert [done.result.comparison for done in built.jobs] == ["identical"]
