"""Find the first layer of a defective network that differs on its own, in float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from parity_tests.candidate.torch_runner import CandidateRunner
from parity_tests.localise.compare import absolute, compare_activations
from parity_tests.localise.layers import FLOAT64_TOLERANCES
from parity_tests.localise.modules import from_torch, isolated, modules_of, to_torch, within
from parity_tests.probes import IMAGES, Probe, images_layout, probes, require_complete
from parity_tests.reference.live import LiveReference
from parity_tests.reference.runner import ReferenceRunner
from parity_tests.selftest.mutants import Mutant
from parity_tests.selftest.network import broken

Array = npt.NDArray[Any]


class Layers:
    """All probes of a network, to be compared one by one while the network has a defect.

    They are compared on one image of each size in the reference's feeds. Most defects show with the
    first; a pool that rounds the other way shows only for sizes that are rounded.

    Args:
        reference: It must have run once, so that its feeds are those that it can take.
        runner: The correct candidate in float64, entered.
    """

    def __init__(self, reference: LiveReference, runner: CandidateRunner) -> None:
        self._model: Any = runner.model
        first = {feed.images.shape[1:]: feed.images[:1] for feed in reversed(reference.feeds)}
        with reference.activations(float64=True) as activations:
            modules = dict(self._model.named_modules())
            table = probes(reference.architecture, "all")
            self._table = require_complete(table, activations.tensors, modules)
            layout = images_layout(reference.architecture)
            self._views = [
                _View(self._model, activations, self._table, images.astype(np.float64), layout)
                for images in reversed(first.values())
            ]
        self._modules = {p.name: frozenset(modules_of(self._model, p)) for p in self._table}

    def reaches(self, mutant: Mutant) -> bool:
        """Return whether any probe runs a module with the defect."""
        return any(True for _ in self._affected(mutant))

    def compare(self, mutant: Mutant) -> tuple[str, bool]:
        """Return the module of the first probe that fails, and whether any output changes.

        The module is empty if none fails. Only probes that run a defective module are compared.
        """
        changed = False
        for view in self._views:
            for probe in self._affected(mutant):
                correct = view.correct(probe)
                with broken(self._model, mutant):
                    found = view.isolated(probe)
                if found is not None and found.tobytes() == correct.tobytes():
                    continue
                changed = True
                if not view.fits(probe, found):
                    return probe.module or "the network", changed
        return "", changed

    def _affected(self, mutant: Mutant) -> Iterator[Probe]:
        for probe in self._table:
            paths = self._modules[probe.name]
            if any(
                within(path, layer) or within(layer, path)
                for layer in mutant.layers
                for path in paths
            ):
                yield probe


class _View:
    """The reference's activations for one image, NHWC, with the outputs of `model`'s modules."""

    def __init__(
        self,
        model: Any,
        activations: ReferenceRunner,
        table: Sequence[Probe],
        images: Array,
        layout: Any,
    ) -> None:
        tensors = list(dict.fromkeys(probe.tensor for probe in table))
        values = dict(zip(tensors, activations.fetch(images, tensors), strict=True))
        self._model = model
        self._expected: dict[str, Array] = {p.name: values[p.tensor] for p in table}
        self._inputs = {p.name: to_torch(model, values[p.tensor], p.layout) for p in table}
        self._inputs[IMAGES] = to_torch(model, images, layout)
        self._correct: dict[str, Array] = {}

    def correct(self, probe: Probe) -> Array:
        """Return the output of the module without a defect; call it first without one."""
        if probe.name not in self._correct:
            found = self.isolated(probe)
            assert found is not None
            self._correct[probe.name] = found
        return self._correct[probe.name]

    def isolated(self, probe: Probe) -> Array | None:
        """Return the module's output for the reference's activations; None if it raises."""
        output, _ = isolated(self._model, probe, self._inputs.__getitem__)
        return None if output is None else from_torch(self._model, output, probe.layout, np.float64)

    def fits(self, probe: Probe, found: Array | None) -> bool:
        """Return whether the output is the reference's activation, within rounding."""
        expected = self._expected[probe.name]
        tolerance = absolute(expected, FLOAT64_TOLERANCES.isolated)
        return compare_activations(expected, found, tolerance).passed
