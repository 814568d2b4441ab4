"""Inception-ResNet-v1 as davidsandberg/facenet trains it and facenet-pytorch names it.

Sources: the variables and operations of the original graph (src/models/inception_resnet_v1.py and
src/train_softmax.py at 096ed77), the state_dict of facenet-pytorch 2.6.0, and the modules of
`facenet_models.networks.inception_resnet_v1`.
"""

from __future__ import annotations

from dataclasses import replace

from converter.architectures.inception import (
    Branches,
    Conv,
    EndPoint,
    Pool,
    Reduction,
    Residual,
    Single,
    Stage,
    batch_norm,
    chained,
    keras_layers,
    probes,
    repeated,
    rows,
)
from converter.architectures.record import (
    PASS,
    Architecture,
    Card,
    Isolation,
    KerasPort,
    Output,
    Probe,
)
from converter.architectures.training import TRAINING_LEFTOVERS
from converter.layouts import AS_IS, IO_TO_OI
from converter.rules import Rule

_ROOT = "InceptionResnetV1"

_BLOCK35: Branches = (
    (Conv("Conv2d_1x1", 1, 1, 32),),
    (Conv("Conv2d_0a_1x1", 1, 1, 32), Conv("Conv2d_0b_3x3", 3, 3, 32)),
    (
        Conv("Conv2d_0a_1x1", 1, 1, 32),
        Conv("Conv2d_0b_3x3", 3, 3, 32),
        Conv("Conv2d_0c_3x3", 3, 3, 32),
    ),
)
_BLOCK17: Branches = (
    (Conv("Conv2d_1x1", 1, 1, 128),),
    (
        Conv("Conv2d_0a_1x1", 1, 1, 128),
        Conv("Conv2d_0b_1x7", 1, 7, 128),
        Conv("Conv2d_0c_7x1", 7, 1, 128),
    ),
)
_BLOCK8: Branches = (
    (Conv("Conv2d_1x1", 1, 1, 192),),
    (
        Conv("Conv2d_0a_1x1", 1, 1, 192),
        Conv("Conv2d_0b_1x3", 1, 3, 192),
        Conv("Conv2d_0c_3x1", 3, 1, 192),
    ),
)
_MIXED_6A: Branches = (
    (Conv("Conv2d_1a_3x3", 3, 3, 384),),
    (
        Conv("Conv2d_0a_1x1", 1, 1, 192),
        Conv("Conv2d_0b_3x3", 3, 3, 192),
        Conv("Conv2d_1a_3x3", 3, 3, 256),
    ),
    (Pool("MaxPool_1a_3x3"),),
)
_MIXED_7A: Branches = (
    (Conv("Conv2d_0a_1x1", 1, 1, 256), Conv("Conv2d_1a_3x3", 3, 3, 384)),
    (Conv("Conv2d_0a_1x1", 1, 1, 256), Conv("Conv2d_1a_3x3", 3, 3, 256)),
    (
        Conv("Conv2d_0a_1x1", 1, 1, 256),
        Conv("Conv2d_0b_3x3", 3, 3, 256),
        Conv("Conv2d_1a_3x3", 3, 3, 256),
    ),
    (Pool("MaxPool_1a_3x3"),),
)

_STAGES: tuple[Stage, ...] = (
    Single(Conv("Conv2d_1a_3x3", 3, 3, 32), "conv2d_1a"),
    Single(Conv("Conv2d_2a_3x3", 3, 3, 32), "conv2d_2a"),
    Single(Conv("Conv2d_2b_3x3", 3, 3, 64), "conv2d_2b"),
    Single(Pool("MaxPool_3a_3x3"), "maxpool_3a"),
    Single(Conv("Conv2d_3b_1x1", 1, 1, 80), "conv2d_3b"),
    Single(Conv("Conv2d_4a_3x3", 3, 3, 192), "conv2d_4a"),
    Single(Conv("Conv2d_4b_3x3", 3, 3, 256), "conv2d_4b"),
    *repeated("Repeat/block35", "repeat_1", 5, _BLOCK35),
    EndPoint("Mixed_5a", "repeat_1"),
    Reduction("Mixed_6a", "mixed_6a", _MIXED_6A),
    *repeated("Repeat_1/block17", "repeat_2", 10, _BLOCK17),
    EndPoint("Mixed_6b", "repeat_2"),
    Reduction("Mixed_7a", "mixed_7a", _MIXED_7A),
    *repeated("Repeat_2/block8", "repeat_3", 5, _BLOCK8),
    EndPoint("Mixed_8a", "repeat_3"),
    Residual("Block8", "block8", _BLOCK8, result="add"),
    EndPoint("Mixed_8b", "block8"),
    EndPoint("PrePool", "block8"),
)

_BOTTLENECK = (
    Rule(f"{_ROOT}/Bottleneck/weights", "last_linear.weight", IO_TO_OI, (1792, "embedding")),
    *batch_norm(f"{_ROOT}/Bottleneck/BatchNorm", "last_bn", "embedding"),
)

_LOGITS = (
    Rule("Logits/weights", "logits.weight", IO_TO_OI, ("embedding", "classes"), part="logits"),
    Rule("Logits/biases", "logits.bias", AS_IS, ("classes",), part="logits"),
)

