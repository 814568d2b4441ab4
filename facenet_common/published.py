"""The published FaceNet files: SHA-256 of each, and how many independent sources state it.

The values were gathered from public repositories; nobody of this project has held the large files.
Of the checkpoints and of keras-facenet's files one source is keras_facenet/metadata.py of
faustomorales/keras-facenet at e702de7. A hash that one source states shows that a file is the one
which that source has; only several sources together show that it is what was published.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from facenet_common.text import count

SANDBERG = "davidsandberg/facenet"
FACENET_PYTORCH = "timesler/facenet-pytorch"
KERAS_FACENET = "faustomorales/keras-facenet"


@dataclass(frozen=True)
class Published:
    """One published file.

    Args:
        name: The file's name.
        model: The published model that it belongs to.
        publisher: The repository that published it.
        sha256: Its SHA-256, in lower-case hex.
        sources: How many independent sources state that value.
    """

    name: str
    model: str
    publisher: str
    sha256: str
    sources: int

    def __str__(self) -> str:
        return f"the published {self.model} ({self.name} of {self.publisher})"

    @property
    def evidence(self) -> str:
        """Return how well the hash is known.

        Examples:
            >>> FILES["20180402-114759.pb"].evidence
            'SHA-256 stated by 4 independent sources'
        """
        return f"SHA-256 stated by {count(self.sources, 'independent source')}" + (
            " only" if self.sources == 1 else ""
        )


# Model: the step in the names of its checkpoint, and the hashes of its .pb, .data, .index and
# .meta, of the archive in keras-facenet's mirror, and of keras-facenet's weights.
_CHECKPOINTS: Mapping[str, tuple[int, tuple[str, str, str, str], str, str]] = {
    "20180402-114759": (
        275,
        (
            "bf2c12f31880aaa865fa5a9c168dcbd619f7a40b1633f6446d416fac2421ab99",
            "5ccfbec36aa87074e96507d1b2957c739ddd1ce928cdc8f31b70fd3f7091f25a",
            "2f84bad893bc250af5a19dca9cf4690c13d0eb394ab09eb39a9f3480fedf3dce",
            "b711e501998754794959573f0fbaa45da89cad3457b31c6de48ad53c87fce00c",
        ),
        "669f37d3954b72b53121ff0638ca5bb8b14309bfe4767fe6bd851eee75f1f0de",
        "8b71e7045497e841c00ee568f031d1a4d30908fceadf6884aef2dec4d545202b",
    ),
    "20180408-102900": (
        90,
        (
            "272568219fa6505371ceed76dca6b3925ef69b54962709cf76f763e9d8bf4cfb",
            "15d3109b99a6ca0d49843c183d4b417f7952f2948a1c246e2059813157b9d385",
            "548d743099cf13f598db8a660e9a8ad7f12148cb4206ab9cc480f0550edc17e9",
            "238c98fc44fd0db79f61e719646b55c22b6a79944f806f8ee23e2d9f36c9ae7d",
        ),
        "2a32a4d6b797b0e35e065c674dfa2d60e9eb2372aa10728bd0b221abe12490ac",
        "af526097bd89ff84dda94dc071ff39c4cf39922cf0a9d9dea652853cda9616be",
    ),
    "20170511-185253": (
        80000,
        (
            "71fb49617aee7b007b66ed1e4474e749212ed9872ff3b47c25ee997c8262baa4",
            "8776a47ef7fd0a5848946295a763c2c10580c621f84f591d731f8c2b6d8eabf5",
            "e6fabc0cfe23470b878064d5692f6771c90d0cd4e1562d6785742feb5465c1cd",
            "3b4c63501786e9a0a9354b6044d0dc8205b788c173de9a503df7e5793b4d3953",
        ),
        "0dd66caa1e9b7a7c91424bca150a66da193c4e626e75bfa50ff406180a09c7e9",
        "28db99aaafce0e62b2cdb1db5ac733ffa9e52a365e1a3ca0a13c5159bd4363c4",
    ),
    "20170512-110547": (
        250000,
        (
            "8bdc3aed34e577113a656b8e5d0274346f8967fa7f0f9d6f3fdcd9608a29b9e4",
            "08bb31fc541d7cd2fcd2c499a1d90de45140828f0d08d23c34b65fab2d172ebb",
            "3dead9312945700df490239a1795fe0cd5f667984242a9203aa035d899c3e198",
            "1f3bb46a87c0bcb822ae1624e7c018d81de36889acb0e5641b5580476553a8dc",
        ),
        "24a020c3d7794a590d834c4963f8a7c59819b8950a54fcb08e10b2a253ab0a30",
        "668e950140ad76f1e21e3a2bc1d3ad9c673734ea8ea1abbf4ecc44d1dbdd400b",
    ),
}
_PB_SOURCES = {"20180402-114759": 4}  # else one, as of all other files of the checkpoints


def _files() -> list[Published]:
    found = []
    for model, (step, hashes, archive, keras) in _CHECKPOINTS.items():
        prefix = f"model-{model}.ckpt-{step}"
        names = (
            f"{model}.pb",
            f"{prefix}.data-00000-of-00001",
            f"{prefix}.index",
            f"model-{model}.meta",
        )
        for name, sha256 in zip(names, hashes, strict=True):
            sources = _PB_SOURCES.get(model, 1) if name.endswith(".pb") else 1
            found.append(Published(name, model, SANDBERG, sha256, sources))
        found.append(Published(f"{model}.zip", model, KERAS_FACENET, archive, 1))
        found.append(Published(f"{model}-weights.h5", model, KERAS_FACENET, keras, 1))
    return [
        *found,
        Published(
            "20180402-114759-vggface2.pt",
            "20180402-114759",
            FACENET_PYTORCH,
            "281cebca8662831adb987a874bdcb36e73f5b1c6dc5ee5878f305e985625d99b",
            8,
        ),
        Published(
            "20180408-102900-casia-webface.pt",
            "20180408-102900",
            FACENET_PYTORCH,
            "7a67afdbbc995fce5e10128675e318799a70698c2f433ba75dd7eb9a2f096e7d",
            3,
        ),
    ]


FILES: Mapping[str, Published] = {file.name: file for file in _files()}
"""Every published file by its name."""

BY_SHA256: Mapping[str, Published] = {file.sha256: file for file in FILES.values()}
"""Every published file by its SHA-256."""

# SHA-256 over the state_dict of facenet-pytorch's casia-webface with its classifier: for each name
# in sorted order its UTF-8 bytes, then the tensor's little-endian bytes. One source states it.
CASIA_STATE_SHA256 = "769c635b91a84600f222b46fca15bc6b29d80299e71b69e5eb37cbe15c7ad582"
