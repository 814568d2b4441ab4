"""A record gives the verdicts of the live graph: ``facenet capture``, then ``facenet verify``."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from support.tf_checkpoints import write_checkpoint

from converter.convert import Request, convert
from converter.demo import value
from converter.dtypes import FLOAT16
from facenet_common.optional import missing_package
from parity_tests.cli import capture_command, verify_command
from parity_tests.reference import live
from parity_tests.reference.hdf5 import Store, write

pytest.importorskip("torch", reason='needs torch: pip install "facenet-parity[parity]"')
pytest.importorskip("h5py", reason='needs h5py: pip install "facenet-parity[parity]"')
pytestmark = pytest.mark.tensorflow


def run(command: Any, *arguments: object) -> Result:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def recorded(tensorflow: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A record of a checkpoint's graph, and the checkpoint's conversion."""
    del tensorflow
    folder = tmp_path_factory.mktemp("capture")
    write_checkpoint(folder / "20180402-114759", 128, 11, fill=value)
    convert(Request(str(folder / "20180402-114759"), str(folder / "vggface2.pt")))
    out = folder / "reference.h5"
    result = run(capture_command, folder / "20180402-114759", "--out", out, "--count", 2)
    assert result.exit_code == 0, result.output
    return out, folder / "vggface2.pt"


def test_right_weights_pass_without_tensorflow(recorded: tuple[Path, Path], tmp_path: Path) -> None:
    """In a process that can't import it."""
    code = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "from parity_tests.cli import verify_command; verify_command()"
    )
    call = [sys.executable, "-c", code, *map(str, recorded), "--json", str(tmp_path / "r.json")]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "r.json").read_text())
    assert {gate["name"]: gate["status"] for gate in report["gates"]} == dict.fromkeys(
        ("weights", "float64", "float32", "task"), "passed"
    )
    assert {probe["verdict"] for probe in report["probes"]} == {"same"}
    assert "model-20180402-114759.meta" in report["reference"]


def test_a_record_of_the_first_schema_is_read(recorded: tuple[Path, Path], tmp_path: Path) -> None:
    """Its manifest also lists the network's settings, which nothing needs."""
    import h5py

    old = tmp_path / "old.h5"
    shutil.copy(recorded[0], old)
    with h5py.File(old, "r+") as file:
        manifest = json.loads(file["manifest"][:].tobytes())
        manifest["about"]["settings"] = {"conv2d_1a.bn": {"epsilon": 0.001}}
        text = json.dumps(manifest).encode()
        del file["manifest"]
        file.create_dataset("manifest", data=np.frombuffer(text, np.uint8))
        file.attrs["schema"] = "facenet-parity/reference/1"
        file.attrs["manifest_sha256"] = hashlib.sha256(text).hexdigest()
    result = run(verify_command, old, recorded[1], "--probes", "none")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("PASSED")


def test_a_wrong_weight_fails_and_is_named(recorded: tuple[Path, Path], tmp_path: Path) -> None:
    import torch

    state = torch.load(recorded[1], weights_only=True)
    one, two = (f"repeat_1.{n}.branch1.1.conv.weight" for n in (1, 2))
    state[one], state[two] = state[two], state[one]
    torch.save(state, tmp_path / "swapped.pt")
    result = run(verify_command, recorded[0], tmp_path / "swapped.pt")
    assert result.exit_code == 1
    assert result.stdout.startswith("FAILED at Repeat/block35_2")
    assert f"A's {one} is B's {two}" in result.stdout


def test_options_that_do_not_go_with_a_record(recorded: tuple[Path, Path]) -> None:
    for options in (("--count", 3), ("--seed", 1), ("--images", "faces"), ("--probes", "all")):
        result = run(verify_command, *recorded, *options)
        assert result.exit_code == 2, options
        assert "recorded reference" in result.stderr


@pytest.mark.parametrize(
    ("device", "message"), [("cuda:99", "no device 'cuda:99'"), ("toaster", "kind of device")]
)
def test_a_device_that_is_not_there(recorded: tuple[Path, Path], device: str, message: str) -> None:
    result = run(verify_command, *recorded, "--device", device)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_record_can_not_be_self_tested(recorded: tuple[Path, Path]) -> None:
    result = run(verify_command, *recorded, "--self-test")
    assert result.exit_code == 2
    assert "give it the checkpoint itself" in result.stderr


def test_an_existing_file_is_kept(recorded: tuple[Path, Path]) -> None:
    result = run(capture_command, recorded[1].parent / "20180402-114759", "--out", recorded[0])
    assert result.exit_code == 2
    assert "exists already" in result.stderr


def test_a_name_without_the_ending_is_refused(tmp_path: Path) -> None:
    """Before anything is opened: the checkpoint is not even there."""
    result = run(capture_command, "nowhere", "--out", tmp_path / "ref")
    assert result.exit_code == 2
    for words in ("end in .h5 or .hdf5", f"--out {tmp_path / 'ref'}.h5"):
        assert words in result.stderr


def test_captured_weights_are_told_what_to_capture(
    recorded: tuple[Path, Path], tmp_path: Path
) -> None:
    result = run(capture_command, recorded[1], "--out", tmp_path / "r.h5")
    assert result.exit_code == 2
    assert f"facenet capture CHECKPOINT --out {tmp_path / 'r.h5'}" in result.stderr
    assert "facenet verify" not in result.stderr


def test_half_precision_is_held_to_wider_limits(
    recorded: tuple[Path, Path], tmp_path: Path
) -> None:
    report = tmp_path / "r.json"
    options = ("--dtype", "bfloat16", "--probes", "none", "--json", report)
    result = run(verify_command, *recorded, *options)
    assert result.exit_code == 0, result.output
    gates = {gate["name"]: gate for gate in json.loads(report.read_text())["gates"]}
    assert gates["bfloat16"]["measured"] > 1e-5  # it is not float32 that was measured
    assert gates["bfloat16"]["tolerance"] == pytest.approx(1e-5 * 2**16)


