"""Time MTCNN against facenet-pytorch's on frames of a video, both in one run.

    python benchmarks/detect.py --video VIDEO --weights FOLDER --peer-python PATH
                                [--runs 5] [--threads 2] [--sizes 1920x1080 ...] [--json]

Each side is a process of its own: this Python with facenet_models, and PATH, a Python that has
facenet-pytorch. They take turns, frame by frame and batch by batch, so that a busy machine
disturbs both alike. Printed are medians of the time per frame, single and in batches of 8, their
ratio, by how many pixels boxes differ, and each side's peak resident memory. Without
``--peer-python`` only this side is timed. Reading the video needs OpenCV or PyAV, here only.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sides import Side

SIZES = ("1920x1080", "1280x720", "960x540")
BATCH = 8

# One side: answers a line "FILE COUNT" with the seconds and boxes of a detection in the first
# COUNT frames of FILE; COUNT 0 is a single frame, not in a batch.
SIDE = """
import json, resource, sys, time
import numpy as np
import torch
package, threads, weights = sys.argv[1:]
torch.set_num_threads(int(threads))
if package == "facenet_pytorch":
    from facenet_pytorch import MTCNN
    mtcnn = MTCNN()
else:
    from facenet_models import MTCNN
    mtcnn = MTCNN(weights=weights)
print(json.dumps({"torch": torch.__version__, "numpy": np.__version__}), flush=True)
for line in sys.stdin:
    file, index, count = line.split()
    frames = np.load(file)[int(index):][: int(count) or 1]
    started = time.perf_counter()
    boxes, _ = mtcnn.detect(frames if int(count) else frames[0])
    seconds = time.perf_counter() - started
    boxes = list(boxes) if int(count) else [boxes]
    print(json.dumps({
        "seconds": seconds,
        "boxes": [[] if b is None else np.asarray(b, float).tolist() for b in boxes],
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }), flush=True)
"""


def frames_of(video: Path, count: int) -> list[np.ndarray]:
    """Return `count` RGB frames, spread over the video. SystemExit without OpenCV and PyAV."""
    every = list(_decoded(video))
    return [every[i] for i in np.linspace(0, len(every) - 1, count).astype(int)]


def _decoded(video: Path) -> Iterator[np.ndarray]:
    try:
        import cv2
    except ModuleNotFoundError:
        try:
            import av
        except ModuleNotFoundError:
            raise SystemExit("pip install av, or opencv-python-headless") from None
        with av.open(str(video)) as container:
            yield from (frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))
        return
    capture = cv2.VideoCapture(str(video))
    while (got := capture.read())[0]:
        yield np.ascontiguousarray(got[1][:, :, ::-1])


def measure(sides: dict[str, Side], file: Path, runs: int) -> list[dict[str, Any]]:
    """Return the timings of the frames in `file`: single, and as a batch."""
    rows = []
    for count in (0, BATCH):
        calls = [(0, count)] * runs if count else [(i % BATCH, 0) for i in range(runs)]
        answers: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
        for side in sides.values():
            side.ask(file, 0, count)  # warm
        for index, number in calls:
            for name, side in sides.items():
                answers[name].append(side.ask(file, index, number))
        row: dict[str, Any] = {"size": file.stem, "batch": count or 1}
        for name, own in answers.items():
            row[name] = statistics.median(a["seconds"] for a in own) / (count or 1)
            row[f"{name}_peak_mb"] = own[-1]["peak_mb"]
        if "peer" in answers:
            row["ratio"] = row["peer"] / row["ours"]
            row["pixels"] = max(
                difference(a["boxes"], b["boxes"])
                for a, b in zip(answers["ours"], answers["peer"], strict=True)
            )
        rows.append(row)
    return rows


def difference(ours: list[Any], peers: list[Any]) -> float:
    """Return the largest difference of boxes in pixels; infinite if their numbers differ."""
    if [len(boxes) for boxes in ours] != [len(boxes) for boxes in peers]:
        return float("inf")
    apart = [np.abs(np.array(a) - np.array(b)).max() for a, b in zip(ours, peers, strict=True) if a]
    return float(max(apart, default=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--video", type=Path, required=True)
    parser.add_argument("--weights", required=True, help="folder of pnet.pt, rnet.pt, onet.pt")
    parser.add_argument("--peer-python", help="a Python that has facenet-pytorch")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="WIDTHxHEIGHT")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    from PIL import Image

    def started(name: str, python: str, package: str) -> Side:
        return Side(name, python, SIDE, package, args.threads, args.weights)

    sides = {"ours": started("ours", sys.executable, "facenet_models")}
    if args.peer_python:
        sides["peer"] = started("peer", args.peer_python, "facenet_pytorch")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        frames = [Image.fromarray(frame) for frame in frames_of(args.video, BATCH)]
        for size in args.sizes:
            width, height = map(int, size.split("x"))
            file = Path(folder) / f"{size}.npy"
            np.save(file, np.stack([np.array(f.resize((width, height))) for f in frames]))
            rows += measure(sides, file, args.runs)
    report = {
        "machine": platform.processor() or platform.machine(),
        "threads": args.threads,
        "versions": {name: side.versions for name, side in sides.items()},
        "rows": rows,
    }
    for side in sides.values():
        side.close()
    print(json.dumps(report, indent=1) if args.json else table(report))


def table(report: dict[str, Any]) -> str:
    lines = [f"{report['threads']} threads; {report['versions']}"]
    lines.append(
        f"{'size':>10} {'batch':>5} {'ours ms':>8} {'peer ms':>8} {'ratio':>6} {'px apart':>9}"
        f" {'MB ours':>8} {'MB peer':>8}"
    )
    for row in report["rows"]:
        lines.append(
            f"{row['size']:>10} {row['batch']:>5} {row['ours'] * 1e3:>8.1f}"
            f" {row.get('peer', float('nan')) * 1e3:>8.1f} {row.get('ratio', float('nan')):>6.2f}"
            f" {row.get('pixels', float('nan')):>9.5f}"
            f" {row['ours_peak_mb']:>8.0f} {row.get('peer_peak_mb', float('nan')):>8.0f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
