"""The interface of the project's own graphs."""

from collections.abc import Mapping
from typing import Protocol

from parity_tests.tf_graphs.layers import Tensor


class NetworkGraph(Protocol):
    """A network as a TF1 graph.

    Attributes:
        name: As in `converter.architectures.ARCHITECTURES`.
        images: Names of the operations that may take the images, ``(N, H, W, 3)``; the first that
            a graph has is fed. A ``.meta`` or ``.pb`` file of the network is cut by them too.
        outputs: Names of the tensors that are compared, by output, in the torch network's order.
    """

    @property
    def name(self) -> str: ...

    @property
    def images(self) -> tuple[str, ...]: ...

    @property
    def outputs(self) -> Mapping[str, str]: ...

    def build(self, dims: Mapping[str, int]) -> Tensor:
        """Return a new ``tf.Graph``, with variables named as in the original's checkpoints.

        Args:
            dims: Sizes that the checkpoint decides; at least the record's ``required_dims``.
        """
        ...
