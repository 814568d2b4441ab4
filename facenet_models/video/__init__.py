"""Faces in videos: read frames, detect on every n-th, follow faces, write the result.

`files`: frames and videos, through PyAV. `fast`: `FastMTCNN`. `tracks`: one number for one face.
`embed`: what a face that comes back is recognised by. `matching`: which box is which. What is
drawn on a frame is in `facenet_models.draw`.

    detector = FastMTCNN(MTCNN())
    for frame, faces in follow(frames("in.mp4"), detector):
        picture = annotate(frame.image, faces.boxes, faces.ids)
"""

from facenet_models.video.detections import Detections, Tracked
from facenet_models.video.embed import embedder
from facenet_models.video.fast import FastMTCNN
from facenet_models.video.files import Frame, frames, video_info, write_video
from facenet_models.video.tracks import follow, track

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
