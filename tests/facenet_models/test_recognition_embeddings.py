"""Names, labels and vectors of embeddings, and their checks."""

from __future__ import annotations

import numpy as np
import pytest

from facenet_common.errors import FacenetError
from facenet_models.recognition import Embeddings, Miss


def test_labels_are_the_folders() -> None:
    names = ("Ann/1.jpg", "family/Ann/1.jpg", "Bob.jpg", "0")
    assert Embeddings(names, np.ones((4, 2), np.float32)).labels == (
        "Ann",
        "family/Ann",
        "Bob",
        "0",
    )


@pytest.mark.parametrize(
    ("names", "vectors", "message"),
    [
        (("a",), np.ones((2, 3), np.float32), "numbers of names and embeddings differ"),
        (("a", "a"), np.ones((2, 3), np.float32), "same name"),
        (("a", ""), np.ones((2, 3), np.float32), "empty"),
        (("a", "b\0"), np.ones((2, 3), np.float32), "NUL"),
        (("a", "miss"), np.ones((2, 3), np.float32), "same name"),
        (("a", "b"), np.ones((2, 3)), "float32"),
        (("a", "b"), np.ones(2, np.float32), "float32 matrix"),
        (("a", "b"), np.array([[1, 2], [3, np.nan]], np.float32), "(?s)NaN.*that of b"),
        (("a", "b"), np.array([[np.inf, 2], [3, 1]], np.float32), "(?s)infinity.*that of a"),
    ],
)
def test_embeddings_that_fit_no_names_are_refused(
    names: tuple[str, ...], vectors: np.ndarray, message: str
) -> None:
    with pytest.raises(FacenetError, match=message):
        Embeddings(names, vectors, (Miss("miss", "no face found"),))
