"""``facenet track``: track the faces in a video, and draw them with numbers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facenet_common.commands import reports_errors
from facenet_common.errors import UsageError
from facenet_common.progress import progress_bar
from facenet_common.text import count, printable
from facenet_models.cli.detect import build_detector, detector_options, rounded

if TYPE_CHECKING:
    from facenet_models.video import Frame, Tracked
    from facenet_models.video.tracks import Embedder


@click.command(
    "track",
    short_help="Follow the faces in a video.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
)
@click.argument("video", type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    metavar="OUT",
    type=click.Path(path_type=Path),
    help="The video to write: NAME.mp4, .mkv or .mov. It has no sound.",
)
@click.option(
    "--json",
    "tracks_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the faces' places to this file, as JSON.",
)
@click.option(
    "--stride",
    type=click.IntRange(1, 1000),
    default=4,
    show_default=True,
    help="Search every n-th frame; in the frames between, refine the faces found.",
)
@click.option("--landmarks", is_flag=True, help="Draw eyes, nose and mouth too.")
@click.option(
    "--min-hits",
    type=click.IntRange(1, 1000),
    default=3,
    show_default=True,
    help="Consecutive frames in which a face must be found.",
)
@click.option(
    "--max-misses",
    type=click.IntRange(0, 10_000),
    default=12,
    show_default=True,
    help="Consecutive frames in which a face may be missing and keep its number.",
)
@click.option(
    "--recognise",
    "model_weights",
    metavar="WEIGHTS",
    help="Recognise faces that come back, with an InceptionResnetV1: a .pt or .safetensors file, "
    "or vggface2 or casia-webface.",
)
@click.option(
    "--min-similarity",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.6,
    show_default=True,
    help="With --recognise: minimum cosine similarity of one person's faces.",
)
@click.option(
    "--max-side",
    type=click.IntRange(16),
    help="First shrink frames whose longer side has more pixels.",
)
@detector_options
@click.option("--overwrite", is_flag=True, help="Replace OUT and FILE if they exist.")
@reports_errors
def command(
    video: Path,
    out: Path,
    tracks_file: Path | None,
    stride: int,
    landmarks: bool,
    min_hits: int,
    max_misses: int,
    model_weights: str | None,
    min_similarity: float,
    max_side: int | None,
    weights: Path | None,
    min_face_size: float,
    device: str,
    overwrite: bool,
) -> None:
    """Number the faces in VIDEO, and write a copy with marked faces.

    A face keeps its number and colour while it is visible or briefly hidden, and, with
    --recognise, whenever it comes back. Frames keep their times.

    \b
    Examples:
      facenet track street.mp4 --out marked.mp4 --weights mtcnn/
      facenet track street.mp4 --out marked.mp4 --json faces.json --stride 8
      facenet track street.mp4 --out small.mp4 --max-side 960 --landmarks
      facenet track party.mov --out marked.mp4 --recognise vggface2.pt

    Exit codes: 0 written, with or without faces; 1 not written: the video or a weight file is
    damaged, or PyAV is missing; 2 wrong usage.
    """
    from facenet_common.atomic import check_target, write_file
    from facenet_models.video import FastMTCNN, follow, frames, video_info, write_video
    from facenet_models.video.writer import check_video_target

    check_video_target(out, overwrite=overwrite)
    if tracks_file is not None:
        check_target(tracks_file, overwrite=overwrite)
    paths = [path.resolve() for path in (video, out, tracks_file) if path is not None]
    if len(set(paths)) < len(paths):
        raise UsageError("VIDEO, OUT and FILE must be different files")
    info = video_info(video)
    detector = FastMTCNN(build_detector(weights, min_face_size, device), stride)
    embed = build_embedder(model_weights, device) if model_weights else None
    log = TrackLog()
    start = time.perf_counter()
    with progress_bar("Frames", info.frames) as advance:
        source = frames(video, max_side=max_side)
        found = follow(
            source,
            detector,
            embed,
            min_hits=min_hits,
            max_misses=max_misses,
            min_similarity=min_similarity,
        )
        written = write_video(
            out, draw_faces(found, log, landmarks, advance), info.fps or 25, overwrite=overwrite
        )
    seconds = time.perf_counter() - start
    if tracks_file is not None:
        data = log.to_json(video=str(video), stride=stride)
        write_file(tracks_file, (json.dumps(data) + "\n").encode())
    click.echo(
        f"{printable(out)}: {count(written, 'frame')}, {count(len(log.tracks), 'face')} followed, "
        f"in {seconds:.1f} s ({written / max(seconds, 1e-9):.1f} frames/s)"
    )


def build_embedder(weights: str, device: str) -> Embedder:
    """Return the function that computes embeddings; raises as InceptionResnetV1."""
    from facenet_models import InceptionResnetV1
    from facenet_models.video import embedder

    return embedder(InceptionResnetV1(pretrained=weights, device=device).eval())


class TrackLog:
    """The places of each face, frame by frame, for ``--json``."""

    def __init__(self) -> None:
        self.frames = 0
        self.size = (0, 0)
        self.tracks: dict[int, list[dict[str, Any]]] = {}

    def add(self, frame: Frame, faces: Tracked) -> None:
        """Add the faces of one frame."""
        self.frames += 1
        self.size = (frame.image.shape[1], frame.image.shape[0])
        for number, box, prob, points in zip(*faces, strict=True):
            self.tracks.setdefault(int(number), []).append(
                {
                    "frame": frame.index,
                    "time": round(frame.time, 6),
                    "box": rounded(box, 2),
                    "probability": round(float(prob), 6),
                    "landmarks": rounded(points, 2),
                }
            )

    def to_json(self, **more: object) -> dict[str, object]:
        """Return `more`, the video's size in pixels and frames, and the tracks by number."""
        width, height = self.size
        tracks = [{"id": number, "faces": rows} for number, rows in sorted(self.tracks.items())]
        size = {"width": width, "height": height, "frames": self.frames}
        return {**more, **size, "tracks": tracks}


def draw_faces(found: Any, log: TrackLog, landmarks: bool, advance: Any) -> Iterator[Frame]:
    """Log the faces of each frame, and yield the frame with the faces drawn."""
    from facenet_models.draw import annotate

    for frame, faces in found:
        log.add(frame, faces)
        points = faces.points if landmarks else None
        image = annotate(frame.image, faces.boxes, faces.ids, faces.probs, points)
        advance()
        yield replace(frame, image=image)
