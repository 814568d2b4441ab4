"""Write a demo checkpoint, to try the converter without trained weights.

``python -m converter.demo FOLDER`` writes the names, shapes and format of a FaceNet checkpoint,
with random values. They are computed from uniform random numbers by exact float32 operations only,
so that they are the same on every machine.
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

SEED = 20180402  # the date of a published checkpoint; any number would do


def value(name: str, shape: tuple[int, ...]) -> Array:
    """Return random values for the variable `name`: float32 of `shape`, seeded by the name.

    Kernels are uniform with He's variance, 2 / fan-in (He et al. 2015, arXiv:1502.01852), so that
    activations neither vanish nor grow with depth. Variances are from 0.5 to 1.5, all others from
    -0.1 to 0.1.

    Examples:
        >>> value("conv1/biases", (3,))
        array([-0.06210756,  0.00990595, -0.01439081], dtype=float32)
    """
    numbers = np.random.default_rng([SEED, *name.encode()]).random(shape, np.float32)
    leaf = name.rpartition("/")[2]
    if leaf == "moving_variance":
        return numbers + np.float32(0.5)
    limit = sqrt(6 / prod(shape[:-1])) if leaf == "weights" else 0.1
    return (numbers * np.float32(2) - np.float32(1)) * np.float32(limit)


def variables(embedding: int, classes: int) -> list[TensorRef]:
    """Return the network's variables, under TensorFlow's names.

    Args:
        embedding: The size of the embedding.
        classes: The number of classes; 0 leaves the classifier out.

    Examples:
        >>> variables(embedding=128, classes=0)[0].shape
        (3, 3, 3, 32)
    """
    sizes = {"embedding": embedding, "classes": classes}
    refs = []
    for rule in INCEPTION_RESNET_V1.rules:
        if rule.part == "features" or classes:
            shape = tuple(sizes[dim] if isinstance(dim, str) else dim for dim in rule.shape)
            refs.append(TensorRef(rule.source, FLOAT32, shape, partial(value, rule.source, shape)))
    return refs


def write_demo(
    folder: Path, *, embedding: int = 512, classes: int = 8631, overwrite: bool = False
) -> None:
    """Write the demo checkpoint to `folder`. On an error, nothing is written.

    Args:
        folder: The folder of the checkpoint.
        embedding: The size of the embedding.
        classes: The number of classes; 0 leaves the classifier out.
        overwrite: Replace an existing folder.

    Raises:
        UsageError: The folder can't be created, or exists already.
        OutputError: The checkpoint can't be written.
    """
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
    """Write a demo checkpoint to FOLDER: the names and shapes of FaceNet, with random values."""
    write_demo(folder, embedding=embedding, classes=classes, overwrite=overwrite)
    click.echo(f"{folder}: a demo checkpoint, embedding {embedding}, classes {classes}")
    click.echo("  NOT TRAINED: its values are random, and its embeddings do not recognise faces")


if __name__ == "__main__":
    command(prog_name="python -m converter.demo")
