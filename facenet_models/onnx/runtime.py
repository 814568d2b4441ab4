"""Run ONNX models with onnxruntime on the CPU."""

from __future__ import annotations

from typing import Any

from facenet_common.optional import require


def make_session(data: bytes, threads: int) -> Any:
    """Return an onnxruntime session on the CPU.

    Args:
        data: Bytes of an ONNX model.
        threads: Number of threads.

    Raises:
        MissingPackageError: onnxruntime is not installed.

    Examples:
        >>> session = make_session(data, threads=2)  # doctest: +SKIP
        >>> (embeddings,) = session.run(None, {"images": images})  # doctest: +SKIP
    """
    ort = require("onnxruntime", "running an ONNX model")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # fatal only: errors are raised as well as logged
    # Without spinning, onnxruntime's idle threads leave the cores to torch between two calls:
    # https://onnxruntime.ai/docs/performance/tune-performance/threading.html
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
