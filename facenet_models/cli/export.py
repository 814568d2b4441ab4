"""``facenet export``: convert a weight file to an ONNX model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from facenet_common.commands import json_option, print_json, reports_errors
from facenet_common.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from facenet_models.onnx.export import Exported

SUFFIX = ".onnx"


@click.command(
    "export",
    short_help="Write a weight file as an ONNX model.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
)
@click.argument("weights", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["onnx"]),
    default="onnx",
    show_default=True,
    help="Format of the output.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="NAME.onnx, the file to write."
)
@click.option("--classify", is_flag=True, help="Output class logits instead of embeddings.")
@click.option("--opset", type=int, default=17, show_default=True, help="ONNX operator set.")
@click.option("--batch", type=click.IntRange(1), help="Fix the batch size. Default: free.")
@click.option(
    "--size",
    type=click.IntRange(1),
    nargs=2,
    metavar="HEIGHT WIDTH",
    help="Fix the images' size. Default: free, where the network allows it.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
@json_option
@reports_errors
def command(
    weights: Path,
    output_format: str,  # noqa: ARG001 # there is only one so far
    out: Path,
    classify: bool,
    opset: int,
    batch: int | None,
    size: tuple[int, int] | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Convert WEIGHTS, a .pt or .safetensors of InceptionResnetV1, P-, R- or O-Net, to ONNX.

    The network is recognised by the names of its tensors. Before the file is written, the model
    is run in onnxruntime and compared with PyTorch.

    \b
    Examples:
      facenet export vggface2.pt --out vggface2.onnx
      facenet export vggface2.pt --out classes.onnx --classify --size 160 160
      facenet export onet.pt --out onet.onnx

    Exit codes: 0 written; 1 not written, because something failed; 2 wrong usage.
    """
    from facenet_common.atomic import check_target
    from facenet_common.optional import require

    if out.suffix.lower() != SUFFIX:
        raise UsageError(
            f"the output's name must end in {SUFFIX}",
            file=out,
            next_step=f"--out {out.with_suffix(SUFFIX)}" if out.name else None,
        )
    check_target(out, overwrite=overwrite)  # early: loading takes time
    for package in ("onnx", "onnxruntime"):  # before torch, which their extra installs too
        require(package, "export")
    from facenet_models.networks.architectures import from_state_dict
    from facenet_models.onnx.export import export_onnx
    from facenet_models.weights.files import load_state_dict

    model = from_state_dict(load_state_dict(weights))
    if classify:
        set_classify(model)
    done = export_onnx(model, out, opset=opset, batch=batch, size=size, overwrite=overwrite)
    if as_json:
        print_json(done.to_json())
    else:
        click.echo(summary(done))


def set_classify(model: nn.Module) -> None:
    """Set `model` to give logits.

    Raises:
        UsageError: It has no classifier.
    """
    from facenet_models.networks.architectures import describe as describe_model

    if "classes" not in describe_model(model).dims:
        raise UsageError(
            "--classify needs weights with a classifier (logits.*)",
            found=f"{type(model).__name__} without one",
            next_step="leave --classify out",
        )
    setattr(model, "classify", True)  # noqa: B010 # nn.Module declares no such attribute


def summary(done: Exported) -> str:
    """Return the facts about an exported file as text."""
    network = done.architecture
    sizes = "".join(f", {name} {size}" for name, size in network.dims.items())
    rows = (
        ("written", f"{done.path}  {done.size:,} bytes"),
        ("network", network.name + sizes),
        ("input", f"images  {' x '.join(map(str, done.image))}"),
        ("output", ", ".join(network.outputs)),
        ("opset", str(done.opset)),
        ("sha256", done.sha256),
        ("checked", f"onnxruntime and PyTorch at most {done.difference:.2g} apart"),
    )
    return "\n".join(f"{label:<9}{value}" for label, value in rows)
