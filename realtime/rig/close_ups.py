"""Close-ups: crops of a face's eyes, mouth and head, cut from the camera's own frame, and what a small network reads there.

In the square that the keypoint detector sees, an eye is 25 pixels wide, and gaze is a fraction of a cell of its heat-map. The
camera's own frame has more pixels. Four crops are placed by the detector's landmarks in the face's own frame (upright, scaled
by the face); right eyes are mirrored, so that one network reads both.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from livepuppet.core.reading import ANCHORS, EYE_AMOUNTS, HEAD_AMOUNTS, HEAD_POINTS, FaceReading

#: Side of an eye's crop, of the mouth's and of the head's, in face units; see `face_frame`.
EYE_SIDE, MOUTH_SIDE, HEAD_SIDE = 0.8, 1.25, 2.8

#: How far below the middle between the eyes the middle of the head's crop lies, in face units.
HEAD_FALL = 0.5

#: How far above the iris the middle of an eye's crop lies, in face units: the upper lid travels, the lower one hardly.
EYE_RISE = 0.06

#: Landmarks that place the crops.
PLACING = (
    *(f"{side} {lid} lid" for side in ("left", "right") for lid in ("upper", "lower")),
    *("left mouth corner", "right mouth corner", "upper lip", "lower lip"),
)

#: Of a face that is seen as many pixels larger than this, crops are shrunk without aliasing.
ALIASED = 1.25


def default_close_ups() -> Path:
    """The network that comes with livepuppet."""
    return Path(__file__).parent.parent / "data" / "rig" / "close-ups.onnx"


def default_avatar_eyes() -> Path:
    """The network that comes with livepuppet for the eyes of avatars: a driver is a person at a camera, an avatar may be anything."""
    return Path(__file__).parent.parent / "data" / "rig" / "avatar-eyes.onnx"


def face_frame(at: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The face's upright frame by its landmarks, in their unit.

    Returns:
        across (2,), one face unit along the line of the eyes; down (2,), the same at right angles. The unit is the larger of
        the eyes' distance and 0.95 of that from eyes to mouth, so that a face that turns aside or nods keeps its scale.
    """
    eyes = [(at[f"{side} upper lid"] + at[f"{side} lower lid"]) / 2 for side in ("left", "right")]
    mouth = (at["left mouth corner"] + at["right mouth corner"]) / 2
    between, down = eyes[1] - eyes[0], mouth - (eyes[0] + eyes[1]) / 2
    apart, deep = max(float(np.hypot(*between)), 1e-9), max(float(np.hypot(*down)), 1e-9)
    # The eye line alone tips with yaw and roll together; the line down to the mouth steadies it.
    across = between / apart + 0.5 * np.array([down[1], -down[0]]) / deep
    across = across * (max(apart, 0.95 * deep) / max(float(np.hypot(*across)), 1e-9))
    return across, np.array([-across[1], across[0]])


