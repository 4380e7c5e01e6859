"""Where faces are in a picture, by OpenCV's YuNet detector (Wu, Peng & Yu 2023); its model file is the user's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput, NotFound
from toolkit.data.zones import Box

Detector = Callable[[NDArray[np.uint8]], list[Box]]

MODEL = "face_detection_yunet_2023mar.onnx"
SCORE = 0.5  # below OpenCV's 0.9: a patch too many costs nothing, a face too many does
LONGEST_PX = 1280  # larger pictures are searched once more at this size, for faces over about 300 px
MARGIN = 0.25  # of the face's sides, on each side: hair and ears


def open_detector(model: Path) -> Detector:
    """A function that finds the faces in (h, w, 3) uint8 BGR.

    Raises:
        NotFound: the model file is not there; the sentence says where it is to be had.
        BadInput: it is no such model.
    """
    if not model.is_file():
        raise NotFound(
            f"{model}: no such face model; {MODEL} is in the GitHub repository opencv/opencv_zoo, folder "
            "models/face_detection_yunet"
        )
    try:
        net = cv2.FaceDetectorYN.create(str(model), "", (320, 320), SCORE)
    except cv2.error as error:
        raise BadInput(f"{model}: is no YuNet face model: {(error.err or str(error)).splitlines()[0]}") from error
    return lambda picture: find_faces(net, picture)


def find_faces(net: Any, picture: NDArray[np.uint8]) -> list[Box]:
    """The faces that `net`, a cv2.FaceDetectorYN, finds at full size and, in a large one, at 1280 px; with a margin.

    Raises:
        BadInput: the model fails on the picture.
    """
    height, width = picture.shape[:2]
    scales = {1.0, min(1.0, LONGEST_PX / max(height, width))}
    boxes = []
    for scale in sorted(scales):
        size = max(1, round(width * scale)), max(1, round(height * scale))
        view = picture if scale == 1 else cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        try:
            net.setInputSize((view.shape[1], view.shape[0]))
            found = net.detect(view)[1]
        except cv2.error as error:
            raise BadInput(f"the face model fails: {(error.err or str(error)).splitlines()[0]}") from error
        for x, y, wide, high in [] if found is None else (np.asarray(found)[:, :4] / scale).tolist():
            left, top = int(np.floor(x - MARGIN * wide)), int(np.floor(y - MARGIN * high))
            right, bottom = int(np.ceil(x + (1 + MARGIN) * wide)), int(np.ceil(y + (1 + MARGIN) * high))
            boxes.append(Box(max(0, left), max(0, top), min(width, right), min(height, bottom)))
    return boxes
