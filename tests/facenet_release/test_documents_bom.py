"""The bill of materials: by CycloneDX's schema, and against the manifest."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from support import release_data as data

pytest.importorskip("rfc8785", reason='canonical JSON: pip install "facenet-parity[release]"')
pytest.importorskip("cyclonedx", reason='the schema: pip install "facenet-parity[release]"')

from cyclonedx import exception

from facenet_common.errors import MissingPackageError
from facenet_release.documents.bom import bill_of_materials, check_bom
from facenet_release.documents.manifest import Manifest


def made(manifest: Manifest | None = None) -> bytes:
    return bill_of_materials(manifest or data.manifest(), data.evidence())


def edited(change: Callable[[dict[str, Any]], object]) -> list[str]:
    """Return the findings after a change to a right bill."""
    document = json.loads(made())
    change(document)
    return check_bom(json.dumps(document).encode(), data.manifest())


def test_it_is_valid_and_reproducible() -> None:
    assert check_bom(made(), data.manifest()) == []
    assert made() == made()


def test_the_serial_number_is_that_of_the_content() -> None:
    numbers = {
        json.loads(made(manifest))["serialNumber"]
        for manifest in (data.manifest(), replace(data.manifest(), version="v1.1"))
    }
    assert len(numbers) == 2
    assert all(number.startswith("urn:uuid:") for number in numbers)
    assert b"timestamp" not in made()


def test_a_model_has_its_card() -> None:
    face, pnet, *sets = json.loads(made())["components"]
    assert face["type"] == pnet["type"] == "machine-learning-model"
    card = pnet["modelCard"]
    assert card["modelParameters"]["modelArchitecture"] == "PNet"
    assert card["modelParameters"]["datasets"] == [{"ref": "data:WIDER FACE and CelebA"}]
    metrics = card["quantitativeAnalysis"]["performanceMetrics"]
    assert [metric["value"] for metric in metrics] == ["0.0", "1.3322676295501878e-15"]
    assert "1e-12" in metrics[1]["type"]
    assert len(card["considerations"]["ethicalConsiderations"]) == 3
    assert [row["name"] for row in pnet["pedigree"]["ancestors"]] == ["det1.npy"]
    assert pnet["licenses"] == [{"license": {"id": "MIT"}}]
    assert face["licenses"] == [{"license": {"name": data.FACE.licence}}]
    assert face["description"].endswith("Made for tests.")
    assert [row["name"] for row in sets] == ["VGGFace2", "WIDER FACE and CelebA"]
    assert sets[0]["data"][0]["sensitiveData"]


def test_references_lead_somewhere_and_are_unique() -> None:
    document = json.loads(made())

    def references(value: Any) -> list[str]:
        inner = value.values() if isinstance(value, dict) else value
        own = [value["bom-ref"]] if isinstance(value, dict) and "bom-ref" in value else []
        below = [references(item) for item in inner if isinstance(item, (dict, list))]
        return own + [name for names in below for name in names]

    found = references(document)
    assert len(found) == len(set(found))
    used = {row["ref"] for row in document["dependencies"]}
    used |= {name for row in document["dependencies"] for name in row["dependsOn"]}
    assert used <= set(found)
    assert "release" in used


def test_a_licence_of_any_words_is_valid() -> None:
    wordy = replace(data.PNET, licence="see <there> & \u2028 ask", training_set="", notes="")
    manifest = data.manifest(wordy)
    assert check_bom(bill_of_materials(manifest, data.evidence()), manifest) == []


FACE, SHA = "face", "hashes"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda d: d.pop("bomFormat"), "schema: $: 'bomFormat' is a required"),
        (lambda d: d.update(more=1), "schema: $: Additional properties"),
        (lambda d: d["components"][0].update(type="model"), "schema: $.components[0].type"),
        (lambda d: d["components"][0].update(hashes=[{}]), "schema:"),
        (lambda d: d.update(serialNumber="1"), "schema: $.serialNumber"),
        (lambda d: d.update(specVersion="1.7"), "specVersion: expected '1.6'"),
        (lambda d: d["metadata"]["component"].update(version="v2"), "metadata.component.version"),
        (lambda d: d.pop("metadata"), "metadata.component.name"),
        (lambda d: d["components"].pop(0), "face: the model is missing"),
        (lambda d: d["components"].append(d["components"][0] | {"name": "x"}), "x: not a model of"),
        (lambda d: d["components"].append(d["components"][0] | {"version": "0"}), "listed twice"),
        (lambda d: d["components"][0]["components"].pop(0), "face.pt is missing"),
        (lambda d: d["components"][0].pop("components"), "face.pt is missing"),
        (lambda d: d["components"][0]["components"][0].update(name="x"), "x is not a file of"),
        (
            lambda d: d["components"][0]["components"][0].update(name="pnet.pt"),
            "pnet.pt is not a",
        ),
        (
            lambda d: d["components"][0]["components"][0].update(
                hashes=[{"alg": "SHA-256", "content": "0" * 64}]
            ),
            "face.pt: the SHA-256 differs",
        ),
        (
            lambda d: d["components"][0]["components"][0].pop("hashes"),
            "face.pt: the SHA-256 differs",
        ),
    ],
)
def test_what_is_wrong_is_found(change: Callable[[dict[str, Any]], object], found: str) -> None:
    findings = edited(change)
    assert any(found in finding for finding in findings), findings


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"[]",
        b"\xff",
        '{"specVersion": "1.6"}'.encode("utf-16"),
        b"{" * 100_000,
        b'{"a": NaN}',
        b'{"a": 1, "a": 1}',
    ],
    ids=["empty", "list", "bytes", "utf-16", "deep", "nan", "twice"],
)
def test_damage_is_found(damage: bytes) -> None:
    assert len(check_bom(damage, data.manifest())) == 1


def test_nesting_does_not_bring_it_down() -> None:
    document = json.loads(made())
    inner: dict[str, Any] = {"type": "file", "name": "x"}
    for _ in range(400):
        inner = {"type": "file", "name": "x", "components": [inner]}
    document["components"].append(inner)
    found = check_bom(json.dumps(document).encode(), data.manifest())
    assert found == ["schema: it is nested too deeply"]


def test_an_absent_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "cyclonedx.validation.json", None)
        with pytest.raises(MissingPackageError, match=r"facenet-parity\[release\]"):
            check_bom(made(), data.manifest())

    def lacking(*_: object, **__: object) -> None:  # what it does without [json-validation]
        raise exception.MissingOptionalDependencyException("jsonschema")

    monkeypatch.setattr("cyclonedx.validation.json.JsonStrictValidator.validate_str", lacking)
    with pytest.raises(MissingPackageError, match=r"facenet-parity\[release\]"):
        check_bom(made(), data.manifest())
