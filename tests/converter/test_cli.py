"""The command line as a user meets it: output, JSON, exit codes, messages."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from converter.architectures import PNET
from converter.catalog import TensorRef
from converter.cli.main import facenet
from converter.dtypes import FLOAT32
from converter.sources import open_source
from converter.writers import bundle

SHARD = "model.ckpt.data-00000-of-00001"


def run(*arguments: object) -> Result:
    """Run ``facenet …``; a traceback is a failure of the test."""
    result = CliRunner().invoke(facenet, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def write(folder: Path, values: dict[str, np.ndarray]) -> Path:
    folder.mkdir(exist_ok=True)
    refs = [TensorRef(n, FLOAT32, v.shape, lambda v=v: v) for n, v in values.items()]
    bundle.write(folder, refs, lambda _: None)
    return folder


@pytest.fixture
def values(fill) -> dict[str, np.ndarray]:
    return {rule.source: fill(rule.source, rule.shape) for rule in PNET.rules}


@pytest.fixture
def pnet(tmp_path: Path, values: dict[str, np.ndarray]) -> Path:
    return write(tmp_path / "pnet", values)


# --- convert


def test_convert_says_what_it_did(pnet: Path, tmp_path: Path) -> None:
    result = run("convert", "--checkpoint", pnet, "--out", tmp_path / "pnet.pt")
    assert result.exit_code == 0, result.output
    for words in ("P-Net", "13 tensors", "5 WHIO to OIHW", "bit for bit", "SHA-256", "digest"):
        assert words in result.stdout
    assert (tmp_path / "pnet.pt").is_file()


def test_convert_json_is_a_whole_receipt(pnet: Path, tmp_path: Path) -> None:
    out = tmp_path / "pnet.safetensors"
    result = run("convert", "--checkpoint", pnet, "--out", out, "--json")
    receipt = json.loads(result.stdout)
    assert receipt["schema"] == "facenet-parity/receipt/3"
    assert receipt["architecture"] == "pnet"
    assert receipt["output"]["files"][0]["size"] == out.stat().st_size
    assert len(receipt["mapped"]) == 13
    assert {row["source"] for row in receipt["mapped"]} == {rule.source for rule in PNET.rules}
    assert [Path(f["path"]).name for f in receipt["source"]["files"]] == ["model.ckpt.index", SHARD]
    import hashlib

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
    source: str | None, dtype: str | None, says: str | None, pnet: Path, tmp_path: Path
) -> None:
    checkpoint: Path = pnet
    if source:
        checkpoint = tmp_path / "source.pt"
        run("convert", "--checkpoint", pnet, "--out", checkpoint, "--dtype", source)
    call = ["convert", "--checkpoint", checkpoint, *(["--dtype", dtype] if dtype else [])]
    text = run(*call, "--out", tmp_path / "text.safetensors").stdout
    receipt = json.loads(run(*call, "--out", tmp_path / "json.safetensors", "--json").stdout)
    assert receipt["dtype"] == dtype
    if says is None:
        assert "identical to the source, bit for bit" in text
        assert receipt["read_back"].startswith("bitwise identical to the source")
    else:
        assert f"read back, inverted: each value is the source's, {says}\n" in text
        assert "identical" not in text
        assert receipt["read_back"].startswith(f"each value is the source's, {says}")
        assert "identical" not in receipt["read_back"]


def test_leftovers_are_listed(tmp_path: Path, values: dict[str, np.ndarray], pnet: Path) -> None:
    write(pnet, values | {"mystery": np.zeros(3, np.float32)})
    refused = run("convert", "--checkpoint", pnet, "--out", tmp_path / "x.pt")
    assert refused.exit_code == 1
    assert "mystery" in refused.stderr
    assert "--no-strict" in refused.stderr
    done = run("convert", "--checkpoint", pnet, "--out", tmp_path / "x.pt", "--no-strict", "--json")
    assert [row["source"] for row in json.loads(done.stdout)["dropped"]] == ["mystery"]


def test_an_existing_output_is_safe(pnet: Path, tmp_path: Path) -> None:
    out = tmp_path / "pnet.pt"
    out.write_text("precious")
    result = run("convert", "--checkpoint", pnet, "--out", out)
    assert result.exit_code == 2
    assert "--overwrite" in result.stderr
    assert out.read_text() == "precious"
    assert run("convert", "--checkpoint", pnet, "--out", out, "--overwrite").exit_code == 0
    assert len(open_source(out)) == 13


def test_a_failed_overwrite_keeps_the_old_file(pnet: Path, tmp_path: Path) -> None:
    out = tmp_path / "pnet.pt"
    out.write_text("precious")
    data = bytearray((pnet / SHARD).read_bytes())
    data[100] ^= 1
    (pnet / SHARD).write_bytes(data)
    result = run("convert", "--checkpoint", pnet, "--out", out, "--overwrite")
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


def test_errors_as_json(pnet: Path, tmp_path: Path) -> None:
    (pnet / SHARD).write_bytes(b"")
    result = run("convert", "--checkpoint", pnet, "--out", tmp_path / "x.pt", "--json")
    assert result.exit_code == 1
    error = json.loads(result.stdout)
    assert error["error"] == "FormatError"
    assert error["file"].endswith(SHARD)
    assert error["next_step"]


def test_mapping_errors_as_json_carry_every_finding(
    pnet: Path, tmp_path: Path, values: dict[str, np.ndarray]
) -> None:
    renamed = {f"{n}s" if n.startswith("conv1") else n: v for n, v in values.items()}
    write(pnet, renamed)
    result = run("convert", "--checkpoint", pnet, "--out", tmp_path / "x.pt", "--json")
    kinds = sorted(finding["kind"] for finding in json.loads(result.stdout)["findings"])
    assert kinds == ["missing", "missing", "unexplained", "unexplained"]


# --- inspect


def test_inspect_reads_metadata_only(pnet: Path) -> None:
    size = (pnet / SHARD).stat().st_size
    with (pnet / SHARD).open("r+b") as file:  # values that no checksum would let pass
        file.write(b"\xff" * size)
    result = run("inspect", pnet)
    assert result.exit_code == 0, result.output
    assert "P-Net" in result.stdout
    for rule in PNET.rules:
        assert f"{rule.source} " in result.stdout
        assert f"→ {rule.target}" in result.stdout
    summary = run("inspect", pnet, "--summary").stdout
    assert "conv1/weights" not in summary


def test_inspect_json(pnet: Path) -> None:
    found = json.loads(run("inspect", pnet, "--json").stdout)
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
    assert "no architecture" in result.stdout


# --- diff


@pytest.fixture
def converted(pnet: Path, tmp_path: Path) -> Path:
    out = tmp_path / "pnet.pt"
    assert run("convert", "--checkpoint", pnet, "--out", out).exit_code == 0
    return out


def test_diff_across_formats(pnet: Path, converted: Path, tmp_path: Path) -> None:
    other = tmp_path / "pnet.safetensors"
    run("convert", "--checkpoint", pnet, "--out", other)
    for pair in ((converted, other), (pnet, converted), (other, pnet), (pnet, pnet)):
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
        ((converted, rounded), f"float32 against {dtype}"),
        ((rounded, converted), f"{dtype} against float32"),
    ):
        result = run("diff", *pair, "--json")
        rows = {row["name"]: row for row in json.loads(result.stdout)["tensors"]}
        assert {row["kind"] for row in rows.values()} == {"type"}
        assert rows["conv1.weight"]["detail"] == f"{words}; equal after rounding to {dtype}"
        assert "1 of 10 values differ after" in rows["conv1.bias"]["detail"]
        assert [name for name, row in rows.items() if row["different"]] == ["conv1.bias"]


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
    for words in ("shape", "only in A", "only in B", "[3] against [3, 1]"):
        assert words in result.stdout


# --- the group


@pytest.mark.parametrize("command", ["convert", "inspect", "diff"])
def test_help_has_examples(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.stdout


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("verfy", " Did you mean 'verify'?"), ("Convert", " Did you mean 'convert'?"), ("xyz", "")],
)
def test_a_mistyped_command_is_guessed_without_importing_any(
    typed: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.metadata.EntryPoint.load", lambda _: pytest.fail("imported"))
    result = run(typed)
    assert result.exit_code == 2
    assert result.stderr.endswith(f"Error: No such command {typed!r}.{meant}\n")


def test_the_group_lists_its_commands() -> None:
    listed = run("--help").stdout
    assert all(command in listed for command in ("convert", "inspect", "diff"))
    assert run("no-such-command").exit_code == 2
    assert run("--version").stdout.startswith("facenet, version ")
