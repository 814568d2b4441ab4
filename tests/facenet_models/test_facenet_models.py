"""`import facenet_models` is free; without torch the first use says what to install."""

import subprocess
import sys

import pytest

import facenet_models

NAMES = [
    "InceptionResnetV1",
    "MTCNN",
    "ONet",
    "PNet",
    "Pretrained",
    "RNet",
    "extract_face",
    "fixed_image_standardization",
    "prewhiten",
    "training",
]
TORCHLESS = {"Pretrained"}

BLOCK_TORCH = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise {error}
sys.meta_path.insert(0, Blocker())
"""
ABSENT = BLOCK_TORCH.format(error='ModuleNotFoundError("No module named torch", name="torch")')
HALF = BLOCK_TORCH.format(error='ModuleNotFoundError("No module named sympy", name="sympy")')
BROKEN = BLOCK_TORCH.format(error='ImportError("libcudart.so.12: cannot open", name="torch")')


def python(code: str) -> str:
    """Return the output of `code` in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_loads_neither_torch_nor_numpy() -> None:
    code = "import facenet_models, sys; print({'torch', 'numpy'} & set(sys.modules))"
    assert python(code) == "set()"


def test_the_models_pull_in_no_sibling_package() -> None:
    code = (
        "import sys; from facenet_models import *\n"
        "roots = {name.partition('.')[0] for name in sys.modules}\n"
        "print(roots & {'converter', 'parity_tests', 'tensorflow'})"
    )
    assert python(code) == "set()"


@pytest.mark.parametrize("name", NAMES)
def test_each_public_name_is_what_it_is_called(name: str) -> None:
    assert getattr(facenet_models, name).__name__.rpartition(".")[2] == name


def test_all_and_dir_list_the_public_names_before_their_first_use() -> None:
    assert sorted(facenet_models.__all__) == NAMES
    code = "import facenet_models; print(sorted(set(dir(facenet_models)) & set({names})))"
    assert python(code.format(names=NAMES)) == str(NAMES)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'facenet_models' has no attribute 'QNet'"):
        _ = facenet_models.QNet


@pytest.mark.parametrize("name", sorted(set(NAMES) - TORCHLESS))
def test_without_torch_the_message_says_what_to_install(name: str) -> None:
    use = f"try:\n    facenet_models.{name}\nexcept ImportError as error:\n    print(error)"
    printed = python(f"{ABSENT}\nimport facenet_models\n{use}")
    assert printed == (
        f"facenet_models.{name} needs torch, which is not installed\n"
        '  next:     pip install "facenet-parity[torch]"'
    )


@pytest.mark.parametrize(
    ("block", "message"),
    [(BROKEN, "libcudart.so.12: cannot open"), (HALF, "No module named sympy")],
)
def test_a_broken_torch_keeps_its_own_message(block: str, message: str) -> None:
    use = "try:\n    facenet_models.PNet\nexcept ImportError as error:\n    print(error)"
    assert python(f"{block}\nimport facenet_models\n{use}") == message
