"""A fifth network: one record, one torch module, one TensorFlow graph, and a line for each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

pytest.importorskip("torch", reason='needs torch: pip install "facenet-parity[parity]"')

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import facenet_models
from converter.architectures import ARCHITECTURES
from converter.architectures.inception import Conv, Single, chained, probes, rows
from converter.architectures.record import PASS, Architecture, Card, Isolation, Output, Probe
from converter.catalog import TensorRef
from converter.cli.convert import command as convert_command
from converter.convert import Request, convert
from converter.demo import value
from converter.dtypes import FLOAT32
from converter.layouts import IO_TO_OI
from converter.rules import Rule
from converter.sources import open_source
from converter.writers import bundle
from facenet_models.cli.export import command as export_command
from facenet_models.networks.architectures import describe, from_state_dict
from facenet_models.networks.inception_resnet_v1 import BasicConv2d
from facenet_models.networks.inception_resnet_v1 import Conv as TorchConv
from facenet_models.networks.network import Network, OutputShape
from facenet_models.networks.registry import NETWORKS
from parity_tests.cli import capture_command, verify_command
from parity_tests.frameworks import quiet_tensorflow, tensorflow
from parity_tests.tf_graphs import GRAPHS, layers

SIZE = 16  # of an embedding

# --- converter/architectures/tiny.py

STAGES = (
    Single(Conv("Conv2d_1a_3x3", 3, 3, 8), "conv2d_1a"),
    Single(Conv("Conv2d_2a_3x3", 3, 3, 12), "conv2d_2a"),
)
TAIL = (
    Probe(
        "Pool",
        "Tiny/Pool:0",
        "pool",
        "NC",
        ("Conv2d_2a_3x3",),
        Isolation(("pool",), "Conv2d_2a_3x3"),
    ),
    chained("Bottleneck", "Tiny/Bottleneck/MatMul:0", "linear", "Pool", "NC"),
    Probe(
        "embeddings",
        "embeddings:0",
        "",
        "NC",
        ("Bottleneck",),
        Isolation(
            ("",),
            "Bottleneck",
            tuple((path, PASS) for path in ("conv2d_1a", "conv2d_2a", "pool", "linear")),
        ),
    ),
)
TINY = Architecture(
    name="tiny",
    description="a network of two convolutions",
    class_name="TinyNet",
    rows=(
        *rows("Tiny", STAGES),
        Rule("Tiny/Bottleneck/weights", "linear.weight", IO_TO_OI, (12, "embedding")),
    ),
    outputs=(Output("embeddings", "embedding"),),
    blocks=(*probes("Tiny", STAGES, layers=False), *TAIL),
    layers=(*probes("Tiny", STAGES, layers=True), *TAIL),
    image_layout="NHWC",
    feed_size=(24, 24),
    card=Card(
        title="TinyNet",
        task="image-feature-extraction",
        tags=("tiny",),
        summary="A small network for tests.",
        input="batch x 3 x height x width",
        outputs=("embeddings: batch x embedding size",),
        use="Tests.",
        limits=("It is untrained.",),
        paper="https://arxiv.org/abs/1602.07261",
    ),
)

# --- facenet_models/networks/tiny.py


class TinyNet(Network):
    """Two convolutions, their mean over all positions, a dense layer; embeddings of length 1."""

    architecture = "tiny"
    smallest_image = 8

    def __init__(self, embedding_size: int = SIZE) -> None:
        super().__init__()
        self.conv2d_1a = BasicConv2d(3, TorchConv(8, 3, 3, stride=2, padded=False))
        self.conv2d_2a = BasicConv2d(8, TorchConv(12, 3, 3))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(12, embedding_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.conv2d_2a(self.conv2d_1a(x)))
        return F.normalize(self.linear(x.flatten(1)), p=2.0, dim=1, eps=1e-5)

    def outputs(self) -> Mapping[str, OutputShape]:
        return {"embeddings": (self.linear.out_features,)}

    def dims(self) -> dict[str, int]:
        return {"embedding": self.linear.out_features}

    @classmethod
    def read_dims(cls, state: Mapping[str, Tensor]) -> dict[str, int] | None:
        weight = state.get("linear.weight")
        return {"embedding": weight.shape[0]} if weight is not None and weight.ndim == 2 else None

    @classmethod
    def from_dims(cls, dims: Mapping[str, int]) -> Network:
        with torch.device("meta"):
            return cls(dims["embedding"])


# --- parity_tests/tf_graphs/tiny.py


class TinyGraph:
    name = "tiny"
    images = ("input",)
    outputs: Mapping[str, str] = {"embeddings": "embeddings:0"}

    def build(self, dims: Mapping[str, int]) -> Any:
        tf = tensorflow().compat.v1
        with tf.Graph().as_default() as graph, quiet_tensorflow():
            images = tf.placeholder(tf.float32, (None, *TINY.feed_size, 3), name="input")
            phase_train = tf.placeholder_with_default(False, (), name="phase_train")
            with tf.variable_scope("Tiny"):
                first = layers.Conv("Conv2d_1a_3x3", 8, (3, 3), 2, "VALID")
                net = layers.conv(images, first, phase_train)
                net = layers.conv(net, layers.Conv("Conv2d_2a_3x3", 12, (3, 3)), phase_train)
                net = tf.reduce_mean(net, (1, 2), name="Pool")
                with tf.variable_scope("Bottleneck"):
                    weights = layers.variable("weights", (12, dims["embedding"]))
                    net = tf.matmul(net, weights, name="MatMul")
            tf.nn.l2_normalize(net, 1, 1e-10, name="embeddings")
        return graph


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHITECTURES, TINY.name, TINY)
    monkeypatch.setitem(NETWORKS, "TinyNet", __name__)
    monkeypatch.setitem(GRAPHS, TINY.name, TinyGraph())


@pytest.fixture
def checkpoint(registered: None, tmp_path: Path) -> Path:
    del registered
    refs = []
    for rule in TINY.rules:
        shape = tuple(SIZE if isinstance(dim, str) else dim for dim in rule.shape)
        number = value(rule.source, shape)
        refs.append(TensorRef(rule.source, FLOAT32, shape, lambda number=number: number))
    return write_refs(tmp_path / "checkpoint", refs)


@pytest.fixture
def scaled(checkpoint: Path, tmp_path: Path) -> Path:
    """The same checkpoint with the scales of its batch norms."""
    refs = dict(open_source(checkpoint / bundle.PREFIX))
    for name in sorted(TINY.optional):
        shape = refs[name.replace("/gamma", "/beta")].shape
        number = value(name, shape) + np.float32(1)
        refs[name] = TensorRef(name, FLOAT32, shape, lambda number=number: number)
    return write_refs(tmp_path / "scaled", list(refs.values()))


def write_refs(folder: Path, refs: list[TensorRef]) -> Path:
    folder.mkdir()
    bundle.write(folder, sorted(refs, key=lambda ref: ref.name), lambda _: None)
    return folder


@pytest.fixture
def converted(checkpoint: Path, tmp_path: Path) -> Path:
    receipt = convert(Request(str(checkpoint), str(tmp_path / "tiny.pt")))
    assert receipt.plan.architecture is TINY
    assert receipt.plan.dims == {"embedding": SIZE}
    return tmp_path / "tiny.pt"


def run(command: Any, *arguments: object) -> Result:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_checkpoint_is_converted_and_recognised(converted: Path) -> None:
    model = from_state_dict(torch.load(converted, weights_only=True))
    assert type(model).__name__ == "TinyNet"
    assert describe(model).dims == {"embedding": SIZE}
    assert isinstance(model, facenet_models.TinyNet)  # type: ignore[attr-defined] # registered here


@pytest.mark.tensorflow
@pytest.mark.parametrize("which", ["blocks", "all"])
def test_it_is_verified(checkpoint: Path, converted: Path, tmp_path: Path, which: str) -> None:
    report = tmp_path / "report.json"
    result = run(verify_command, checkpoint, converted, "--probes", which, "--json", report)
    assert result.exit_code == 0, result.output
    found = json.loads(report.read_text())
    gates = {gate["name"]: gate["status"] for gate in found["gates"]}
    assert gates == dict.fromkeys(("weights", "float64", "float32", "task"), "passed")
    table = TINY.blocks if which == "blocks" else TINY.layers
    verdicts = {probe["probe"]: probe["verdict"] for probe in found["probes"]}
    assert verdicts == {probe.name: "same" for probe in table}


@pytest.mark.tensorflow
def test_scales_of_its_batch_norms_are_part_of_it(
    scaled: Path, converted: Path, tmp_path: Path
) -> None:
    """Its own graph has gamma where the checkpoint has, and weights without it are wrong."""
    report = tmp_path / "report.json"
    convert(Request(str(scaled), str(tmp_path / "scaled.pt")))
    result = run(verify_command, scaled, tmp_path / "scaled.pt", "--json", report)
    assert result.exit_code == 0, result.output
    assert json.loads(report.read_text())["reference"].endswith("graph, with gamma)")
    result = run(verify_command, scaled, converted, "--json", report)
    assert result.exit_code == 1
    gates = {gate["name"]: gate["status"] for gate in json.loads(report.read_text())["gates"]}
    assert gates == dict.fromkeys(("weights", "float64", "float32", "task"), "failed")
    assert "conv2d_1a.bn.weight" in result.output
    result = run(capture_command, scaled, "--out", tmp_path / "record.h5")
    assert result.exit_code == 0, result.output
    assert run(verify_command, tmp_path / "record.h5", tmp_path / "scaled.pt").exit_code == 0
    assert run(verify_command, tmp_path / "record.h5", converted).exit_code == 1


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["Tiny/Conv2d_1a_3x3/BatchNorm/delta", "Elsewhere/weights"])
def test_what_no_rule_explains_gets_no_yes(checkpoint: Path, tmp_path: Path, name: str) -> None:
    refs = list(open_source(checkpoint / bundle.PREFIX).values())
    extra = TensorRef(name, FLOAT32, (3,), lambda: np.ones(3, "<f4"))
    folder = write_refs(tmp_path / "more", [*refs, extra])
    convert(Request(str(folder), str(tmp_path / "more.pt"), strict=False))
    result = run(verify_command, folder, tmp_path / "more.pt")
    assert result.exit_code == 1
    assert result.output.startswith(f"FAILED at {name}: no rule explains it")
    result = run(capture_command, folder, "--out", tmp_path / "record.h5")
    assert result.exit_code == 1
    assert name in result.output
    assert not (tmp_path / "record.h5").exists()
    call = ("--checkpoint", folder, "--no-strict", "--verify", "--out", tmp_path / "verified.pt")
    result = run(convert_command, *call)
    assert result.exit_code == 1
    assert f"{name}: no rule explains it" in result.output
    assert not (tmp_path / "verified.pt").exists()


@pytest.mark.tensorflow
def test_a_tensor_too_many_in_its_weights_fails(
    checkpoint: Path, converted: Path, tmp_path: Path
) -> None:
    state = torch.load(converted, weights_only=True)
    torch.save(state | {"head.weight": torch.ones(3)}, tmp_path / "more.pt")
    result = run(verify_command, checkpoint, tmp_path / "more.pt")
    assert result.exit_code == 1
    assert result.stdout.startswith("FAILED at head.weight: has no counterpart in the reference")
    assert "nothing more is compared: the weights do not fit TinyNet" in result.stdout


@pytest.mark.tensorflow
def test_a_defect_in_it_is_found(checkpoint: Path, converted: Path, tmp_path: Path) -> None:
    state = torch.load(converted, weights_only=True)
    state["conv2d_2a.conv.weight"] = state["conv2d_2a.conv.weight"].flip(-1).contiguous()
    torch.save(state, tmp_path / "wrong.pt")
    result = run(verify_command, checkpoint, tmp_path / "wrong.pt")
    assert result.exit_code == 1
    assert "Conv2d_2a_3x3" in result.output


@pytest.mark.tensorflow
def test_it_is_exported_and_the_export_verified(
    checkpoint: Path, converted: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnx", reason='pip install "facenet-parity[onnx]"')
    ort = pytest.importorskip("onnxruntime", reason='pip install "facenet-parity[onnx]"')
    out = tmp_path / "tiny.onnx"
    exported = run(export_command, converted, "--out", out, "--json")
    assert exported.exit_code == 0, exported.output
    assert json.loads(exported.stdout)["architecture"] == "tiny"
    session = ort.InferenceSession(out, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": np.zeros((2, 3, 24, 24), np.float32)})
    assert found.shape == (2, SIZE)
    result = run(verify_command, checkpoint, out)
    assert result.exit_code == 0, result.output


@pytest.mark.usefixtures("registered")
def test_its_card_comes_from_its_record() -> None:
    pytest.importorskip("jinja2", reason='pip install "facenet-parity[release]"')
    pytest.importorskip("rfc8785", reason='pip install "facenet-parity[release]"')
    from support import release_data as data

    from facenet_release.documents.cards import model_card, release_readme

    model = replace(data.FACE, architecture="TinyNet", embedding_size=SIZE)
    manifest = data.manifest(model)
    card = model_card(model, manifest, data.evidence())
    assert TINY.card.summary in card
    assert f"TinyNet(embedding_size={SIZE}).eval()" in card
    assert '"tiny"' in release_readme(manifest, data.evidence())
