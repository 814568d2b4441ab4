"""The verification protocol of Labeled Faces in the Wild: pairs, evaluation, ROC plot."""

from facenet_models.lfw.pairs import Face, LeftOut, Matched, Pair, Pairs, locate, match, read_pairs
from facenet_models.lfw.protocol import evaluate
from facenet_models.lfw.result import LfwResult

__all__ = [
    "Face",
    "LeftOut",
    "LfwResult",
    "Matched",
    "Pair",
    "Pairs",
    "evaluate",
    "locate",
    "match",
    "read_pairs",
]
