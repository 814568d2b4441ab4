"""PyTorch's two formats: torch.save against our reader, our writer against torch.load."""

from __future__ import annotations

import itertools
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support import fakes

from converter import dtypes
from converter.dtypes import BFLOAT16, Array
from converter.sources import open_source
from converter.writers import torch_zip
from converter.writers.torch_zip import ALIGNMENT
from facenet_common.errors import FormatError, UsageError

torch = pytest.importorskip("torch", reason="needs torch: pip install torch")

FORMATS = {"torch-zip": {}, "torch-legacy": {"_use_new_zipfile_serialization": False}}
STORED = [d for d in dtypes.DTYPES if d.torch and d is not BFLOAT16]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=5)
NAMES = st.text(st.characters(codec="utf-8"), max_size=20)


def bits(tensor: Any) -> tuple[str, tuple[int, ...], bytes]:
    """Type, shape and bytes in C order of a tensor, as `fakes.loaded` has them."""
    raw = tensor.detach().clone(memory_format=torch.contiguous_format).reshape(-1)
    data = raw.view(torch.uint8).numpy().tobytes() if raw.numel() else b""
    return str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), data


def arrays() -> st.SearchStrategy[Array]:
    def of(dtype: dtypes.DType) -> st.SearchStrategy[Array]:
        if dtype.name == "bool":
            return hnp.arrays(np.bool_, SHAPES)
        size = f"u{dtype.itemsize}" if dtype.itemsize <= 8 else "u8"
        axes = SHAPES if dtype.itemsize <= 8 else SHAPES.map(lambda s: (*s, 2))
        made = hnp.arrays(size, axes)
        if dtype.itemsize > 8:
            return made.map(lambda a: a.view(dtype.numpy)[..., 0].copy())
        return made.map(lambda a: a.view(dtype.numpy))

    return st.sampled_from(STORED).flatmap(of)


# --- our writer


@given(st.dictionaries(NAMES, arrays(), max_size=5))
def test_torch_loads_what_we_write(tmp_path: Path, made: dict[str, Array]) -> None:
    path = fakes.write_pt(tmp_path / "x.pt", made)
    expected = fakes.expected(made)
    for mmap in (False, True):
        found = torch.load(path, weights_only=True, mmap=mmap)
        assert isinstance(found, OrderedDict)
        assert {name: bits(tensor) for name, tensor in found.items()} == expected
        assert list(found) == list(made), "in order"
        for tensor in found.values():  # empty ones, too, have the strides that torch gives them
            assert tensor.stride() == torch.empty(tensor.shape).stride()
        assert not any(tensor.requires_grad for tensor in found.values())
    assert fakes.loaded(open_source(path)) == expected


def test_torch_loads_our_bfloat16(tmp_path: Path) -> None:
    raw = np.arange(1 << 16, dtype=np.uint32).astype("<u2").reshape(256, 256)
    torch_zip.write(tmp_path / "x.pt", [fakes.ref("w", raw, BFLOAT16)], fakes.no_progress)
    found = torch.load(tmp_path / "x.pt", weights_only=True)["w"]
    assert bits(found) == ("bfloat16", (256, 256), raw.tobytes())


@given(st.dictionaries(st.text("ab", max_size=9), arrays(), max_size=6))
@settings(max_examples=30)
def test_every_record_is_aligned_and_the_archive_is_sound(
    tmp_path: Path, made: dict[str, Array]
) -> None:
    path = fakes.write_pt(tmp_path / "x.pt", made)
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        infos = archive.infolist()
    assert len(infos) == len(made) + 3
    for info in infos:
        at = info.header_offset
        start = at + 30 + int.from_bytes(data[at + 26 : at + 28], "little")
        start += int.from_bytes(data[at + 28 : at + 30], "little")
        assert start % ALIGNMENT == 0, info.filename


def test_bytes_depend_on_the_tensors_alone(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    one = fakes.write_pt(tmp_path / "a.pt", fakes.some_arrays())
    two = fakes.write_pt(tmp_path / "sub" / "another name.pth", fakes.some_arrays())
    assert one.read_bytes() == two.read_bytes()


def test_writer_refuses_what_torch_has_no_storage_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="element type"):
        fakes.write_pt(tmp_path / "x.pt", {"w": np.zeros(3, "<u8")})


# --- our reader


def shared() -> dict[str, Any]:
    whole = torch.arange(24.0)
    return {
        "whole": whole,
        "part": whole[3:9],
        "matrix": whole.view(4, 6),
        "transposed": whole.view(4, 6).t(),
        "column": whole.view(4, 6)[:, 2],
        "every third": whole[::3],
        "last": whole[23],
        "nothing": whole[24:],
    }


