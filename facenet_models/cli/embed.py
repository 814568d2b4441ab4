"""``facenet embed``: compute the embeddings of photographs, and write them to a file."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facenet_common.commands import json_option, print_json, reports_errors
from facenet_common.errors import FacenetError, UsageError
from facenet_common.text import count, printable
from facenet_models.devices import find_device

if TYPE_CHECKING:
    from torch import nn

    from facenet_models.recognition.embeddings import Miss
    from facenet_models.recognition.pipeline import Detector

MAX_LISTED = 20  # misses listed on the terminal; --json lists all

_MODEL_OPTIONS = (
    click.option(
        "--weights",
        metavar="WEIGHTS",
        help="InceptionResnetV1: a .pt or .safetensors file, or vggface2 or casia-webface.",
    ),
    click.option(
        "--detector-weights",
        metavar="DIR",
        type=click.Path(path_type=Path),
        help="Folder of MTCNN's weights: pnet, rnet and onet. Default: $FACENET_WEIGHTS.",
    ),
    click.option("--aligned", is_flag=True, help="The images are face crops: do not detect faces."),
    click.option(
        "--image-size",
        type=click.IntRange(75, 1024),
        default=160,
        show_default=True,
        help="Side of a face crop, in pixels.",
    ),
    click.option(
        "--margin",
        type=click.IntRange(0, 1024),
        default=0,
        show_default=True,
        help="Margin around a detected face, in pixels of the crop.",
    ),
    click.option("--flip", is_flag=True, help="Append the embedding of the mirrored face."),
    click.option(
        "--batch-size",
        type=click.IntRange(1, 4096),
        default=32,
        show_default=True,
        help="Faces in one batch.",
    ),
    click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, mps …"),
)


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of `build` and `embed` to a command."""
    for option in reversed(_MODEL_OPTIONS):
        command = option(command)
    return command


def build(
    weights: str,
    detector_weights: Path | None,
    aligned: bool,
    image_size: int,
    margin: int,
    device: str,
) -> tuple[nn.Module, Detector | None]:
    """Return the network, and the detector unless `aligned`, both on `device`.

    Raises:
        UsageError: Options contradict each other, or there is no such device.
        FacenetError: As the loaders of the networks.
    """
    if aligned and (detector_weights is not None or margin):
        raise UsageError("--detector-weights and --margin can't be used with --aligned")
    torch_device = find_device(device)
    from facenet_models import MTCNN, InceptionResnetV1

    model = InceptionResnetV1(pretrained=weights, device=torch_device).eval()
    if aligned:
        return model, None
    detector = MTCNN(
        image_size=image_size, margin=margin, device=torch_device, weights=detector_weights
    )
    return model, detector


def report_misses(misses: tuple[Miss, ...]) -> None:
    """List the misses on standard error."""
    for miss in misses[:MAX_LISTED]:
        click.echo(f"  {printable(miss.name)}: {printable(miss.reason)}", err=True)
    if len(misses) > MAX_LISTED:
        click.echo(f"  and {len(misses) - MAX_LISTED} more; --json lists all", err=True)


@click.command(
    "embed",
    short_help="Compute the embeddings of a folder of photographs.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    metavar="OUT",
    type=click.Path(path_type=Path),
    help="File to write: NAME.npz or NAME.parquet.",
)
@model_options
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@json_option
@reports_errors
def command(
    folder: Path,
    out: Path,
    weights: str | None,
    detector_weights: Path | None,
    aligned: bool,
    image_size: int,
    margin: int,
    flip: bool,
    batch_size: int,
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Compute the embedding of the largest face in each image of FOLDER, and write a file.

    If an image shows several faces, only the largest is used. Subfolders are searched too, and
    their names are the people: FOLDER/Ann/1.jpg shows Ann. Images that can't be read or show no
    face are listed, and get no embedding.

    \b
    Examples:
      facenet embed photos --weights vggface2.pt --detector-weights mtcnn/ --out photos.npz
      facenet embed crops --weights vggface2.pt --aligned --out crops.parquet
      facenet embed photos --weights vggface2 --device cuda --out photos.npz --json

    Exit codes: 0 written; 1 no face in any image, or a file is damaged; 2 wrong usage.
    """
    from facenet_models.recognition.formats.files import check_target
    from facenet_models.recognition.image_files import find_images
    from facenet_models.recognition.pipeline import embed

    if weights is None:
        raise UsageError(
            "missing option --weights", next_step="add it, for example --weights vggface2.pt"
        )
    check_target(out, overwrite=overwrite)
    files = find_images(folder)
    model, detector = build(weights, detector_weights, aligned, image_size, margin, device)
    start = time.perf_counter()
    embeddings = embed(
        files.values(),
        model,
        detector,
        batch_size=batch_size,
        names=list(files),
        image_size=image_size,
        flip=flip,
    )
    seconds = time.perf_counter() - start
    if not len(embeddings):
        first = embeddings.misses[0]
        raise FacenetError(
            f"none of the {len(embeddings.misses)} images has an embedding; nothing was written",
            file=folder,
            found=f"{first.name}: {first.reason}",
            next_step="pass --aligned if the images are face crops",
        )
    embeddings.save(out, overwrite=overwrite)
    identities = len(set(embeddings.labels))
    if as_json:
        print_json(
            {
                "out": str(out),
                "embeddings": len(embeddings),
                "size": embeddings.vectors.shape[1],
                "identities": identities,
                "seconds": round(seconds, 3),
                "misses": [miss._asdict() for miss in embeddings.misses],
            }
        )
        return
    click.echo(
        f"{printable(out)}: {count(len(embeddings), 'embedding')} of "
        f"{embeddings.vectors.shape[1]} numbers, "
        f"{count(identities, 'identity', 'identities')}, in {seconds:.1f} s"
    )
    if embeddings.misses:
        click.echo(f"{count(len(embeddings.misses), 'image')} without an embedding:", err=True)
        report_misses(embeddings.misses)
