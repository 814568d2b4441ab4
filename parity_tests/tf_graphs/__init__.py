"""The project's own TF1 graphs: one module and one line for each network.

They have the variable names, shapes and order of davidsandberg/facenet at 096ed77, so that a
checkpoint without a graph can be run. Each builder adds to the current ``tf.compat.v1`` graph; none
needs eager execution switched off. `serving`, `float64` and `training_branches` rewrite graphs.
Importing this package does not import TensorFlow.
"""

from parity_tests.tf_graphs.inception_resnet_v1 import (
    INCEPTION_RESNET_V1,
    InceptionResnetV1Graph,
    inception_resnet_v1,
    inference_graph,
)
from parity_tests.tf_graphs.mtcnn import MtcnnNet, mtcnn_net
from parity_tests.tf_graphs.network import NetworkGraph
from parity_tests.tf_graphs.onet import ONET
from parity_tests.tf_graphs.pnet import PNET
from parity_tests.tf_graphs.rnet import RNET

GRAPHS: dict[str, NetworkGraph] = {
    graph.name: graph
    for graph in (
        INCEPTION_RESNET_V1,
        PNET,
        RNET,
        ONET,
    )
}
"""Every graph by the network's name."""

MTCNN_NETS = {name: graph for name, graph in GRAPHS.items() if isinstance(graph, MtcnnNet)}
"""The graphs of MTCNN's three networks, in the order of its stages."""

__all__ = [
    "GRAPHS",
    "MTCNN_NETS",
    "InceptionResnetV1Graph",
    "MtcnnNet",
    "NetworkGraph",
    "inception_resnet_v1",
    "inference_graph",
    "mtcnn_net",
]
