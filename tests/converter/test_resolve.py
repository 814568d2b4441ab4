"""From what a user types to the files that are meant."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import fakes

from converter.demo import write_demo
from converter.resolve import ENVIRONMENT, Source, resolve
from converter.sandberg import MODELS
from facenet_common.errors import FacenetError, FormatError, UsageError


@pytest.fixture(autouse=True)
def nothing_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty current folder, and no folder of checkpoints."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.delenv(ENVIRONMENT, raising=False)


def touch(folder: Path, *names: str) -> Path:
    """Files that only their names matter of."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def model(folder: Path, *steps: int, stem: str = "model.ckpt", meta: bool = False) -> Path:
    for step in steps:
        name = f"{stem}-{step}"
        touch(folder, f"{name}.index", f"{name}.data-00000-of-00001")
        if meta:
            touch(folder, f"{name}.meta")
    return folder


STATE = 'model_checkpoint_path: "{}"\nall_model_checkpoint_paths: "other"\n'


# --- the ways to name a bundle


@pytest.mark.parametrize(
    "named",
    [
        ".",
        "model-20180402-114759.ckpt-275",
        "model-20180402-114759.ckpt-275.index",
        "model-20180402-114759.ckpt-275.data-00000-of-00001",
        "model-20180402-114759.meta",
        "checkpoint",
    ],
)
def test_a_published_model_by_any_of_its_names(named: str, tmp_path: Path) -> None:
    stem = "model-20180402-114759"
    folder = model(tmp_path / "20180402-114759", 275, stem=f"{stem}.ckpt")
    touch(folder, f"{stem}.meta", "20180402-114759.pb")
    (folder / "checkpoint").write_text(STATE.format(f"{stem}.ckpt-275"))
    assert resolve(str(folder / named)) == Source(
        folder / f"{stem}.ckpt-275", folder / f"{stem}.meta"
    )


@pytest.mark.parametrize("name", ["x.pt", "x.npy", "x.safetensors", "x.pb"])
def test_a_file_and_the_folder_that_holds_it_alone(name: str, tmp_path: Path) -> None:
    folder = touch(tmp_path / "f", name, "README.md")
    graph = folder / name if name == "x.pb" else None
    assert resolve(str(folder)) == resolve(str(folder / name)) == Source(folder / name, graph)


def test_a_prefix_with_only_data_files_lacks_its_index(tmp_path: Path) -> None:
    folder = touch(tmp_path / "f", "m-1.data-00000-of-00002", "m-1.data-00001-of-00002")
    for named in (folder, folder / "m-1", folder / "m-1.data-00001-of-00002"):
        with pytest.raises(FormatError, match="index is missing") as caught:
            resolve(str(named))
        assert "m-1.data-00000-of-00002" in str(caught.value)


# --- steps


@pytest.mark.parametrize(
    ("state", "step", "expected"),
    [
        (None, None, 10),
        (None, 9, 9),
        ("model.ckpt-9", None, 9),
        ("/home/trainer/models/model.ckpt-9", None, 9),
        ("../../model.ckpt-9", None, 9),
        ("C:\\\\models\\\\model.ckpt-9", None, 9),
        ("model.ckpt-9", 10, 10),
        ("gone.ckpt-11", None, 10),
        ("", None, 10),
    ],
)
def test_the_step(state: str | None, step: int | None, expected: int, tmp_path: Path) -> None:
    folder = model(tmp_path / "f", 9, 10, 2)
    if state is not None:
        (folder / "checkpoint").write_text(STATE.format(state))
    assert resolve(str(folder), step).path == folder / f"model.ckpt-{expected}"


def test_a_step_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no checkpoint of step 3") as caught:
        resolve(str(model(tmp_path / "steps", 9, 10)), 3)
    assert caught.value.found == "steps 9, 10"
    assert caught.value.next_step == "choose one of them"
    write_demo(tmp_path / "demo", embedding=4, classes=2)
    with pytest.raises(UsageError, match="no checkpoint of step 3") as caught:
        resolve(str(tmp_path / "demo"), 3)
    assert caught.value.found == "one checkpoint, without a step in its name: model.ckpt"
    assert caught.value.next_step == "leave out --step"


def test_the_checkpoint_file_never_leads_out_of_its_folder(tmp_path: Path) -> None:
    """Even if what it names is there: only the base name counts."""
    elsewhere = model(tmp_path / "elsewhere", 5, stem="evil")
    folder = model(tmp_path / "f", 1)
    for state in (str(elsewhere / "evil-5"), "../elsewhere/evil-5"):
        (folder / "checkpoint").write_text(STATE.format(state))
        assert resolve(str(folder)).path == folder / "model.ckpt-1"


def test_a_checkpoint_file_that_is_no_text(tmp_path: Path) -> None:
    folder = model(tmp_path / "f", 1)
    (folder / "checkpoint").write_bytes(bytes(range(256)) * 1000)
    assert resolve(str(folder)).path == folder / "model.ckpt-1"