_CHILDREN = (
    *("conv2d_1a", "conv2d_2a", "conv2d_2b", "maxpool_3a", "conv2d_3b", "conv2d_4a", "conv2d_4b"),
    *("repeat_1", "repeat_2", "repeat_3", "mixed_6a", "mixed_7a", "block8"),
    *("avgpool_1a", "dropout", "last_linear", "last_bn"),
)

# From the last feature map to the embeddings.
_TAIL = (
    Probe(
        "PreLogitsFlatten",
        f"{_ROOT}/Logits/Dropout/cond/Merge:0",
        "dropout",
        "NC",
        ("PrePool",),
        Isolation(("avgpool_1a", "dropout"), "PrePool"),
        # Without the branch for training, or with dropout frozen away.
        also=(
            f"{_ROOT}/Logits/Dropout/Identity:0",
            f"{_ROOT}/Logits/Flatten/flatten/Reshape:0",
            f"{_ROOT}/Logits/Flatten/Reshape:0",
        ),
    ),
    chained("Bottleneck", f"{_ROOT}/Bottleneck/MatMul:0", "last_linear", "PreLogitsFlatten", "NC"),
    replace(
        chained(
            "prelogits", f"{_ROOT}/Bottleneck/BatchNorm/Reshape_1:0", "last_bn", "Bottleneck", "NC"
        ),
        also=(f"{_ROOT}/Bottleneck/BatchNorm/batchnorm/add_1:0",),  # not fused
    ),
    Probe(
        "embeddings",
        "embeddings:0",
        "",
        "NC",
        ("prelogits",),
        # The network itself normalises, so all of it runs, with every module stepped over.
        Isolation(("",), "prelogits", tuple((path, PASS) for path in _CHILDREN)),
    ),
)

_ROWS = (*rows(_ROOT, _STAGES), *_BOTTLENECK, *_LOGITS)


def _keras() -> KerasPort:
    """Return the names and settings of the ports to Keras.

    Sources: nyoki-mtl/keras-facenet at 2a571cf, faustomorales/keras-facenet at e702de7; and
    deepface/basemodels/Facenet.py of serengil/deepface at 0b22c54, which names the second branch of
    Block17_N and Block8_N Branch_N, but for the last block.
    """
    rules = (row for row in _ROWS if isinstance(row, Rule))
    layers = keras_layers(_ROOT, rules, last_block="Block8_6")
    for block, blocks in (("Block17", 10), ("Block8", 5)):
        for number in range(2, blocks + 1):
            own, theirs = (f"{block}_{number}_Branch_{branch}_" for branch in (1, number))
            renamed = {name: scope for name, scope in layers.items() if name.startswith(own)}
            layers |= {name.replace(own, theirs): scope for name, scope in renamed.items()}
    scales = [(f"Block35_{number}", 0.17) for number in range(1, 6)]
    scales += [(f"Block17_{number}", 0.10) for number in range(1, 11)]
    scales += [(f"Block8_{number}", 0.20) for number in range(1, 6)]
    scales += [("Block8_6", 1.0)]
    return KerasPort(layers, 0.001, {f"{block}_Conv2d_1x1": scale for block, scale in scales})


_CARD = Card(
    title="InceptionResnetV1 (FaceNet)",
    task="image-feature-extraction",
    tags=("facenet", "face-recognition"),
    summary="Computes an embedding, a vector of length 1, from the image of one face. "
    "Embeddings of the same person lie closer together than those of different people.",
    input="batch x 3 x height x width, at least 75 x 75 pixels, one face in each image",
    outputs=("embeddings: batch x embedding size, each row of length 1",),
    use="Compare faces: verify, identify among people who agreed to it, cluster. Start a "
    "training from these weights. Research.",
    limits=(
        "It expects one face in each image, cropped as in training (MTCNN, 160 x 160 pixels).",
        "A distance does not prove an identity. The threshold depends on the use; choose and "
        "test it on data of that use.",
        "Error rates of face recognition differ between groups of people (skin tone, gender, "
        "age), and the training photographs show celebrities, mostly adults. Differences "
        "between groups were not measured here.",
    ),
    paper="https://arxiv.org/abs/1503.03832",
    takes_pretrained=True,
)

INCEPTION_RESNET_V1 = Architecture(
    name="inception_resnet_v1",
    description="Inception-ResNet-v1 (FaceNet)",
    class_name="InceptionResnetV1",
    rows=_ROWS,
    outputs=(Output("embeddings", "embedding"),),
    blocks=(*probes(_ROOT, _STAGES, layers=False), *_TAIL),
    layers=(*probes(_ROOT, _STAGES, layers=True), *_TAIL),
    image_layout="NHWC",
    feed_size=(160, 160),  # of the published models
    # The original's graph averages over a window that is fixed when it is built, 3x3 for 160x160
    # images; from 139 to 170 pixels the last feature map has that size.
    odd_feed_size=(145, 167),
    card=_CARD,
    leftovers=TRAINING_LEFTOVERS,
    keras=_keras(),
)
