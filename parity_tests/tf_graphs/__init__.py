"""The project's own TF1 graphs of InceptionResnetV1, P-Net, R-Net and O-Net.

They have the variable names, shapes and order of davidsandberg/facenet at 096ed77, so a checkpoint
that comes without its graph can be run all the same. Each builder adds to the current
``tf.compat.v1`` graph; none needs eager execution switched off. Importing this package imports no
TensorFlow.
"""

from parity_tests.tf_graphs.inception_resnet_v1 import (
    InceptionResnetV1Graph,
    inception_resnet_v1,
    inference_graph,
)
from parity_tests.tf_graphs.mtcnn import MTCNN_NETS, MtcnnNet, mtcnn_net

__all__ = [
    "MTCNN_NETS",
    "InceptionResnetV1Graph",
    "MtcnnNet",
    "inception_resnet_v1",
    "inference_graph",
    "mtcnn_net",
]
