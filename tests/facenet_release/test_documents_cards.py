"""Cards: what they say is so, their snippets run, and no recipe can put markup into them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import release_data as data
from support.absent import run_without
from support.pages import fenced

pytest.importorskip("jinja2", reason='templates: pip install "facenet-parity[release]"')
pytest.importorskip("rfc8785", reason='canonical JSON: pip install "facenet-parity[release]"')

from facenet_release.documents.cards import model_card, release_readme
from facenet_release.documents.manifest import MANIFEST, SUMS, Manifest, Model

HOSTILE = (
    "<script>alert(1)</script> ![x](http://e.example/x.png) [click](javascript:alert(1))\n\n"
    "# Heading\n---\n| a | b |\n```\ncode\n{{ 7 * 7 }} {% raw %} &amp; *bold* __bold__ ~~gone~~ "
    "http://e.example/a_b_c\"onload='x'. \x1b[31m \u202e end"
)


def card(model: Model = data.PNET, evidence: Mapping[str, Any] | None = None) -> str:
    return model_card(model, data.manifest(model), evidence or data.evidence())


def readme(manifest: Manifest | None = None) -> str:
    return release_readme(manifest or data.manifest(), data.evidence())


def blocks(text: str, language: str) -> list[str]:
    return [block.text for block in fenced(text) if block.language == language]


def test_a_card_says_what_was_measured() -> None:
    said = card()
    assert (
        "| float64 | max \\|TensorFlow - torch\\|, both in float64 \\<= 1e-12 | 1.33e-15 |" in said
    )
    assert "| weights | tensors that differ in any bit = 0 | 0 | passed |" in said
    assert "| task | not applied | - | skipped |" in said
    files = "`pnet.onnx`, `pnet.pt`, `pnet.safetensors`"
    assert f"`pnet.parity.json`, for {files}: passed." in said
    assert "They are not accuracy" in said
    assert f"{data.sha256(b'pnet.pt')}  pnet.pt" in said
    assert f"{'1' * 64}  pnet.safetensors" in said
    assert f"| `det1.npy` | 27,368 | `{data.sha256(b'det1')}` |" in said
    assert "`pnet.onnx` | all | onnx | 9 |" in said


def test_a_failure_is_not_hidden() -> None:
    said = data.report(data.PNET_REPORT)
    gates = (replace(said.gates[0], status="failed", measured=3.0),)
    failed = {data.PNET_REPORT: data.as_json(replace(said, gates=gates))}
    assert "`pnet.safetensors`: NOT PASSED." in card(evidence=failed)
    assert "| tensors that differ in any bit = 0 | 3 | failed |" in card(evidence=failed)
    readme = release_readme(data.manifest(data.PNET), failed)
    assert "[NOT PASSED](pnet.parity.json)" in readme


def test_no_accuracy_is_claimed_but_the_originals() -> None:
    """Weights that only share a name with the original's get no figure."""
    known = replace(data.FACE, name="20180402-114759-vggface2")
    said = card(known)
    assert "davidsandberg/facenet states an accuracy of 0.9965 on LFW" in said
    assert "was not measured for this release" in said
    for model in (
        data.FACE,
        data.PNET,
        replace(known, training_set="nothing: random numbers"),
    ):
        assert "LFW" not in card(model)
    assert "LFW" not in readme()


def test_texts_are_the_same_every_time() -> None:
    assert card() == card()
    assert readme() == readme()
    assert card().endswith("network.\n")
    assert "\n\n\n" not in card(data.FACE)


def test_the_readme_leads_to_everything() -> None:
    said = readme()
    for file in data.manifest().files:
        assert f"| `{file.name}` | {file.role} | {file.size} | `{file.sha256}` |" in said
    assert "[pnet.md](pnet.md)" in said
    assert "MTCNN(weights" not in said  # only one of its three nets is here
    three = [replace(data.PNET, name=name, artifacts=()) for name in ("pnet", "rnet", "onet")]
    manifest = data.manifest(
        *(
            replace(model, artifacts=(replace(data.PNET.artifacts[1], file=f"{model.name}.pt"),))
            for model in three
        )
    )
    assert 'MTCNN(weights=".")' in readme(manifest)


def test_reports_are_linked_as_pages_where_there_are_such() -> None:
    manifest = data.manifest(data.PNET)
    page = replace(manifest.files[0], name="pnet.parity.html", role="evidence")
    said = readme(replace(manifest, files=(*manifest.files, page)))
    assert "[passed](pnet.parity.html)" in said
    assert "[passed](pnet.parity.json)" in readme(manifest)


def test_hugging_face_can_read_the_head() -> None:
    yaml = pytest.importorskip("yaml", reason="a cross-check: pip install pyyaml")
    head = readme().split("---\n")[1]
    assert yaml.safe_load(head) == {
        "license": "other",  # the two models differ
        "license_name": "see-readme",
        "license_link": "README.md",
        "library_name": "pytorch",
        "pipeline_tag": "image-feature-extraction",
        "tags": [
            "facenet",
            "face-recognition",
            "mtcnn",
            "face-detection",
            "onnx",
            "safetensors",
        ],
    }
    assert yaml.safe_load(readme(data.manifest(data.PNET)).split("---\n")[1])["license"] == "mit"


