"""A quick proof that an installation works: convert a tiny network, read it back, run it.

The network is MTCNN's P-Net (6,632 numbers) with the values that `converter.demo` makes up, so
the digest of the result is the same on every machine. PyTorch runs in a process of its own, which
imports `facenet_models`; this package never does. A library that crashes doesn't end this process.
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

# Of P-Net's tensors, as `converter.digest` defines it; recorded when this was written.
DIGEST = "02fb48cd8b857c8de1d77fc68b758ba40fedf65ddc2a2bbb8f58ccd5efae5888"
CONVERTED = "pnet.pt"
TIMEOUT = 60  # seconds; importing torch takes 1 to 5, and more the first time

# Prints how far float32 is from float64 by rounding: 9e-7 was measured, of answers up to 5.
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
assert far < 1e-5, f"P-Net answers {far} apart in float32 and float64"
print(f"torch {torch.__version__}: float32 and float64 answers {far:.0e} apart")
"""

Status = Literal["passed", "failed", "skipped"]


class Skipped(Exception):  # noqa: N818 # not an error
    """A check that can't be made here, and why."""


@dataclass(frozen=True)
class Check:
    """What one check found: `text` says what was seen, what is wrong, or why it was skipped."""

    name: str
    status: Status
    text: str
    seconds: float


def self_check() -> Iterator[Check]:
    """Run every check, in a temporary folder that is removed; about 3 seconds with torch.

    No check reaches the network. Whatever goes wrong in one is in its `Check`; nothing is raised.
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
    except Exception as error:  # a broken installation breaks in any way: that is the finding
        status, text = "failed", str(error) or type(error).__name__
    return Check(name, status, text, round(perf_counter() - started, 3))


def _convert(folder: Path) -> str:
    """Write P-Net as a TensorFlow checkpoint and convert it, which compares bit for bit."""
    from converter.architectures import PNET  # NumPy: what if it is broken?
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
        made = partial(value, rule.source, shape)
        refs.append(TensorRef(rule.source, FLOAT32, shape, made))
    bundle.write(source, refs, lambda _: None)
    receipt = convert(Request(str(source), str(folder / CONVERTED)))
    return (
        f"{receipt.plan.architecture.description}: {len(receipt.plan.edges)} tensors, bit for bit"
    )


def _read_back(folder: Path) -> str:
    """Compare what was written with the digest that it must have."""
    from converter.digest import digest
    from converter.sources import open_source

    found = digest(open_source(folder / CONVERTED))
    if found != DIGEST:
        raise ValueError(f"the digest of the tensors is {found}, but must be {DIGEST}")
    return f"digest {found[:16]}…, as everywhere"


def _run(folder: Path) -> str:
    """Load the result into PyTorch and compare its float32 answers with its float64 answers."""
    if find_spec("torch") is None:
        raise Skipped("PyTorch is not installed")
    call = [sys.executable, "-c", FORWARD, str(folder / CONVERTED)]
    done = subprocess.run(
        call, capture_output=True, cwd=folder, text=True, timeout=TIMEOUT, check=False
    )
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        raise RuntimeError(last or f"PyTorch's process ended with code {done.returncode}")
    return done.stdout.strip()


CHECKS: dict[str, Callable[[Path], str]] = {
    "convert": _convert,
    "read back": _read_back,
    "run": _run,
}
