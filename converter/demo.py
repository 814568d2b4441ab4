"""A checkpoint to try the converter on, for want of trained weights: ``python -m converter.demo``.

It has the names, shapes and format of a FaceNet checkpoint, and values that nobody trained. The
values are made from uniform random numbers by exact float32 operations only, so that they are the
same on every machine.
"""

from __future__ import annotations

from functools import partial
from math import prod, sqrt
from pathlib import Path

import click
import numpy as np

from converter.architectures import INCEPTION_RESNET_V1
from converter.catalog import TensorRef
from converter.dtypes import FLOAT32, Array
from converter.writers import bundle
from facenet_common.atomic import atomic_folder, check_target, output_error
from facenet_common.commands import reports_errors

SEED = 20180402


def value(name: str, shape: tuple[int, ...]) -> Array:
    """An untrained value of the variable `name`: float32, seeded by the name.

    Kernels are uniform with He's variance, 2 / fan-in (He et al. 2015, arXiv:1502.01852), which
    keeps activations alive through the layers; variances lie in 0.5 to 1.5, all else within 0.1.
    """
    numbers = np.random.default_rng([SEED, *name.encode()]).random(shape, np.float32)
    leaf = name.rpartition("/")[2]
    if leaf == "moving_variance":
        return numbers + np.float32(0.5)
    limit = sqrt(6 / prod(shape[:-1])) if leaf == "weights" else 0.1
    return (numbers * np.float32(2) - np.float32(1)) * np.float32(limit)


def variables(embedding: int, classes: int) -> list[TensorRef]:
    """The network's variables under TensorFlow's names; with `classes` 0, without classifier."""
    sizes = {"embedding": embedding, "classes": classes}
    made = []
    for rule in INCEPTION_RESNET_V1.rules:
        if rule.part == "features" or classes:
            shape = tuple(sizes[dim] if isinstance(dim, str) else dim for dim in rule.shape)
            made.append(TensorRef(rule.source, FLOAT32, shape, partial(value, rule.source, shape)))
    return made


def write_demo(
    folder: Path, *, embedding: int = 512, classes: int = 8631, overwrite: bool = False
) -> None:
    """Write the demo checkpoint to `folder`, whole or not at all. Raises FacenetError."""
    check_target(folder, overwrite=overwrite, folder=True)
    with atomic_folder(folder) as partial_folder:
        try:
            bundle.write(partial_folder, variables(embedding, classes), lambda _: None)
        except OSError as error:
            raise output_error(folder, error) from error


@click.command(context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--embedding", type=click.IntRange(1), default=512, show_default=True)
@click.option("--classes", type=click.IntRange(0), default=8631, show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace FOLDER if it exists.")
@reports_errors
def command(folder: Path, embedding: int, classes: int, overwrite: bool) -> None:
    """Write a demo checkpoint to FOLDER: real names and shapes, values that nobody trained."""
    write_demo(folder, embedding=embedding, classes=classes, overwrite=overwrite)
    click.echo(f"{folder}: a demo checkpoint, embedding {embedding}, classes {classes}")
    click.echo("  NOT TRAINED: its values are random; its embeddings tell nobody from anybody")


if __name__ == "__main__":
    command(prog_name="python -m converter.demo")
