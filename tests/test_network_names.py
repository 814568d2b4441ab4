"""Networks are named in few places, so that one more is one new file and one line in each."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from converter.architectures import ARCHITECTURES
from parity_tests.tf_graphs import GRAPHS

ROOT = Path(__file__).parents[1]
PACKAGES = ("converter", "facenet_common", "facenet_models", "facenet_release", "parity_tests")
NAMES = {name for known in ARCHITECTURES.values() for name in (known.name, known.class_name)}

# Where a network's name may stand as a string of its own, and why.
ALLOWED = {
    "converter/architectures/*.py": "the records",
    "facenet_models/networks/*.py": "the modules, and the line of each in the registry",
    "parity_tests/tf_graphs/*.py": "the TensorFlow graphs",
    "facenet_models/weights/registry.py": "published weights belong to one network",
    "facenet_models/__init__.py": "the public names of the package",
    "facenet_models/compat.py": "the names that facenet-pytorch has",
    "facenet_models/detect/mtcnn.py": "the detector is made of three networks",
}


def strings(path: Path) -> Iterator[str]:
    """Every string constant of a Python module; every quoted word of another text file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from re.findall(r"""["'](\w+)["']""", text)
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_only_these_files_name_a_network() -> None:
    naming = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            if path.suffix in (".py", ".json", ".md", ".html") and NAMES & set(strings(path)):
                naming.add(path.relative_to(ROOT))
    assert len(naming) > 10  # the walk does see them
    others = {str(path) for path in naming if not any(path.match(allowed) for allowed in ALLOWED)}
    assert not others
    unused = {allowed for allowed in ALLOWED if not any(path.match(allowed) for path in naming)}
    assert not unused


def test_each_network_has_a_graph() -> None:
    assert list(GRAPHS) == list(ARCHITECTURES)
    for name, graph in GRAPHS.items():
        assert list(graph.outputs) == [output.name for output in ARCHITECTURES[name].outputs]


def test_each_network_has_a_torch_class_with_the_same_outputs() -> None:
    pytest.importorskip("torch", reason='pip install "facenet-parity[torch]"')
    from facenet_models.networks.registry import networks

    classes = {network.architecture: network for network in networks()}
    assert list(classes) == list(ARCHITECTURES)
    for name, known in ARCHITECTURES.items():
        dims = {dim: 7 + number for number, dim in enumerate(known.dims)}
        model = classes[name].from_dims(dims)
        assert type(model).__name__ == known.class_name
        assert model.dims() == dims
        assert classes[name].read_dims(model.state_dict()) == dims
        outputs = {
            output.name: (
                dims[output.size] if isinstance(output.size, str) else output.size,
                *((None, None) if output.is_map else ()),
            )
            for output in known.outputs
        }
        assert dict(model.outputs()) == outputs
        assert list(model.outputs()) == list(outputs)
        assert set(model.state_dict()) == {row.target for row in known.rows}
        height, width = known.feed_size
        assert min(height, width) >= classes[name].smallest_image
        assert classes[name].image_size in (None, known.feed_size)
