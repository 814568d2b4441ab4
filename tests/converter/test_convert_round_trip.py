"""There and back is the identity, and the same tensors give the same bytes everywhere."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from converter.architectures import INCEPTION_RESNET_V1, PNET
from converter.architectures.record import Architecture
from converter.catalog import TensorRef
from converter.convert import Request, convert
from converter.digest import digest
from converter.dtypes import BFLOAT16, FLOAT16, FLOAT32, cast
from converter.resolve import resolve
from converter.sources import open_source
from converter.writers import bundle
from facenet_common.errors import RoundTripError, ValueCheckError

Fill = Callable[[str, tuple[int, ...]], np.ndarray]


def write_bundle(
    folder: Path, architecture: Architecture, fill: Fill, **dims: int
) -> dict[str, np.ndarray]:
    """A checkpoint of `architecture` made without TensorFlow; returns its values."""
    folder.mkdir(parents=True)
    values = {
        rule.source: fill(
            rule.source, tuple(dims[d] if isinstance(d, str) else d for d in rule.shape)
        )
        for rule in architecture.rules
        if rule.part == "features" or "classes" in dims
    }
    write_values(folder, values)
    return values


def write_values(folder: Path, values: dict[str, np.ndarray]) -> None:
    refs = [
        TensorRef(name, FLOAT32, value.shape, lambda value=value: value)
        for name, value in values.items()
    ]
    bundle.write(folder, refs, lambda _: None)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, fill: Fill) -> Path:
    """A small classifier of the big network."""
    folder = tmp_path_factory.mktemp("round-trip") / "20180402-114759"
    write_bundle(folder, INCEPTION_RESNET_V1, fill, embedding=64, classes=7)
    return folder


@pytest.fixture
def small(tmp_path: Path, fill: Fill) -> Path:
    """P-Net as a checkpoint: small enough to do anything with."""
    write_bundle(tmp_path / "pnet", PNET, fill)
    return tmp_path / "pnet"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def same_values(one: Path, other: Path) -> bool:
    a, b = open_source(one), open_source(other)
    return list(a) == list(b) and all(
        a[name].dtype is b[name].dtype
        and a[name].shape == b[name].shape
        and a[name].load().tobytes() == b[name].load().tobytes()
        for name in a
    )


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_there_and_back_is_the_identity(checkpoint: Path, tmp_path: Path, suffix: str) -> None:
    middle, back = tmp_path / f"model{suffix}", tmp_path / "back"
    convert(Request(str(checkpoint), str(middle)))
    convert(Request(str(middle), f"{back}/"))
    assert same_values(checkpoint / bundle.PREFIX, back / bundle.PREFIX)
    for name in ("model.ckpt.index", "model.ckpt.data-00000-of-00001"):
        assert (back / name).read_bytes() == (checkpoint / name).read_bytes()


@pytest.mark.tensorflow
def test_there_and_back_from_tensorflows_own_files(tmp_path: Path, fill: Fill) -> None:
    from support.tf_checkpoints import write_checkpoint

    prefix = write_checkpoint(tmp_path / "ckpt", 128, 0, fill=fill, meta=False)
    convert(Request(str(prefix), str(tmp_path / "m.pt")))
    convert(Request(str(tmp_path / "m.pt"), f"{tmp_path}/back/"))
    back = tmp_path / "back" / bundle.PREFIX
    assert same_values(prefix, back)
    for suffix in (".index", ".data-00000-of-00001"):  # not only the values: the very files
        assert Path(f"{prefix}{suffix}").read_bytes() == Path(f"{back}{suffix}").read_bytes()
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(tmp_path / "back"))
    for name, shape in reader.get_variable_to_shape_map().items():
        assert reader.get_tensor(name).tobytes() == fill(name, tuple(shape)).tobytes(), name


def test_both_torch_formats_hold_the_same_tensors(checkpoint: Path, tmp_path: Path) -> None:
    receipts = [
        convert(Request(str(checkpoint), str(tmp_path / name)))
        for name in ("a.pt", "a.safetensors")
    ]
    assert receipts[0].digest == receipts[1].digest
    for name in ("a.pt", "a.safetensors"):
        assert digest(open_source(tmp_path / name)) == receipts[0].digest
    convert(Request(str(tmp_path / "a.safetensors"), str(tmp_path / "b.pt")))
    assert sha256(tmp_path / "b.pt") == sha256(tmp_path / "a.pt")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", "/"])
def test_the_same_bytes_wherever_and_whatever_it_is_called(
    small: Path, tmp_path: Path, suffix: str
) -> None:
    places = [tmp_path / "here" / "one", tmp_path / "there is" / "quite another-nämé"]
    hashes = []
    for number, place in enumerate(places):
        place.parent.mkdir()
        copy = place.parent / "source"
        shutil.copytree(small, copy)
        arguments = ["--checkpoint", str(copy), "--out", f"{place}{suffix}"]
        code = "from converter.cli.convert import command; command()"
        environment = {"PYTHONHASHSEED": str(number), "TZ": ("UTC", "Asia/Tokyo")[number]}
        subprocess.run(
            [sys.executable, "-c", code, *arguments],
            check=True,
            capture_output=True,
            env=environment,
        )
        out = Path(f"{place}{suffix}")
        files = sorted(out.iterdir()) if out.is_dir() else [out]
        hashes.append([sha256(file) for file in files])
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("dtype", [FLOAT16, BFLOAT16], ids=str)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_narrow_types(small: Path, tmp_path: Path, dtype, suffix: str) -> None:
    out = tmp_path / f"narrow{suffix}"
    convert(Request(str(small), str(out), dtype=dtype))
    narrow, wide = open_source(out), open_source(small / bundle.PREFIX)
    assert {ref.dtype for ref in narrow.values()} == {dtype}
    bias = wide["conv1/biases"].load()
    assert narrow["conv1.bias"].load().tobytes() == cast(bias, FLOAT32, dtype).tobytes()
    torch = pytest.importorskip("torch")
    if suffix == ".pt":
        loaded = torch.load(out, weights_only=True)["conv1.bias"]
        expected = torch.from_numpy(bias.copy()).to(getattr(torch, dtype.name))
        assert torch.equal(loaded, expected)


def test_overflow_is_refused(small: Path, tmp_path: Path) -> None:
    values = {n: r.load().copy() for n, r in open_source(small / bundle.PREFIX).items()}
    values["conv1/biases"][3] = 70000.0  # float16 ends at 65504
    write_values(small, values)
    with pytest.raises(ValueCheckError, match="overflows float16") as caught:
        convert(Request(str(small), str(tmp_path / "x.pt"), dtype=FLOAT16))
    assert caught.value.tensor == "conv1/biases"
    assert not list(tmp_path.glob("*.pt*"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_nonfinite_weights_are_refused_unless_allowed(
    small: Path, tmp_path: Path, value: float
) -> None:
    values = {n: r.load().copy() for n, r in open_source(small / bundle.PREFIX).items()}
    values["conv2/weights"][1, 2, 3, 4] = value
    write_values(small, values)
    out = tmp_path / "x.pt"
    with pytest.raises(ValueCheckError) as caught:
        convert(Request(str(small), str(out)))
    assert caught.value.tensor == "conv2/weights"
    assert "[1, 2, 3, 4]" in str(caught.value)
    assert not out.exists()
    convert(Request(str(small), str(out), allow_nonfinite=True))
    back = open_source(out)["conv2.weight"].load()
    assert np.array_equal(back[4, 3, 2, 1], np.float32(value), equal_nan=True)


def test_parts_make_up_the_whole(checkpoint: Path, tmp_path: Path) -> None:
    for part in ("all", "features", "logits"):
        convert(Request(str(checkpoint), str(tmp_path / f"{part}.pt"), part=part))  # type: ignore[arg-type] # a literal
    whole, features, logits = (
        open_source(tmp_path / f"{part}.pt") for part in ("all", "features", "logits")
    )
    assert [*features, *logits] == list(whole)
    convert(Request(str(tmp_path / "logits.pt"), f"{tmp_path}/logits/"))
    assert sorted(resolve(str(tmp_path / "logits")).open()) == ["Logits/biases", "Logits/weights"]


@pytest.fixture(scope="session")
def scaled(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory, fill: Fill) -> Path:
    """The same checkpoint with the scales of its batch norms, as ``scale=True`` makes them."""
    folder = tmp_path_factory.mktemp("scaled") / "20180402-114759"
    folder.mkdir()
    values = {n: r.load() for n, r in open_source(checkpoint / bundle.PREFIX).items()}
    for name in INCEPTION_RESNET_V1.optional:
        values[name] = fill(name, values[name.replace("/gamma", "/beta")].shape)
    write_values(folder, dict(sorted(values.items())))
    return folder


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_scales_there_and_back_are_the_identity(
    scaled: Path, tmp_path: Path, fill: Fill, suffix: str
) -> None:
    middle, back = tmp_path / f"model{suffix}", tmp_path / "back"
    receipt = convert(Request(str(scaled), str(middle)))
    assert not any("scale" in fill.row.reason for fill in receipt.plan.fills)
    weight = open_source(middle)["repeat_2.3.branch1.1.bn.weight"].load()
    name = "InceptionResnetV1/Repeat_1/block17_4/Branch_1/Conv2d_0b_1x7/BatchNorm/gamma"
    assert weight.tobytes() == fill(name, (128,)).tobytes()
    convert(Request(str(middle), f"{back}/"))
    for file in ("model.ckpt.index", "model.ckpt.data-00000-of-00001"):
        assert (back / file).read_bytes() == (scaled / file).read_bytes()


def test_scales_that_were_trained_in_pytorch_go_back(checkpoint: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    convert(Request(str(checkpoint), str(tmp_path / "a.pt")))
    state = torch.load(tmp_path / "a.pt", weights_only=True)
    state["last_bn.num_batches_tracked"] += 5  # harmless
    torch.save(state, tmp_path / "tuned.pt")
    convert(Request(str(tmp_path / "tuned.pt"), f"{tmp_path}/fine/"))
    assert same_values(checkpoint / bundle.PREFIX, tmp_path / "fine" / bundle.PREFIX)
    state["last_bn.weight"][3] = 1.5
    torch.save(state, tmp_path / "tuned.pt")
    receipt = convert(Request(str(tmp_path / "tuned.pt"), f"{tmp_path}/scaled/"))
    assert any("gamma" in note for note in receipt.plan.notes)
    found = open_source(tmp_path / "scaled" / bundle.PREFIX)
    names = INCEPTION_RESNET_V1.optional
    assert found.keys() == open_source(checkpoint / bundle.PREFIX).keys() | names
    others = {name for name in names if (found[name].load() != 1).any()}
    assert others == {"InceptionResnetV1/Bottleneck/BatchNorm/gamma"}
    assert found["InceptionResnetV1/Bottleneck/BatchNorm/gamma"].load()[3] == 1.5


def test_reading_back_catches_a_writer_that_errs(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from converter.writers import torch_zip

    right = torch_zip.write

    def wrong(path, tensors, progress):
        first, *others = tensors
        value = first.load().copy()
        value.flat[0] = np.nextafter(value.flat[0], np.float32(9))  # one unit in the last place
        right(
            path,
            [TensorRef(first.name, first.dtype, first.shape, lambda: value), *others],
            progress,
        )

    monkeypatch.setattr(torch_zip, "write", wrong)
    with pytest.raises(RoundTripError, match="bits") as caught:
        convert(Request(str(small), str(tmp_path / "x.pt")))
    assert caught.value.tensor == "conv1.weight"
    assert not list(tmp_path.glob("*.pt*"))


def test_digest_depends_on_names_types_shapes_and_values_but_not_on_order() -> None:
    def of(**arrays: np.ndarray) -> str:
        return digest({n: TensorRef(n, FLOAT32, a.shape, lambda a=a: a) for n, a in arrays.items()})

    one, two = np.arange(6, dtype="<f4"), np.ones(2, "<f4")
    base = of(a=one, b=two)
    assert of(b=two, a=one) == base
    assert (
        len({base, of(a=one), of(a=one, c=two), of(a=one.reshape(2, 3), b=two), of(a=two, b=one)})
        == 5
    )
    line = '["a","float32",[6],"' + hashlib.sha256(one.tobytes()).hexdigest() + '"]\n'
    assert of(a=one) == hashlib.sha256(line.encode()).hexdigest()
