"""The object graph of checkpoints by `tf.train.Checkpoint` and of SavedModels of TensorFlow 2.

Such a checkpoint names a tensor by its way through Python objects, for example
``model/layer-1/kernel/.ATTRIBUTES/VARIABLE_VALUE``. The graph, a string tensor beside the others,
has the variable's own name for each. Source:
tensorflow/core/protobuf/trackable_object_graph.proto.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from converter.sources.tensorflow import protobuf
from converter.sources.tensorflow.protobuf import DecodeError

KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
# Variables of the saving itself, by the end of their way through the objects.
BOOKKEEPING: Mapping[str, str] = {"save_counter": "the number of saves of tf.train.Checkpoint"}
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


def variable_names(graph: memoryview) -> dict[str, str]:
    """Return the name of each variable by its key in the checkpoint.

    A variable without a name of its own, or with one that another variable has too, is named by
    its key without the ending.

    Raises:
        DecodeError: The message is damaged.

    Examples:
        >>> from converter.sources.tensorflow.protobuf import encode
        >>> attribute = encode(2, b"conv1/weights") + encode(3, b"w/.ATTRIBUTES/VARIABLE_VALUE")
        >>> variable_names(memoryview(encode(1, encode(2, attribute))))
        {'w/.ATTRIBUTES/VARIABLE_VALUE': 'conv1/weights'}
    """
    names: dict[str, str] = {}
    for number, node in protobuf.fields(graph):
        if number != 1:
            continue
        for kind, attribute in protobuf.fields(protobuf.view(node)):
            if kind != 2:
                continue
            parts = dict(protobuf.fields(protobuf.view(attribute)))
            own, key = (protobuf.text(parts.get(n, memoryview(b""))) for n in (2, 3))
            if names.setdefault(key, own) != own:
                raise DecodeError(f"the object graph names {key[:80]} twice")
    uses = Counter(names.values())
    return {
        key: own if own and uses[own] == 1 else key.removesuffix(_VALUE)
        for key, own in names.items()
    }
