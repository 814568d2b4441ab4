"""Compare FastMTCNN with detecting every frame: speed and accuracy, in one run.

    python benchmarks/video.py VIDEO --weights DIR [--strides 2 4 8] [--side 1920] [--json]

Timed is detection alone: frames are decoded before. Boxes of the frames that FastMTCNN doesn't
search are matched with the detector's on the same frames (IoU of 0.3 or more). Beside it stand two
things that cost nothing: to keep the last searched frame's boxes, and to interpolate.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path

import numpy as np

from facenet_models import MTCNN
from facenet_models.video import Detections, FastMTCNN, frames
from facenet_models.video.fast import MIN_IOU, interpolate_faces
from facenet_models.video.matching import match, overlaps


def compare(
    found: list[Detections], every: list[Detections], numbers: list[int]
) -> dict[str, float]:
    """Compare `found` with `every` on the frames `numbers`."""
    shared: list[float] = []
    listed = expected = 0
    for number in numbers:
        table = overlaps(found[number].boxes, every[number].boxes)
        shared += [
            float(table[pair]) for pair in match(found[number].boxes, every[number].boxes, MIN_IOU)
        ]
        listed += len(found[number].boxes)
        expected += len(every[number].boxes)
    return {
        "mean_iou": round(float(np.mean(shared)), 4),
        "p5_iou": round(float(np.quantile(shared, 0.05)), 4),
        "missed": round(1 - len(shared) / expected, 4),
        "extra": round(listed / expected - len(shared) / expected, 4),
    }


def free(every: list[Detections], stride: int, interpolate: bool) -> list[Detections]:
    """Interpolate boxes for all frames from those of the searched ones."""
    found = []
    for number in range(len(every)):
        first = number // stride * stride
        last = min(first + stride, len(every) - 1)
        if not interpolate or number == first:
            found.append(every[first])
            continue
        pairs = match(every[first].boxes, every[last].boxes, MIN_IOU)
        weight = (number - first) / (last - first)
        found.append(interpolate_faces(every[first], every[last], pairs, weight))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("--weights", type=Path, help="default: $FACENET_WEIGHTS")
    parser.add_argument("--strides", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--side", type=int, default=1920, help="longest side of the frames")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    detector = MTCNN(weights=args.weights)
    images = [frame.image for frame in frames(args.video, max_side=args.side)]
    list(FastMTCNN(detector, 1).detect(images[:2]))  # warm
    start = time.perf_counter()
    every = list(FastMTCNN(detector, 1).detect(images))
    base = time.perf_counter() - start
    rows = []
    for stride in args.strides:
        start = time.perf_counter()
        found = list(FastMTCNN(detector, stride).detect(images))
        seconds = time.perf_counter() - start
        between = [n for n in range(len(images) - 1) if n % stride]
        rows.append(
            {"how": "FastMTCNN", "stride": stride, "speedup": round(base / seconds, 2)}
            | compare(found, every, between)
        )
        for how, interpolate in (("interpolated", True), ("held", False)):
            rows.append(
                {"how": how, "stride": stride}
                | compare(free(every, stride, interpolate), every, between)
            )
    steps = [
        float(overlaps(a.boxes, b.boxes)[pair])
        for a, b in itertools.pairwise(every)
        for pair in match(a.boxes, b.boxes, MIN_IOU)
    ]
    head = {
        "frames": len(images),
        "size": f"{images[0].shape[1]}x{images[0].shape[0]}",
        "every_frame_fps": round(len(images) / base, 2),
        "iou_of_consecutive_frames": round(float(np.mean(steps)), 4),
    }
    if args.json:
        print(json.dumps(head | {"rows": rows}, indent=2))
        return
    print(", ".join(f"{name} {value}" for name, value in head.items()))
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
