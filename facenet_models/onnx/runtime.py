"""How ONNX models are run: onnxruntime on the CPU."""

from __future__ import annotations

from typing import Any

from facenet_common.optional import require


def make_session(data: bytes, threads: int) -> Any:
    """Return an onnxruntime session on the CPU for a model's bytes.

    Raises:
        MissingPackageError: onnxruntime is not installed.
    """
    ort = require("onnxruntime", "running an ONNX model")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what it would log it also raises
    # Its threads would wait busily between two calls, while torch's need the cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
