"""Estimate how far rounding alone moves a network's float32 outputs from the exact ones.

Two implementations of one network differ by rounding. Whatever judges one (`facenet verify`, the
check of an ONNX export) demands that it is no farther from the float64 outputs than rounding
explains. The estimate depends on the network and its images alone, not on a processor, a library or
another float32 run, because each of these rounds in its own order.

**One sum.** A convolution or a matrix product adds n terms. Each addition rounds the partial sum
s_k to the nearest float32: an error that is uniform between -u |s_k| and u |s_k| at the widest,
with u = 2^-24, so of variance u^2 s_k^2 / 3. Errors of different additions are independent enough
for their variances to be added (Higham and Mary, "A New Approach to Probabilistic Rounding Error
Analysis", SIAM J. Sci. Comput. 41(5), 2019: errors grow like sqrt(n) u, not n u). For terms in
random order, with S their sum and P the sum of their squares, the expectation is

    s_1^2 + ... + s_n^2  =  n S^2 / 3 + n P / 6

and n (b^2 + b S + S^2 / 3) + n P / 6 if the sum starts at the bias b; the larger of the two is
taken. Adding one term after the other is the worst of the usual orders: kernels that keep 4, 8 or
16 partial sums, or add in blocks, round fewer large numbers. Rounded products, or weights that
were rounded when a batch norm was folded into them, add P once more, and the rounded result adds
(S + b)^2. All of this is a variance in units of u^2 / 3. The models of the other operations are
below. A factor that is rounded once for a whole channel (a batch norm's scale) or a row (its
length) has the same error everywhere there.

**The network.** Each operation of the network adds such an error to its result, drawn at random,
and the next operations propagate it. The distance from the undisturbed outputs, as a root mean
square over draws, is the *scale* of rounding for these images. Errors are amplified by `AMPLIFIED`,
and the distance is divided by it, so that the rounding of this computation itself is negligible.

**The bound.** Distances of a correct candidate from the float64 outputs, each divided by its scale,
have a mean square of at most about 1. In the worst case all errors lie along one direction and are
the same for all samples, so that a mean over samples is no better known than one of them; then it
is normal, and `FACTOR` = 4 is exceeded in 6 of 100,000 runs of kernels that round as badly as the
model. Single layers of P-, R- and O-Net were measured at 0.3 to 1.05 of the model with torch on
AVX2. Measured on whole networks: benchmarks/README.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Array = npt.NDArray[Any]
Part = tuple[Tensor, tuple[int, ...]]
"""Standard deviations in units of u / sqrt(3), and the shape of the numbers drawn for them: 1 in
an axis along which the error is the same."""

FACTOR = 4.0  # the most by which the distance may exceed the scale, in quadratic mean over samples
UNIT_ROUNDOFF = 2.0**-24  # u: half a unit in the last place of a float32 from 1 to 2
# Errors become 2^8 times as large as float32's own, which so contribute 1/256, and stay below 1e-3.
AMPLIFIED = 2.0**8


def rounding_scale(
    model: nn.Module, images: Sequence[Tensor], *, at_most: int, draws: int
) -> Array:
    """Estimate the scale of rounding for each image, see above.

    Args:
        model: A network in float32 and evaluation mode, on the CPU.
        images: The images, ``(3, H, W)``, of one size or of several.
        at_most: Images that are disturbed, evenly spaced among all. The others get the root mean
            square of their scales.
        draws: How often each of them is disturbed.

    Returns:
        float64 of shape ``(len(images),)``: an L2 distance in the unit of the outputs, all of them
        together. Equal arguments give equal values.

    Examples:
        >>> scale = rounding_scale(model, images, at_most=3, draws=1)  # doctest: +SKIP
        >>> (np.linalg.norm(found - exact, axis=1) / scale).max()  # 1 is usual  # doctest: +SKIP
    """
    generator = torch.Generator().manual_seed(0)
    chosen = ((np.arange(at_most) + 0.5) * len(images) / at_most).astype(int)
    groups: dict[tuple[int, ...], list[int]] = {}  # images of one shape make a batch
    for sample in dict.fromkeys(chosen.tolist()):
        groups.setdefault(tuple(images[sample].shape), []).append(sample)
    squares, disturbed = np.zeros(len(images)), np.zeros(len(images), bool)
    for group in groups.values():
        batch = torch.stack([images[sample] for sample in group])
        squares[group] = _mean_squares(model, batch, draws, generator)
        disturbed[group] = True
    squares[~disturbed] = squares[disturbed].mean()
    scale: Array = np.sqrt(squares) / AMPLIFIED
    return scale


def _mean_squares(model: nn.Module, batch: Tensor, draws: int, generator: torch.Generator) -> Array:
    """Return the mean square of the amplified error of each image's outputs."""
    squares = np.zeros(len(batch))
    with torch.inference_mode():
        exact = _answers(model, batch)
        for _ in range(draws):
            with _Disturbed(generator):
                moved = _answers(model, batch)
            squares += ((moved - exact) ** 2).sum(1) / draws
    return squares


