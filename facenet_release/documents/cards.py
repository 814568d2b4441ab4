"""Cards in Markdown: one for each model, and the README of the whole release.

A card says what was measured and nothing else: text that people wrote in a recipe is escaped, and
figures come from the parity reports. Its snippets run as they stand in the release's folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files as resources
from typing import TYPE_CHECKING, Any

from facenet_release.documents import file_names as names
from facenet_release.documents import model_facts as about
from facenet_release.documents.attestations import Json
from facenet_release.documents.manifest import Artifact, Manifest, Model
from facenet_release.errors import ReleaseError
from parity_tests.report.json_document import from_json
from parity_tests.report.words import line, measured

if TYPE_CHECKING:
    import jinja2

README = "README.md"
# Those that Hugging Face knows by an identifier; all else is "other" there.
_HUB_LICENCES = {"MIT": "mit", "Apache-2.0": "apache-2.0", "CC0-1.0": "cc0-1.0"}
_URL = re.compile(r"https?://[^\s<>()\"'`|\\]+")
_SPECIAL = re.compile(r"[\\`*_{}\[\]<>#|~&!$]")


def model_card(model: Model, manifest: Manifest, evidence: Mapping[str, Json]) -> str:
    """The card of one model.

    `manifest` may be a draft, but must name the model's weight files; `evidence` holds each
    parity report, under its file's name.

    Raises ParityError for a report that is none, KeyError for a file that is not there, and
    ReleaseError where Jinja is not installed.
    """
    rows = sorted(model.artifacts, key=lambda row: (row.part, row.format))
    return _render(
        "card.md",
        model=model,
        about=about.ABOUT[model.architecture],
        risks=about.RISKS,
        lfw=about.stated_lfw(model),
        rows=rows,
        files=manifest.by_name(),
        reports=_reports(model, evidence),
        loading=[row for row in rows if row.part != "logits"],
        classifiers=_classifiers(rows),
    )


def release_readme(manifest: Manifest, evidence: Mapping[str, Json]) -> str:
    """The README of a release, which Hugging Face takes for its model card too.

    `manifest` may be a draft: the README lists the files that it names. Raises as `model_card`.
    """
    return _render(
        "readme.md",
        manifest=manifest,
        metadata=_metadata(manifest),
        about=about.ABOUT,
        risks=about.RISKS,
        reports={model.name: _reports(model, evidence) for model in manifest.models},
        pages={name: _page(name, manifest) for name in evidence},
        nets=_detector(manifest.models),
    )


def _reports(model: Model, evidence: Mapping[str, Json]) -> dict[str, Any]:
    return {name: from_json(evidence[name]) for name in model.reports()}


def _page(evidence: str, manifest: Manifest) -> str:
    """The report as a page to read, if it is among the files, else the report itself."""
    page = names.page(evidence)
    return page if page in manifest.by_name() else evidence


def _classifiers(rows: Sequence[Artifact]) -> list[tuple[Artifact, Artifact]]:
    """The classifiers that are files of their own, each with the network that it belongs to."""
    networks = {row.format: row for row in rows if row.part == "features"}
    return [
        (networks[row.format], row)
        for row in rows
        if row.part == "logits" and row.format in networks
    ]


def _detector(models: Sequence[Model]) -> bool:
    """Whether the three nets of MTCNN are here, under the names that they are looked for."""
    stems = {row.file.rpartition(".")[0] for model in models for row in model.artifacts}
    return {"pnet", "rnet", "onet"} <= stems


def _metadata(manifest: Manifest) -> dict[str, object]:
    """What Hugging Face reads at the head of a README, key by key."""
    licences = {_HUB_LICENCES.get(model.licence, "other") for model in manifest.models}
    licence = licences.pop() if len(licences) == 1 else "other"
    formats = {row.format for model in manifest.models for row in model.artifacts}
    tasks = {about.ABOUT[model.architecture].task for model in manifest.models}
    tags = {
        "image-feature-extraction": ["facenet", "face-recognition"],
        "object-detection": ["mtcnn", "face-detection"],
    }
    said: dict[str, object] = {"license": licence}
    if licence == "other":
        said |= {"license_name": "see-readme", "license_link": README}
    return said | {
        "library_name": "pytorch",
        "pipeline_tag": min(tasks),
        "tags": [
            *(tag for task in sorted(tasks) for tag in tags[task]),
            *sorted(formats & {"safetensors", "onnx"}),
        ],
    }


def _render(template: str, **values: object) -> str:
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> jinja2.Environment:
    try:
        import jinja2
    except ImportError as error:
        raise ReleaseError(
            "model cards need Jinja, which is not installed",
            expected="jinja2",
            found="nothing",
            next_step="pip install 'facenet-parity[release]'",
        ) from error
    folder = resources("facenet_release.documents") / "templates"
    environment = jinja2.Environment(
        # Markdown, not HTML: what is put in is escaped by the filters below.
        autoescape=False,
        loader=jinja2.FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "text": _text,
        "sentence": _sentence,
        "code": _code,
        "measured": measured,
        "yaml": json.dumps,
    }
    return environment


def _text(value: object) -> str:
    """`value` as plain text on one line of Markdown; addresses in it stay links."""
    said = line(" ".join(str(value).split()))
    parts, end = [], 0
    for match in _URL.finditer(said):
        address = match.group().rstrip(".,;:!?")
        parts += [_escape(said[end : match.start()]), f"<{address}>"]
        end = match.start() + len(address)
    return "".join([*parts, _escape(said[end:])])


def _sentence(value: object) -> str:
    """As `_text`, with a full stop if there is no mark at its end."""
    said = _text(value)
    return said if said.endswith((".", "!", "?")) else f"{said}."


def _escape(said: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", said)


def _code(value: object) -> str:
    """`value` in a code span, in a table too."""
    said = line(" ".join(str(value).split()))
    longest = max(map(len, re.findall("`+", said)), default=0)
    fence, space = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{space}{said.replace('|', chr(92) + '|')}{space}{fence}"