STATES: dict[str, Any] = {
    "shared storages": shared,
    "of every type": lambda: {
        d.name: torch.ones(2, 3).to(getattr(torch, d.name)) for d in [*STORED, BFLOAT16]
    },
    "scalars and empties": lambda: {
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0),
        "empty rows": torch.zeros(0, 4),
        "empty columns": torch.zeros(4, 0, 2),
    },
    "permuted": lambda: {
        str(order): torch.arange(24.0).view(2, 3, 4).permute(order)
        for order in itertools.permutations(range(3))
    },
    "channels last": lambda: {
        "w": torch.arange(120.0).view(2, 3, 4, 5).to(memory_format=torch.channels_last)
    },
    "parameters": lambda: {"w": torch.nn.Parameter(torch.arange(6.0).view(2, 3))},
    "a module's": lambda: torch.nn.Sequential(
        torch.nn.Conv2d(2, 3, 1), torch.nn.BatchNorm2d(3)
    ).state_dict(),
    "tied": lambda: (lambda t: {"a": t, "b": t})(torch.arange(5.0)),
    "odd names": lambda: {
        name: torch.ones(1) for name in ("", "a.b", "ü 重み", "\n", "x" * 70_000)
    },
    "many": lambda: {f"layer.{n}": torch.full((n % 7,), float(n)) for n in range(700)},
    "no tensors": dict,
}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", STATES)
def test_reads_what_torch_writes(name: str, format: str, tmp_path: Path) -> None:
    state = STATES[name]()
    torch.save(state, tmp_path / "x.pt", **FORMATS[format])
    catalog = open_source(tmp_path / "x.pt")
    assert catalog.format == format
    assert fakes.loaded(catalog) == {key: bits(tensor) for key, tensor in state.items()}
    assert list(catalog) == list(state)
    assert not any(catalog[key].load().flags.writeable for key in state)


@given(data=st.data())
@settings(max_examples=40)
def test_reads_any_view(tmp_path: Path, data: st.DataObject) -> None:
    """Slices with steps, permutations and unsqueezed axes, of one storage."""
    tensor = torch.arange(2 * 3 * 4 * 5, dtype=torch.int16).view(2, 3, 4, 5)
    for axis in range(4):
        start, step = data.draw(st.integers(0, 3)), data.draw(st.integers(1, 3))
        tensor = tensor[(slice(None),) * axis + (slice(start, None, step),)]
    tensor = tensor.permute(data.draw(st.permutations(range(4))))
    tensor = tensor.unsqueeze(data.draw(st.integers(0, 4)))
    for how in FORMATS.values():
        torch.save({"w": tensor}, tmp_path / "x.pt", **how)
        assert fakes.loaded(open_source(tmp_path / "x.pt")) == {"w": bits(tensor)}


REFUSED: dict[str, Any] = {
    "a conjugated view": lambda: {"w": torch.ones(2, dtype=torch.complex64).conj()},
    "a negated view": lambda: {"w": torch.ones(2, dtype=torch.complex64).conj().imag},
    "a module": lambda: torch.nn.Linear(2, 2),
    "a tensor": lambda: torch.ones(2),
    "a list": lambda: [torch.ones(2)],
    "a checkpoint of training": lambda: {"epoch": 3, "state_dict": {"w": torch.ones(2)}},
    "a number as key": lambda: {1: torch.ones(2)},
    "an expanded tensor": lambda: {"w": torch.ones(1).expand(9)},
    "a sparse tensor": lambda: {"w": torch.eye(3).to_sparse()},
    "a type without storage": lambda: {"w": torch.ones(2).to(torch.float8_e4m3fn)},
}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", REFUSED)
def test_refuses_rather_than_guesses(name: str, format: str, tmp_path: Path) -> None:
    state = REFUSED[name]()
    torch.save(state, tmp_path / "x.pt", **FORMATS[format])
    with pytest.raises(FormatError):
        fakes.loaded(open_source(tmp_path / "x.pt"))


def trained() -> dict[str, Any]:
    """A training script saves an optimiser's state with numbers as keys."""
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda: {"model": {"w": torch.ones(2)}, "epoch": 3},
            [
                "'model', 'epoch' are not tensors",
                "(path, weights_only=True)['model'], 'weights.pt')",
            ],
        ),
        (trained, ["'model', 'optimizer', 'epoch'", "a state_dict is under 'model'", "['model']"]),
        (
            lambda: {"w": torch.ones(2), "epoch": 3},
            ["'epoch' is not a tensor", "torch.save(model.state_dict(), 'weights.pt')"],
        ),
    ],
    ids=["model and epoch", "with an optimiser", "beside the tensors"],
)
def test_a_checkpoint_of_training_says_what_to_save(
    make: Any, says: list[str], format: str, tmp_path: Path
) -> None:
    torch.save(make(), tmp_path / "x.pt", **FORMATS[format])
    with pytest.raises(FormatError, match="holds more than a state_dict") as caught:
        open_source(tmp_path / "x.pt")
    for words in says:
        assert words in str(caught.value)
    assert "download the file again" not in str(caught.value)


