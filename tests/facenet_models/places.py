"""Releases for ``FACENET_WEIGHTS`` to point at, made by hand."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from facenet_models import PNet
from facenet_models.weights.manifest import MANIFEST, SCHEMA
from facenet_models.weights.pretrained import locate
from facenet_models.weights.registry import Pretrained

PNET, RNET = Pretrained.PNET.value, Pretrained.RNET.value


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def rows(folder: Path, *names: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "role": "weights", "size": len(data), "sha256": sha256(data)}
        for name in names
        for data in [(folder / name).read_bytes()]
    ]


def write_manifest(folder: Path, files: list[dict[str, Any]], **more: Any) -> None:
    said = {"schema": SCHEMA, "name": "tiny", "files": files} | more
    (folder / MANIFEST).write_text(json.dumps(said))


def at(place: object, monkeypatch: pytest.MonkeyPatch, weights: Any = PNET) -> Path:
    monkeypatch.setenv("FACENET_WEIGHTS", str(place))
    return locate(weights, progress=False)


def write_release(folder: Path) -> Path:
    """A release of one net, as far as it is read here; other bytes than the published file's."""
    folder.mkdir()
    torch.manual_seed(7)
    state = PNet().state_dict()
    torch.save(state, folder / "pnet.pt")
    save_file(state, folder / "pnet.safetensors")
    write_manifest(folder, rows(folder, "pnet.pt", "pnet.safetensors"))
    return folder
