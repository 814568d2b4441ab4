"""``facenet inspect``: its output and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from support.commands import SHARD, run, write

from converter.architectures import PNET


def test_inspect_reads_metadata_only(pnet_folder: Path) -> None:
    size = (pnet_folder / SHARD).stat().st_size
    with (pnet_folder / SHARD).open("r+b") as file:  # values that no checksum would let pass
        file.write(b"\xff" * size)
    result = run("inspect", pnet_folder)
    assert result.exit_code == 0, result.output
    assert "P-Net" in result.stdout
    for rule in PNET.rules:
        assert f"{rule.source} " in result.stdout
        assert f"→ {rule.target}" in result.stdout
    summary = run("inspect", pnet_folder, "--summary").stdout
    assert "conv1/weights" not in summary


def test_inspect_json(pnet_folder: Path) -> None:
    found = json.loads(run("inspect", pnet_folder, "--json").stdout)
    assert found["architecture"] == "pnet"
    assert found["format"] == "tensorflow-bundle"
    assert {t["name"]: t["shape"] for t in found["tensors"]} == {
        rule.source: list(rule.shape) for rule in PNET.rules
    }


def test_inspect_shows_what_it_cannot_convert(tmp_path: Path) -> None:
    folder = write(tmp_path / "other", {"dense/kernel": np.zeros((2, 3), np.float32)})
    result = run("inspect", folder)
    assert result.exit_code == 0
    assert "dense/kernel" in result.stdout
    assert "do not belong to a known architecture" in result.stdout


def test_inspect_points_out_what_no_rule_explains(
    pnet_folder: Path, values: dict[str, np.ndarray]
) -> None:
    write(pnet_folder, values | {"conv1/scale": np.ones(10, np.float32)})
    shown = run("inspect", pnet_folder).stdout
    assert "problem  no rule explains 1 of the tensors: conv1/scale\n" in shown
    assert "UNEXPLAINED: no rule maps it" in shown
    assert json.loads(run("inspect", pnet_folder, "--json").stdout)["unexplained"] == [
        "conv1/scale"
    ]
