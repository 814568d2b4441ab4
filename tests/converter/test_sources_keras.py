"""Keras' files: every layout, what is refused, and what the configuration says."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import fakes, keras_files
from support.keras_files import SMALL, named, numbered, small_archive, whole

from converter.architectures import INCEPTION_RESNET_V1
from converter.convert import Request, convert
from converter.plan import make_plan
from converter.sources import open_source
from converter.sources.keras import model
from converter.sources.keras.config import parse
from facenet_common.errors import FacenetError, FormatError, MappingError, MissingPackageError

h5py = pytest.importorskip("h5py", reason='needs h5py: pip install "facenet-parity[keras]"')

ROOT = "InceptionResnetV1"
SCOPE = f"{ROOT}/Conv2d_1a_3x3"
EXPECTED = dict(
    zip(
        (f"{SCOPE}/weights", f"{SCOPE}/BatchNorm/beta", f"{SCOPE}/BatchNorm/moving_mean"),
        SMALL.values(),
        strict=True,
    )
)
BATCH_NORM = "Conv2d_1a_3x3_BatchNorm"


def entry(kind: str, name: str, *feeds: str, **settings: object) -> dict[str, Any]:
    """A layer of a configuration, in the form of Keras 2."""
    return {
        "class_name": kind,
        "name": name,
        "config": {"name": name, **settings},
        "inbound_nodes": [[[feed, 0, 0, {}] for feed in feeds]],
    }


def functional(*layers: dict[str, Any]) -> dict[str, Any]:
    return {"class_name": "Functional", "config": {"layers": list(layers)}}


def rows(arrays: dict[str, np.ndarray] = SMALL) -> list[tuple[str, str, list[np.ndarray]]]:
    """`arrays` as the layers of `numbered`."""
    layers: dict[str, list[np.ndarray]] = {}
    for name, array in arrays.items():
        layers.setdefault(name.partition("/")[0], []).append(array)
    return [
        ("batch_normalization" if name.endswith("BatchNorm") else "conv2d", name, values)
        for name, values in layers.items()
    ]


# --- names


def test_every_scope_has_a_layer() -> None:
    port = INCEPTION_RESNET_V1.keras
    assert port is not None
    scopes = {
        rule.source.rpartition("/")[0]
        for rule in INCEPTION_RESNET_V1.rules
        if rule.part == "features"
    }
    assert set(port.layers.values()) == scopes
    for layer, scope in {
        "Conv2d_1a_3x3": "Conv2d_1a_3x3",
        "Block35_1_Branch_2_Conv2d_0c_3x3": "Repeat/block35_1/Branch_2/Conv2d_0c_3x3",
        "Block17_10_Conv2d_1x1": "Repeat_1/block17_10/Conv2d_1x1",
        "Block8_6_Branch_1_Conv2d_0b_1x3_BatchNorm": "Block8/Branch_1/Conv2d_0b_1x3/BatchNorm",
        "Mixed_7a_Branch_2_Conv2d_0b_3x3": "Mixed_7a/Branch_2/Conv2d_0b_3x3",
        "Bottleneck": "Bottleneck",
        # DeepFace:
        "Block17_7_Branch_7_Conv2d_0c_7x1": "Repeat_1/block17_7/Branch_1/Conv2d_0c_7x1",
        "Block8_5_Branch_5_Conv2d_0b_1x3": "Repeat_2/block8_5/Branch_1/Conv2d_0b_1x3",
    }.items():
        assert port.layers[layer] == f"{ROOT}/{scope}"
    assert "Block8_6_Branch_6_Conv2d_0b_1x3" not in port.layers
    assert len(port.scales) == 21


@pytest.mark.parametrize("root", ["", "model_weights"])
@pytest.mark.parametrize("suffix", [":0", ""])
def test_a_group_for_each_layer(root: str, suffix: str, tmp_path: Path) -> None:
    path = named(tmp_path / "x.h5", SMALL, root=root, suffix=suffix)
    catalog = open_source(path)
    assert fakes.loaded(catalog) == fakes.expected(EXPECTED)
    assert (catalog.format, catalog.naming) == ("keras-h5", "tensorflow")
    assert model.UNKNOWN_END in catalog.notes


def test_layer_names_in_several_attributes(tmp_path: Path) -> None:
    path = named(tmp_path / "x.h5", SMALL)
    with h5py.File(path, "r+") as file:
        names = file.attrs["layer_names"]
        del file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:1], names[1:]
    assert fakes.loaded(open_source(path)) == fakes.expected(EXPECTED)


def test_names_of_keras_1(tmp_path: Path) -> None:
    names = ("Conv2d_1a_3x3/Conv2d_1a_3x3_W", f"{BATCH_NORM}/{BATCH_NORM}_beta")
    names = (*names, f"{BATCH_NORM}/{BATCH_NORM}_running_mean")
    path = named(tmp_path / "x.h5", dict(zip(names, SMALL.values(), strict=True)))
    assert fakes.loaded(open_source(path)) == fakes.expected(EXPECTED)


def test_a_scope_that_keras_made_unique(tmp_path: Path) -> None:
    """The second model of a session has weights ``LAYER_1/kernel:0`` in the group LAYER."""
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = ["Conv2d_1a_3x3"]
        file["Conv2d_1a_3x3/Conv2d_1a_3x3_1/kernel:0"] = SMALL["Conv2d_1a_3x3/kernel"]
    assert list(open_source(path)) == [f"{SCOPE}/weights"]


def test_a_model_within_a_model(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        for name, array in SMALL.items():
            file[f"model_weights/inception_resnet_v1/{name}:0"] = array
        file["model_weights/my_head/my_head/kernel:0"] = np.zeros((4, 2), "<f4")
    head = {"model_weights/my_head/my_head/kernel:0": np.zeros((4, 2), "<f4")}
    assert fakes.loaded(open_source(path)) == fakes.expected(EXPECTED | head)


def test_the_optimiser_is_left_out_and_said(tmp_path: Path) -> None:
    path = named(tmp_path / "x.h5", SMALL, root="model_weights")
    with h5py.File(path, "r+") as file:
        file["optimizer_weights/Adam/iterations:0"] = np.int64(7)
    catalog = open_source(path)
    assert list(catalog) == list(dict(sorted(EXPECTED.items(), key=str))) or set(catalog) == {
        *EXPECTED
    }
    assert "left out: 1 tensor of the optimiser" in catalog.notes


@pytest.mark.parametrize("container", ["layers", "_layer_checkpoint_dependencies"])
def test_numbered_layers_with_names(container: str, tmp_path: Path) -> None:
    numbered(tmp_path / "x.weights.h5", rows(), container=container)
    # Two variables only: those of a batch norm without a mean are not known.
    assert set(open_source(tmp_path / "x.weights.h5")) == {
        f"{SCOPE}/weights",
        f"{SCOPE}/BatchNorm/beta",
        f"{SCOPE}/BatchNorm/moving_mean",
    }


@pytest.mark.parametrize(("scale", "first"), [(True, "gamma"), (False, "beta")])
@pytest.mark.parametrize("configured", [True, False])
def test_variables_by_number(scale: bool, first: str, configured: bool, tmp_path: Path) -> None:
    arrays = [np.full(2, n, "<f4") for n in range(4 if scale else 3)]
    layers = [("batch_normalization", BATCH_NORM, arrays)]
    config = functional(entry("BatchNormalization", BATCH_NORM, scale=scale, epsilon=0.001))
    buffer = io.BytesIO()
    numbered(buffer, layers)
    if configured:
        path = keras_files.archive(tmp_path / "x.keras", config, buffer.getvalue())
    else:
        path = tmp_path / "x.weights.h5"
        path.write_bytes(buffer.getvalue())
    names = [f"{SCOPE}/BatchNorm/{name}" for name in ("beta", "moving_mean", "moving_variance")]
    if scale:
        names.insert(0, f"{SCOPE}/BatchNorm/gamma")
    assert first in names[0]
    wanted = dict(zip(names, arrays, strict=True))
    assert fakes.loaded(open_source(path)) == fakes.expected(wanted)


@pytest.mark.parametrize("step", [1, 2])
def test_numbers_and_the_configuration_correspond(step: int, tmp_path: Path) -> None:
    """Keras 2.12 to 2.15 count a layer with weights twice: conv2d, conv2d_2, …; no names."""
    scopes = [f"Block35_{n}_Conv2d_1x1" for n in range(1, 6)]
    values = [np.full((1, 1, 2, 2), n, "<f4") for n in range(5)]
    buffer = io.BytesIO()
    numbered(
        buffer,
        [("conv2d", "", [value]) for value in values],
        container="_layer_checkpoint_dependencies" if step == 2 else "layers",
        names=False,
        step=step,
    )
    config = functional(entry("InputLayer", "in"), *(entry("Conv2D", name) for name in scopes))
    path = keras_files.archive(tmp_path / "x.keras", config, buffer.getvalue())
    found = {name: array[2][:4] for name, array in fakes.loaded(open_source(path)).items()}
    assert found == {
        f"{ROOT}/Repeat/block35_{n + 1}/Conv2d_1x1/weights": np.float32(n).tobytes()
        for n in range(5)
    }


def test_a_numbered_model_within_a_model(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    numbered(buffer, rows(), container="layers/functional/layers", names=False)
    inner = functional(
        entry("Conv2D", "Conv2d_1a_3x3"), entry("BatchNormalization", BATCH_NORM, scale=False)
    )
    config = functional(inner | {"name": "facenet"}, entry("Dense", "head"))
    path = keras_files.archive(tmp_path / "x.keras", config, buffer.getvalue())
    assert fakes.loaded(open_source(path)) == fakes.expected(EXPECTED)


def test_a_name_against_the_configuration(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    numbered(buffer, [("conv2d", "Conv2d_2a_3x3", [SMALL["Conv2d_1a_3x3/kernel"]])])
    config = functional(entry("Conv2D", "Conv2d_1a_3x3"))
    path = keras_files.archive(tmp_path / "x.keras", config, buffer.getvalue())
    with pytest.raises(FormatError, match="unlike those of Keras") as caught:
        open_source(path)
    assert "in the configuration" in str(caught.value)


def test_layers_that_only_have_numbers_are_refused_with_a_way_out(tmp_path: Path) -> None:
    numbered(tmp_path / "x.weights.h5", rows(), names=False)
    with pytest.raises(FormatError, match="numbers the layers") as caught:
        open_source(tmp_path / "x.weights.h5")
    assert "model.save('model.keras')" in str(caught.value)


def test_random_states_are_left_out(tmp_path: Path) -> None:
    numbered(tmp_path / "x.weights.h5", rows())
    with h5py.File(tmp_path / "x.weights.h5", "r+") as file:
        file["layers/dropout/seed_generator/vars/0"] = np.zeros(2, "<u4")
        file["optimizer/vars/0"] = np.int64(3)
    notes = open_source(tmp_path / "x.weights.h5").notes
    assert {
        "left out: 1 tensor of random states",
        "left out: 1 tensor of the optimiser",
    } <= set(notes)


# --- values


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"chunks": True},
        {"compression": "gzip"},
        {"compression": "gzip", "shuffle": True, "fletcher32": True},
        {"dtype": ">f4"},
    ],
    ids=str,
)
def test_however_they_are_stored(how: dict[str, Any], tmp_path: Path) -> None:
    path = named(tmp_path / "x.h5", SMALL, **how)
    assert fakes.loaded(open_source(path)) == fakes.expected(EXPECTED)


@pytest.mark.parametrize("code", ["<f8", "<f2", "<i8", "|u1", "|b1", "<u4"])
def test_types(code: str, tmp_path: Path) -> None:
    array = np.arange(6).astype(code).reshape(2, 3)
    path = named(tmp_path / "x.h5", {"Bottleneck/kernel": array})
    wanted = {f"{ROOT}/Bottleneck/weights": array}
    assert fakes.loaded(open_source(path)) == fakes.expected(wanted)


def test_bfloat16_as_keras_notes_it(tmp_path: Path) -> None:
    bits = np.arange(6, dtype="<u2")
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("layers/dense/vars/0", data=bits.view("V2"))
        data.attrs["dtype"] = "bfloat16"
        file["layers/dense/vars"].attrs["name"] = "Bottleneck"
    wanted = {f"{ROOT}/Bottleneck/weights": ("bfloat16", (6,), bits.tobytes())}
    assert fakes.loaded(open_source(path)) == wanted


def test_a_float_of_another_format_is_not_taken_for_its_bits(tmp_path: Path) -> None:
    """Four bytes, but a bit of the exponent more: h5py has to convert them."""
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(31, 23, 8, 0, 23)
    kind.set_ebias(130)
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = ["Bottleneck"]
        group = file.create_group("Bottleneck")
        space = h5py.h5s.create_simple((2,))
        data = h5py.h5d.create(group.id, b"kernel:0", kind, space)
        data.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array([1.0, 3.0], "<f4"))
    try:
        found = open_source(path)[f"{ROOT}/Bottleneck/weights"].load()
    except FormatError:
        return
    assert found.tolist() == [1.0, 3.0]


# --- whole models


@pytest.mark.parametrize("to", ["pt", "safetensors"])
def test_a_whole_model_is_converted(to: str, tmp_path: Path) -> None:
    arrays = whole()
    path = named(tmp_path / "facenet.h5", arrays)
    receipt = convert(Request(str(path), str(tmp_path / f"x.{to}")))
    assert (len(receipt.plan.edges), dict(receipt.plan.dims)) == (490, {"embedding": 4})
    back = convert(Request(str(tmp_path / f"x.{to}"), f"{tmp_path}/tf/"))
    assert len(back.plan.edges) == 490
    found = open_source(tmp_path / "tf" / "model.ckpt")
    values = {name: value[2] for name, value in fakes.loaded(found).items()}
    catalog = open_source(path)
    assert values == {name: value[2] for name, value in fakes.loaded(catalog).items()}
    block = f"{ROOT}/Block8/Branch_1/Conv2d_0c_3x1/weights"
    assert values[block] == arrays["Block8_6_Branch_1_Conv2d_0c_3x1/kernel"].tobytes()


def test_a_folder_and_inspect_take_it(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from converter.cli.inspect import command

    named(tmp_path / "facenet.h5", whole())
    run = CliRunner().invoke(command, [str(tmp_path), "--summary"])
    assert run.exit_code == 0, run.output
    assert "keras-h5" in run.output
    assert "embedding 4" in run.output
    assert model.UNKNOWN_END in run.output


def test_a_swapped_layer_is_seen(tmp_path: Path) -> None:
    arrays = whole()
    arrays["Block35_9_Conv2d_1x1/kernel"] = arrays.pop("Block35_1_Conv2d_1x1/kernel")
    with pytest.raises(MappingError) as caught:
        make_plan(open_source(named(tmp_path / "x.h5", arrays)), to="torch")
    kinds = sorted(finding.kind for finding in caught.value.findings)  # type: ignore[attr-defined] # Finding
    assert kinds == ["missing", "unexplained"]


# --- the configuration

LAMBDA = "4wEAAAABAAAA"  # the beginning of marshalled code; never decoded


def test_how_the_model_ends_is_said(tmp_path: Path) -> None:
    ends = entry("BatchNormalization", "Bottleneck_BatchNorm", epsilon=0.001)
    goes_on = entry("Lambda", "normalize", function="l2_normalize", function_type="function")
    notes = {}
    for name, layers in {"ends": [ends], "goes on": [ends, goes_on]}.items():
        path = named(tmp_path / "x.h5", SMALL, root="model_weights", config=functional(*layers))
        notes[name] = open_source(path).notes
    last = "Bottleneck_BatchNorm"
    assert model.NOT_NORMALISED.format(last=last) in notes["ends"]
    assert model.GOES_ON.format(last=last, more="normalize") in notes["goes on"]


@pytest.mark.parametrize(
    "settings",
    [
        {"function": [LAMBDA, None, None], "function_type": "lambda"},
        {"function": {"class_name": "__lambda__", "config": {"code": LAMBDA}}},
    ],
    ids=["Keras 2", "Keras 3"],
)
def test_bytecode_is_said_and_not_run(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import marshal

    def refuse(*_: object) -> None:
        raise AssertionError("unmarshalled")

    monkeypatch.setattr(marshal, "loads", refuse)
    scaled = entry(
        "Lambda", "lambda_1", "Block35_1_Conv2d_1x1", arguments={"scale": 0.17}, **settings
    )
    path = named(tmp_path / "x.h5", SMALL, root="model_weights", config=functional(scaled))
    assert model.BYTECODE.format(layers="1 layer (lambda_1)") in open_source(path).notes


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (entry("BatchNormalization", BATCH_NORM, epsilon=1e-5), "epsilon 0.001"),
        (entry("BatchNormalization", BATCH_NORM, epsilon="much"), "epsilon 0.001"),
        (
            entry("Lambda", "l", "Block17_3_Conv2d_1x1", arguments={"scale": 0.17}),
            "scale 0.1",
        ),
        (entry("Lambda", "l", "Block8_6_Conv2d_1x1", arguments={"scale": 0.2}), "scale 1"),
        (entry("ScaleLayer", "l", "Block8_5_Conv2d_1x1", scale=1.0), "scale 0.2"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_settings_are_another_network(
    layer: dict[str, Any], says: str, tmp_path: Path
) -> None:
    path = named(tmp_path / "x.h5", SMALL, root="model_weights", config=functional(layer))
    with pytest.raises(MappingError, match="other settings") as caught:
        open_source(path)
    assert says in str(caught.value)


def test_settings_of_the_network_pass(tmp_path: Path) -> None:
    layers = [
        entry("BatchNormalization", BATCH_NORM, epsilon=0.0010000000474974513),
        entry("Lambda", "l", "Block8_6_Conv2d_1x1", arguments={"scale": 1}),
        entry("Add", "add", "l", "Block8_6_Conv2d_1x1"),
    ]
    path = named(tmp_path / "x.h5", SMALL, root="model_weights", config=functional(*layers))
    open_source(path)


def test_the_forms_of_a_configuration() -> None:
    kernel = {"class_name": "Conv2D", "config": {"name": "c"}}
    keras_3 = {
        "class_name": "Lambda",
        "name": "l",
        "config": {},
        "inbound_nodes": [
            {
                "args": [
                    {"class_name": "__keras_tensor__", "config": {"keras_history": ["c", 0, 0]}}
                ],
                "kwargs": {"mask": None},
            }
        ],
    }
    assert [layer.name for layer in parse(json.dumps({"config": [kernel]})).walk()] == ["c"]
    assert parse(json.dumps(functional(keras_3))).layers[0].feeds == ("c",)
    assert parse(json.dumps(functional(entry("Add", "a", "c", "l")))).layers[0].feeds == ("c", "l")


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)


@given(
    st.recursive(
        VALUES,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["config", "layers", "class_name", "name", "inbound_nodes",
                                 "function", "arguments", "epsilon", "scale"]),
                inner, max_size=4,
            )
        ),
        max_leaves=20,
    )
)  # fmt: skip
def test_any_configuration_is_read_or_refused(config: object) -> None:
    try:
        for layer in parse(json.dumps(config)).walk():
            assert layer.has_bytecode in (True, False)
            assert isinstance(layer.name, str)
    except ValueError as error:
        str(error)


# --- what is refused; support/keras_files.py has more, which test_sources_bad_input.py opens


def test_a_recorded_reference_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs["schema"] = "facenet-parity/reference/2"
    with pytest.raises(FormatError, match="does not hold weights of Keras") as caught:
        open_source(tmp_path / "x.h5")
    assert "facenet verify" in str(caught.value)


def test_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = named(tmp_path / "x.h5", SMALL)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingPackageError, match=r'pip install "facenet-parity\[keras\]"'):
        open_source(path)


ARCHIVE_OR_FILE = st.sampled_from(["x.h5", "x.keras"])


@given(ARCHIVE_OR_FILE, st.data())
def test_noise_in_a_file_is_read_or_refused(tmp_path: Path, name: str, data: st.DataObject) -> None:
    path = named(tmp_path / name, SMALL) if name == "x.h5" else small_archive(tmp_path / name)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        noise = data.draw(st.binary(min_size=1, max_size=8))
        content[at : at + len(noise)] = noise
    path.write_bytes(content)
    try:
        found = fakes.loaded(open_source(path))
    except FacenetError as error:
        str(error)
        return
    if name == "x.keras" and found != fakes.expected(EXPECTED):
        raise AssertionError("a CRC-32 covers all that matters")


def attempt(path: Path, content: bytes) -> object:
    """Everything in the file with this content; None where it is refused."""
    path.write_bytes(content)
    try:
        return fakes.loaded(open_source(path))
    except FacenetError as error:
        str(error)
        return None


def test_no_flipped_byte_of_an_archive_changes_a_tensor(tmp_path: Path) -> None:
    """What may pass: times and attributes of the archive, which hold nothing."""
    path = small_archive(tmp_path / "x.keras")
    good = path.read_bytes()
    positions = [*range(300), *range(300, len(good) - 300, 11), *range(len(good) - 300, len(good))]
    refused = 0
    for position in positions:
        flipped = bytearray(good)
        flipped[position] ^= 1 << position % 8
        found = attempt(path, bytes(flipped))
        assert found in (None, fakes.expected(EXPECTED)), position
        refused += found is None
    assert refused > 0.9 * len(positions)


@pytest.mark.parametrize("name", ["x.h5", "x.keras"])
def test_no_truncated_file_yields_tensors(name: str, tmp_path: Path) -> None:
    path = named(tmp_path / name, SMALL) if name == "x.h5" else small_archive(tmp_path / name)
    good = path.read_bytes()
    lengths = [*range(0, len(good), 67), len(good) - 1]
    assert [n for n in lengths if attempt(path, good[:n]) is not None] == []


def test_flipped_bytes_of_an_hdf5_file_are_read_or_refused(tmp_path: Path) -> None:
    """It has no checksums: names and values may change, sizes still add up."""
    path = named(tmp_path / "x.h5", SMALL)
    good = path.read_bytes()
    outcomes = set()
    for position in range(0, len(good), 31):
        flipped = bytearray(good)
        flipped[position] ^= 1 << position % 8
        outcomes.add(attempt(path, bytes(flipped)) is None)
    assert outcomes == {True, False}


def _soft(file: Any) -> None:
    file["Bottleneck/kernel:0"] = h5py.SoftLink("/Conv2d_1a_3x3/Conv2d_1a_3x3/kernel:0")


def _external(file: Any) -> None:
    file["Bottleneck"] = h5py.ExternalLink("other.h5", "/Conv2d_1a_3x3")


def _unwritten(file: Any) -> None:
    file.create_dataset("Bottleneck/kernel:0", (4,), "<f4")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_soft, "a link to another place"),
        (_external, "a link to another place"),
        (_unwritten, "0 bytes for float32 [4]"),
    ],
)
def test_what_would_otherwise_pass_is_refused(change: Any, says: str, tmp_path: Path) -> None:
    """Small, and leading to good data: nothing but the check meant for it can refuse it."""
    named(tmp_path / "other.h5", SMALL)
    path = named(tmp_path / "x.h5", SMALL)
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(FormatError, match="unlike those of Keras") as caught:
        open_source(path)
    assert says in str(caught.value)