def test_a_pickle_of_python_2(tmp_path: Path) -> None:
    """An OrderedDict was pickled as a list of pairs there."""
    pair = b"](" + fakes.pickled_text("w") + fakes.tensor_pickle(2, [2], [1]) + b"e"
    body = b"\x80\x02ccollections\nOrderedDict\n]" + pair + b"a\x85R."
    (tmp_path / "x.pt").write_bytes(fakes.pt_zip(body, {"data/0": bytes(8)}))
    assert fakes.loaded(open_source(tmp_path / "x.pt")) == {"w": ("float32", (2,), bytes(8))}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (lambda good: b"junk" + good, "known format"),
        (lambda good: good + b"\0", "zip archive|archive"),
        (lambda good: good[:-2] + b"\3\0abc", "archive"),
    ],
    ids=["before", "behind", "a comment"],
)
def test_nothing_may_lie_around_the_archive(data: Any, says: str, tmp_path: Path) -> None:
    path = fakes.write_pt(tmp_path / "x.pt", fakes.some_arrays())
    path.write_bytes(data(path.read_bytes()))
    with pytest.raises(FormatError) as caught:
        open_source(path)
    assert any(word in str(caught.value) for word in says.split("|"))


def test_compressed_records_are_refused(tmp_path: Path) -> None:
    body = fakes.one_tensor(fakes.tensor_pickle(4, [4], [1]))
    for name in ("data.pkl", "data/0"):
        with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
            for record, content in (("data.pkl", body), ("data/0", bytes(16))):
                kind = zipfile.ZIP_DEFLATED if record == name else zipfile.ZIP_STORED
                archive.writestr(f"x/{record}", content, kind)
        with pytest.raises(FormatError, match="damaged") as caught:
            fakes.loaded(open_source(tmp_path / "x.pt"))
        assert "compressed" in str(caught.value)


@pytest.mark.parametrize("foreign", ["constants.pkl", "code/x.py", "data/1", "data.pkl/0", ""])
def test_records_without_a_use_are_refused(foreign: str, tmp_path: Path) -> None:
    """With constants.pkl in it, torch.load takes the archive for a TorchScript module."""
    body = fakes.one_tensor(fakes.tensor_pickle(4, [4], [1]))
    records = {"data/0": bytes(16), ".format_version": b"1"}
    (tmp_path / "x.pt").write_bytes(fakes.pt_zip(body, records))
    open_source(tmp_path / "x.pt")
    (tmp_path / "y.pt").write_bytes(fakes.pt_zip(body, {**records, foreign: b""}))
    with pytest.raises(FormatError, match="does not belong to a state_dict") as caught:
        open_source(tmp_path / "y.pt")
    assert f"record {foreign!r}" in str(caught.value)


@pytest.mark.parametrize("other", [{"storage_count": 8}, {"kind": "IntStorage"}])
def test_a_storage_is_described_in_one_way(other: dict[str, Any], tmp_path: Path) -> None:
    """Two readers could take its bytes for two things."""
    for format, legacy in (("torch-zip", False), ("torch-legacy", True)):
        good: dict[str, Any] = {"storage_count": 4, "shape": [4], "strides": [1], "legacy": legacy}
        for second in (good, good | other):
            code = b"\x80\x02}"
            for name, tensor in (("a", good), ("b", second)):
                code += fakes.pickled_text(name) + fakes.tensor_pickle(**tensor) + b"s"
            data = (
                fakes.pt_legacy(code + b".", ["0"], struct.pack("<q", 4) + bytes(16))
                if legacy
                else fakes.pt_zip(code + b".", {"data/0": bytes(32)})
            )
            (tmp_path / "x.pt").write_bytes(data)
            if second == good:
                assert open_source(tmp_path / "x.pt").format == format
                continue
            with pytest.raises(FormatError, match="storage 0 has two different descriptions"):
                open_source(tmp_path / "x.pt")


def test_published_files_equal_torchs_reading(reference_dir: Path) -> None:
    for name in ("pnet", "rnet", "onet"):
        path = reference_dir / "published" / f"{name}.pt"
        expected = torch.load(path, weights_only=True)
        found = fakes.loaded(open_source(path))
        assert found == {key: bits(tensor) for key, tensor in expected.items()}
