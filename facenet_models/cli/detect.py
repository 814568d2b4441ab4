"""``facenet detect``: find faces in photographs, draw them on copies, cut them out or list them."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from facenet_common.commands import json_option, print_json, reports_errors
from facenet_common.errors import UsageError
from facenet_common.progress import progress_bar
from facenet_common.text import check_path, count, printable
from facenet_models.devices import find_device

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from facenet_models.detect.mtcnn import MTCNN

Command = TypeVar("Command", bound=Callable[..., Any])
# Copies keep these suffixes; others become .png.
KEPT_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
CROP_SIZE = 160  # pixels, the input size of the published networks
EXIT_UNREADABLE = 1

_DETECTOR_OPTIONS = (
    click.option(
        "--weights",
        metavar="DIR",
        type=click.Path(path_type=Path),
        help="Folder of MTCNN's weights: pnet, rnet and onet. Default: $FACENET_WEIGHTS.",
    ),
    click.option(
        "--min-face-size",
        type=click.FloatRange(min=1),
        default=20,
        show_default=True,
        help="Smallest face to look for, in pixels. Doubling it is up to four times as fast.",
    ),
    click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, mps …"),
)


def detector_options(command: Command) -> Command:
    """Add the options of `build_detector` to a command."""
    for option in reversed(_DETECTOR_OPTIONS):
        command = option(command)
    return command


def build_detector(
    weights: Path | None, min_face_size: float, device: str, backend: str = "facenet-pytorch"
) -> MTCNN:
    """Return the detector for the options.

    Raises:
        UsageError: There is no such device, or there are no weights.
        WeightsError: As MTCNN.
    """
    torch_device = find_device(device)
    from facenet_models import MTCNN

    return MTCNN(
        min_face_size=min_face_size,
        device=torch_device,
        backend=backend,  # type: ignore[arg-type] # click has checked it
        weights=weights,
    )


class Job(NamedTuple):
    """An image and the paths of its results.

    Attributes:
        source: The image.
        copy: Of the copy with boxes.
        crops: Of the first crop; the names of the others are derived from it.
    """

    source: Path
    copy: Path | None
    crops: Path | None


@click.command(
    "detect",
    short_help="Find the faces in photographs.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
)
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Write copies with marked faces to this folder.",
)
@click.option(
    "--crops",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Write a crop of each face to this folder.",
)
@click.option("--landmarks", is_flag=True, help="Add eyes, nose and mouth.")
@detector_options
@click.option(
    "--backend",
    type=click.Choice(["facenet-pytorch", "reference"]),
    default="facenet-pytorch",
    show_default=True,
    help="Arithmetic of facenet-pytorch, or of the original TensorFlow detector (reference).",
)
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
@json_option
@reports_errors
def command(
    images: tuple[Path, ...],
    out: Path | None,
    crops: Path | None,
    landmarks: bool,
    weights: Path | None,
    min_face_size: float,
    device: str,
    backend: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Find the faces in IMAGES: files, or folders of files.

    Writes copies with boxes, crops of 160x160 pixels, or JSON with boxes in pixels (left, top,
    right, bottom), the largest face first. Images are first turned upright by their EXIF data.

    \b
    Examples:
      facenet detect party.jpg --out marked/ --weights mtcnn/ --landmarks
      facenet detect photos/ --json > faces.json
      facenet detect photos/ --crops faces/ --min-face-size 60

    Exit codes: 0 done, with or without faces; 1 an image can't be read (the others are done), or
    a weight file is damaged; 2 wrong usage.
    """
    if out is None and crops is None and not as_json:
        raise UsageError("nothing to do", next_step="pass --out DIR, --crops DIR or --json")
    jobs = plan_jobs(images, out, crops, overwrite=overwrite)
    detector = build_detector(weights, min_face_size, device, backend)
    rows = []
    with progress_bar("Images", len(jobs)) as advance:
        for job in jobs:
            rows.append(process(job, detector, landmarks))
            advance()
            if not as_json:
                click.echo(summary_line(rows[-1]), err="error" in rows[-1])
    if as_json:
        print_json(rows)
    if any("error" in row for row in rows):
        raise click.exceptions.Exit(EXIT_UNREADABLE)


