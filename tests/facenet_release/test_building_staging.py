"""The working folder of a build: one build at a time, and no step twice."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from support.small_release import write_recipe

from facenet_common.errors import UsageError
from facenet_release.building.build import build
from facenet_release.building.staging import Staging, Step, program, staging
from facenet_release.documents.recipe import read
from facenet_release.errors import ReleaseError


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
        place.finish()
    assert done == ["x", "release", "rename", tmp_path.name]


def test_what_another_step_left_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(fact: int, *outputs: str) -> Step:
        return Step("x", {"fact": fact}, outputs, tmp_path, tmp_path)

    def work() -> dict[str, object]:
        for name in ("a", "b"):
            (tmp_path / name).write_bytes(b"x")
        return {"made": (1,)}

    assert step(1, "a", "b").run(work) == {"made": [1]}
    assert step(1, "a", "b").finished_result() == {"made": [1]}
    assert step(2, "a", "b").finished_result() is None
    assert step(1, "a").finished_result() is None
    monkeypatch.setattr("facenet_release.building.staging.program", lambda: {"text": "another"})
    assert step(1, "a", "b").finished_result() is None
    assert step(1, "a", "b").run(lambda: work() | {"made": 2}) == {"made": 2}


def test_what_others_may_have_prepared_is_not_built_upon(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, out = read(write_recipe(inputs)), inputs / "dist"
    root = Staging(out).root
    (inputs / "elsewhere").mkdir()
    root.symlink_to(inputs / "elsewhere")
    with pytest.raises(UsageError, match="belongs to another user"):
        build(recipe, out)
    assert not list((inputs / "elsewhere").iterdir())
    root.unlink()
    root.mkdir()
    monkeypatch.setattr(os, "getuid", lambda: root.stat().st_uid + 1)
    with pytest.raises(UsageError, match="belongs to another user"):
        build(recipe, out)
    assert not list(root.iterdir())


def test_two_builds_are_not_at_work_in_one_folder(inputs: Path) -> None:
    recipe = read(write_recipe(inputs))
    with staging(inputs / "dist"), pytest.raises(ReleaseError, match="another build is running"):
        build(recipe, inputs / "dist")


def test_the_programs_own_text_is_part_of_a_key() -> None:
    assert program()["text"] != hashlib.sha256().hexdigest()
    assert "numpy" in program()
