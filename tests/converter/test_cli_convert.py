"""``convert``: its output, JSON, exit codes and messages."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from support.commands import SHARD, run, write

from converter.architectures import PNET
from converter.sources import open_source


def test_convert_says_what_it_did(pnet_folder: Path, tmp_path: Path) -> None:
    result = run("convert", "--checkpoint", pnet_folder, "--out", tmp_path / "pnet.pt")
    assert result.exit_code == 0, result.output
    for words in ("P-Net", "13 tensors", "5 WHIO to OIHW", "bit for bit", "SHA-256", "digest"):
        assert words in result.stdout
    assert (tmp_path / "pnet.pt").is_file()


def test_convert_json_is_a_whole_receipt(pnet_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "pnet.safetensors"
    result = run("convert", "--checkpoint", pnet_folder, "--out", out, "--json")
    receipt = json.loads(result.stdout)
    assert receipt["schema"] == "facenet-parity/receipt/4"
    assert receipt["architecture"] == "pnet"
    assert receipt["output"]["files"][0]["size"] == out.stat().st_size
    assert len(receipt["mapped"]) == 13
    assert {row["source"] for row in receipt["mapped"]} == {rule.source for rule in PNET.rules}
    assert [Path(f["path"]).name for f in receipt["source"]["files"]] == ["model.ckpt.index", SHARD]
    for file in [*receipt["source"]["files"], *receipt["output"]["files"]]:
        assert hashlib.sha256(Path(file["path"]).read_bytes()).hexdigest() == file["sha256"]


@pytest.mark.parametrize(
    ("source", "dtype", "says"),
    [
        (None, None, None),
        (None, "float32", None),
        (None, "float16", "rounded to float16"),
        (None, "bfloat16", "rounded to bfloat16"),
        ("float16", "float32", "widened to float32"),
        ("float16", "bfloat16", "rounded to bfloat16"),
        ("float16", None, None),
    ],
)
def test_rounded_values_are_not_called_identical(
    source: str | None, dtype: str | None, says: str | None, pnet_folder: Path, tmp_path: Path
) -> None:
    checkpoint: Path = pnet_folder
    if source:
        checkpoint = tmp_path / "source.pt"
        run("convert", "--checkpoint", pnet_folder, "--out", checkpoint, "--dtype", source)
    call = ["convert", "--checkpoint", checkpoint, *(["--dtype", dtype] if dtype else [])]
    text = run(*call, "--out", tmp_path / "text.safetensors").stdout
    receipt = json.loads(run(*call, "--out", tmp_path / "json.safetensors", "--json").stdout)
    assert receipt["dtype"] == dtype
    if says is None:
        assert "identical to the source, bit for bit" in text
        assert receipt["read_back"].startswith("bitwise identical to the source")
    else:
        assert f"read back and mapped back: each value is the source's, {says}\n" in text
        assert "identical" not in text
        assert receipt["read_back"].startswith(f"each value is the source's, {says}")
        assert "identical" not in receipt["read_back"]


def test_leftovers_are_listed(
    tmp_path: Path, values: dict[str, np.ndarray], pnet_folder: Path
) -> None:
    write(pnet_folder, values | {"mystery": np.zeros(3, np.float32)})
    refused = run("convert", "--checkpoint", pnet_folder, "--out", tmp_path / "x.pt")
    assert refused.exit_code == 1
    assert "mystery" in refused.stderr
    assert "--no-strict" in refused.stderr
    call = ("convert", "--checkpoint", pnet_folder, "--no-strict", "--out")
    receipt = json.loads(run(*call, tmp_path / "x.pt", "--json").stdout)
    assert [row["source"] for row in receipt["dropped"]] == ["mystery"]
    assert receipt["unproven"] == ["mystery"]


def test_what_is_unproven_is_the_last_that_is_said(
    tmp_path: Path, values: dict[str, np.ndarray], pnet_folder: Path
) -> None:
    more = {f"conv1/extra{number:02}": np.zeros(number, np.float32) for number in range(12)}
    write(pnet_folder, values | more)
    call = ("convert", "--checkpoint", pnet_folder, "--no-strict", "--out")
    text = run(*call, tmp_path / "x.pt").stdout
    unproven = text[text.index("UNPROVEN") :]
    assert "may not compute what the source does: it lacks 12 tensors" in unproven
    assert "conv1/extra09  float32 [9]\n" in unproven
    assert "extra10" not in unproven
    assert "… and 2 more (all with --json)" in unproven
    assert "checked" not in unproven
    assert len(json.loads(run(*call, tmp_path / "y.pt", "--json").stdout)["unproven"]) == 12


def test_nothing_is_unproven_of_a_strict_conversion(pnet_folder: Path, tmp_path: Path) -> None:
    call = ("convert", "--checkpoint", pnet_folder, "--no-strict", "--out")
    assert "UNPROVEN" not in run(*call, tmp_path / "x.pt").stdout
    assert json.loads(run(*call, tmp_path / "y.pt", "--json").stdout)["unproven"] == []


def test_an_existing_output_is_safe(pnet_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "pnet.pt"
    out.write_text("precious")
    result = run("convert", "--checkpoint", pnet_folder, "--out", out)
    assert result.exit_code == 2
    assert "--overwrite" in result.stderr
    assert out.read_text() == "precious"
    assert run("convert", "--checkpoint", pnet_folder, "--out", out, "--overwrite").exit_code == 0
    assert len(open_source(out)) == 13


def test_a_failed_overwrite_keeps_the_old_file(pnet_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "pnet.pt"
    out.write_text("precious")
    data = bytearray((pnet_folder / SHARD).read_bytes())
    data[100] ^= 1
    (pnet_folder / SHARD).write_bytes(data)
    result = run("convert", "--checkpoint", pnet_folder, "--out", out, "--overwrite")
    assert result.exit_code == 1
    assert "checksum mismatch" in result.stderr
    assert out.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pnet", "pnet.pt"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--out", "x.pt"],
        ["--checkpoint", "x"],
        ["--checkpoint", "x", "--out", "x.pt", "--dtype", "int8"],
        ["--checkpoint", "x", "--out", "x.pt", "--part", "head"],
        ["--checkpoint", "no-such-model", "--out", "x.pt"],
        ["--checkpoint", "no-such-model", "--out", "x.onnx"],
        ["--checkpoint", "no-such-model", "--out", "no/such/folder/x.pt"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("convert", *arguments)
    assert result.exit_code == 2
    assert "Error" in result.stderr
    assert not list(tmp_path.iterdir())


def test_errors_as_json(pnet_folder: Path, tmp_path: Path) -> None:
    (pnet_folder / SHARD).write_bytes(b"")
    result = run("convert", "--checkpoint", pnet_folder, "--out", tmp_path / "x.pt", "--json")
    assert result.exit_code == 1
    error = json.loads(result.stdout)
    assert error["error"] == "FormatError"
    assert error["file"].endswith(SHARD)
    assert error["next_step"]


def test_mapping_errors_as_json_carry_every_finding(
    pnet_folder: Path, tmp_path: Path, values: dict[str, np.ndarray]
) -> None:
    renamed = {f"{n}s" if n.startswith("conv1") else n: v for n, v in values.items()}
    write(pnet_folder, renamed)
    result = run("convert", "--checkpoint", pnet_folder, "--out", tmp_path / "x.pt", "--json")
    kinds = sorted(finding["kind"] for finding in json.loads(result.stdout)["findings"])
    assert kinds == ["missing", "missing", "unexplained", "unexplained"]