def plan_jobs(
    images: tuple[Path, ...], out: Path | None, crops: Path | None, *, overwrite: bool
) -> list[Job]:
    """Return one job for each image, after checking all paths.

    Raises:
        UsageError: An image or folder does not exist, two images have results of the same name,
            or a result exists already.
    """
    jobs: list[Job] = []
    origins: dict[Path, Path] = {}
    for name, source in _name_images(images):
        suffix = name.suffix if name.suffix.lower() in KEPT_SUFFIXES else ".png"
        copy = None if out is None else out / name.with_suffix(suffix)
        first = None if crops is None else crops / name.with_name(f"{name.stem}_face1.png")
        for target in filter(None, (copy, first)):
            if target in origins:
                raise UsageError(
                    "two images would be written to one file",
                    file=target,
                    found=f"{origins[target]} and {source}",
                    next_step="run the command once for each, with different folders",
                )
            origins[target] = source
            if target.resolve() == source.resolve():
                raise UsageError("the output would replace the image itself", file=target)
        for target in (*([copy] if copy else []), *(existing_crops(first) if first else [])):
            if target.exists() and not overwrite:
                raise UsageError(
                    "the output exists already",
                    file=target,
                    next_step="choose another folder, or pass --overwrite to replace it",
                )
        jobs.append(Job(source, copy, first))
    for folder in filter(None, (out, crops)):
        if folder.exists() and not folder.is_dir():
            raise UsageError(
                "expected a folder, got a file",
                file=folder,
                next_step="pass a folder; it is created if it does not exist",
            )
    return jobs


def existing_crops(first: Path) -> list[Path]:
    """Return the crops of an image that exist, of any face; `first` is that of its first face.

    How many faces there are is known only when crops are about to be written.
    """
    start = first.name.removesuffix("1.png")
    if not first.parent.is_dir():
        return []
    found = (path for path in first.parent.iterdir() if path.name.startswith(start))
    return sorted(path for path in found if re.fullmatch(r"[0-9]+\.png", path.name[len(start) :]))


def _name_images(images: tuple[Path, ...]) -> Iterator[tuple[Path, Path]]:
    """Yield the name of each image's results (its file name, or its path in the folder)."""
    from facenet_models.recognition.image_files import find_images

    for path in images:
        if path.is_dir():
            for name, source in find_images(path).items():
                yield Path(name), source
        elif path.exists():
            yield Path(path.name), path
        else:
            raise UsageError("no such file or folder", file=path, next_step=check_path(path))


def process(job: Job, detector: MTCNN, landmarks: bool) -> dict[str, Any]:
    """Find the faces in one image, write the results, and return its row for ``--json``."""
    from facenet_models.recognition.embeddings import Miss
    from facenet_models.recognition.image_files import read_image
    from facenet_models.video.detections import Detections

    picture = read_image(job.source, str(job.source))
    if isinstance(picture, Miss):
        return {"image": str(job.source), "error": picture.reason}
    found = Detections.from_mtcnn(*detector.detect(picture, landmarks=True))
    row: dict[str, Any] = {
        "image": str(job.source),
        "width": picture.width,
        "height": picture.height,
        "boxes": rounded(found.boxes, 2),
        "probabilities": rounded(found.probs, 6),
    }
    if landmarks:
        row["landmarks"] = rounded(found.points, 2)
    if job.copy is not None:
        _draw(job.copy, picture, found, landmarks)
        row["annotated"] = str(job.copy)
    if job.crops is not None:
        row["crops"] = _write_crops(job.crops, picture, found.boxes)
    return row


def rounded(values: np.ndarray, digits: int) -> Any:
    """Return an array as nested lists of rounded numbers, for JSON."""
    return values.astype(float).round(digits).tolist()


def _draw(path: Path, picture: Image, found: Any, landmarks: bool) -> None:
    from PIL import Image

    from facenet_common.atomic import write_file
    from facenet_models.draw import annotate

    marked = annotate(
        picture, found.boxes, probs=found.probs, landmarks=found.points if landmarks else None
    )
    kind = Image.registered_extensions()[path.suffix.lower()]
    data = io.BytesIO()
    Image.fromarray(marked).save(data, format=kind, quality=95)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, data.getvalue())


def _write_crops(first: Path, picture: Image, boxes: np.ndarray) -> list[str]:
    """Write a crop of each face, and return the paths."""
    from facenet_models.detect.crops import extract_face

    names = []
    for number, box in enumerate(boxes, start=1):
        path = first.with_name(first.name.removesuffix("1.png") + f"{number}.png")
        extract_face(picture, box, CROP_SIZE, 0, path)
        names.append(str(path))
    return names


def summary_line(row: dict[str, Any]) -> str:
    """Return one line of text for the row of an image."""
    name = printable(row["image"])
    if "error" in row:
        return f"{name}: {printable(row['error'])}"
    found = len(row["boxes"])
    faces = count(found, "face") if found else "no face"
    where = f" -> {printable(row['annotated'])}" if "annotated" in row else ""
    return f"{name}: {faces}{where}"
