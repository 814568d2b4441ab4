"""The graph of every kind of source: each answers as the checkpoint does from which it was made."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tf_checkpoints import write_variables
from support.tf_fixtures import GoldenCheckpoint

from converter.sandberg import RENAMED
from converter.sources import open_source
from parity_tests.batches import Batches
from parity_tests.open_sides import FeedOptions, open_live
from parity_tests.reference.runner import OWN_GRAPH

pytestmark = pytest.mark.tensorflow


def answers(source: Path) -> tuple[str, Any]:
    """Return the name of the graph that runs, and the embedding of one image."""
    live = open_live(str(source), FeedOptions(kinds=("single",)))
    rows = live.answers(Batches(1))
    return live.graph, rows


@contextmanager
def restored(tf: Any, golden: GoldenCheckpoint) -> Iterator[Any]:
    """Yield a session with the graph and the values of a checkpoint."""
    from parity_tests.frameworks import quiet_tensorflow

    with tf.Graph().as_default(), tf.Session() as session, quiet_tensorflow():
        tf.train.import_meta_graph(str(golden.meta)).restore(session, str(golden.prefix))
        yield session


@pytest.fixture(scope="module")
def expected(golden_128: GoldenCheckpoint) -> Any:
    return answers(golden_128.prefix)[1]


def test_version_1_in_a_zip_archive(
    tensorflow: Any, golden_128: GoldenCheckpoint, expected: Any, tmp_path: Path
) -> None:
    tf = tensorflow.compat.v1
    with restored(tf, golden_128) as session:
        saver = tf.train.Saver(tf.trainable_variables(), write_version=tf.train.SaverDef.V1)
        prefix = Path(saver.save(session, str(tmp_path / "model.ckpt"), 7, write_meta_graph=False))
    archive = tmp_path / "20180402-114759.zip"
    with zipfile.ZipFile(archive, "w") as out:
        out.write(prefix, f"20180402-114759/{prefix.name}")
        out.write(golden_128.meta, f"20180402-114759/{golden_128.meta.name}")
    graph, rows = answers(archive)
    assert graph == golden_128.meta.name
    assert np.array_equal(rows, expected)


def test_a_saved_model_is_run_by_our_graph(
    tensorflow: Any, golden_128: GoldenCheckpoint, expected: Any, tmp_path: Path
) -> None:
    tf = tensorflow.compat.v1
    folder = tmp_path / "faces"
    with restored(tf, golden_128) as session:
        builder = tf.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"])
        builder.save()
    graph, rows = answers(folder)
    assert graph == OWN_GRAPH
    assert np.abs(rows - expected).max() < 1e-6


def test_the_bottleneck_outside_the_scope(
    golden_128: GoldenCheckpoint, expected: Any, tmp_path: Path
) -> None:
    """As the models of February 2017 have it, and without their graph."""
    old = {new: old for old, new in RENAMED.items()}
    values = {old.get(n, n): ref.load() for n, ref in open_source(golden_128.prefix).items()}
    assert set(old.values()) < values.keys()
    prefix = write_variables(tmp_path / "20170216-091149" / "model.ckpt", values)
    live = open_live(str(prefix), FeedOptions(kinds=("single",)))
    assert np.abs(live.answers(Batches(1)) - expected).max() < 1e-6
    assert np.abs(live.oracle(Batches(1)) - expected).max() < 1e-5
