"""``facenet verify`` end to end: right weights pass every gate, defects fail the right ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from support.tf_checkpoints import write_checkpoint

from converter import __version__
from converter.convert import Request, convert
from converter.demo import value
from converter.dtypes import BY_NAME
from facenet_common.errors import OutputError
from parity_tests.cli import verify_command
from parity_tests.tf_graphs.layers import batch_norms_with_gamma

pytest.importorskip("torch", reason='needs torch: pip install "facenet-parity[parity]"')
pytestmark = pytest.mark.tensorflow

NUMERIC_FAILURES = dict.fromkeys(("weights", "float64", "float32", "task"), "failed")


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(verify_command, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def pair(tensorflow: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint with its graph, and its conversion."""
    del tensorflow
    folder = tmp_path_factory.mktemp("verify") / "20180402-114759"
    write_checkpoint(folder, 128, 11, fill=value)
    out = folder.parent / "vggface2.pt"
    convert(Request(str(folder), str(out)))
    return folder, out


@pytest.fixture
def damaged(pair: tuple[Path, Path], tmp_path: Path) -> Callable[..., Path]:
    """The conversion with one change, under a new name."""
    import torch

    def make(change: Callable[[dict[str, Any]], None]) -> Path:
        state = torch.load(pair[1], weights_only=True)
        change(state)
        torch.save(state, tmp_path / "damaged.pt")
        return tmp_path / "damaged.pt"

    return make


def gates(report: Path) -> dict[str, str]:
    return {gate["name"]: gate["status"] for gate in json.loads(report.read_text())["gates"]}


def test_right_weights_pass_every_gate(pair: tuple[Path, Path], tmp_path: Path) -> None:
    files = {name: tmp_path / f"report.{name}" for name in ("json", "junit", "markdown", "html")}
    options = [part for name, path in files.items() for part in (f"--{name}", path)]
    result = run(*pair, "--count", 2, "--probes", "blocks", *options)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("PASSED")
    assert gates(files["json"]) == dict.fromkeys(
        ("weights", "float64", "float32", "task"), "passed"
    )
    report = json.loads(files["json"].read_text())
    measured = {gate["name"]: gate["measured"] for gate in report["gates"]}
    assert measured["float64"] < 1e-13  # measured: 4e-16; the gate is 1e-12
    assert measured["float32"] < 3e-6  # measured: 8e-7; the gate is 1e-5
    assert report["environment"]["facenet-parity"] == __version__
    assert f"  facenet-parity {__version__}\n" in result.stdout
    assert len(report["embeddings"]) == 2 + 2 + 1 + 4 + 1
    assert "model-20180402-114759.meta" in report["reference"]
    assert {probe["verdict"] for probe in report["probes"]} == {"same"}
    assert len(report["probes"]) > 30
    assert all(path.stat().st_size > 500 for path in files.values())


def test_one_ulp_fails_the_gates_that_can_see_it(
    pair: tuple[Path, Path], damaged: Callable[..., Path], tmp_path: Path
) -> None:
    def nudge(state: dict[str, Any]) -> None:
        weight = state["last_linear.weight"].numpy()
        at = np.unravel_index(np.abs(weight).argmax(), weight.shape)
        weight[at] = np.nextafter(weight[at], np.float32(9))

    result = run(
        pair[0], damaged(nudge), "--count", 1, "--probes", "none", "--json", tmp_path / "r.json"
    )
    assert result.exit_code == 1
    assert gates(tmp_path / "r.json") == {
        "weights": "failed",
        "float64": "failed",
        "float32": "passed",
        "task": "passed",
    }
    assert "last_linear.weight" in result.stdout


def test_one_ulp_is_localised_in_float64(
    pair: tuple[Path, Path], damaged: Callable[..., Path], tmp_path: Path
) -> None:
    """By its numbers, in the layer where it is, though float32 shows nothing."""

    def nudge(state: dict[str, Any]) -> None:
        bias = state["conv2d_4b.bn.bias"].numpy()
        bias[:] = np.nextafter(bias, np.float32(9))

    result = run(pair[0], damaged(nudge), "--count", 1, "--json", tmp_path / "r.json")
    assert result.exit_code == 1
    status = gates(tmp_path / "r.json")
    assert (status["float64"], status["float32"]) == ("failed", "passed")
    rows = json.loads((tmp_path / "r.json").read_text())["probes"]
    probes = {row["probe"]: row["verdict"] for row in rows}
    assert [name for name, verdict in probes.items() if verdict == "source"] == ["Conv2d_4b_3x3"]
    assert probes["Conv2d_4a_3x3"] == "same"
    assert probes["embeddings"] == "inherited"


