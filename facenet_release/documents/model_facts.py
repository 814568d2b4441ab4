"""Facts for the cards and the bill of materials; those of a network are in its record."""

from __future__ import annotations

from converter.architectures import ARCHITECTURES
from converter.architectures.record import Card
from facenet_models.weights.registry import Pretrained
from facenet_release.documents.manifest import Model

FAMILY = "convolutional neural network"
# The risks of any model that analyses faces, each with a remedy.
RISKS = (
    (
        "Images of faces are personal data, and their embeddings are biometric data. Many laws "
        "forbid or restrict their use, among them the EU's GDPR (article 9) and AI Act, and "
        "Illinois's BIPA.",
        "Before any use beyond testing, get legal advice and, where needed, the consent of the "
        "people shown.",
    ),
    (
        "The model can serve to identify people without their knowledge, to watch them, and to "
        "decide about them by a wrong match.",
        "Don't use it so. Where a match has consequences, have a person check it, and let the "
        "people concerned object.",
    ),
    (
        "Errors may be more frequent for some groups of people than for others.",
        "Before use, measure the error rates of each group concerned, on data of that use.",
    ),
)
SENSITIVE = "photographs of faces of identifiable people, collected from the web"


def network_facts() -> dict[str, Card]:
    """Return the facts of every network by the name of its class, as a manifest has it."""
    return {known.class_name: known.card for known in ARCHITECTURES.values()}


def stated_lfw(model: Model) -> str | None:
    """Return a sentence with the accuracy on LFW that the original's README states, or None.

    The README states it for the model of that name. Whether these weights are that model depends
    on the sources; nobody published hashes of the large ones.
    """
    for entry in Pretrained:
        weights = entry.value
        same = model.name == weights.file.rpartition(".")[0]
        if same and weights.lfw_accuracy and model.training_set == weights.training_set:
            return (
                f"The README of davidsandberg/facenet states an accuracy of {weights.lfw_accuracy} "
                "on LFW for its model of this name. It was not measured for this release."
            )
    return None
