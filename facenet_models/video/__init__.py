"""Faces in videos: read frames, detect faces, track them, write the result.

`reader` and `writer`: videos, through PyAV. `fast`: `FastMTCNN`, which searches every n-th frame.
`tracks`: numbers for faces. `recognition`: embeddings of faces, to recognise those that come back.
`detections`: the faces of one frame. `matching`: assign the boxes of one frame to those of
another. `facenet_models.draw` draws the result.

    detector = FastMTCNN(MTCNN())
    for frame, faces in follow(frames("in.mp4"), detector):
        picture = annotate(frame.image, faces.boxes, faces.ids)
"""

from facenet_models.video.detections import Detections, Tracked
from facenet_models.video.fast import FastMTCNN
from facenet_models.video.reader import Frame, frames, video_info
from facenet_models.video.recognition import embedder
from facenet_models.video.tracks import follow, track
from facenet_models.video.writer import write_video

__all__ = [
    "Detections",
    "FastMTCNN",
    "Frame",
    "Tracked",
    "embedder",
    "follow",
    "frames",
    "track",
    "video_info",
    "write_video",
]
