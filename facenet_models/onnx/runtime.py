"""onnx and onnxruntime, imported on first use, and how models are run with them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from facenet_common.errors import FacenetError


def require(name: str) -> Any:
    """The module ``onnx`` or ``onnxruntime``.

    Raises:
        FacenetError: It is not installed; the message says how to install it.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:  # there but broken: its own message says more
            raise
        raise FacenetError(
            f"{name} is needed for this, and it is not installed",
            next_step='pip install "facenet-parity[onnx]"',
        ) from error


def make_session(data: bytes, threads: int) -> Any:
    """An onnxruntime session on the CPU for a model's bytes."""
    ort = require("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what it would log it also raises
    # Its threads would wait busily between two calls, while torch's need the cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
