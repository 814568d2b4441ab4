"""Time ``convert`` against the obvious script and against copying the file, in one run.

    python benchmarks/convert.py [--runs 7] [--checkpoint FOLDER] [--json]

Whole processes are timed, imports included, in turn, so that a busy machine disturbs all alike.
Printed are medians and their ratios, and peak resident memory. Without ``--checkpoint`` a demo
checkpoint of the published size (512-d, 8,631 classes, 112 MB) is written first. The obvious
script needs TensorFlow and torch; without them its rows are left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# What one would write without this project: no checks, no read-back, one layout rule by rank.
OBVIOUS = """
import sys
import tensorflow as tf
import torch
reader = tf.train.load_checkpoint(sys.argv[1])
axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,), 0: ()}
state = {}
for name, shape in reader.get_variable_to_shape_map().items():
    tensor = torch.from_numpy(reader.get_tensor(name))
    state[name] = tensor.permute(axes[len(shape)]).contiguous()
torch.save(state, sys.argv[2])
"""

# Copying as safely as convert writes: flushed to the disk.
COPY = """
import os, shutil, sys
with open(sys.argv[1], "rb") as source, open(sys.argv[2], "wb") as target:
    shutil.copyfileobj(source, target, 1 << 22)
    target.flush()
    os.fsync(target.fileno())
"""

CONVERT = "from converter.cli.convert import command; command()"
FACENET = "from converter.cli.main import facenet; facenet()"


def timed(command: list[str], folder: Path | None = None) -> tuple[float, float]:
    """Return seconds and peak resident memory (MB) of a process; RuntimeError if it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command[:3]} failed:\n{errors.decode()}")
    scale = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes there, KiB on Linux
    return seconds, usage.ru_maxrss * scale / 1e6


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


def commands(prefix: Path, folder: Path) -> dict[str, Callable[[], list[str]]]:
    """Return the contenders by name."""
    data = prefix.with_name(prefix.name + ".data-00000-of-00001")
    source = ["--checkpoint", prefix, "--out"]
    rows: dict[str, Callable[[], list[str]]] = {
        "convert to .pt": lambda: python(CONVERT, *source, folder / "a.pt"),
        "convert to .safetensors": lambda: python(CONVERT, *source, folder / "a.safetensors"),
        "copy with fsync": lambda: python(COPY, data, folder / "copy"),
        "inspect": lambda: python(FACENET, "inspect", prefix),
        "convert --help": lambda: python(CONVERT, "--help"),
        "python -c pass": lambda: python("pass"),
    }
    if all(importlib.util.find_spec(name) for name in ("tensorflow", "torch")):
        rows["obvious script"] = lambda: python(OBVIOUS, prefix, folder / "obvious.pt")
    return rows


def measure(prefix: Path, runs: int) -> dict[str, dict[str, float]]:
    """Return seconds and memory of every contender, after one round that isn't counted."""
    seconds: dict[str, list[float]] = {}
    memory: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        contenders = commands(prefix, Path(folder))
        for round_number in range(runs + 1):
            for name, command in contenders.items():
                for old in Path(folder).iterdir():  # each writes a new file
                    old.unlink()
                elapsed, peak = timed(command())
                if round_number:
                    seconds.setdefault(name, []).append(elapsed)
                    memory.setdefault(name, []).append(peak)
    return summarised(seconds, memory)


def summarised(
    seconds: dict[str, list[float]], memory: dict[str, list[float]]
) -> dict[str, dict[str, float]]:
    """Return a row for each contender: median, best and worst seconds, and the highest peak."""
    return {
        name: {
            "seconds": statistics.median(seconds[name]),
            "best": min(seconds[name]),
            "worst": max(seconds[name]),
            "peak_mb": max(memory[name]),
        }
        for name in seconds
    }


def ratios(rows: dict[str, dict[str, float]], output_mb: float) -> dict[str, float]:
    """Return the ratios for which the project promises a limit."""
    convert = rows["convert to .pt"]
    found = {
        "convert / copy with fsync (at most 10)": convert["seconds"]
        / rows["copy with fsync"]["seconds"],
        "peak memory / output size (at most 1.5)": convert["peak_mb"] / output_mb,
        "inspect, seconds (under 0.5)": rows["inspect"]["seconds"],
        "convert --help, seconds (under 0.3)": rows["convert --help"]["seconds"],
    }
    if "obvious script" in rows:
        obvious = rows["obvious script"]["seconds"]
        found["convert / obvious script (at most 0.1)"] = convert["seconds"] / obvious
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--checkpoint", type=Path, help="a bundle's prefix or folder")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        prefix = _prefix(arguments.checkpoint, Path(scratch))
        size = prefix.with_name(prefix.name + ".data-00000-of-00001").stat().st_size / 1e6
        rows = measure(prefix, arguments.runs)
    found = ratios(rows, size)
    if arguments.json:
        print(json.dumps({"rows": rows, "ratios": found, "size_mb": size}, indent=2))
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"Python {platform.python_version()}, {platform.machine()}, {cores} cores;")
    print(f"{size:.0f} MB of weights; medians of {arguments.runs} runs, contenders in turn\n")
    print(f"{'':<26}{'median s':>9}{'best':>8}{'worst':>8}{'peak MB':>9}")
    for name, row in rows.items():
        print(
            f"{name:<26}{row['seconds']:>9.2f}{row['best']:>8.2f}{row['worst']:>8.2f}"
            f"{row['peak_mb']:>9.0f}"
        )
    print()
    for name, value in found.items():
        print(f"{name:<42}{value:>8.3f}")


def _prefix(checkpoint: Path | None, scratch: Path) -> Path:
    from converter.resolve import resolve

    if checkpoint is None:
        subprocess.run([sys.executable, "-m", "converter.demo", str(scratch / "demo")], check=True)
        checkpoint = scratch / "demo"
    return resolve(str(checkpoint)).path


if __name__ == "__main__":
    main()
