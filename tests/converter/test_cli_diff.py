"""``facenet diff``: what it finds, its output and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.commands import run, write

from converter.architectures import INCEPTION_RESNET_V1


@pytest.fixture
def converted(pnet_folder: Path, tmp_path: Path) -> Path:
    out = tmp_path / "pnet.pt"
    assert run("convert", "--checkpoint", pnet_folder, "--out", out).exit_code == 0
    return out


def test_diff_across_formats(pnet_folder: Path, converted: Path, tmp_path: Path) -> None:
    other = tmp_path / "pnet.safetensors"
    run("convert", "--checkpoint", pnet_folder, "--out", other)
    for pair in (
        (converted, other),
        (pnet_folder, converted),
        (other, pnet_folder),
        (pnet_folder, pnet_folder),
    ):
        result = run("diff", *pair)
        assert result.exit_code == 0, result.output
        assert "identical: 13 identical" in result.stdout


def test_diff_names_what_differs(
    converted: Path, tmp_path: Path, values: dict[str, np.ndarray]
) -> None:
    other = {name: value.copy() for name, value in values.items()}
    other["conv1/biases"][4] = np.nextafter(other["conv1/biases"][4], np.float32(9))
    other["conv2/weights"][0, 0, 0, 0] = -other["conv2/weights"][0, 0, 0, 0]
    other["conv2/biases"], other["PReLU2/alpha"] = other["PReLU2/alpha"], other["conv2/biases"]
    folder = write(tmp_path / "other", other)
    result = run("diff", converted, folder, "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["identical"] is False
    rows = {row["name"]: row for row in found["tensors"] if row["kind"] != "identical"}
    assert set(rows) == {"conv1.bias", "conv2.weight", "conv2.bias", "prelu2.weight"}
    assert rows["conv1.bias"]["max_ulp"] == 1
    assert rows["conv1.bias"]["different"] == 1
    original = float(values["conv2/weights"][0, 0, 0, 0])
    assert rows["conv2.weight"]["max_abs"] == pytest.approx(2 * abs(original))
    assert "is B's prelu2.weight" in rows["conv2.bias"]["detail"]
    assert "1 ulp" in run("diff", converted, folder).stdout


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_diff_says_of_other_types_whether_only_rounding_differs(
    dtype: str, converted: Path, tmp_path: Path, values: dict[str, np.ndarray]
) -> None:
    rounded = tmp_path / "rounded.pt"
    values["conv1/biases"][4] += np.float32(1)
    other = write(tmp_path / "other", values)
    run("convert", "--checkpoint", other, "--out", rounded, "--dtype", dtype)
    for pair, words in (
        ((converted, rounded), f"float32 in A, {dtype} in B"),
        ((rounded, converted), f"{dtype} in A, float32 in B"),
    ):
        result = run("diff", *pair, "--json")
        rows = {row["name"]: row for row in json.loads(result.stdout)["tensors"]}
        assert {row["kind"] for row in rows.values()} == {"type"}
        assert rows["conv1.weight"]["detail"] == f"{words}; equal after rounding to {dtype}"
        assert "1 of 10 values differ after" in rows["conv1.bias"]["detail"]
        assert [name for name, row in rows.items() if row["different"]] == ["conv1.bias"]


def test_diff_across_formats_lists_what_no_rule_explains(
    converted: Path, tmp_path: Path, values: dict[str, np.ndarray]
) -> None:
    more = {"conv1/scale": np.ones(10, np.float32), "mystery": np.ones(3, np.float32)}
    folder = write(tmp_path / "more", values | more)
    for pair, letter in (((folder, converted), "A"), ((converted, folder), "B")):
        result = run("diff", *pair)
        assert result.exit_code == 1
        shown = result.stdout.splitlines()
        assert shown[0].split() == ["unexplained", "conv1/scale", "float32", "[10]", "in", letter]
        assert shown[1].split()[:2] == ["unexplained", "mystery"]
        assert shown[2] == "different: 13 identical, 2 unexplained"


def test_diff_across_formats_counts_what_a_rule_leaves_out(
    tmp_path: Path, fill: Callable[[str, tuple[int, ...]], np.ndarray]
) -> None:
    folder = tmp_path / "faces"
    sizes = {"embedding": 4}
    tensors = {
        rule.source: fill(rule.source, tuple(sizes.get(d, d) for d in rule.shape))  # type: ignore[arg-type, call-overload, misc] # sizes and names of sizes
        for rule in INCEPTION_RESNET_V1.rules
        if rule.part == "features"
    }
    slot = "InceptionResnetV1/Bottleneck/weights/Adam"
    write(folder, tensors | {"global_step": np.float32(7), slot: np.zeros((1792, 4), np.float32)})
    run("convert", "--checkpoint", folder, "--out", tmp_path / "faces.pt")
    result = run("diff", folder, tmp_path / "faces.pt")
    assert result.exit_code == 0, result.output
    assert result.stdout == "identical: 714 identical, 2 left out\n"
    rows = json.loads(run("diff", folder, tmp_path / "faces.pt", "--json").stdout)["tensors"]
    assert {row["name"]: row["detail"] for row in rows if row["kind"] == "left out"} == {
        "global_step": "the training step counter",
        slot: "Adam optimiser slot",
    }


def test_diff_lists_twenty_and_all_on_request(tmp_path: Path) -> None:
    names = [f"t{number:02}" for number in range(25)]
    a = write(tmp_path / "a", {name: np.zeros(2, np.float32) for name in names})
    b = write(tmp_path / "b", {name: np.ones(2, np.float32) for name in names})
    shown = run("diff", a, b).stdout.splitlines()
    assert [line.split()[1] for line in shown[:20]] == names[:20]
    assert shown[20:] == ["… and 5 more (--all lists them)", "different: 25 differs"]
    shown = run("diff", a, b, "--all").stdout.splitlines()
    assert [line.split()[1] for line in shown[:-1]] == names
    assert len(json.loads(run("diff", a, b, "--json").stdout)["tensors"]) == 25


def test_diff_of_nan_is_no_difference_of_bits_but_is_shown(
    tmp_path: Path, values: dict[str, np.ndarray]
) -> None:
    one = {name: value.copy() for name, value in values.items()}
    one["conv1/biases"][0] = np.nan
    a = write(tmp_path / "a", one)
    b = write(tmp_path / "b", values)
    assert run("diff", a, a).exit_code == 0
    result = run("diff", a, b)
    assert result.exit_code == 1
    assert "nan" in result.stdout


def test_diff_of_other_shapes_types_and_names(tmp_path: Path) -> None:
    a = write(tmp_path / "a", {"x": np.zeros(3, np.float32), "y": np.zeros(1, np.float32)})
    b = write(tmp_path / "b", {"x": np.zeros((3, 1), np.float32), "z": np.zeros(1, np.float32)})
    result = run("diff", a, b)
    assert result.exit_code == 1
    for words in ("shape", "only in A", "only in B", "[3] in A, [3, 1] in B"):
        assert words in result.stdout
