"""The bundled clip as it is read: what moves pictures on the page before a network has been loaded, or a camera allowed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from livepuppet.core.engine import Engine
from livepuppet.core.files import npz_bytes
from livepuppet.core.square import cut
from livepuppet.core.video import open_video
from livepuppet.realtime.animator import in_frame, in_square
from livepuppet.realtime.framing.faces import find_faces, square_for
from livepuppet.realtime.rig.close_ups import CloseUps

#: What is read is kept as whole numbers of 16 bits, round(scale * (value + offset)): points finer than other numbers.
POINTS, LIPS, OTHERS = (16384, 2.0), (1024, 2.0), (4096, 8.0)


def example_file(clip: Path, engine: Engine) -> bytes:
    """What is read of each frame of `clip`, as an .npz for static/example.js.

    Args:
        clip: shows one face throughout, at rest in the first frame.
        engine: with landmarks.
    """
    close_ups = CloseUps(engine.keypoint_names)
    square = None
    parts = "points", "eyes", "mouth", "head", "anchors", "lips"
    found: dict[str, list[np.ndarray]] = {name: [] for name in parts}
    times = []
    with open_video(str(clip)) as video:
        for frame in video:
            image = frame.image
            if square is None:
                square = square_for(find_faces(image), *image.shape[:2]).whole()
            points = engine.detect(cut(image, square, engine.size)).points
            place = square, engine.size, image.shape[1], False
            look = close_ups(image, in_frame(points, *place))
            if look is None:
                continue
            times.append(float(frame.time))
            found["points"].append(points)
            found["anchors"].append(in_square(look.anchors, *place))
            for name in ("eyes", "mouth", "head", "lips"):
                found[name].append(getattr(look.reading, name))
    arrays = {"times": np.array(times, np.float32)}
    for name, values in found.items():
        scale, offset = POINTS if name in ("points", "anchors") else LIPS if name == "lips" else OTHERS
        arrays[name] = np.clip(np.rint(scale * (np.stack(values) + offset)), 0, 65535).astype("<u2")
    return npz_bytes(arrays)
