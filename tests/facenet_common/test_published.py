"""The table of published files, against the reference folder's."""

from __future__ import annotations

import json
import re
from pathlib import Path

from facenet_common.published import BY_SHA256, CASIA_STATE_SHA256, FILES


def test_the_table_is_the_reference_folders(reference_dir: Path) -> None:
    facts = json.loads((reference_dir / "published-hashes.json").read_text())
    expected = {}
    for model, entry in facts["checkpoints"].items():
        expected |= {name: (model, row) for name, row in entry["files"].items()}
        expected[f"{model}.zip"] = (model, entry["zip"])
    for part in ("facenet_pytorch", "keras_facenet"):
        expected |= {name: (name[:15], row) for name, row in facts[part].items()}
    assert {name: (file.model, file.sha256, file.sources) for name, file in FILES.items()} == {
        name: (model, row["sha256"], row["sources"]) for name, (model, row) in expected.items()
    }
    casia = facts["facenet_pytorch"]["20180408-102900-casia-webface.pt"]["state_sha256"]
    assert casia["value"] == CASIA_STATE_SHA256


def test_hashes_are_hashes_and_each_is_of_one_file() -> None:
    assert len(FILES) == 26
    assert len(BY_SHA256) == len(FILES)
    assert all(re.fullmatch("[0-9a-f]{64}", file.sha256) for file in FILES.values())


def test_one_source_counts_as_less_than_several() -> None:
    assert FILES["20180402-114759.pb"].evidence == "SHA-256 stated by 4 independent sources"
    assert FILES["20180408-102900.pb"].evidence == "SHA-256 stated by 1 independent source only"
