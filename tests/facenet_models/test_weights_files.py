"""Weight files are read whole or refused; nothing in them is run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="weights are torch tensors")
pytest.importorskip("safetensors")

import safetensors.torch
import torch

from facenet_common.errors import UsageError, WeightsError
from facenet_models.weights.files import load_state_dict

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(7)}

WRITERS: dict[str, Callable[[Path], object]] = {
    "zip": lambda path: torch.save(STATE, path),
    "pickle": lambda path: torch.save(STATE, path, _use_new_zipfile_serialization=False),
    "safetensors": lambda path: safetensors.torch.save_file(STATE, path),
}


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors", "weights"])
@pytest.mark.parametrize("kind", WRITERS)
def test_each_format_is_told_from_its_bytes(tmp_path: Path, kind: str, name: str) -> None:
    WRITERS[kind](tmp_path / name)
    state = load_state_dict(tmp_path / name)
    assert state.keys() == STATE.keys()
    for key, value in STATE.items():
        assert torch.equal(state[key], value)
        assert state[key].dtype == value.dtype


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.99])
@pytest.mark.parametrize("kind", WRITERS)
def test_a_cut_file_is_refused(tmp_path: Path, kind: str, keep: float) -> None:
    path = tmp_path / "weights.pt"
    WRITERS[kind](path)
    os.truncate(path, int(path.stat().st_size * keep))
    with pytest.raises(WeightsError, match="damaged") as caught:
        load_state_dict(path)
    assert caught.value.file == str(path)


class _Runs:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch ran",)


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_in_a_file_is_run(
    tmp_path: Path, zipped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": _Runs()}, "x.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match="more than names and tensors") as caught:
        load_state_dict("x.pt")
    assert "weights_only" not in str(caught.value)  # torch's advice is to run it
    assert not Path("ran").exists()


@pytest.mark.parametrize("value", [[STATE], {}, {"model": STATE}, {1: STATE["b"]}, STATE["b"]])
def test_what_is_no_state_dict_is_refused(tmp_path: Path, value: object) -> None:
    torch.save(value, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="not a state_dict"):
        load_state_dict(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "empty"),
        (b"\n<!DOCTYPE html><title>404</title>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (b"\x93NUMPY\x01\x00", "NumPy"),
        (b"not weights at all", "6e 6f 74 20"),
    ],
)
def test_what_is_no_weight_file_is_named(tmp_path: Path, data: bytes, found: str) -> None:
    (tmp_path / "x.pt").write_bytes(data)
    with pytest.raises(WeightsError, match="not a weight file") as caught:
        load_state_dict(tmp_path / "x.pt")
    assert found in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.pt", "can't be read"),
        ("", "expected a weight file, got a folder"),
        ("null\0.pt", "can't be read"),
    ],
)
def test_a_path_that_cannot_be_read_is_a_usage_error(
    tmp_path: Path, name: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load_state_dict(tmp_path / name)
    assert caught.value.next_step


def test_published_files_load(reference_dir: Path) -> None:
    from facenet_models import PNet

    PNet().load_state_dict(load_state_dict(reference_dir / "published" / "pnet.pt"))