def _answers(model: nn.Module, batch: Tensor) -> Array:
    """Return all outputs for each image in one row, in float64."""
    outputs = model(batch)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    rows = [output.flatten(1).double().numpy() for output in outputs]
    return np.concatenate(rows, axis=1)


class _Disturbed(TorchFunctionMode):
    """A context manager in which torch's operations add amplified rounding errors.

    https://docs.pytorch.org/docs/stable/torch.overrides.html
    """

    bound = AMPLIFIED * UNIT_ROUNDOFF  # uniform in ±u has the standard deviation u / sqrt(3)

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name in EXACT or not isinstance(result, Tensor) or not result.is_floating_point():
            return result
        errors: Callable[..., list[Part]] = MODELS.get(name, _one)
        for deviation, shape in errors(result, *args, **kwargs):
            drawn = result.new_empty(shape)
            drawn.uniform_(-self.bound, self.bound, generator=self.generator)
            result = result.addcmul(drawn, deviation)
        return result


# --- the errors of each operation, by its result and its arguments

EXACT = frozenset({"cat", "dim", "dropout", "flatten", "max_pool2d", "permute", "relu", "size"})


def _one(y: Tensor, *_: Any, **__: Any) -> list[Part]:
    """Model one rounding of the result: a product, a sum of two, operations without a model."""
    return [(y, y.shape)]


def _sum(y: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None, *_: Any) -> list[Part]:
    """Model a convolution or a matrix product, see the head of this module.

    P is computed for a channel from the means of the squared inputs over height and width.
    """
    terms = weight[0].numel()
    powers, squares = x.square(), weight.square()
    while powers.ndim > 2:
        powers, squares = powers.mean(-1), squares.sum(-1)
    shape = (1, -1) + (1,) * (y.ndim - 2)
    spread = (powers @ squares.T).reshape(len(y), *shape[1:])
    # n S^2 / 3 + S + b squared, and where it is larger n (b^2 + b S) more, with y = S + b.
    if bias is None:
        variance = y.square() * (terms / 3 + 1)
    else:
        start = bias.reshape(shape)
        variance = (y - start).square() * (terms / 3) + (start * y).clamp(min=0) * terms
        variance += y.square()
    variance += spread * (terms / 6 + 1)
    return [(variance.sqrt_(), y.shape)]


def _batch_norm(
    y: Tensor,
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    weight: Tensor | None,
    bias: Tensor,
    training: bool = False,
    momentum: float = 0.0,
    eps: float = 1e-5,
) -> list[Part]:
    """Model y = (x - m) s + b, or x s + (b - m s), with s = w / sqrt(v + eps).

    Rounded for a whole channel: s three times, m s, and b - m s. For each element: x s, and y.
    """
    del training, momentum
    shape = (1, -1) + (1,) * (y.ndim - 2)
    scale = (variance + eps).rsqrt() * (1 if weight is None else weight)
    moved = (mean * scale).reshape(shape)
    offset = bias.reshape(shape)
    channel = (*y.shape[:2], *shape[2:])
    single = (x * scale.reshape(shape)).square_().add_(y.square()).sqrt_()
    return [
        ((y - offset).mul_(math.sqrt(3)), channel),
        ((moved.square() + (offset - moved).square()).sqrt(), channel),
        (single, y.shape),
    ]


def _mean(y: Tensor, x: Tensor, *_: Any) -> list[Part]:
    """Model the mean of a map: a sum of n terms, each a product with 1, and a division."""
    terms = x.shape[-1] * x.shape[-2]
    variance = y.square() * (terms / 3 + 2) + x.square().mean((2, 3), keepdim=True) / 6
    return [(variance.sqrt(), y.shape)]


def _softmax(y: Tensor, x: Tensor, dim: int, *_: Any, **__: Any) -> list[Part]:
    """Model exp(x - max) / sum: a difference, an exponential within 2 u, a sum, a division."""
    gap = x - x.amax(dim, keepdim=True)
    return [(y * (gap.square() + 4 + x.shape[dim] / 3 + 1).sqrt(), y.shape)]


def _normalised(y: Tensor, x: Tensor, *_: Any, **__: Any) -> list[Part]:
    """Model x / |x|: a sum of n squares, a root within 2 u that halves its error, a division."""
    return [(y * math.sqrt(x.shape[1] / 12 + 4), (len(y), 1)), (y, y.shape)]


MODELS: dict[str, Callable[..., list[Part]]] = {
    "adaptive_avg_pool2d": _mean,
    "add": _one,
    "batch_norm": _batch_norm,
    "conv2d": _sum,
    "linear": _sum,
    "mul": _one,
    "normalize": _normalised,
    "prelu": _one,
    "softmax": _softmax,
}
"""By the names of torch's functions. Others round their result once, unless they are `EXACT`."""