def crop_maps(at: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Where a face's crops lie: affine maps from a crop's [-1, 1] to the landmarks' unit.

    Args:
        at: landmark's name -> (2,), of all `PLACING`.

    Returns:
        Float64 (2, 3) of the left eye, the right eye (mirrored), the mouth and the head; left is the picture's.
    """
    across, down = face_frame(at)
    maps, eyes = [], []
    for side, flip in (("left", 1), ("right", -1)):
        eye = (at[f"{side} upper lid"] + at[f"{side} lower lid"]) / 2
        eyes.append(eye)
        half = EYE_SIDE / 2
        maps.append(np.stack([flip * half * across, half * down, eye - EYE_RISE * down], 1))
    corners = (at["left mouth corner"] + at["right mouth corner"]) / 2
    mouth = 0.5 * corners + 0.25 * (at["upper lip"] + at["lower lip"])
    maps.append(np.stack([MOUTH_SIDE / 2 * across, MOUTH_SIDE / 2 * down, mouth], 1))
    head = (eyes[0] + eyes[1]) / 2 + HEAD_FALL * down
    maps.append(np.stack([HEAD_SIDE / 2 * across, HEAD_SIDE / 2 * down, head], 1))
    return maps


def cut_crop(picture: np.ndarray, affine: np.ndarray, side: int) -> np.ndarray:
    """A crop (side, side, 3) of a picture (H, W, 3), beyond whose edges its border is repeated.

    Args:
        affine: (2, 3), from the crop's [-1, 1] to the picture's pixels.
    """
    scale = 2 / (side - 1)
    linear = affine[:, :2] * scale
    shift = affine[:, 2] - affine[:, :2].sum(1)
    shrunk = float(np.sqrt(abs(np.linalg.det(linear))))
    if shrunk > ALIASED:
        # Blurred before it is sampled, and only where it is.
        height, width = picture.shape[:2]
        corners = affine[:, :2] @ np.array([[-1, 1, -1, 1], [-1, -1, 1, 1]]) + affine[:, 2:]
        low = np.floor(corners.min(1) - 3 * shrunk).astype(int)
        high = np.ceil(corners.max(1) + 3 * shrunk).astype(int) + 1
        left, top = np.clip(low, 0, (width - 1, height - 1)).tolist()
        right, bottom = np.clip(high, (left + 1, top + 1), (width, height)).tolist()
        picture, shift = picture[top:bottom, left:right], shift - (left, top)
        # Whole pixels are averaged first: blurring a head of 500 pixels takes longer than to read it.
        times = min(int(shrunk), *picture.shape[:2])
        if times > 1:
            rows, columns = picture.shape[0] // times, picture.shape[1] // times
            picture = cv2.resize(
                picture[: times * rows, : times * columns], (columns, rows), interpolation=cv2.INTER_AREA
            )
            linear, shift, shrunk = linear / times, (shift - (times - 1) / 2) / times, shrunk / times
        if shrunk > ALIASED:
            blur = 0.45 * float(np.sqrt(shrunk**2 - 1))
            picture = cv2.GaussianBlur(picture, (0, 0), blur, borderType=cv2.BORDER_REPLICATE)
    return cv2.warpAffine(
        picture,
        np.concatenate([linear, shift[:, None]], 1),
        (side, side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


@dataclass(frozen=True, eq=False)
class Look:
    """What the close-ups of one face show.

    Attributes:
        reading: the numbers.
        eyes, mouth, head: float64 (2, 9, 2), (20, 2), (23, 2): `EYE_POINTS`, `MOUTH_POINTS` and `HEAD_POINTS` in the picture's
            pixels.
    """

    reading: FaceReading
    eyes: np.ndarray
    mouth: np.ndarray
    head: np.ndarray

    @property
    def anchors(self) -> np.ndarray:
        """`ANCHORS` in the picture's pixels, float64 (8, 2)."""
        return np.concatenate([*self.eyes[:, [0, 4]], self.head[_ANCHOR_ROWS]])

    @property
    def parts(self) -> tuple[np.ndarray, ...]:
        """Points of the left eye, the right eye, the mouth and the head."""
        return (*self.eyes, self.mouth, self.head)


#: Where the head's anchors are among its points.
_ANCHOR_ROWS = [HEAD_POINTS.index(name) for name in ANCHORS[4:]]

#: Where the points of `HEAD_MEASURES` are among the head's.
_BROW_ROWS = [
    HEAD_POINTS.index(name)
    for name in ("left brow", "left brow inner end", "right brow", "right brow inner end")
]

#: How crops of a still picture are enlarged, and shifted in shares of their half side, for looks beside the first.
WAYS = ((0.85, 0.0, 0.0), (1.2, 0.0, 0.0), (1.0, 0.08, 0.05), (1.0, -0.08, -0.05), (1.1, 0.05, -0.06))

#: The points of each crop whose middle its own lies in: corners of eyes and mouth.
CORNERS = ([0, 4], [0, 4], [0, 6], [0, 1])


def _jittered(maps: list[np.ndarray], zoom: float, right: float, down: float) -> list[np.ndarray]:
    return [
        np.column_stack([zoom * one[:, :2], one[:, 2] + right * one[:, 0] + down * one[:, 1]]) for one in maps
    ]


def _session(path: str | os.PathLike | None, threads: int):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        str(path or default_close_ups()), options, providers=["CPUExecutionProvider"]
    )


