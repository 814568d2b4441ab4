"""Facts about the networks, for the cards and the bill of materials."""

from __future__ import annotations

from dataclasses import dataclass

from facenet_models.weights.registry import Pretrained
from facenet_release.documents.manifest import Model

# The class of each architecture, by the converter's name of the architecture.
CLASSES = {
    "inception_resnet_v1": "InceptionResnetV1",
    "pnet": "PNet",
    "rnet": "RNet",
    "onet": "ONet",
}


@dataclass(frozen=True)
class ModelFacts:
    """Facts about one architecture, in words. `task` is one of Hugging Face's tasks."""

    title: str
    task: str
    summary: str
    input: str
    outputs: tuple[str, ...]
    use: str
    limits: tuple[str, ...]
    paper: str


_MTCNN_LIMITS = (
    "It is one of the three stages of MTCNN and needs the other two.",
    "How many faces it finds depends on their size, pose, lighting and occlusion, and may depend "
    "on skin tone, age and gender as in the training photographs. None of that was measured here.",
)
_MTCNN_PAPER = "https://arxiv.org/abs/1604.02878"
_REGRESSION = "regression: offsets of the box's left, top, right and bottom, in box sizes"
_PROBABILITY = "probability: of no face, of a face"

FACTS = {
    "InceptionResnetV1": ModelFacts(
        title="InceptionResnetV1 (FaceNet)",
        task="image-feature-extraction",
        summary="Computes an embedding, a vector of length 1, from the image of one face. "
        "Embeddings of the same person lie closer together than those of different people.",
        input="batch x 3 x height x width, at least 75 x 75 pixels, one face in each image",
        outputs=("embeddings: batch x embedding size, each row of length 1",),
        use="Compare faces: verify, identify among people who agreed to it, cluster. Start a "
        "training from these weights. Research.",
        limits=(
            "It expects one face in each image, cropped as in training (MTCNN, 160 x 160 pixels).",
            "A distance does not prove an identity. The threshold depends on the use; choose and "
            "test it on data of that use.",
            "Error rates of face recognition differ between groups of people (skin tone, gender, "
            "age), and the training photographs show celebrities, mostly adults. Differences "
            "between groups were not measured here.",
        ),
        paper="https://arxiv.org/abs/1503.03832",
    ),
    "PNet": ModelFacts(
        title="P-Net of MTCNN",
        task="object-detection",
        summary="First of MTCNN's three stages: proposes boxes that may contain a face, one for "
        "each window of 12 x 12 pixels.",
        input="batch x 3 x height x width, at least 12 x 12 pixels",
        outputs=(_REGRESSION, _PROBABILITY),
        use="Detect faces in photographs and videos, together with R-Net and O-Net.",
        limits=_MTCNN_LIMITS,
        paper=_MTCNN_PAPER,
    ),
    "RNet": ModelFacts(
        title="R-Net of MTCNN",
        task="object-detection",
        summary="Second of MTCNN's three stages: scores and refines one proposed box.",
        input="batch x 3 x 24 x 24",
        outputs=(_REGRESSION, _PROBABILITY),
        use="Detect faces in photographs and videos, together with P-Net and O-Net.",
        limits=_MTCNN_LIMITS,
        paper=_MTCNN_PAPER,
    ),
    "ONet": ModelFacts(
        title="O-Net of MTCNN",
        task="object-detection",
        summary="Last of MTCNN's three stages: scores and refines one box, and locates the eyes, "
        "the nose and the corners of the mouth.",
        input="batch x 3 x 48 x 48",
        outputs=(
            _REGRESSION,
            "landmarks: five x, then five y, in box sizes",
            _PROBABILITY,
        ),
        use="Detect faces in photographs and videos, together with P-Net and R-Net.",
        limits=_MTCNN_LIMITS,
        paper=_MTCNN_PAPER,
    ),
}

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
