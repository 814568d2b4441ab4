"""Explain what is wrong with a layer, from its output or by running it with a change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from parity_tests.frameworks import torch
from parity_tests.localise.compare import compare_activations
from parity_tests.localise.modules import modules_of, patched
from parity_tests.localise.trials import GUESSES
from parity_tests.model import Tolerance
from parity_tests.probes import Probe

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Suspect:
    """A layer that fails on the reference's own input.

    Attributes:
        model: The network.
        probe: The layer.
        expected: The reference's activation for the first image.
        found: The layer's output for it, in the same layout; None if it raises.
        problem: The text of the exception.
        tolerance: For the difference of the two.
        run: Runs the layer again.
    """

    model: Any
    probe: Probe
    expected: Array
    found: Array | None
    problem: str
    tolerance: Tolerance
    run: Callable[[], Array | None]

    def fits(self, found: Array | None) -> bool:
        """Return whether the output agrees with the reference's."""
        return compare_activations(self.expected, found, self.tolerance).passed

    def fits_mended(self, *mends: tuple[Any, Mapping[str, Any]]) -> bool:
        """Return whether the layer agrees with the reference once attributes are changed."""
        with ExitStack() as stack:
            for module, values in mends:
                stack.enter_context(patched(module, **values))
            return self.fits(self.run())

    def ran(self) -> dict[str, Any]:
        """Return the modules that compute the output, by path, without stubs."""
        return modules_of(self.model, self.probe)


Hypothesis = Callable[[Suspect], str]
"""Returns a sentence if the hypothesis is true of the suspect, else an empty string."""


def hint(suspect: Suspect) -> str:
    """Return the first hypothesis that is true; empty if none is."""
    with torch().inference_mode():
        return next((text for text in (test(suspect) for test in HYPOTHESES) if text), "")


def stored_nonfinite(suspect: Suspect) -> str:
    """Test for NaN or infinity in the weights."""
    for path, module in suspect.ran().items():
        for name, value in (
            *module.named_parameters(recurse=False),
            *module.named_buffers(recurse=False),
        ):
            if value.is_floating_point() and not torch().isfinite(value).all():
                count = int((~torch().isfinite(value)).sum())
                where = f"{path}.{name}" if path else name
                return f"{where} holds NaN or infinity ({count} of {value.numel()} values)"
    return ""


def activation_function(suspect: Suspect) -> str:
    """Test for a ReLU that is missing at the end, or superfluous."""
    found, expected = suspect.found, suspect.expected
    if found is None or found.shape != expected.shape:
        return ""
    if found.min(initial=0) < 0 and suspect.fits(np.maximum(found, 0)):
        return f"{_name(suspect)} lacks the ReLU at its end"
    if (
        expected.min(initial=0) < 0
        and compare_activations(np.maximum(expected, 0), found, suspect.tolerance).passed
    ):
        return f"{_name(suspect)} ends with a ReLU that the reference does not have"
    return ""


def normalisation(suspect: Suspect) -> str:
    """Test for embeddings that are not divided by their length."""
    found, expected = suspect.found, suspect.expected
    if suspect.probe.module or found is None or found.shape != expected.shape:
        return ""
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    if np.allclose(lengths, 1, atol=1e-3) or not lengths.all():
        return ""
    if suspect.fits((found / lengths).astype(found.dtype)):
        return f"the embeddings are not divided by their length: it is {float(lengths[0, 0]):.4g}"
    return ""


def residual_scale(suspect: Suspect) -> str:
    """Test for another scale of a residual, estimated by least squares and then tried."""
    for path, module in suspect.ran().items():
        scale = getattr(module, "scale", None)
        if not isinstance(scale, float) or not hasattr(module, "conv2d"):
            continue
        with patched(module, relu=None):
            with patched(module, scale=0.0):
                base = suspect.run()
            with patched(module, scale=1.0):
                full = suspect.run()
        if base is None or full is None or base.shape != suspect.expected.shape:
            continue
        # Where the reference's ReLU let the sum pass, it is base + scale * (full - base).
        passed = suspect.expected != 0
        change = (full.astype(np.float64) - base)[passed]
        wanted = (suspect.expected.astype(np.float64) - base)[passed]
        norm = float(change @ change)
        fitted = float(change @ wanted) / norm if norm > 0 else float("nan")
        if np.isfinite(fitted) and suspect.fits_mended((module, {"scale": fitted})):
            return f"the residual scale of {path} is {scale:g}, the reference's is {fitted:.4g}"
    return ""


def trials(suspect: Suspect) -> str:
    """Return the first guess of `parity_tests.localise.trials` that corrects the output."""
    ran, every = suspect.ran(), dict(suspect.model.named_modules())
    every.pop("", None)
    for guess in GUESSES:
        for trial in guess(ran, every):
            if suspect.fits_mended(*trial.mends):
                return trial.sentence
    return ""


def shape(suspect: Suspect) -> str:
    """Test for an exception, or an output of another size."""
    found, expected = suspect.found, suspect.expected
    if suspect.problem:
        return f"{_name(suspect)} fails on the reference's input: {suspect.problem}"
    if found is not None and found.shape != expected.shape:
        sizes = f"{list(found.shape[1:])}, the reference's {list(expected.shape[1:])}"
        return f"the output of {_name(suspect)} has size {sizes}: stride or padding differs"
    return ""


def proportion(suspect: Suspect) -> str:
    """Test for the reference's output times one factor, or plus one offset for each channel."""
    found, expected = suspect.found, suspect.expected
    if found is None or not np.isfinite(found).all():
        return ""
    norm = float(np.vdot(expected, expected))
    factor = float(np.vdot(expected, found)) / norm if norm > 0 else 0.0
    if factor and suspect.fits((found / factor).astype(found.dtype)):
        return f"the output of {_name(suspect)} is {factor:.4g} times the reference's"
    if expected.ndim == 4:
        offset = (found - expected).mean((0, 1, 2), keepdims=True)
        if suspect.fits((found - offset).astype(found.dtype)):
            return f"{_name(suspect)} adds another constant to each channel: its bias differs"
    return ""


def channels(suspect: Suspect) -> str:
    """Test for differences in a few channels only."""
    found, expected = suspect.found, suspect.expected
    if found is None or not np.isfinite(found).all():
        return ""
    axes = tuple(range(expected.ndim - 1))
    bad = np.flatnonzero(np.abs(found - expected).max(axes) > suspect.tolerance.atol)
    total = expected.shape[-1]
    if 0 < len(bad) <= max(1, total // 4):
        shown = ", ".join(map(str, bad[:8])) + (", …" if len(bad) > 8 else "")
        return f"{len(bad)} of {total} output channels of {_name(suspect)} differ: {shown}"
    return ""


# Cheap and certain ones first; the last three only describe.
HYPOTHESES: tuple[Hypothesis, ...] = (
    stored_nonfinite,
    activation_function,
    normalisation,
    residual_scale,
    trials,
    shape,
    proportion,
    channels,
)


def _name(suspect: Suspect) -> str:
    return suspect.probe.module or "the network"
