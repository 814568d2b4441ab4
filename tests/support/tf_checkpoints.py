"""Writes checkpoints, graphs and frozen graphs with TensorFlow's own code, to test readers against.

Everything is laid out and named as davidsandberg/facenet does it (``src/train_softmax.py``,
``src/freeze_graph.py``). Nothing imports TensorFlow before it is called.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from parity_tests.frameworks import quiet_tensorflow, tensorflow
from parity_tests.tf_graphs import inference_graph

Array = npt.NDArray[Any]
Fill = Callable[[str, tuple[int, ...]], Array]
Partitioned = bool | Collection[str]

PUBLISHED = "model-20180402-114759"
# Slots of the optimisers that the original's train_softmax.py offers.
SLOTS: Mapping[str, tuple[str, ...]] = {
    "ADAGRAD": ("Adagrad",),
    "ADADELTA": ("Adadelta", "Adadelta_1"),
    "ADAM": ("Adam", "Adam_1"),
    "RMSPROP": ("RMSProp", "RMSProp_1"),
    "MOM": ("Momentum",),
}
PIECES = 3  # of a partitioned variable


def write_checkpoint(
    folder: Path,
    embedding_size: int,
    classes: int,
    *,
    fill: Fill,
    meta: bool = True,
    step: int = 275,
    name: str = PUBLISHED,
    shards: int = 1,
    partitioned: Partitioned = False,
    extra: Iterable[tuple[str, Array]] = (),
) -> Path:
    """Write InceptionResnetV1's checkpoint ``NAME.ckpt-STEP`` and its graph ``NAME.meta``.

    Args:
        folder: Is created if need be; gets a ``checkpoint`` file as well.
        embedding_size: Length of an embedding.
        classes: Outputs of the classifier; 0: there is none.
        fill: Gives a variable's value from its name and shape; float32.
        meta: Write the graph too.
        step: Global step, the number in the file names.
        name: What the file names begin with.
        shards: Number of ``.data`` files.
        partitioned: See `write_variables`.
        extra: More tensors for the checkpoint, by name.

    Returns:
        The prefix.
    """
    tf = tensorflow().compat.v1
    folder.mkdir(parents=True, exist_ok=True)
    base = folder / f"{name}.ckpt"
    graph = inference_graph(embedding_size, classes)
    extras = dict(extra)
    with _filled_session(graph, fill) as session:
        saver = tf.train.Saver(tf.trainable_variables(), max_to_keep=3)
        if meta:
            saver.export_meta_graph(str(folder / f"{name}.meta"))
        if shards == 1 and not partitioned and not extras:
            return Path(saver.save(session, str(base), step, write_meta_graph=False))
        values = session.run({v.op.name: v for v in tf.trainable_variables()})
    prefix = write_variables(
        Path(f"{base}-{step}"), values | extras, shards=shards, partitioned=partitioned
    )
    with quiet_tensorflow():
        tf.train.update_checkpoint_state(str(folder), str(prefix))
    return prefix


def write_frozen(
    folder: Path,
    embedding_size: int,
    *,
    fill: Fill,
    classes: int = 0,
    name: str = "20180402-114759",
) -> Path:
    """Write InceptionResnetV1 as a frozen graph, as ``freeze_graph.py`` would.

    The outputs kept are ``embeddings`` and ``label_batch``, so a classifier falls away.

    Returns:
        ``FOLDER/NAME.pb``.
    """
    tf = tensorflow().compat.v1
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.pb"
    with _filled_session(inference_graph(embedding_size, classes), fill) as session:
        graph_def = session.graph.as_graph_def()
        for node in graph_def.node:
            _without_references(node)
        frozen = tf.graph_util.convert_variables_to_constants(
            session, graph_def, ["embeddings", "label_batch"]
        )
    path.write_bytes(frozen.SerializeToString())
    return path


def write_variables(
    prefix: Path, values: Mapping[str, Array], *, shards: int = 1, partitioned: Partitioned = False
) -> Path:
    """Write any tensors as a checkpoint.

    Args:
        prefix: Of the files to write.
        values: Tensors by name, of any type that TensorFlow has; ``ml_dtypes.bfloat16`` too.
            Arrays of `object` or bytes become strings.
        shards: Number of ``.data`` files; tensors, and pieces of tensors, go round in turn.
        partitioned: Names of tensors to store in up to three pieces along their first axis, as
            a partitioned variable is; True: all that have a first axis of 2 or more.

    Returns:
        `prefix`.
    """
    tf = tensorflow().compat.v1
    raw = tensorflow().raw_ops
    prefix.parent.mkdir(parents=True, exist_ok=True)
    pieces = [
        (name, slice_spec, piece)
        for name, value in values.items()
        for slice_spec, piece in _pieces(np.asarray(value), _is_partitioned(name, partitioned))
    ]
    targets = [str(prefix)]
    if shards > 1:
        targets = [f"{prefix}_temp/part-{i:05d}-of-{shards:05d}" for i in range(shards)]
        Path(f"{prefix}_temp").mkdir()
    with tf.Graph().as_default(), tf.Session(config=_cpu_only()) as session:
        for index, target in enumerate(targets):
            names, slices, arrays = zip(*pieces[index::shards], strict=True)
            feeds = {tf.placeholder(_dtype(a), a.shape): a for a in arrays}
            save = raw.SaveV2(
                prefix=target, tensor_names=names, shape_and_slices=slices, tensors=list(feeds)
            )
            session.run(save, feeds)
        if shards > 1:
            session.run(
                raw.MergeV2Checkpoints(checkpoint_prefixes=targets, destination_prefix=str(prefix))
            )
    return prefix


def write_training_checkpoint(
    folder: Path,
    optimizer: str,
    *,
    fill: Fill,
    embedding_size: int = 128,
    classes: int = 10,
    zero_debias: bool = False,
) -> Path:
    """Write what a training script leaves if it saves all global variables, not the trainable.

    The original's own scripts save trainable variables only. Up to four times a checkpoint's size.

    Args:
        folder: Is created if need be.
        optimizer: A key of `SLOTS`.
        fill: Values of the network's variables; all others are zeros.
        embedding_size: Length of an embedding.
        classes: Outputs of the classifier.
        zero_debias: See `training_leftovers`.

    Returns:
        The prefix.
    """
    tf = tensorflow().compat.v1
    with inference_graph(embedding_size, classes).as_default():
        network = {v.op.name: tuple(v.shape.as_list()) for v in tf.trainable_variables()}
    values = {name: fill(name, shape) for name, shape in network.items()}
    centers = (classes, embedding_size)
    for name, shape in training_leftovers(network, optimizer, centers, zero_debias).items():
        values[name] = np.zeros(shape, np.int32 if name == "Variable" else np.float32)
    return write_variables(folder / f"{PUBLISHED}.ckpt-275", values)


def training_leftovers(
    network: Mapping[str, tuple[int, ...]],
    optimizer: str,
    centers: tuple[int, ...],
    zero_debias: bool = False,
) -> dict[str, tuple[int, ...]]:
    """Name and shape of every global variable that training adds to those of the network.

    As the original's ``train_softmax.py`` and ``facenet.py`` make them in TensorFlow 2.21: read off
    the original's graph, and compared in a test with what TensorFlow's optimisers make.

    Args:
        network: Name and shape of the network's variables.
        optimizer: A key of `SLOTS`.
        centers: Shape of the class centres.
        zero_debias: With what `tf.train.ExponentialMovingAverage` adds for the losses if it is to
            correct for the average's start at 0. The original doesn't ask for that.
    """
    # Created first and unnamed in the original: the global step.
    leftovers: dict[str, tuple[int, ...]] = {"Variable": (), "centers": centers}
    for loss in ("cross_entropy", "total_loss"):
        tails = ("avg", "avg/biased", "avg/local_step") if zero_debias else ("avg",)
        leftovers |= {f"{loss}/{tail}": () for tail in tails}
    if optimizer == "ADAM":
        leftovers |= {"beta1_power": (), "beta2_power": ()}
    # No gradient reaches the moving statistics through the fused batch norm.
    learned = {name: shape for name, shape in network.items() if "/moving_" not in name}
    for slot in SLOTS[optimizer]:
        leftovers |= {f"{n}/{slot}": shape for n, shape in {**learned, "centers": centers}.items()}
    return leftovers | {f"{n}/ExponentialMovingAverage": shape for n, shape in network.items()}


@contextmanager
def _filled_session(graph: Any, fill: Fill) -> Iterator[Any]:
    """A session on `graph` in which every variable is set by `fill`."""
    tf = tensorflow().compat.v1
    with graph.as_default(), tf.Session(config=_cpu_only()) as session, quiet_tensorflow():
        variables = tf.global_variables()
        # Feeding the initial value spares building an assignment for each variable.
        values = {v.initial_value: fill(v.op.name, tuple(v.shape.as_list())) for v in variables}
        session.run([v.initializer for v in variables], values)
        yield session


def _cpu_only() -> Any:
    return tensorflow().compat.v1.ConfigProto(device_count={"GPU": 0})


def _without_references(node: Any) -> None:
    """Turn what takes references to variables into what takes values: constants have no others."""
    if node.op == "RefSwitch":
        node.op = "Switch"
        moving = [i for i, name in enumerate(node.input) if "moving_" in name]
        for index in moving:
            node.input[index] += "/read"
    elif node.op == "AssignSub":
        node.op = "Sub"
        node.attr.pop("use_locking", None)


def _is_partitioned(name: str, partitioned: Partitioned) -> bool:
    return partitioned if isinstance(partitioned, bool) else name in partitioned


def _pieces(value: Array, partitioned: bool) -> Iterator[tuple[str, Array]]:
    """A tensor's pieces, each with its "shape and slice": ``"8 3 0,4:-"`` is rows 0 to 3 of 8x3."""
    if not partitioned or value.ndim == 0 or value.shape[0] < 2:
        yield "", value
        return
    shape = " ".join(map(str, value.shape))
    rest = ":-" * (value.ndim - 1)
    start = 0
    for piece in np.array_split(value, min(PIECES, value.shape[0])):
        yield f"{shape} {start},{len(piece)}{rest}", piece
        start += len(piece)


def _dtype(array: Array) -> Any:
    tf = tensorflow().compat.v1
    return tf.string if array.dtype.kind in "OSU" else tf.as_dtype(array.dtype)
