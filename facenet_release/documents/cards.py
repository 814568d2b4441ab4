"""Cards in Markdown: one for each model, and the README of the whole release.

All figures in a card are from the parity reports, and text from the recipe is escaped. The
snippets run unchanged in the release's folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files as resources
from typing import TYPE_CHECKING, Any

from facenet_common.optional import require
from facenet_models.weights.registry import DETECTOR
from facenet_release.documents import model_facts
from facenet_release.documents.attestations import Json
from facenet_release.documents.manifest import README, Artifact, Manifest, Model, report_page
from parity_tests.report.json_document import from_json
from parity_tests.report.words import line, measured

if TYPE_CHECKING:
    import jinja2

# The licences that Hugging Face has an identifier for; all others are "other" there.
_HUB_LICENCES = {"MIT": "mit", "Apache-2.0": "apache-2.0", "CC0-1.0": "cc0-1.0"}
_URL = re.compile(r"https?://[^\s<>()\"'`|\\]+")
_SPECIAL = re.compile(r"[\\`*_{}\[\]<>#|~&!$]")


def model_card(model: Model, manifest: Manifest, reports: Mapping[str, Json]) -> str:
    """Return the card of one model.

    Args:
        model: The model.
        manifest: The manifest, or a draft that names the model's weight files.
        reports: Each parity report under the name of its file.

    Raises:
        ParityError: A report is not valid.
        KeyError: A report or a file is missing.
        MissingPackageError: Jinja is not installed.

    Examples:
        >>> card = model_card(manifest.models[0], manifest, reports)  # doctest: +SKIP
    """
    rows = sorted(model.artifacts, key=lambda row: (row.part, row.format))
    return _render(
        "card.md",
        model=model,
        facts=model_facts.network_facts()[model.architecture],
        risks=model_facts.RISKS,
        lfw=model_facts.stated_lfw(model),
        rows=rows,
        files=manifest.by_name(),
        reports=_reports(model, reports),
        loading=[row for row in rows if row.part != "logits"],
        classifiers=_classifiers(rows),
    )


def release_readme(manifest: Manifest, reports: Mapping[str, Json]) -> str:
    """Return the README of a release, which is also its model card on Hugging Face.

    Args:
        manifest: The manifest, or a draft: the README lists the files that it names.
        reports: Each parity report under the name of its file.

    Raises:
        ParityError, KeyError, MissingPackageError: As `model_card`.

    Examples:
        >>> readme = release_readme(manifest, reports)  # doctest: +SKIP
    """
    return _render(
        "readme.md",
        manifest=manifest,
        metadata=_metadata(manifest),
        facts=model_facts.network_facts(),
        risks=model_facts.RISKS,
        reports={model.name: _reports(model, reports) for model in manifest.models},
        pages={name: _page(name, manifest) for name in reports},
        has_detector=_has_detector(manifest.models),
    )


def _reports(model: Model, reports: Mapping[str, Json]) -> dict[str, Any]:
    return {name: from_json(reports[name]) for name in model.reports()}


def _page(report: str, manifest: Manifest) -> str:
    """Return the HTML page of a report if it is among the files, else the report itself."""
    page = report_page(report)
    return page if page in manifest.by_name() else report


def _classifiers(rows: Sequence[Artifact]) -> list[tuple[Artifact, Artifact]]:
    """Return each classifier that has a file of its own, after the network it belongs to."""
    networks = {row.format: row for row in rows if row.part == "features"}
    return [
        (networks[row.format], row)
        for row in rows
        if row.part == "logits" and row.format in networks
    ]


def _has_detector(models: Sequence[Model]) -> bool:
    """Return whether the release has MTCNN's three nets under the names that MTCNN looks for."""
    stems = {row.file.rpartition(".")[0] for model in models for row in model.artifacts}
    return DETECTOR.keys() <= stems


def _metadata(manifest: Manifest) -> dict[str, object]:
    """Return the metadata at the top of the README, for Hugging Face."""
    licences = {_HUB_LICENCES.get(model.licence, "other") for model in manifest.models}
    licence = licences.pop() if len(licences) == 1 else "other"
    formats = {row.format for model in manifest.models for row in model.artifacts}
    facts = model_facts.network_facts()
    cards = sorted((facts[model.architecture] for model in manifest.models), key=lambda c: c.task)
    metadata: dict[str, object] = {"license": licence}
    if licence == "other":
        metadata |= {"license_name": "see-readme", "license_link": README}
    return metadata | {
        "library_name": "pytorch",
        "pipeline_tag": cards[0].task,
        "tags": [
            *dict.fromkeys(tag for card in cards for tag in card.tags),
            *sorted(formats & {"safetensors", "onnx"}),
        ],
    }


def _render(template: str, **values: object) -> str:
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> jinja2.Environment:
    jinja = require("jinja2", "a model card")
    folder = resources("facenet_release.documents") / "templates"
    environment: jinja2.Environment = jinja.Environment(
        # The output is Markdown, not HTML; the filters below escape the values.
        autoescape=False,
        loader=jinja.FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
        undefined=jinja.StrictUndefined,
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
    """Return `value` as plain text on one line of Markdown; addresses in it stay links."""
    text = line(" ".join(str(value).split()))
    parts, end = [], 0
    for match in _URL.finditer(text):
        address = match.group().rstrip(".,;:!?")
        parts += [_escape(text[end : match.start()]), f"<{address}>"]
        end = match.start() + len(address)
    return "".join([*parts, _escape(text[end:])])


def _sentence(value: object) -> str:
    """Return `_text` of the value, with a full stop if it ends without a mark."""
    text = _text(value)
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _escape(text: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", text)


def _code(value: object) -> str:
    """Return `value` as a code span, which may stand in a table."""
    text = line(" ".join(str(value).split()))
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence, space = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{space}{text.replace('|', chr(92) + '|')}{space}{fence}"