@pytest.mark.parametrize(
    "field", ["notes", "licence", "training_set", "preprocessing"], ids=lambda name: name
)
def test_a_recipe_can_put_no_markup_into_a_card(field: str) -> None:
    """Rendered, the card has the elements that it has without, and the words are there."""
    library = pytest.importorskip("markdown_it", reason="comes with rich")
    markdown = library.MarkdownIt("commonmark").enable("table")
    harmless: dict[str, Any] = {field: "harmless http://e.example/x.png http://e.example/a_b_c."}
    hostile: dict[str, Any] = {field: HOSTILE}
    for render in (card, lambda model: readme(data.manifest(model)).split("---\n", 2)[2]):
        plain = markdown.render(render(replace(data.PNET, **harmless)))
        bad = markdown.render(render(replace(data.PNET, **hostile)))
        assert elements(bad) == elements(plain)
        if "harmless" in plain:
            assert "&lt;script&gt;" in bad
            assert "{{ 7 * 7 }} {% raw %}" in bad
            assert "\x1b" not in bad
            assert "\u202e" not in bad


def elements(html: str) -> list[str]:
    return re.findall(r"<(/?\w+)", html)


def test_names_of_sources_can_put_no_markup_into_a_card() -> None:
    library = pytest.importorskip("markdown_it", reason="comes with rich")
    markdown = library.MarkdownIt("commonmark").enable("table")
    name = "a`b``|<b>.npy\n# x"
    bad = replace(data.PNET, sources=(replace(data.PNET.sources[0], name=name),))
    rendered = markdown.render(card(bad))
    assert elements(rendered) == elements(markdown.render(card()))
    assert "<code>a`b``|&lt;b&gt;.npy # x</code>" in rendered


def test_the_hashes_are_as_sha256sum_takes_them(tmp_path: Path) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("there is no sha256sum")
    manifest = data.manifest(data.PNET)
    for file in manifest.files:
        (tmp_path / file.name).write_text(file.name)
    (tmp_path / MANIFEST).write_text("the manifest")
    (tmp_path / SUMS).write_bytes(manifest.sums(data.MANIFEST_SHA256))
    (tmp_path / "own").write_text(blocks(card(), "text")[0])
    command = blocks(card(), "sh")[0].splitlines()[0]
    assert command == f"sha256sum -c {SUMS}"
    for file_ in (SUMS, "own"):
        subprocess.run(["sha256sum", "-c", "--strict", file_], cwd=tmp_path, check=True)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small or short files of all formats, holding random numbers."""
    torch = pytest.importorskip("torch", reason='pip install "facenet-parity[release]"')
    files = pytest.importorskip("safetensors.torch", reason='pip install "facenet-parity[release]"')
    from facenet_models import InceptionResnetV1, PNet

    folder = tmp_path_factory.mktemp("release")
    torch.manual_seed(0)
    pnet = PNet().eval()
    face = InceptionResnetV1(
        num_classes=data.FACE.classes, embedding_size=data.FACE.embedding_size
    ).half()  # half the bytes
    whole = face.state_dict()
    states = {
        "pnet": pnet.state_dict(),
        "face": whole,
        "face-features": {k: v for k, v in whole.items() if not k.startswith("logits.")},
        "face-logits": {k: v for k, v in whole.items() if k.startswith("logits.")},
    }
    for name, state in states.items():
        torch.save(state, folder / f"{name}.pt")
        files.save_file(state, folder / f"{name}.safetensors")
    return folder


def run(block: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    exec(compile(block, "snippet", "exec"), names)  # what a reader would paste
    return names


def test_snippets_of_pnet_run(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = replace(data.PNET, artifacts=data.PNET.artifacts[1:])
    found = blocks(card(model), "python")
    assert len(found) == 2
    for block in found:
        regression, probability = run(block, weights, monkeypatch)["outputs"]
        assert regression.shape == (1, 4, 1, 1)
        assert probability.shape == (1, 2, 1, 1)


def test_the_snippet_of_onnx_runs(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason='pip install "facenet-parity[onnx]"')
    pytest.importorskip("onnx", reason='pip install "facenet-parity[onnx]"')
    from facenet_models import PNet
    from facenet_models.onnx.export import export_onnx

    export_onnx(PNet().eval(), weights / "pnet.onnx", overwrite=True)
    model = replace(data.PNET, artifacts=data.PNET.artifacts[:1])
    (block,) = blocks(card(model), "python")
    outputs = run(block, weights, monkeypatch)["outputs"]
    assert [output.shape for output in outputs] == [(1, 4, 1, 1), (1, 2, 1, 1)]


def test_snippets_of_faces_run(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = blocks(card(data.FACE), "python")
    assert len(found) == 6
    embeddings = [run(block, weights, monkeypatch)["outputs"] for block in found[:4]]
    assert all(rows.shape == (1, 16) for rows in embeddings)
    assert all(rows.equal(embeddings[0]) for rows in embeddings)
    for block in found[4:]:
        model = run(block, weights, monkeypatch)["model"].float()
        model.classify = True
        assert model(model.conv2d_1a.conv.weight.new_zeros(1, 3, 80, 80)).shape == (1, 7)


def test_snippets_of_unfit_files_fail(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The snippets really read the files that they name."""
    model = replace(data.PNET, artifacts=(replace(data.PNET.artifacts[1], file="face-logits.pt"),))
    (block,) = blocks(card(model), "python")
    with pytest.raises(RuntimeError, match="conv1"):
        run(block, weights, monkeypatch)


def test_jinja_that_is_absent_is_named() -> None:
    code = """
        from facenet_release.documents.cards import model_card
        from support import release_data as data

        model_card(data.PNET, data.manifest(data.PNET), data.evidence())
    """
    tests = str(Path(__file__).parents[1])
    path = os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])
    done = run_without({"jinja2"}, code, env=os.environ | {"PYTHONPATH": path})
    assert "MissingPackageError: a model card needs jinja2" in done.stderr


def test_a_name_that_is_missing_is_an_error() -> None:
    with pytest.raises(KeyError):
        card(evidence={"other": json.loads("{}")})
