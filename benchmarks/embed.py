"""Time InceptionResnetV1 as it is, optimized, and facenet-pytorch's, all in one run.

    python benchmarks/embed.py [--peer-python PATH] [--weights FILE] [--batches 1 32]
                               [--runs 9] [--threads 2] [--json]

Each contender is a process of its own with the same weights, input and number of threads: this
Python, or PATH, a Python that has facenet-pytorch. They take turns, so that a busy machine
disturbs all alike; a turn is one call that isn't counted, in which caches fill and threads wake,
and three that are, as in a stream of images. Between turns is a pause, in which the threads of
the one before fall asleep. Printed are medians of the time per call, images per second, the ratio
to facenet-pytorch (without ``--peer-python``: to the network as it is), how far embeddings are
from those of the network as it is (greatest L2), and each process's peak resident memory. Without
``--weights`` the network is seeded and untrained, which changes no time.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from sides import Side

SEED = 20180402
SIZE = 160  # pixels, as the published weights were trained
CALLS = 3  # that count, in a turn
PAUSE = 0.05  # seconds; OpenMP's and onnxruntime's threads wait busily for less

# One contender: loads the network, then answers a line "INPUT OUTPUT CALLS" with the seconds of
# that many calls, after one more.
SIDE = """
import json, resource, sys, time
import numpy as np
import torch
contender, threads, weights = sys.argv[1:]
torch.set_num_threads(int(threads))
package = "facenet_pytorch" if contender == "facenet-pytorch" else "facenet_models"
InceptionResnetV1 = __import__(package).InceptionResnetV1
state = torch.load(weights, map_location="cpu", weights_only=True)
model = InceptionResnetV1().eval()
model.load_state_dict({k: v for k, v in state.items() if not k.startswith("logits.")})
versions = {"torch": torch.__version__}
if contender.startswith("optimize"):
    from facenet_models.optimize import optimize
    backend = contender.split()[1]
    model = optimize(model, backend=backend, threads=int(threads))
    if backend == "onnxruntime":
        import onnxruntime
        versions = {"onnxruntime": onnxruntime.__version__}
print(json.dumps(versions | {"threads": torch.get_num_threads()}), flush=True)
for line in sys.stdin:
    source, target, calls = line.split()
    images = torch.from_numpy(np.load(source))
    seconds = []
    with torch.inference_mode():
        for _ in range(int(calls) + 1):
            started = time.perf_counter()
            embeddings = model(images)
            seconds.append(time.perf_counter() - started)
    np.save(target, embeddings.numpy())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds[1:], "peak_mb": peak}), flush=True)
"""

EAGER, PEER = "as it is", "facenet-pytorch"
CONTENDERS = (EAGER, "optimize torch", "optimize onnxruntime")


def embed(side: Side, images: Path) -> tuple[dict[str, Any], np.ndarray]:
    """Return seconds of calls on the images in that file, peak memory, and embeddings."""
    target = images.with_name("embeddings.npy")
    time.sleep(PAUSE)
    return side.ask(images, target, CALLS), np.load(target)


def measure(sides: list[Side], images: Path, runs: int) -> list[dict[str, Any]]:
    """Return a row for each contender."""
    seconds: dict[str, list[float]] = {side.name: [] for side in sides}
    peaks: dict[str, float] = {}
    embeddings: dict[str, np.ndarray] = {}
    for _ in range(runs):
        for side in sides:
            answer, embeddings[side.name] = embed(side, images)
            seconds[side.name] += answer["seconds"]
            peaks[side.name] = answer["peak_mb"]
    batch = len(embeddings[EAGER])
    medians = {name: statistics.median(own) for name, own in seconds.items()}
    return [
        {
            "batch": batch,
            "contender": name,
            "seconds": medians[name],
            "best": min(own),
            "worst": max(own),
            "images_per_second": batch / medians[name],
            "ratio": medians.get(PEER, medians[EAGER]) / medians[name],
            "distance": _distance(embeddings[name], embeddings[EAGER]),
            "peak_mb": peaks[name],
        }
        for name, own in seconds.items()
    ]


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a.astype(np.float64) - b, axis=1).max())


def write_weights(path: Path) -> None:
    """Return seeded weights whose batch normalisations are not the identity."""
    import torch
    from torch import nn

    from facenet_models import InceptionResnetV1

    torch.manual_seed(SEED)
    model = InceptionResnetV1()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.1, 0.3)
    torch.save(model.state_dict(), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", help="a Python that has facenet-pytorch")
    parser.add_argument("--weights", type=Path, help="a .pt file of InceptionResnetV1")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32], metavar="N")
    parser.add_argument("--runs", type=int, default=9, help="turns of each contender")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        weights = args.weights or Path(folder) / "weights.pt"
        if args.weights is None:
            write_weights(weights)
        sides = [
            Side(name, sys.executable, SIDE, name, args.threads, weights) for name in CONTENDERS
        ]
        if args.peer_python:
            sides.append(Side(PEER, args.peer_python, SIDE, PEER, args.threads, weights))
        for batch in args.batches:
            rng = np.random.default_rng(SEED)
            images = Path(folder) / f"{batch}.npy"
            np.save(images, rng.uniform(-1, 1, (batch, 3, SIZE, SIZE)).astype(np.float32))
            rows += measure(sides, images, args.runs)
        for side in sides:
            side.close()
    report = {
        "machine": platform.processor() or platform.machine(),
        "threads": args.threads,
        "runs": args.runs,
        "versions": {side.name: side.versions for side in sides},
        "rows": rows,
    }
    print(json.dumps(report, indent=1) if args.json else table(report))


def table(report: dict[str, Any]) -> str:
    versions = "; ".join(
        f"{contender}: {', '.join(f'{name} {value}' for name, value in own.items())}"
        for contender, own in report["versions"].items()
    )
    lines = [
        f"{report['threads']} threads, medians of {report['runs']} turns of {CALLS} calls",
        versions,
    ]
    lines.append(
        f"{'batch':>5} {'contender':<21}{'ms':>8} {'best':>8} {'worst':>8} {'images/s':>9}"
        f" {'ratio':>6} {'distance':>9} {'peak MB':>8}"
    )
    for row in report["rows"]:
        times = " ".join(f"{row[key] * 1e3:>8.1f}" for key in ("seconds", "best", "worst"))
        lines.append(
            f"{row['batch']:>5} {row['contender']:<21}{times} {row['images_per_second']:>9.1f}"
            f" {row['ratio']:>6.2f} {row['distance']:>9.1e} {row['peak_mb']:>8.0f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