def test_a_wrong_weight_fails_every_gate(
    pair: tuple[Path, Path], damaged: Callable[..., Path], tmp_path: Path
) -> None:
    def transpose(state: dict[str, Any]) -> None:
        name = "conv2d_2b.conv.weight"
        state[name] = state[name].transpose(-1, -2).contiguous()

    result = run(pair[0], damaged(transpose), "--count", 2, "--json", tmp_path / "r.json")
    assert result.exit_code == 1
    assert gates(tmp_path / "r.json") == NUMERIC_FAILURES
    headline = result.stdout.splitlines()[0]
    assert headline.startswith("FAILED at Conv2d_2b_3x3")
    assert "transposed" in headline or "exchanged" in headline, headline


def test_a_pool_that_rounds_the_other_way_is_named(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No image of 160x160 shows it: there this pool has nothing to round."""
    from facenet_models.networks import inception_resnet_v1

    real = inception_resnet_v1.InceptionResnetV1.__init__

    def rounding_up(self: Any, *arguments: Any, **options: Any) -> None:
        real(self, *arguments, **options)
        self.maxpool_3a.ceil_mode = True

    monkeypatch.setattr(inception_resnet_v1.InceptionResnetV1, "__init__", rounding_up)
    result = run(*pair, "--count", 1, "--json", tmp_path / "r.json")
    assert result.exit_code == 1
    assert gates(tmp_path / "r.json") == NUMERIC_FAILURES | {"weights": "passed"}
    headline = "FAILED at MaxPool_3a_3x3: maxpool_3a has ceil_mode True, the reference's is False"
    assert result.stdout.splitlines()[0] == headline
    report = json.loads((tmp_path / "r.json").read_text())
    assert [p["verdict"] for p in report["probes"]].count("source") == 1
    assert any("the feed 'odd size'" in note for note in report["notes"])


def test_nan_fails(pair: tuple[Path, Path], damaged: Callable[..., Path], tmp_path: Path) -> None:
    def poison(state: dict[str, Any]) -> None:
        state["last_bn.bias"][5] = float("nan")

    result = run(
        pair[0], damaged(poison), "--count", 1, "--probes", "none", "--json", tmp_path / "r.json"
    )
    assert result.exit_code == 1
    assert gates(tmp_path / "r.json") == NUMERIC_FAILURES


@pytest.mark.parametrize(("number", "name"), [(1, "pnet"), (2, "rnet"), (3, "onet")])
def test_mtcnn(reference_dir: Path, tmp_path: Path, number: int, name: str) -> None:
    source = reference_dir / "mtcnn" / f"det{number}.npy"
    published = reference_dir / "published" / f"{name}.pt"
    result = run(source, published, "--json", tmp_path / "r.json")
    assert result.exit_code == 0, result.output
    assert gates(tmp_path / "r.json") == dict.fromkeys(("weights", "float64", "float32"), "passed")


def test_faces(pair: tuple[Path, Path], reference_dir: Path, tmp_path: Path) -> None:
    images = reference_dir / "images"
    result = run(
        *pair, "--count", 1, "--probes", "none", "--images", images, "--json", tmp_path / "r.json"
    )
    assert result.exit_code == 0, result.output
    names = [row[0] for row in json.loads((tmp_path / "r.json").read_text())["embeddings"]]
    assert "Anthony_Hopkins_0001.jpg" in names


# --- scales of batch norms, and tensors that no rule explains


def lively(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """`value`, with scales around 1."""
    return value(name, shape) + np.float32(name.endswith("/gamma"))


@pytest.fixture(scope="module")
def scaled(tensorflow: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with its graph, whose batch norms have a gamma, and a variable for training."""
    del tensorflow
    folder = tmp_path_factory.mktemp("scaled") / "20180402-114759"
    with batch_norms_with_gamma():
        extra = [("Elsewhere/weights", np.ones(3, np.float32))]
        write_checkpoint(folder, 128, 0, fill=lively, extra=extra)
    return folder


@pytest.mark.parametrize("graph", ["model-20180402-114759.meta", "the project's own graph"])
def test_scales_of_batch_norms(scaled: Path, tmp_path: Path, graph: str) -> None:
    folder, out = tmp_path / "faces", tmp_path / "faces.pt"
    shutil.copytree(scaled, folder)
    convert(Request(str(folder), str(out), strict=False))
    if "own graph" in graph:
        (folder / "model-20180402-114759.meta").unlink()
    options = ("--count", 1, "--probes", "none", "--json", tmp_path / "r.json")
    result = run(folder, out, *options)
    found = gates(tmp_path / "r.json")
    report = json.loads((tmp_path / "r.json").read_text())
    assert graph in report["reference"]
    assert {found.pop(name) for name in ("float64", "float32", "task")} == {"passed"}
    # Only a graph can show that no output depends on the variable outside the network.
    assert (found, result.exit_code) == (
        ({"weights": "failed"}, 1) if "own graph" in graph else ({"weights": "passed"}, 0)
    )
    assert ("FAILED at Elsewhere/weights" in result.stdout) == ("own graph" in graph)
    summary = report["gates"][0]["summary"]
    assert ("no output of the graph depends on it" in summary) == ("own graph" not in graph)


# --- refusals


@pytest.mark.parametrize("form", ["json", "junit", "markdown", "html"])
@pytest.mark.parametrize("more", [(), ("--self-test",)])
def test_a_report_that_has_no_folder_is_refused_first(
    pair: tuple[Path, Path], tmp_path: Path, form: str, more: tuple[str, ...]
) -> None:
    """Before anything is opened: the checkpoint is not even there."""
    result = run("nowhere", pair[1], f"--{form}", tmp_path / "no" / "report", *more)
    assert result.exit_code == 2
    assert f"mkdir -p {tmp_path / 'no'}" in result.stderr
    assert "no checkpoint" not in result.stderr


def test_the_verdict_survives_a_report_that_can_not_be_written(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from parity_tests.report import files

    real = files.write_file

    def full(path: Path, data: bytes) -> None:
        if path.suffix == ".json":
            raise OutputError("the output could not be written", found="No space left on device")
        real(path, data)

    monkeypatch.setattr(files, "write_file", full)
    reports = ("--json", tmp_path / "r.json", "--junit", tmp_path / "r.xml")
    result = run(*pair, "--count", 1, "--probes", "none", *reports)
    assert result.exit_code == 1
    assert result.stdout.startswith("PASSED")
    assert "No space left on device" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["r.xml"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rounded_weights_get_no_verdict(
    pair: tuple[Path, Path], tmp_path: Path, dtype: str
) -> None:
    rounded = tmp_path / "rounded.pt"
    convert(Request(str(pair[0]), str(rounded), dtype=BY_NAME[dtype]))
    result = run(pair[0], rounded)
    assert result.exit_code == 2
    assert result.stdout == ""
    for words in (f"weights are rounded to {dtype}", "without --dtype", str(rounded)):
        assert words in result.stderr


def test_half_precision_that_keeps_the_batch_norms_is_rounded_too(
    pair: tuple[Path, Path], damaged: Callable[..., Path]
) -> None:
    def halve(state: dict[str, Any]) -> None:
        state.update({n: v.half() for n, v in state.items() if v.ndim > 1})

    assert "rounded to float16" in run(pair[0], damaged(halve)).stderr


def test_one_tensor_of_another_type_is_a_defect(
    pair: tuple[Path, Path], damaged: Callable[..., Path]
) -> None:
    def halve(state: dict[str, Any]) -> None:
        state["conv2d_2b.conv.weight"] = state["conv2d_2b.conv.weight"].half()

    result = run(pair[0], damaged(halve), "--count", 1, "--probes", "none")
    assert result.exit_code == 1
    assert "conv2d_2b.conv.weight: another type: float32 in A, float16 in B" in result.stdout


def test_sides_in_the_wrong_order(pair: tuple[Path, Path]) -> None:
    result = run(pair[1], pair[0])
    assert result.exit_code == 2
    assert "facenet verify CHECKPOINT WEIGHTS" in result.stderr


def test_different_networks(pair: tuple[Path, Path], reference_dir: Path) -> None:
    result = run(pair[0], reference_dir / "published" / "pnet.pt")
    assert result.exit_code == 1
    assert "different networks" in result.stderr


def test_an_empty_folder_of_images(pair: tuple[Path, Path], tmp_path: Path) -> None:
    result = run(*pair, "--images", tmp_path)
    assert result.exit_code == 1
    assert "no images" in result.stderr
