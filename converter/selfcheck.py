"""Check that an installation works: convert a small network, read it back, run it.

The network is MTCNN's P-Net (6,632 parameters) with the values of `converter.demo`, so the digest
of the result is the same on every machine. PyTorch runs in another process: this package imports
neither torch nor `facenet_models`, and a crash of a library does not end this process.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Literal

# The tensor digest of P-Net (`converter.digest`), recorded when this module was written.
DIGEST = "02fb48cd8b857c8de1d77fc68b758ba40fedf65ddc2a2bbb8f58ccd5efae5888"
CONVERTED = "pnet.pt"
TIMEOUT = 60  # seconds; importing torch takes 1 to 5, and more the first time

# Prints the greatest difference of float32 and float64 outputs. Measured: 9e-7, of outputs up to 5.
FORWARD = """
import sys
import torch
from facenet_models import PNet
torch.set_num_threads(1)
net = PNet().eval()
net.load_state_dict(torch.load(sys.argv[1], weights_only=True))
image = torch.linspace(-1, 1, 3 * 24 * 24).reshape(1, 3, 24, 24)
with torch.inference_mode():
    single = net(image)
    double = net.double()(image.double())
far = max((a.double() - b).abs().max().item() for a, b in zip(single, double))
assert far < 1e-5, f"P-Net's float32 and float64 outputs differ by {far}"
print(f"torch {torch.__version__}: float32 and float64 outputs differ by {far:.0e}")
"""

Status = Literal["passed", "failed", "skipped"]


class Skipped(Exception):  # noqa: N818 # not an error
    """A check can't be run here; the message gives the reason."""


@dataclass(frozen=True)
class Check:
    """The result of one check. `text` is the finding, the error, or the reason for skipping it."""

    name: str
    status: Status
    text: str
    seconds: float


def self_check() -> Iterator[Check]:
    """Run all checks in a temporary folder, and yield their results. Takes 3 seconds with torch.

    Nothing is raised: an error in a check is its result. No check uses the network.
    """
    with tempfile.TemporaryDirectory(prefix="facenet-doctor-") as name:
        folder = Path(name)
        for title, check in CHECKS.items():
            yield _timed(title, partial(check, folder))


def _timed(name: str, check: Callable[[], str]) -> Check:
    started = perf_counter()
    status: Status = "passed"
    try:
        text = check()
    except Skipped as reason:
        status, text = "skipped", str(reason)
    except Exception as error:  # a broken installation can raise anything
        status, text = "failed", str(error) or type(error).__name__
    return Check(name, status, text, round(perf_counter() - started, 3))


def _convert(folder: Path) -> str:
    """Write P-Net as a TensorFlow checkpoint, and convert it."""
    from converter.architectures import PNET  # imports NumPy, which may be broken
    from converter.catalog import TensorRef
    from converter.convert import Request, convert
    from converter.demo import value
    from converter.dtypes import FLOAT32
    from converter.writers import bundle

    source = folder / "checkpoint"
    source.mkdir()
    refs = []
    for rule in PNET.rules:
        shape = tuple(int(dim) for dim in rule.shape)  # P-Net has no named sizes
        load = partial(value, rule.source, shape)
        refs.append(TensorRef(rule.source, FLOAT32, shape, load))
    bundle.write(source, refs, lambda _: None)
    receipt = convert(Request(str(source), str(folder / CONVERTED)))
    return (
        f"{receipt.plan.architecture.description}: {len(receipt.plan.edges)} tensors, bit for bit"
    )


def _read_back(folder: Path) -> str:
    """Compare the digest of the file with the recorded one."""
    from converter.digest import digest
    from converter.sources import open_source

    found = digest(open_source(folder / CONVERTED))
    if found != DIGEST:
        raise ValueError(f"expected the tensor digest {DIGEST}, got {found}")
    return f"tensor digest {found[:16]}…, as recorded"


def _run(folder: Path) -> str:
    """Load the file into PyTorch, and compare float32 outputs with float64 outputs."""
    if find_spec("torch") is None:
        raise Skipped("PyTorch is not installed")
    call = [sys.executable, "-c", FORWARD, str(folder / CONVERTED)]
    done = subprocess.run(
        call, capture_output=True, cwd=folder, text=True, timeout=TIMEOUT, check=False
    )
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        raise RuntimeError(last or f"PyTorch's process exited with code {done.returncode}")
    return done.stdout.strip()


CHECKS: dict[str, Callable[[Path], str]] = {
    "convert": _convert,
    "read back": _read_back,
    "run": _run,
}
