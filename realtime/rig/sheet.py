"""A sheet of what a rig does: still, gaze, blinks, openings, smile and pucker, close to eyes and mouth."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from livepuppet.core.square import Square
from livepuppet.realtime.rig.amounts import amounts
from livepuppet.realtime.rig.contours import Contours
from livepuppet.realtime.rig.driver import RigMotion
from livepuppet.realtime.rig.eyes import Eyes
from livepuppet.realtime.rig.mouth import Mouth
from livepuppet.realtime.rig.patches import paste
from livepuppet.realtime.rig.pose import HeadPose
from livepuppet.realtime.rig.rig import Face, Rig

_BOTH = ("Left", "Right")


def _both(name: str, value: float = 1.0) -> dict[str, float]:
    return {name + side: value for side in _BOTH}


#: What the rows of a sheet show. "left" is the picture's.
EYES = (
    ("still", {}),
    ("left", {"eyeLookInLeft": 1.0, "eyeLookOutRight": 1.0}),
    ("right", {"eyeLookInRight": 1.0, "eyeLookOutLeft": 1.0}),
    ("up", _both("eyeLookUp")),
    ("down", _both("eyeLookDown")),
    ("half a blink", _both("eyeBlink", 0.5)),
    ("a blink", _both("eyeBlink")),
    ("a wink", {"eyeBlinkRight": 1.0}),
    ("half a wink", {"eyeBlinkLeft": 0.5}),
    ("wide", _both("eyeWide")),
    ("a squint", _both("eyeSquint")),
    ("up, half shut", _both("eyeLookUp") | _both("eyeBlink", 0.4)),
)
MOUTHS = (
    ("still", {}),
    ("open by 0.1", {"jawOpen": 0.1}),
    ("by 0.3", {"jawOpen": 0.3}),
    ("by 0.6", {"jawOpen": 0.6}),
    ("wide", {"jawOpen": 1.0}),
    ("smile", _both("mouthSmile")),
    ("pucker", {"mouthPucker": 1.0}),
    ("funnel", {"mouthFunnel": 1.0, "jawOpen": 0.3}),
    ("smile of one side", {"mouthSmileLeft": 1.0}),
    ("frown", _both("mouthFrown")),
    ("to the left", {"mouthRight": 1.0}),
    ("tongue", {"tongueOut": 1.0, "jawOpen": 0.3}),
)

_COLUMNS, _EYE, _MOUTH, _LABEL = 4, (360, 150), (360, 330), 18


def draw_contours(picture: np.ndarray, contours: Contours) -> np.ndarray:
    """The picture with the contours drawn over it."""
    out = picture.copy()
    thick = max(1, round(max(picture.shape[:2]) / 700))

    def line(points: np.ndarray, colour: tuple[int, int, int]) -> None:
        cv2.polylines(out, [np.rint(points * 16).astype(np.int32)], False, colour, thick, cv2.LINE_AA, 4)

    for eye in (contours.left, contours.right):
        if eye is not None:
            for points, colour in (
                (eye.upper, (0, 220, 0)),
                (eye.lower, (0, 200, 255)),
                (eye.crease, (200, 0, 255)),
            ):
                line(points, colour)
            x, y = np.rint(eye.iris * 16).astype(int).tolist()
            cv2.circle(out, (x, y), round(eye.radius * 16), (255, 40, 40), thick, cv2.LINE_AA, 4)
    mouth = contours.mouth
    if mouth is not None:
        for points, colour in (
            (mouth.outer_upper, (0, 220, 0)),
            (mouth.inner_upper, (255, 230, 0)),
            (mouth.inner_lower, (0, 200, 255)),
            (mouth.outer_lower, (200, 0, 255)),
        ):
            line(points, colour)
    return out


def _window(
    picture: np.ndarray, centre: np.ndarray, width: float, size: tuple[int, int], down: float
) -> np.ndarray:
    """The part of the picture about `centre`, `width` pixels wide, at `size`; its middle at `down` of the height."""
    k = size[0] / width
    matrix = np.float32([[k, 0, size[0] / 2 - k * centre[0]], [0, k, size[1] * down - k * centre[1]]])
    if k < 0.7:
        picture = cv2.GaussianBlur(picture, (0, 0), 0.45 / k)
    return cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def _labelled(tile: np.ndarray, text: str) -> np.ndarray:
    head = np.full((_LABEL, tile.shape[1], 3), 245, np.uint8)
    cv2.putText(head, text, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (20, 20, 20), 1, cv2.LINE_AA)
    return cv2.copyMakeBorder(np.vstack([head, tile]), 0, 2, 0, 2, cv2.BORDER_CONSTANT, value=(245, 245, 245))


def _drawing(
    picture: np.ndarray, contours: Contours, face: Face | None, matte: np.ndarray | None, scale: int
) -> Callable[[dict[str, float]], np.ndarray]:
    """What draws the `picture`, enlarged by `scale`, with named amounts."""
    if face is None or not face.usable:
        parts = Eyes(picture, contours), Mouth(picture, contours)
        return lambda values: paste(
            picture.copy(), [patch for part in parts for patch in part.draw(amounts(values))]
        )
    square = face.square
    if matte is not None:
        matte = cv2.resize(matte, picture.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    rig = Rig(picture, face, Square(square.x * scale, square.y * scale, square.side * scale), matte)
    nothing = np.zeros((len(face.names), 2))

    def draw(values: dict[str, float]) -> np.ndarray:
        out = np.empty(rig.shape, np.uint8)
        rig.draw(RigMotion(HeadPose.rest(), nothing, amounts(values)), out)
        return out

    return draw


def draw_sheet(
    picture: np.ndarray, contours: Contours, face: Face | None = None, matte: np.ndarray | None = None
) -> np.ndarray:
    """The sheet of a rig, uint8 RGB, four tiles wide.

    Args:
        picture: uint8 RGB (H, W, 3).
        contours: of it; parts that are not sure are drawn at rest.
        face: with those contours; with it the head is a layer over the body, as it is drawn in the end. Without it eyes and
            mouth are laid over the picture.
        matte: uint8 (H, W), where the figure is known already.
    """
    eyes = [eye for eye in (contours.left, contours.right) if eye is not None]
    unit = 0.0
    if len(eyes) == 2:
        unit = float(np.hypot(*(eyes[0].iris - eyes[1].iris)))
    scale = int(np.clip(np.ceil(110 / max(unit, 1)), 1, 4)) if unit else 1
    if scale > 1:
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        contours = contours.mapped(scale)
        unit *= scale
    if not unit:
        return _labelled(
            _window(picture, np.array(picture.shape[1::-1]) / 2, picture.shape[1], _MOUTH, 0.5), "no face"
        )
    draw = _drawing(picture, contours, face, matte, scale)
    middle = (contours.left.iris + contours.right.iris) / 2
    tiles = []
    for text, values in EYES:
        tiles.append(_labelled(_window(draw(values), middle, 1.95 * unit, _EYE, 0.5), text))
    rows = [np.hstack(tiles[k : k + _COLUMNS]) for k in range(0, len(tiles), _COLUMNS)]
    if contours.mouth is not None:
        middle = contours.mouth.inner_upper.mean(0)
        tiles = []
        for text, values in MOUTHS:
            tiles.append(_labelled(_window(draw(values), middle, 1.75 * unit, _MOUTH, 0.4), text))
        rows += [np.hstack(tiles[k : k + _COLUMNS]) for k in range(0, len(tiles), _COLUMNS)]
    return np.vstack(rows)