class CloseUps:
    """Looks at faces closely, with onnxruntime on the processor: 60 MMAC for four crops.

    Args:
        names: of the keypoints that will place the crops.
        path: of the graph that `export.close_ups` wrote; by default the one that comes with livepuppet.
        threads: of the processor.
        eyes: of a graph of one eye's network that reads the eyes instead.

    Raises:
        ValueError: the names lack one of `PLACING`.
    """

    def __init__(
        self,
        names: Sequence[str],
        path: str | os.PathLike | None = None,
        threads: int = 1,
        eyes: str | os.PathLike | None = None,
    ):
        if missing := [name for name in PLACING if name not in names]:
            raise ValueError(f"these keypoints lack {missing[0]}")
        self._rows = [list(names).index(name) for name in PLACING]
        self._session = _session(path, threads)
        self._eyes = None if eyes is None else _session(eyes, threads)
        # The graph says how large each crop is: crops of one size are one input, in the order of `crop_maps`.
        self._inputs = {one.name: np.empty(one.shape, np.uint8) for one in self._session.get_inputs()}
        self._crops = [crop for crops in self._inputs.values() for crop in crops]

    @property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """Crops of each of the graph's inputs, and their side; in the order of `crop_maps`."""
        return {name: crops.shape[:2] for name, crops in self._inputs.items()}

    def __call__(self, picture: np.ndarray, points: np.ndarray, mirrored: bool = False) -> Look | None:
        """Look at the face with keypoints `points` (K, 2), in pixels of `picture` uint8 RGB (H, W, 3).

        Args:
            mirrored: points are those of the picture flipped left to right, and that is how the face is read.

        Returns:
            None where the landmarks lie in a heap, so that there is nothing to look at.
        """
        chosen = np.asarray(points, np.float64)[self._rows]
        at = dict(zip(PLACING, chosen, strict=True))
        across, _ = face_frame(at)
        unit = float(np.hypot(*across))
        if not 4 < unit < 4 * max(picture.shape):
            return None
        return self._look(picture, crop_maps(at), mirrored)

    def several(self, picture: np.ndarray, points: np.ndarray) -> list[Look]:
        """Look at a still picture's face several times, each crop a little larger, smaller or aside, and then about what was seen.

        Args:
            picture, points: as above.

        Returns:
            None of them where the landmarks lie in a heap.
        """
        first = self(picture, points)
        if first is None:
            return []
        maps = crop_maps(dict(zip(PLACING, np.asarray(points, np.float64)[self._rows], strict=True)))
        looks = [first, *(self._look(picture, _jittered(maps, *way), False) for way in WAYS)]
        for index, parts in enumerate(zip(*(look.parts for look in looks), strict=True)):
            # The middle of what a crop shows belongs into its middle; the opening of an eye lies a little below it.
            corners = np.median(np.stack(parts), axis=0)[CORNERS[index]].mean(0)
            rise = EYE_RISE / EYE_SIDE * 2 if index < 2 else 0.0
            if index < 3:
                maps[index][:, 2] = corners - rise * maps[index][:, 1]
        return [self._look(picture, _jittered(maps, *way), False) for way in ((1.0, 0.0, 0.0), *WAYS)]

    def _look(self, picture: np.ndarray, maps: list[np.ndarray], mirrored: bool) -> Look:
        for crop, affine in zip(self._crops, maps, strict=True):
            if mirrored:
                affine = affine * [[-1], [1]] + [[0, 0, picture.shape[1] - 1], [0, 0, 0]]
            crop[:] = cut_crop(picture, affine, len(crop))
        found = self._session.run(None, self._inputs)
        if self._eyes is not None:
            found = [*self._eyes.run(None, {"eyes": self._inputs["eyes"]}), *found[3:]]
        eyes, eye_amounts, eye_sure, mouth, mouth_amounts, mouth_sure, head, head_amounts, head_sure = found
        placed = [
            points @ affine[:, :2].T + affine[:, 2]
            for points, affine in zip((*eyes, mouth[0], head[0]), maps, strict=True)
        ]
        head_amounts = head_amounts[0].copy()
        head_amounts[HEAD_AMOUNTS.index("roll")] += np.arctan2(maps[3][1, 0], maps[3][0, 0])
        reading = FaceReading(
            np.stack(
                [
                    np.concatenate([eye_measures(own), amounts, sure])
                    for own, amounts, sure in zip(eyes, eye_amounts, _logistic(eye_sure), strict=True)
                ]
            ).astype(np.float32),
            np.concatenate(
                [mouth_measures(mouth[0]), mouth_amounts[0], _logistic(mouth_sure[0])], dtype=np.float32
            ),
            np.concatenate(
                [
                    head_amounts,
                    brow_heights(*placed[:2], placed[3], float(head_amounts[0])),
                    _logistic(head_sure[0]),
                ],
                dtype=np.float32,
            ),
            lips=(mouth[0] * (MOUTH_SIDE / 2)).astype(np.float32),
        )
        return Look(reading, np.stack(placed[:2]), placed[2], placed[3])


def eye_measures(points: np.ndarray) -> np.ndarray:
    """Of an eye's points (9, 2) in its crop: the mean opening between the lids, and the iris from the middle between the corners,
    along the eye (positive inwards) and down; all in widths of the eye."""
    outer, inner = points[0], points[4]
    along = inner - outer
    width = max(float(np.hypot(*along)), 1e-3)
    along = along / width
    down = np.array([-along[1], along[0]])
    opening = float(((points[[7, 6, 5]] - points[[1, 2, 3]]) @ down).mean())
    iris = points[8] - (outer + inner) / 2
    return np.array([opening, iris @ along, iris @ down]) / [width, width, width]


def mouth_measures(points: np.ndarray) -> np.ndarray:
    """Of a mouth's points (20, 2) in its crop: opening between the lips, width, and rise of the left and right corner above the
    middle of the lips' outline; in face units."""
    gap = float(np.hypot(*(points[14] - points[18])))
    left, right = points[0], points[6]
    middle = (points[3] + points[9]) / 2
    return (
        np.array([gap, np.hypot(*(right - left)), middle[1] - left[1], middle[1] - right[1]]) * MOUTH_SIDE / 2
    )


def brow_heights(left_eye: np.ndarray, right_eye: np.ndarray, head: np.ndarray, yaw: float) -> np.ndarray:
    """`HEAD_MEASURES` of points in the picture, (9, 2), (9, 2) and (23, 2), of a head that is turned aside by `yaw` radians."""
    left, right = ((eye[0] + eye[4]) / 2 for eye in (left_eye, right_eye))
    along = right - left
    apart = max(float(np.hypot(*along)), 1e-6)
    up = np.array([along[1], -along[0]]) / apart
    return (head[_BROW_ROWS] - (left + right) / 2) @ up * (max(float(np.cos(yaw)), 0.5) / apart)


def _logistic(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(logits, -30, 30)))


#: Places in a row of `FaceReading.eyes`.
EYE_AT = {name: 3 + index for index, name in enumerate(EYE_AMOUNTS)}
