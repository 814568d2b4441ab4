"""Time ``facenet verify`` against the script that it replaces, in one run.

    python benchmarks/verify.py [--runs 5] [--json]

Whole processes are timed, imports included, in turn, so that a busy machine disturbs all alike.
Printed are medians, their ratios and peak resident memory. The checkpoint is a demo of the
published size, with its graph; it is written first, as are its conversion and a record of it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from convert import FACENET, python, summarised, timed

# The comparison in facenet-pytorch's README, as one would write it today: the graph of the
# checkpoint and the converted network on five random images, and the distances printed.
SCRIPT = """
import sys
import numpy as np
import tensorflow as tf
import torch
from facenet_models import InceptionResnetV1
v1 = tf.compat.v1
images = torch.randn(5, 3, 160, 160)
v1.disable_eager_execution()
with v1.Session() as session:
    saver = v1.train.import_meta_graph(sys.argv[2], clear_devices=True)
    saver.restore(session, sys.argv[1])
    feeds = {"input:0": images.permute(0, 2, 3, 1).numpy(), "phase_train:0": False}
    expected = session.run("embeddings:0", feeds)
net = InceptionResnetV1(num_classes=8631).eval()
net.load_state_dict(torch.load(sys.argv[3], weights_only=True))
with torch.no_grad():
    found = net(images).numpy()
print(np.linalg.norm(expected - found, axis=1))
"""
VERIFY = "facenet verify"
STORED = "verify reference.h5"
PLAIN = "verify --probes none"
REPLACED = "the script it replaces"


# In a process of its own: a child's peak memory is no less than its parent's size was.
WRITE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from support.tf_checkpoints import write_checkpoint
from converter.demo import value
print(write_checkpoint(Path(sys.argv[1]) / "demo", 512, 8631, fill=value))
"""


def prepare(folder: Path) -> tuple[Path, Path, Path, Path]:
    """Write a checkpoint with its graph, its conversion and a record."""
    tests = Path(__file__).parents[1] / "tests"
    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(folder), str(tests)],
        check=True,
        capture_output=True,
        text=True,
    )
    prefix = Path(done.stdout.strip())
    weights, record = folder / "demo.pt", folder / "reference.h5"
    for call in (
        ["convert", "--checkpoint", str(prefix), "--out", str(weights)],
        ["capture", str(prefix), "--out", str(record)],
    ):
        subprocess.run(python(FACENET, *call), check=True, capture_output=True)
    (graph,) = (folder / "demo").glob("*.meta")
    return prefix, graph, weights, record


def contenders(prefix: Path, graph: Path, weights: Path, record: Path) -> dict[str, list[str]]:
    return {
        REPLACED: python(SCRIPT, prefix, graph, weights),
        VERIFY: python(FACENET, "verify", prefix, weights),
        PLAIN: python(FACENET, "verify", prefix, weights, "--probes", "none"),
        STORED: python(FACENET, "verify", record, weights),
        "import tensorflow": python("import tensorflow"),
        "import torch": python("import torch"),
    }


def passes(prefix: Path, weights: Path) -> dict[str, float]:
    """Return seconds, in one process, of both networks and localisation on the first feed."""
    code = f"""
import json, statistics, time
from parity_tests.localise.layers import localise
from parity_tests.open_sides import FeedOptions, open_candidate, open_live
from parity_tests.probes import probes
reference = open_live({str(prefix)!r}, FeedOptions())
candidate = open_candidate({str(weights)!r})
images = reference.feeds[0].images
seconds = {{"forward": [], "localise": []}}
with reference.activations() as one, candidate.runner() as two:
    for number in range(6):
        started = time.perf_counter()
        one.run(images), two.run(images)
        middle = time.perf_counter()
        localise(one, two, images, probes("inception_resnet_v1"))
        ended = time.perf_counter()
        if number:
            seconds["forward"].append(middle - started)
            seconds["localise"].append(ended - middle)
print(json.dumps({{name: statistics.median(rows) for name, rows in seconds.items()}}))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {}
    memory: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        files = prepare(Path(scratch))
        for number in range(arguments.runs + 1):
            for name, command in contenders(*files).items():
                elapsed, peak = timed(command)
                if number:  # the first round warms the disk's cache
                    seconds.setdefault(name, []).append(elapsed)
                    memory.setdefault(name, []).append(peak)
        inside = passes(files[0], files[2])
    rows = summarised(seconds, memory)
    found = {
        "verify / the script it replaces (at most 1)": rows[VERIFY]["seconds"]
        / rows[REPLACED]["seconds"],
        "verify reference.h5 / verify (under 0.5)": rows[STORED]["seconds"]
        / rows[VERIFY]["seconds"],
        "localising / one forward pass of both": inside["localise"] / inside["forward"],
    }
    if arguments.json:
        print(json.dumps({"rows": rows, "ratios": found, "inside": inside}, indent=2))
        return
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores;")
    print(f"medians of {arguments.runs} runs, contenders in turn\n")
    print(f"{'':<26}{'median s':>9}{'best':>8}{'worst':>8}{'peak MB':>9}")
    for name, row in rows.items():
        print(
            f"{name:<26}{row['seconds']:>9.2f}{row['best']:>8.2f}{row['worst']:>8.2f}"
            f"{row['peak_mb']:>9.0f}"
        )
    print()
    for name, number in found.items():
        print(f"{name:<46}{number:>8.3f}")


if __name__ == "__main__":
    main()
