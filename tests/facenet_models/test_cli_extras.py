"""A library that is not installed: each command says which extra brings it."""

from __future__ import annotations

import json
import re
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from support.absent import run_without

from facenet_common.commands import reports_errors
from facenet_common.errors import MissingPackageError
from facenet_common.optional import PACKAGES

TORCH = ("torch", "PIL", "safetensors", "filelock", "requests")
BASE_ONLY = (*TORCH, "onnx", "onnxruntime", "av", "matplotlib", "pyarrow", "tensorflow", "h5py")
FILES = {"photo.jpg": b"", "x.pt": b"", "pairs.txt": b"1\t1\nAnn\t1\t2\nAnn\t1\tBob\t1\n"}
WEIGHTS = ("--weights", "x.pt", "--aligned")
CALLS = {  # what is typed, what is missing, and what is to be installed
    "detect": (("photo.jpg", "--out", "m"), "torch", "torch"),
    "embed": ((".", *WEIGHTS, "--out", "x.npz"), "torch", "torch"),
    "lfw": ((".", "--pairs", "pairs.txt", *WEIGHTS), "torch", "torch"),
    "export": (("x.pt", "--out", "y.onnx"), "onnx", "onnx"),
    "track": (("v.mp4", "--out", "m.mp4"), "av", "video"),
}


def run(folder: Path, name: str, args: tuple[str, ...], absent: tuple[str, ...]) -> list[str]:
    """Exit code, standard output and standard error where `absent` can't be imported."""
    code = f"""
        import sys
        sys.argv[0] = "facenet"
        from converter.cli.main import facenet
        facenet({[name, *args]!r})
    """
    done = run_without(absent, code, cwd=folder, timeout=300)
    return [str(done.returncode), done.stdout, done.stderr]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    for name in ("Ann/Ann_0001.jpg", "Ann/Ann_0002.jpg", "Bob/Bob_0001.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize("name", CALLS)
def test_the_base_package_alone_says_what_to_install(folder: Path, name: str) -> None:
    args, missing, extra = CALLS[name]
    install = f'pip install "facenet-parity[{extra}]"'
    code, printed, complaint = run(folder, name, args, BASE_ONLY)
    assert (code, printed) == ("1", "")
    assert complaint.startswith("Error: ")
    assert re.search(rf"\b{missing} is needed|needs {missing},", complaint)
    assert "not installed" in complaint
    assert install in complaint
    if name == "track":  # its --json names a file
        return
    code, printed, complaint = run(folder, name, (*args, "--json"), BASE_ONLY)
    assert (code, complaint) == ("1", "")
    assert install in " ".join(map(str, json.loads(printed).values()))


@pytest.mark.parametrize(("name", "others"), [("track", ["av"]), ("export", ["onnxruntime"])])
def test_torch_alone_is_missing(folder: Path, name: str, others: list[str]) -> None:
    for module in others:
        pytest.importorskip(module, reason=f"{name} needs {module}")
    if name == "track":
        from facenet_models.video import write_video

        write_video(folder / "v.mp4", [np.zeros((48, 64, 3), np.uint8)] * 5)
    args, _, _ = CALLS[name]
    assert run(folder, name, args, ("torch",)) == [
        "1",
        "",
        f"Error: {name} needs torch, which is not installed\n"
        '  next:     pip install "facenet-parity[torch]"\n',
    ]


@pytest.mark.parametrize("missing", [*PACKAGES, "torch.special"])
def test_each_library_of_an_extra(missing: str) -> None:
    result = CliRunner().invoke(failing(ModuleNotFoundError("no", name=missing)))
    package, extra = PACKAGES[missing.partition(".")[0]]
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: fail needs {package}, which is not installed\n"
        f'  next:     pip install "facenet-parity[{extra}]"\n'
    )


@pytest.mark.parametrize("name", ["facenet_models.nothing", "numpy", "torchvision", None])
def test_what_no_extra_brings_is_a_bug(name: str | None) -> None:
    error = ModuleNotFoundError("no", name=name)
    assert CliRunner().invoke(failing(error)).exception is error


def test_a_message_that_says_more_is_kept() -> None:
    result = CliRunner().invoke(failing(MissingPackageError("x needs y", next_step="install y")))
    assert (result.exit_code, result.stderr) == (1, "Error: x needs y\n  next:     install y\n")


def failing(error: Exception) -> click.Command:
    @click.command("fail")
    @reports_errors
    def command() -> None:
        raise error

    return command


def test_the_extras_bring_them() -> None:
    """The table against the package's own metadata, by the names that distributions have."""
    brought = packages_distributions()
    lines = requires("facenet-parity") or []
    for module, (_, extra) in PACKAGES.items():
        if module not in brought:
            continue
        required = {normalised(x) for x in lines if f"extra == '{extra}'" in x}
        assert required & {normalised(name) for name in brought[module]}, module


def normalised(requirement: str) -> str:
    """The name of a distribution as PEP 503 has it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement)[0]).lower()
