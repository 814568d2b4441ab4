"""Optional packages: imported on first use, with one message where one is missing."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from facenet_common.errors import MissingPackageError

# Module: the package that has it, and the extra of this project that brings it.
PACKAGES: dict[str, tuple[str, str]] = {
    "OpenSSL": ("pyopenssl", "release"),
    "PIL": ("pillow", "torch"),
    "av": ("av", "video"),
    "cv2": ("opencv-python-headless", "dev"),
    "cyclonedx": ("cyclonedx-python-lib[json-validation]", "release"),
    "filelock": ("filelock", "torch"),
    "github": ("PyGithub", "release"),
    "h5py": ("h5py", "keras"),
    "huggingface_hub": ("huggingface_hub", "release"),
    "jinja2": ("jinja2", "parity"),
    "jsonschema": ("jsonschema", "release"),
    "matplotlib": ("matplotlib", "plot"),
    "model_signing": ("model-signing", "release"),
    "onnx": ("onnx", "onnx"),
    "onnxruntime": ("onnxruntime", "onnx"),
    "oras": ("oras", "release"),
    "pyarrow": ("pyarrow", "parquet"),
    "requests": ("requests", "torch"),
    "rfc8785": ("rfc8785", "release"),
    "safetensors": ("safetensors", "torch"),
    "tensorflow": ("tensorflow", "parity"),
    "torch": ("torch", "torch"),
}


def require(module: str, purpose: str) -> ModuleType:
    """Import an optional module.

    Args:
        module: Its dotted name; its first part is a key of `PACKAGES`.
        purpose: What needs it; the subject of the message.

    Raises:
        MissingPackageError: It is not installed; the message says how to install it. Where it is
            installed but broken, its own error is raised.

    Examples:
        >>> np = require("json", "this example")
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        top = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != top:
            raise
        raise missing_package(top, purpose) from error


def missing_package(module: str, purpose: str) -> MissingPackageError:
    """Return the error for a `module` that is not installed; `purpose` as in `require`."""
    package, _ = PACKAGES.get(module, (module, ""))
    error = MissingPackageError(
        f"{purpose} needs {package}, which is not installed", next_step=install(module)
    )
    error.name = module
    return error


def install(module: str) -> str:
    """Return the command that installs `module`, with the extra that brings it."""
    package, extra = PACKAGES.get(module, (module, ""))
    return f'pip install "facenet-parity[{extra}]"' if extra else f"pip install {package}"


def missing(modules: Iterable[str]) -> list[str]:
    """Return those of the top-level `modules` that are not installed; nothing is imported."""
    return [module for module in modules if find_spec(module) is None]
