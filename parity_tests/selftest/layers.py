"""Which layer of a broken network is the first that differs by itself, in float64."""

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
    """All probes of a network, to be compared one by one while the network is broken.

    They are looked at with one image of each size that the reference was fed with. Most defects
    show with the first; a pool that rounds the other way shows only where there is something to
    round.

    Args:
        reference: Has answered; its feeds are those that it can take.
        runner: The right candidate in float64, entered.
    """

    def __init__(self, reference: LiveReference, runner: CandidateRunner) -> None:
        self._model: Any = runner.model
        first = {feed.images.shape[1:]: feed.images[:1] for feed in reversed(reference.feeds)}
        with reference.activations(wide=True) as activations:
            modules = dict(self._model.named_modules())
            table = probes(reference.architecture, "all")
            self._table = require_complete(table, activations.tensors, modules)
            layout = images_layout(reference.architecture)
            self._views = [
                _View(self._model, activations, self._table, images.astype(np.float64), layout)
                for images in reversed(first.values())
            ]
        self._modules = {p.name: frozenset(modules_of(self._model, p)) for p in self._table}

    def reach(self, mutant: Mutant) -> bool:
        """Whether any probe runs a broken module."""
        return any(True for _ in self._affected(mutant))

    def look(self, mutant: Mutant) -> tuple[str, bool]:
        """The module of the first probe that fails alone (empty: none), and whether any changes.

        Only probes that run a broken module are looked at. The others run what they ran.
        """
        changed = False
        for view in self._views:
            for probe in self._affected(mutant):
                right = view.right(probe)
                with broken(self._model, mutant):
                    found = view.alone(probe)
                if found is not None and found.tobytes() == right.tobytes():
                    continue
                changed = True
                if not view.fits(probe, found):
                    return probe.module or "the network", changed
        return "", changed

    def _affected(self, mutant: Mutant) -> Iterator[Probe]:
        for probe in self._table:
            ran = self._modules[probe.name]
            if any(
                within(path, layer) or within(layer, path)
                for layer in mutant.layers
                for path in ran
            ):
                yield probe


class _View:
    """The reference's activations for one image, NHWC, and each module of `model` on them."""

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
        self._right: dict[str, Array] = {}

    def right(self, probe: Probe) -> Array:
        """What the unbroken module gives alone."""
        if probe.name not in self._right:
            found = self.alone(probe)
            assert found is not None
            self._right[probe.name] = found
        return self._right[probe.name]

    def alone(self, probe: Probe) -> Array | None:
        """What the module gives for the reference's activations before it; None if it raises."""
        output, _ = isolated(self._model, probe, self._inputs.__getitem__)
        return None if output is None else from_torch(self._model, output, probe.layout, np.float64)

    def fits(self, probe: Probe, found: Array | None) -> bool:
        """Whether that is the reference's activation, to within rounding."""
        expected = self._expected[probe.name]
        tolerance = absolute(expected, FLOAT64_TOLERANCES.isolated)
        return compare_activations(expected, found, tolerance).passed