@pytest.mark.parametrize("named", ["model.ckpt-1", "model.ckpt-1.index", "x.pt"])
def test_a_step_is_never_ignored(named: str, tmp_path: Path) -> None:
    folder = touch(model(tmp_path / "f", 1), "x.pt")
    assert resolve(str(folder / named)).path.name in ("model.ckpt-1", "x.pt")
    with pytest.raises(UsageError, match="not of the requested step"):
        resolve(str(folder / named), 2)


def test_a_meta_file_means_the_checkpoint_of_its_very_name(tmp_path: Path) -> None:
    """model.ckpt-1.meta is not the graph of model.ckpt-10, whose name begins like it."""
    folder = model(tmp_path / "f", 1, 10, meta=True)
    for step in (1, 10):
        graph = folder / f"model.ckpt-{step}.meta"
        assert resolve(str(graph)) == Source(folder / f"model.ckpt-{step}", graph)


def test_several_models(tmp_path: Path) -> None:
    folder = model(model(tmp_path / "f", 1, stem="one"), 2, stem="two")
    with pytest.raises(UsageError, match="several models") as caught:
        resolve(str(folder))
    assert "one-1, two-2" in str(caught.value)
    (folder / "checkpoint").write_text(STATE.format("one-1"))
    assert resolve(str(folder)).path == folder / "one-1"


# --- graphs


@pytest.mark.parametrize(
    ("graphs", "expected"),
    [
        ([], None),
        (["any.meta"], "any.meta"),
        (["any.meta", "model.ckpt-1.meta"], "model.ckpt-1.meta"),
        (["any.meta", "model.meta"], "model.meta"),
    ],
)
def test_the_graph(graphs: list[str], expected: str | None, tmp_path: Path) -> None:
    folder = touch(model(tmp_path / "f", 1), *graphs)
    assert resolve(str(folder)).graph == (expected and folder / expected)


def test_several_graphs(tmp_path: Path) -> None:
    folder = touch(model(tmp_path / "f", 1), "a.meta", "b.meta")
    with pytest.raises(UsageError, match=r"several \.meta") as caught:
        resolve(str(folder))
    assert "a.meta, b.meta" in str(caught.value)
    assert "model.ckpt-1.meta" in str(caught.value)


# --- bare names


def test_where_a_name_is_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder, then models/, then each entry of the variable, in order."""
    roots = [tmp_path / "first", tmp_path / "second"]
    monkeypatch.setenv(ENVIRONMENT, os.pathsep.join(["", *map(str, roots), ""]))
    places = [
        roots[1] / "name",
        roots[0] / "name",
        tmp_path / "cwd" / "models" / "name",
        tmp_path / "cwd" / "name",
    ]
    for place in places:  # from the last to the first: each hides the one before
        model(place, 1)
        assert resolve("name").path.absolute() == place / "model.ckpt-1"


def test_prefixes_and_files_are_looked_up_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "root"))
    model(tmp_path / "root" / "name", 1)
    for named in ("name/model.ckpt-1", "name/model.ckpt-1.index"):
        assert resolve(named).path == tmp_path / "root" / "name" / "model.ckpt-1"


@pytest.mark.parametrize("name", MODELS)
def test_a_published_name_that_is_not_there(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "root"))
    with pytest.raises(UsageError) as caught:
        resolve(name)
    message = str(caught.value)
    for words in (name, f"models/{name}", str(tmp_path / "root" / name), "davidsandberg/facenet"):
        assert words in message


def test_another_name_that_is_not_there() -> None:
    with pytest.raises(UsageError) as caught:
        resolve("somebody")
    assert "davidsandberg" not in str(caught.value)
    assert ENVIRONMENT in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["n" * 300, "~no-such-user/x", "a/" * 3000 + "b", "/dev/zero", "/proc/self/mem/x", "\udcff"],
)
def test_names_that_can_be_no_checkpoint(name: str) -> None:
    with pytest.raises(UsageError):
        resolve(name)


@pytest.mark.parametrize("kind", ["fifo", "dangling", "loop", "folder"])
@pytest.mark.parametrize(
    "name", ["x.pt", "m.index", "m.data-00000-of-00001", "m.meta", "checkpoint"]
)
def test_what_is_no_file_never_hangs(kind: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "f" / name
    path.parent.mkdir()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path if kind == "loop" else tmp_path / "gone")
    for named in (path, path.parent, path.with_suffix("")):
        with pytest.raises(FacenetError):
            resolve(str(named)).open()


def test_an_empty_folder_and_a_folder_of_other_things(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no checkpoint") as caught:
        resolve(str(touch(tmp_path / "empty")))
    assert "an empty folder" in str(caught.value)
    with pytest.raises(UsageError, match="no checkpoint") as caught:
        resolve(str(touch(tmp_path / "photos", "a.jpg")))
    assert "a.jpg" in str(caught.value)


def test_what_resolves_opens(tmp_path: Path) -> None:
    prefix = fakes.write_bundle(tmp_path / "f", fakes.some_arrays())
    assert fakes.loaded(resolve(str(prefix.parent)).open()) == fakes.expected(fakes.some_arrays())
