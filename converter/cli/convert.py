"""``convert``: convert a weight file, and prove the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import click

from converter.cli.options import short_command, step_option
from facenet_common.commands import json_option, print_json, reports_errors
from facenet_common.errors import UsageError
from facenet_common.progress import TerminalProgress

if TYPE_CHECKING:
    from converter.convert import ParityHook
    from converter.plan import PartChoice


@click.command(
    "convert",
    short_help="Convert weights, and prove the result.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
)
@click.option(
    "--checkpoint",
    required=True,
    metavar="SOURCE",
    help="A TensorFlow checkpoint (folder, prefix, or any of its files), a frozen graph (.pb), "
    "MTCNN weights (det1.npy, …), a file of Keras (.h5, .keras), or a .pt or .safetensors file. A "
    "bare name is also looked up in models/ and $FACENET_CHECKPOINTS.",
)
@click.option(
    "--out",
    required=True,
    metavar="OUT",
    help="The output: NAME.pt, NAME.safetensors, or FOLDER/ for a TensorFlow checkpoint.",
)
@click.option(
    "--part",
    type=click.Choice(["all", "features", "logits"]),
    default="all",
    show_default=True,
    help="The tensors to convert: all, the network without its classifier, or the classifier.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    help="Cast floating-point weights to this type. Default: each keeps its own.",
)
@click.option(
    "--strict/--no-strict",
    default=True,
    show_default=True,
    help="Refuse tensors that no rule explains, or drop them and list them as unproven.",
)
@click.option("--verify", is_flag=True, help="Also run both networks and compare their outputs.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@click.option("--allow-nonfinite", is_flag=True, help="Accept NaN and infinity.")
@step_option
@json_option
@reports_errors
@short_command
def command(
    checkpoint: str,
    out: str,
    part: str,
    dtype: str | None,
    strict: bool,
    verify: bool,
    overwrite: bool,
    allow_nonfinite: bool,
    step: int | None,
    as_json: bool,
) -> None:
    """Convert weights between TensorFlow and PyTorch, bit for bit, and prove it.

    The output is written under a temporary name, read back, mapped back to the source's layout and
    compared with the source; only then is it renamed. Only --verify needs TensorFlow and PyTorch.

    \b
    Examples:
      convert --checkpoint 20180402-114759 --out vggface2.pt
      convert --checkpoint 20180402-114759.pb --out features.safetensors
      convert --checkpoint det1.npy --out pnet.pt
      convert --checkpoint vggface2.pt --out tensorflow/     # and back
      convert --checkpoint 20180402-114759 --out vggface2.pt --verify

    Exit codes: 0 converted; 1 a check failed; 2 wrong usage.
    """
    from converter.convert import Request, convert  # NumPy: not needed for --help
    from converter.dtypes import BY_NAME

    request = Request(
        checkpoint=checkpoint,
        out=out,
        part=cast("PartChoice", part),
        dtype=BY_NAME[dtype] if dtype else None,
        strict=strict,
        overwrite=overwrite,
        allow_nonfinite=allow_nonfinite,
        step=step,
        parity=_parity_hook() if verify else None,
        hash_source=as_json,
    )
    with TerminalProgress() as progress:
        receipt = convert(request, progress)
    if as_json:
        print_json(receipt.to_json())
    else:
        click.echo(receipt.summary())


def _parity_hook() -> ParityHook:
    """Return the parity check. It is an entry point: this package does not import parity_tests."""
    import gc
    from importlib.metadata import entry_points

    gc.enable()  # running networks is not a short command
    for point in entry_points(group="facenet.hooks", name="verify"):
        return cast("ParityHook", point.load())
    raise UsageError(
        "--verify needs the package parity_tests, which is not installed",
        next_step='pip install "facenet-parity[parity]"',
    )
