"""The tables of probes name what is really there, and all of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.end_points import END_POINTS
from support.tf_checkpoints import write_frozen
from support.tf_fixtures import GoldenCheckpoint

from facenet_common.errors import ParityError
from parity_tests.probes import IMAGES, Probe, Which, probes, require_complete
from parity_tests.reference.runner import own_graph, read_frozen, read_meta

ARCHITECTURES = ("inception_resnet_v1", "pnet", "rnet", "onet")
TABLES: list[tuple[str, Which]] = [(a, w) for a in ARCHITECTURES for w in ("blocks", "all")]


def model(architecture: str) -> Any:
    pytest.importorskip("torch")
    import facenet_models

    names = {"pnet": "PNet", "rnet": "RNet", "onet": "ONet"}
    if architecture in names:
        return getattr(facenet_models, names[architecture])()
    return facenet_models.InceptionResnetV1(embedding_size=128, device="meta")


def paths(architecture: str) -> set[str]:
    return {path for path, _ in model(architecture).named_modules()}


def tensors(graph: Any) -> list[str]:
    return [node.name for node in graph.graph_def.node]


@pytest.fixture(scope="module")
def blocks() -> tuple[Probe, ...]:
    return probes("inception_resnet_v1", "blocks")


@pytest.mark.parametrize(("architecture", "which"), TABLES)
def test_every_module_exists_and_parents_come_first(architecture: str, which: Which) -> None:
    table = probes(architecture, which)
    everything = [probe.tensor for probe in table]
    assert require_complete(table, everything, paths(architecture)) == table


@pytest.mark.parametrize("which", ["blocks", "all"])
def test_end_points_and_blocks_are_there_in_the_originals_order(which: Which) -> None:
    table = {probe.name: probe for probe in probes("inception_resnet_v1", which)}
    assert [name for name in table if name in END_POINTS] == list(END_POINTS)
    assert {name: table[name].module for name in END_POINTS} == END_POINTS
    blocks = [f"Repeat/block35_{i}" for i in range(1, 6)]
    blocks += [f"Repeat_1/block17_{i}" for i in range(1, 11)]
    blocks += [f"Repeat_2/block8_{i}" for i in range(1, 6)]
    blocks += ["Block8", "prelogits", "embeddings"]
    assert [name for name in table if name in blocks] == blocks


def test_all_has_every_layer_with_weights() -> None:
    from torch import nn

    seen = {probe.module for probe in probes("inception_resnet_v1", "all")}
    for path, module in model("inception_resnet_v1").named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.MaxPool2d):
            assert path in seen or path.removesuffix(".conv") in seen, path
    for name in ("pnet", "rnet", "onet"):
        modules = {path for path in paths(name) if path}
        assert {probe.module for probe in probes(name, "all")} == modules


@pytest.mark.parametrize(("architecture", "which"), TABLES)
def test_no_layer_is_judged_by_two_probes(architecture: str, which: Which) -> None:
    """Isolated runs take their inputs from the reference, not from another probe's run."""
    parameters = dict(model(architecture).named_modules())
    judged: dict[str, str] = {}
    for probe in probes(architecture, which):
        stubs = tuple(path for path, _ in probe.isolation.stubs)
        entry = (probe.module,) if "" in probe.isolation.entry else probe.isolation.entry
        for path, module in parameters.items():
            inside = any(path == top or path.startswith(f"{top}.") for top in entry)
            stubbed = any(path == stub or path.startswith(f"{stub}.") for stub in stubs)
            if probe.module and inside and not stubbed and list(module.parameters(recurse=False)):
                assert path not in judged, (path, probe.name, judged)
                judged[path] = probe.name
    weighty = {p for p, m in parameters.items() if list(m.parameters(recurse=False))}
    assert judged.keys() == weighty


@pytest.mark.tensorflow
@pytest.mark.parametrize("which", ["blocks", "all"])
@pytest.mark.parametrize("form", ["own", "meta", "frozen"])
def test_every_tensor_of_inception_exists(
    golden_128: GoldenCheckpoint, fill: Callable[..., Any], form: str, which: Which, tmp_path: Path
) -> None:
    graph = {
        "own": lambda: own_graph("inception_resnet_v1", {"embedding": 128}),
        "meta": lambda: read_meta(golden_128.meta, "inception_resnet_v1"),
        "frozen": lambda: read_frozen(
            write_frozen(tmp_path, 128, fill=fill), "inception_resnet_v1"
        ),
    }[form]()
    table = probes("inception_resnet_v1", which)
    found = require_complete(table, tensors(graph), paths("inception_resnet_v1"))
    assert found == table


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["pnet", "rnet", "onet"])
def test_every_tensor_of_mtcnn_exists(tensorflow: Any, name: str) -> None:
    del tensorflow
    table = probes(name)
    assert require_complete(table, tensors(own_graph(name, {})), paths(name)) == table


def test_another_name_serves(blocks: tuple[Probe, ...]) -> None:
    there = [probe.tensor for probe in blocks if probe.name != "prelogits"]
    older = "InceptionResnetV1/Bottleneck/BatchNorm/batchnorm/add_1"
    found = require_complete(blocks, [*there, older], paths("inception_resnet_v1"))
    assert {probe.name: probe.tensor for probe in found}["prelogits"] == f"{older}:0"


def test_all_problems_come_at_once(blocks: tuple[Probe, ...]) -> None:
    table = (
        *blocks,
        blocks[0],
        replace(blocks[1], name="lost", tensor="nowhere:0", module="nothing"),
        replace(blocks[1], name="orphan", parents=("nobody",)),
    )
    there = [probe.tensor for probe in blocks if probe.name != "Mixed_6a"]
    with pytest.raises(ParityError) as caught:
        require_complete(table, there, paths("inception_resnet_v1") - {"mixed_7a"})
    message = str(caught.value)
    assert "Mixed_6a: the graph has no tensor 'InceptionResnetV1/Mixed_6a/concat:0'" in message
    assert "Mixed_7a: the network has no module 'mixed_7a'" in message
    assert "Conv2d_1a_3x3: there are two probes of that name" in message
    assert "lost: the graph has no tensor 'nowhere:0'" in message
    assert "lost: the network has no module 'nothing'" in message
    assert "orphan: no probe before it is its parent 'nobody'" in message


def test_a_stub_that_is_not_there_is_a_problem() -> None:
    table = probes("inception_resnet_v1", "all")
    everything = [probe.tensor for probe in table]
    without = paths("inception_resnet_v1") - {"repeat_1.0.branch2"}
    with pytest.raises(ParityError, match=r"Repeat/block35_1: .* no module 'repeat_1.0.branch2'"):
        require_complete(table, everything, without)


def test_no_table() -> None:
    with pytest.raises(ParityError, match="no probes 'blocks' for the architecture 'vgg'"):
        probes("vgg")
    with pytest.raises(ParityError, match="no probes 'some'"):
        probes("pnet", "some")  # type: ignore[arg-type]
    with pytest.raises(ParityError, match="there are no probes"):
        require_complete((), [], [])


def test_images_are_no_parent(blocks: tuple[Probe, ...]) -> None:
    assert blocks[0].parents == blocks[0].isolation.needs == ()
    assert blocks[0].isolation.feed == IMAGES