def test_rounded_weights_get_no_verdict(recorded: tuple[Path, Path], tmp_path: Path) -> None:
    rounded = tmp_path / "rounded.pt"
    convert(Request(str(recorded[1]), str(tmp_path / "tensorflow/")))
    convert(Request(str(tmp_path / "tensorflow"), str(rounded), dtype=FLOAT16))
    result = run(verify_command, recorded[0], rounded)
    assert result.exit_code == 2
    assert "weights are rounded to float16" in result.stderr


def test_interrupted_it_reports_what_it_found(
    recorded: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layers are compared, and Ctrl-C comes after three of them."""
    from parity_tests import verify

    real = verify.localised

    def slow(*arguments: Any) -> Any:
        for number, result in enumerate(real(*arguments)):
            if number == 3:
                raise KeyboardInterrupt
            yield result

    monkeypatch.setattr(verify, "localised", slow)
    result = run(verify_command, *recorded, "--json", tmp_path / "r.json")
    assert result.exit_code == 130
    assert result.stdout.startswith("PARTIAL")
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["partial"]
    assert not report["passed"]
    assert len(report["gates"]) == 4
    assert len(report["probes"]) == 3


def test_layers_with_fewer_images_where_memory_runs_out(
    recorded: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from parity_tests import verify

    real, sizes = verify.localised, []

    def small(one: Any, two: Any, images: Any, *others: Any) -> Any:
        sizes.append(len(images))
        for number, result in enumerate(real(one, two, images, *others)):
            if number == 3 and len(images) > 1:
                raise MemoryError
            yield result

    monkeypatch.setattr(verify, "localised", small)
    result = run(verify_command, *recorded, "--json", tmp_path / "r.json")
    assert result.exit_code == 0, result.output
    assert sizes == [2, 1]
    report = json.loads((tmp_path / "r.json").read_text())
    names = [probe["probe"] for probe in report["probes"]]
    assert len(names) == len(set(names)) > 30  # none is there twice
    assert "out of memory in the comparison of layers" in report["notes"][0]


@pytest.fixture(scope="module")
def pnet(reference_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A record of P-Net, the same without the scale of rounding, and right weights."""
    folder = tmp_path_factory.mktemp("pnet")
    full, bare = folder / "full.h5", folder / "bare.h5"
    result = run(capture_command, reference_dir / "mtcnn" / "det1.npy", "--out", full)
    assert result.exit_code == 0, result.output
    with Store(full) as store:
        names = [name for name in store.shapes if name != "rounding"]
        assert len(names) == len(store.shapes) - 1
        write(bare, store.about, [(name, store.read(name)) for name in names])
    return full, bare, reference_dir / "published" / "pnet.pt"


def float32_details(folder: Path, *arguments: object) -> tuple[dict[str, Any], list[str]]:
    """The details of the float32 gate, and the report's notes."""
    report = folder / "report.json"
    result = run(verify_command, *arguments, "--json", report, "--probes", "none")
    assert report.is_file(), result.output
    found = json.loads(report.read_text())
    (gate,) = (gate for gate in found["gates"] if gate["name"] == "float32")
    assert gate["status"] == "passed", result.output
    return gate["details"], found["notes"]


def test_the_scale_of_rounding_is_the_references_own(
    pnet: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """A candidate with other weights is held to the same; without a record, to its own."""
    import torch

    full, bare, right = pnet
    recorded_scale = float32_details(tmp_path, full, right)[0]["rounding"]
    assert float32_details(tmp_path, bare, right)[0]["rounding"] == pytest.approx(recorded_scale)
    state = torch.load(right, weights_only=True)
    state["conv1.bias"] = torch.nextafter(state["conv1.bias"], state["conv1.bias"] + 1)
    torch.save(state, tmp_path / "wrong.pt")
    scales = [
        float32_details(tmp_path, record, tmp_path / "wrong.pt")[0]["rounding"]
        for record in (full, bare)
    ]
    assert scales[0] == recorded_scale
    assert scales[1] != recorded_scale


def test_an_onnx_file_is_held_to_a_recorded_scale(
    pnet: tuple[Path, Path, Path], reference_dir: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime", reason='needs onnx: pip install "facenet-parity[onnx]"')
    from facenet_models.cli.export import command

    full, bare, right = pnet
    candidate = tmp_path / "pnet.onnx"
    assert run(command, right, "--format", "onnx", "--out", candidate).exit_code == 0
    details, _ = float32_details(tmp_path, full, candidate)
    assert details["times_rounding"] < 2
    live = float32_details(tmp_path, reference_dir / "mtcnn" / "det1.npy", candidate)[0]
    assert live["times_rounding"] == pytest.approx(details["times_rounding"], rel=0.01)
    details, notes = float32_details(tmp_path, bare, candidate)
    assert "times_rounding" not in details
    assert any("lacks the scale of rounding" in note for note in notes)


def test_without_torch_no_scale_is_recorded(
    reference_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> Any:
        raise missing_package("torch", "running the converted weights")

    monkeypatch.setattr(live, "torch", absent)
    call = (reference_dir / "mtcnn" / "det1.npy", "--out", tmp_path / "r.h5", "--count", 1)
    result = run(capture_command, *call)
    assert result.exit_code == 0, result.output
    assert (
        "the scale of rounding is not recorded: running the converted weights needs torch"
        in result.stdout
    )
    with Store(tmp_path / "r.h5") as store:
        assert "rounding" not in store.shapes
