"""Feeds are reproducible, lively, and refuse what can't be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from converter.architectures import ARCHITECTURES
from facenet_common.errors import ParityError
from parity_tests.feeds import describe, face_feed, standard_feeds


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_standard_feeds(architecture: str) -> None:
    every = standard_feeds(architecture, count=3)
    feeds = [feed for feed in every if not feed.optional]
    assert [len(feed.images) for feed in feeds] == [3, 3, 1, 4]
    names = [sample for feed in every for sample in feed.samples]
    assert len(set(names)) == len(names) >= 11
    for feed in feeds:
        assert feed.images.dtype == np.float32
        assert feed.images.shape[1:] == (*ARCHITECTURES[architecture].feed_size, 3)
        assert np.isfinite(feed.images).all()
        flat = feed.images.reshape(len(feed.images), -1)
        assert len(np.unique(flat, axis=0)) == len(flat)
    assert len(describe(feeds)) == 4


def test_an_odd_size_that_is_not_square() -> None:
    *_, odd = standard_feeds("inception_resnet_v1")
    height, width = odd.images.shape[1:3]
    assert odd.optional
    assert height % 2
    assert width % 2
    assert height != width
    assert not any(
        feed.optional for name in ("pnet", "rnet", "onet") for feed in standard_feeds(name)
    )
    assert ARCHITECTURES["pnet"].feed_size == (17, 23)  # P-Net's are odd and not square anyway


def test_a_seed_decides_everything() -> None:
    one, same, other = (standard_feeds("rnet", seed=seed) for seed in (1, 1, 2))
    for a, b, c in zip(one, same, other, strict=True):
        assert np.array_equal(a.images, b.images)
        assert np.array_equal(a.images, c.images) == (a.name == "extremes")


def test_faces(reference_dir: Path) -> None:
    feed = face_feed(reference_dir / "images")
    assert feed.images.shape == (3, 160, 160, 3)
    assert feed.images.dtype == np.float32
    assert -1 <= feed.images.min() < -0.5 < 0.5 < feed.images.max() <= 1
    assert feed.samples[0] == "Anthony_Hopkins_0001.jpg"


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="does not exist"):
        face_feed(tmp_path / "missing")
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(ParityError, match="no images"):
        face_feed(tmp_path)
    (tmp_path / "a.jpg").write_text("no image either")
    with pytest.raises(ParityError, match="can't be read") as caught:
        face_feed(tmp_path)
    assert caught.value.file is not None
    assert caught.value.file.endswith("a.jpg")
