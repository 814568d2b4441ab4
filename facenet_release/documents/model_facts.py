"""What is said of the networks in cards and in the bill of materials, as data."""

from __future__ import annotations

from dataclasses import dataclass

from facenet_models.weights.registry import Pretrained
from facenet_release.documents.manifest import Model


@dataclass(frozen=True)
class About:
    """One architecture in words. `task` is of Hugging Face's list of tasks."""

    title: str
    task: str
    summary: str
    input: str
    outputs: tuple[str, ...]
    use: str
    limits: tuple[str, ...]
    paper: str


_MTCNN_LIMITS = (
    "It is one of three stages of MTCNN, and of no use without the other two.",
    "How many faces it finds depends on their size, pose, lighting and cover, and may depend on "
    "skin tone, age and gender as the training photographs do. None of that was measured here.",
)
_MTCNN_PAPER = "https://arxiv.org/abs/1604.02878"
_REGRESSION = "regression: what to add to the box's left, top, right, bottom, in its sizes"
_PROBABILITY = "probability: of no face, of a face"

ABOUT = {
    "InceptionResnetV1": About(
        title="InceptionResnetV1 (FaceNet)",
        task="image-feature-extraction",
        summary="Turns the picture of one face into a vector of length 1, an embedding. "
        "Embeddings of one person lie closer together than those of two.",
        input="batch x 3 x height x width, from 75 x 75 pixels, one face in each",
        outputs=("embeddings: batch x embedding size, each row of length 1",),
        use="Comparing faces: verification, identification among people who agreed to it, "
        "clustering; a starting point for training; research.",
        limits=(
            "It expects one face in each image, cut out as in training (MTCNN, 160 x 160 pixels).",
            "A distance is no proof of identity. The threshold depends on the use, and must be "
            "chosen and tested on data like that of the use.",
            "Error rates of face recognition differ between groups of people (skin tone, gender, "
            "age), and the training photographs show celebrities, mostly adults. Differences "
            "between groups were not measured here.",
        ),
        paper="https://arxiv.org/abs/1503.03832",
    ),
    "PNet": About(
        title="P-Net of MTCNN",
        task="object-detection",
        summary="First of MTCNN's three stages: proposes boxes that may hold a face, for each "
        "window of 12 x 12 pixels.",
        input="batch x 3 x height x width, from 12 x 12 pixels",
        outputs=(_REGRESSION, _PROBABILITY),
        use="Finding faces in photographs and videos, together with R-Net and O-Net.",
        limits=_MTCNN_LIMITS,
        paper=_MTCNN_PAPER,
    ),
    "RNet": About(
        title="R-Net of MTCNN",
        task="object-detection",
        summary="Second of MTCNN's three stages: judges and moves one proposed box.",
        input="batch x 3 x 24 x 24",
        outputs=(_REGRESSION, _PROBABILITY),
        use="Finding faces in photographs and videos, together with P-Net and O-Net.",
        limits=_MTCNN_LIMITS,
        paper=_MTCNN_PAPER,
    ),
    "ONet": About(
        title="O-Net of MTCNN",
        task="object-detection",
        summary="Last of MTCNN's three stages: judges and moves one box, and finds eyes, nose and "
        "corners of the mouth.",
        input="batch x 3 x 48 x 48",
        outputs=(
            _REGRESSION,
            "landmarks: five x, then five y, in the box's sizes",
            _PROBABILITY,
        ),
        use="Finding faces in photographs and videos, together with P-Net and R-Net.",
        limits=_MTCNN_LIMITS,
        paper=_MTCNN_PAPER,
    ),
}

FAMILY = "convolutional neural network"
# What to mind about any model that looks at faces: the risk, and what helps against it.
RISKS = (
    (
        "Faces are personal data, and embeddings of them biometric data: many laws forbid or "
        "restrict to process them, among them the EU's GDPR (article 9) and AI Act, and Illinois's "
        "BIPA.",
        "Get legal advice and, where it is needed, the consent of the people shown, before any "
        "use beyond testing.",
    ),
    (
        "Identification without people's knowledge, surveillance, and decisions about people that "
        "rest on a wrong match.",
        "Don't. Where a match has consequences, have a person check it, and let those concerned "
        "object.",
    ),
    (
        "Wrong answers may hit some groups of people more often than others.",
        "Measure error rates for each group concerned, on data of the intended use, before it "
        "starts.",
    ),
)
SENSITIVE = "photographs of faces of identifiable people, collected from the web"


def stated_lfw(model: Model) -> str | None:
    """What the original says of a model's accuracy on LFW, with attribution; None if nothing.

    It is about the model of that name. Whether these weights are that model depends on the
    sources: those of the large ones have no published hash.
    """
    for entry in Pretrained:
        known = entry.value
        named = model.name == known.file.rpartition(".")[0]
        if named and known.lfw_accuracy and model.training_set == known.training_set:
            return (
                f"The README of davidsandberg/facenet states an accuracy of {known.lfw_accuracy} "
                "on LFW for its model of this name. It was not measured for this release."
            )
    return None
