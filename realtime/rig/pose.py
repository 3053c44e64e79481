"""The driver's head as a rigid body in space: how it has turned, moved and grown since D1.

Seen from afar a turning head is a scaled orthographic projection, p = c + t + s (R Q)_xy. Q is the driver's own template: the
landmarks of D1, with the depth that a generic head has there once it is turned as the driver was in D1. So whatever pose D1
has, the pose *since* D1 is measured, and D1 itself gives none to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from livepuppet.core.keypoints import Keypoints
from livepuppet.core.matrices import inverse_2x2
from livepuppet.core.reading import FaceReading
from livepuppet.realtime.rig.template import head_template

#: How far each landmark can be trusted to sit on the skull: its weight in the fit, by words of its name. Irises follow gaze,
#: upper lids blink, brows rise, corners smile, the jaw speaks.
WEIGHTS = {
    "upper lid": 0.15,
    "lower lid": 2.0,
    "iris": 0.5,
    "brow": 0.35,
    "nose": 1.6,
    "corner": 0.5,
    "upper lip": 0.35,
    "lower lip": 0.08,
    "chin": 0.15,
    "forehead": 0.6,
}

#: The middle of a generic head, about which it turns and nods, in its eye distances from between its irises.
SKULL_MIDDLE = np.array([0.0, 0.0, -0.85])

#: Landmarks that have to be there.
NEEDED = 6

#: Deviation of a rigid landmark from its place, in eye distances: detector's noise and what the face does. A landmark that is
#: off by `OUTLIER` times as much counts half.
NOISE, OUTLIER = 0.08, 1.5

#: Widths, in radians, of what turns and nods are expected to be (Student's t with one degree of freedom). Where evidence is poor
#: a face is rather misread than turned a little; who turns far is believed.
TURNS, NODS = 0.30, 0.40

#: Detected landmarks turn and nod less than heads do, and the priors take their share: what is read is multiplied by this.
TURN_GAIN, NOD_GAIN = 1.15, 1.4

#: Width of what the fit may differ from a turn or nod that close-ups have read, in radians.
CLOSE_TILT = 0.01

#: Close-ups read rendered people's turns and nods as far as they go (.99 and .84), and real ones, by a third-party mesh, to
#: about half and two thirds: something between.
CLOSE_TURN_GAIN, CLOSE_NOD_GAIN = 1.2, 1.35

#: Weight in the fit of each of `ANCHORS`, and the share of the landmarks' own beside them: of the two, anchors hold still three
#: times as well while a face blinks and speaks.
ANCHOR_WEIGHTS = np.array([1.5, 1.5, 1.5, 1.5, 1.5, 1.0, 0.7, 0.7])
BESIDE_ANCHORS = 0.3

#: The neighbourhood, in eye distances, over which the generic head's depth at an anchor is averaged.
ANCHOR_REACH = 0.06

#: The same for the pose of a still picture, whose proportions say little about its pose.
STILL_TURNS, STILL_NODS = 0.5, 0.12

#: Deviation of the entries of a Jacobian, of which four stand for one point. Detectors learn them on the same faces, so their
#: errors go together: they count as little as that.
LOCAL_NOISE = 0.10

#: The neighbourhood, in eye distances, over which a landmark's slope is averaged, and the steepest that is believed.
NEAR, STEEPEST = 0.3, 1.0

#: Rounds of Gauss-Newton, and the largest step of an angle (radians) and of the scale's logarithm.
ROUNDS, STILL_ROUNDS, LARGEST_STEP = 4, 12, 0.5


@dataclass(frozen=True, eq=False)
class HeadPose:
    """A rigid motion of a head, seen from afar.

    Attributes:
        scale: factor, above 0; larger is nearer.
        rotation: float64 (3, 3), proper; x to the right, y down, z towards the viewer.
        shift: float64 (2,), (x, y) of the middle between the irises, in units of whoever made it.
    """

    scale: float
    rotation: np.ndarray
    shift: np.ndarray

    @classmethod
    def rest(cls) -> HeadPose:
        """Nothing moves."""
        return cls(1.0, np.eye(3), np.zeros(2))

    @property
    def moves(self) -> bool:
        """Whether it is another pose than rest."""
        return not (self.scale == 1.0 and not self.shift.any() and np.array_equal(self.rotation, np.eye(3)))

    @property
    def angles(self) -> tuple[float, float, float]:
        """Yaw (the nose goes right), pitch (the nose goes down) and roll (clockwise), in radians; see `split`."""
        tilt, roll = split(self.rotation)
        return float(tilt[1]), float(-tilt[0]), roll

    def tamed(self, share: float = 1.0, shift: float = 1.0, turn: float = 1.0, zoom: float = 1.0) -> HeadPose:
        """`share` of the whole motion; `shift`, `turn` (tilt in the picture's plane) and `zoom` of its parts, from 0 to 1."""
        if share == shift == turn == zoom == 1.0:
            return self
        tilt, roll = split(self.rotation)
        rotation = joined(share * tilt, share * turn * roll)
        return HeadPose(self.scale ** (share * zoom), rotation, share * shift * self.shift)

    def held(self, largest: float) -> HeadPose:
        """Turns and nods beyond two thirds of `largest` radians bent towards it, which they never reach."""
        tilt, roll = split(self.rotation)
        size = float(np.hypot(*tilt))
        knee = 2 / 3 * largest
        if size <= knee:
            return self
        bent = knee + (largest - knee) * math.tanh((size - knee) / (largest - knee))
        return HeadPose(self.scale, joined(tilt * (bent / size), roll), self.shift)


def split(rotation: np.ndarray) -> tuple[np.ndarray, float]:
    """A rotation as roll about the viewer's axis after a tilt about an axis (x, y) in the picture's plane.

    Returns:
        The tilt's axis times its angle, float64 (2,); roll in radians.
    """
    x, y, z = (float(value) for value in rotation[:, 2])
    # R = Rz(roll) T, and T carries the viewer's axis to Rz(-roll) (x, y, z).
    angle = math.atan2(math.hypot(x, y), z)
    roll = math.atan2(float(rotation[1, 0] - rotation[0, 1]), float(rotation[0, 0] + rotation[1, 1]))
    length = max(math.hypot(x, y), 1e-12)
    axis = np.array([-y / length, x / length])
    cosine, sine = math.cos(roll), math.sin(roll)
    return angle * np.array([cosine * axis[0] + sine * axis[1], -sine * axis[0] + cosine * axis[1]]), roll


def joined(tilt: np.ndarray, roll: float) -> np.ndarray:
    """The rotation of `split`'s two parts, float64 (3, 3)."""
    matrix = cv2.Rodrigues(np.array([tilt[0], tilt[1], 0.0]))[0]
    cosine, sine = math.cos(roll), math.sin(roll)
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1.0]]) @ matrix


def place(landmarks: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, HeadPose] | None:
    """The generic head laid over `landmarks` (K, 2) of a face, whatever it is that has the face.

    Returns:
        Where its landmarks then are: float64 (K, 3), NaN for names that it lacks; and its pose, whose shift is the place of
        the middle between the irises and whose scale the eye distance in space. None where too few landmarks are known, or
        they lie in a heap.
    """
    template = head_template().landmarks
    known = np.array([name in template for name in names], bool)
    if known.sum() < NEEDED or not np.isfinite(landmarks[known]).all():
        return None
    points = np.array([template[name] for name in names if name in template])
    weights = _weights([name for name in names if name in template])
    target = np.asarray(landmarks, np.float64)[known]
    spread = float(np.sqrt(((target - target.mean(0)) ** 2).sum(1).mean()))
    size = spread / float(np.sqrt(((points[:, :2] - points[:, :2].mean(0)) ** 2).sum(1).mean()))
    if not size > 1e-6:
        return None
    fit = _Fit(points, weights, np.zeros(2), 1.0)
    pose = fit.solve(target / size, None, (STILL_TURNS, STILL_NODS), STILL_ROUNDS)
    places = np.full((len(names), 3), np.nan)
    turned = points @ pose.rotation.T * pose.scale
    turned[:, :2] += pose.shift
    places[known] = turned * size
    return places, HeadPose(pose.scale * size, pose.rotation, pose.shift * size)


class PoseTracker:
    """Measures the driver's pose since one D1.

    Args:
        names: of the keypoints.
        initial: D1.

    Attributes:
        usable: whether there is enough to go by. Otherwise the pose is always rest.
        centre: float64 (2,), what turns and scales leave where it is: the middle between D1's irises.
        unit: eye distance of D1, in its units.
    """

    def __init__(self, names: Sequence[str], initial: Keypoints):
        self.initial = initial
        points = np.asarray(initial.points, np.float64)
        placed = place(points, names)
        self.usable = placed is not None
        if placed is None:
            self.centre, self.unit = points.mean(0), 1.0
            return
        places, pose = placed
        self.centre, self.unit = pose.shift, pose.scale
        self._chosen = np.flatnonzero(np.isfinite(places[:, 0]))
        template = np.c_[points, places[:, 2]][self._chosen]
        template[:, :2] -= self.centre
        chosen = [names[index] for index in self._chosen]
        # In eye distances, so that noise and damping are the same for faces of any size.
        self._fit = _Fit(
            template / self.unit, _weights(chosen), np.zeros(2), 1.0, depth_slopes(chosen, pose.rotation)
        )
        self._inverse = inverse_2x2(np.asarray(initial.jacobians, np.float64))[self._chosen]
        self._close_fit: _Fit | None = None
        if initial.reading is not None and initial.reading.anchors is not None:
            anchors = np.asarray(initial.reading.anchors, np.float64)
            deep = np.c_[anchors - self.centre, _depth_at(anchors, pose)] / self.unit
            self._close_fit = _Fit(
                np.concatenate([self._fit.points, deep]),
                np.concatenate([BESIDE_ANCHORS * self._fit.weights, ANCHOR_WEIGHTS]),
                np.zeros(2),
                1.0,
            )

    def pose(self, driving: Keypoints) -> HeadPose:
        """Of `driving` since D1. Its shift is in units of D1's keypoints.

        Where close-ups have read the pose of both, the fit is held to the turn and nod between them.
        """
        if not self.usable or driving is self.initial:
            return HeadPose.rest()
        points = (np.asarray(driving.points, np.float64)[self._chosen] - self.centre) / self.unit
        local = np.asarray(driving.jacobians, np.float64)[self._chosen] @ self._inverse
        if driving.reading is not None and self.initial.reading is not None:
            turned = orientation(driving.reading) @ orientation(self.initial.reading).T
            tilt, _ = split(turned)
            tilt = tilt * (CLOSE_NOD_GAIN, CLOSE_TURN_GAIN)
            fit, anchors = self._fit, driving.reading.anchors
            if self._close_fit is not None and anchors is not None:
                fit, local = self._close_fit, None
                points = np.concatenate([points, (np.asarray(anchors, np.float64) - self.centre) / self.unit])
            found = fit.solve(points, local, (CLOSE_TILT, CLOSE_TILT), ROUNDS, tilt)
            return HeadPose(found.scale, found.rotation, found.shift * self.unit)
        found = self._fit.solve(points, local, (TURNS, NODS), ROUNDS)
        tilt, roll = split(found.rotation)
        rotation = joined(tilt * (NOD_GAIN, TURN_GAIN), roll)
        return HeadPose(found.scale, rotation, found.shift * self.unit)

    def rigid(self, pose: HeadPose) -> np.ndarray:
        """Where `pose` carries D1's keypoints, float64 (K, 2); NaN for those of unknown depth."""
        moved = np.full((len(self.initial.points), 2), np.nan)
        turned = pose.scale * (self._fit.points @ pose.rotation.T)[:, :2] * self.unit
        moved[self._chosen] = turned + self.centre + pose.shift
        return moved

    def rigid_anchors(self, pose: HeadPose) -> np.ndarray | None:
        """Where `pose` carries the anchors of D1's reading, float64 (A, 2); None where it has none."""
        if self._close_fit is None:
            return None
        points = self._close_fit.points[len(self._fit.points) :]
        turned = pose.scale * (points @ pose.rotation.T)[:, :2] * self.unit
        return turned + self.centre + pose.shift


def _depth_at(points: np.ndarray, pose: HeadPose) -> np.ndarray:
    """The generic head's depth in `pose` at points (N, 2) of its face: float64 (N,)."""
    template = head_template()
    facing = (template.normals @ pose.rotation.T)[:, 2] > 0.05
    turned = (template.points @ pose.rotation.T)[facing] * pose.scale
    turned[:, :2] += pose.shift
    away = ((turned[None, :, :2] - points[:, None]) ** 2).sum(2)
    # Of a point beside the head, the nearest there is.
    away -= away.min(1, keepdims=True)
    near = np.exp(-away / (2 * (ANCHOR_REACH * pose.scale) ** 2))
    return near @ turned[:, 2] / near.sum(1)


def head_in_space(keypoints: Keypoints, names: Sequence[str]) -> tuple[np.ndarray, float] | None:
    """Where a head is and how large, whichever way it looks and whatever its mouth does.

    Returns:
        The middle of the skull, float64 (2,), and the eye distance in space, in the keypoints' units; None where too few
        landmarks are known, or they lie in a heap.
    """
    points = np.asarray(keypoints.points, np.float64)
    if keypoints.reading is None:
        found = place(points, names)
        if found is None:
            return None
        _, pose = found
        return pose.shift + pose.scale * (pose.rotation @ SKULL_MIDDLE)[:2], pose.scale
    template = head_template().landmarks
    known = [index for index, name in enumerate(names) if name in template]
    if len(known) < NEEDED or not np.isfinite(points[known]).all():
        return None
    weights = _weights([names[index] for index in known])
    yaw, pitch = (float(value) for value in keypoints.reading.head[:2])
    turned = joined(np.array([-pitch * CLOSE_NOD_GAIN, yaw * CLOSE_TURN_GAIN]), 0.0)
    model = (np.array([template[names[index]] for index in known]) @ turned.T)[:, :2] @ (1, 1j)
    seen = points[known] @ (1, 1j)
    model_mean, seen_mean = np.average(model, weights=weights), np.average(seen, weights=weights)
    off = model - model_mean
    similarity = np.vdot(weights * off, seen - seen_mean) / np.vdot(weights * off, off).real
    if not abs(similarity) > 1e-6:
        return None
    middle = seen_mean + similarity * ((turned @ SKULL_MIDDLE)[:2] @ (1, 1j) - model_mean)
    return np.array([middle.real, middle.imag]), float(abs(similarity))


def orientation(reading: FaceReading) -> np.ndarray:
    """The head's rotation in space, float64 (3, 3)."""
    yaw, pitch, roll = (float(value) for value in reading.head[:3])
    return joined(np.array([-pitch, yaw]), roll)


def _weights(names: Sequence[str]) -> np.ndarray:
    return np.array([next((value for word, value in WEIGHTS.items() if word in name), 0.0) for name in names])


def depth_slopes(names: Sequence[str], rotation: np.ndarray) -> np.ndarray:
    """How depth changes about each landmark of the generic head turned by `rotation`: dz/d(x, y), float64 (K, 2)."""
    template = head_template()
    slopes = np.zeros((len(names), 2))
    for index, name in enumerate(names):
        near = np.linalg.norm(template.points - template.landmarks[name], axis=1) < NEAR
        normal = (template.normals[near] @ rotation.T).sum(0)
        if near.any() and normal[2] > 0:
            slopes[index] = np.clip(-normal[:2] / normal[2], -STEEPEST, STEEPEST)
    return slopes


#: What is not seen at all stays where it was.
_FIRM = 1e-6 * np.eye(6)


class _Fit:
    """Robust least squares of a scaled orthographic pose, by Gauss-Newton from where nothing has moved.

    Args:
        points: float64 (K, 3), in eye distances.
        weights: (K,).
        centre: (2,).
        unit: of `points`.
        slopes: `depth_slopes`, where Jacobians are evidence too.
    """

    def __init__(self, points, weights, centre, unit, slopes=None):
        self.points, self.weights, self.slopes = points, weights, slopes

    def solve(
        self,
        target: np.ndarray,
        local: np.ndarray | None,
        prior: tuple[float, float],
        rounds: int,
        about: np.ndarray | None = None,
    ) -> HeadPose:
        """The pose that carries the points to `target` (K, 2) and their neighbourhoods by `local` (K, 2, 2).

        Args:
            prior: widths of what turns and nods are expected to be.
            about: the tilt that is expected; by default none.
        """
        points, weights = self.points, self.weights
        # One thread's whole time goes by here in calls, not in numbers: as few of them as possible.
        scale, shift = 1.0, weights @ (target - points[:, :2]) / weights.sum()
        rotation = np.eye(3) if about is None else joined(about, 0.0)
        nod, turn = (0.0, 0.0) if about is None else (float(about[0]), float(about[1]))
        count = len(points)
        # Of x, then of y, by pitch, yaw, roll (about x, y, z), logarithm of the scale, shift.
        rows = np.zeros((6, 2 * count))
        rows[4, :count] = rows[5, count:] = 1.0
        for _ in range(rounds):
            x, y, z = moved = scale * (rotation @ points.T)
            error = target.T - moved[:2] - shift[:, None]
            weight = weights / (NOISE**2 + (error * error).sum(0) / OUTLIER**2)
            rows[1, :count] = z
            np.negative(z, out=rows[0, count:])
            np.negative(y, out=rows[2, :count])
            rows[2, count:] = rows[3, :count] = x
            rows[3, count:] = y
            weighted = rows * np.concatenate([weight, weight])
            normal = weighted @ rows.T
            right = weighted @ error.ravel()
            if local is not None:
                self._by_jacobians(normal, right, local, scale, rotation)
            tilt, _ = split(rotation)
            # The priors' axes are those of the face; to turn them with its roll matters little.
            off = float(tilt[0]) - nod, float(tilt[1]) - turn
            away = off[0] ** 2 + off[1] ** 2
            for axis, width in enumerate((prior[1], prior[0])):
                firm = 1 / (width**2 + away)
                normal[axis, axis] += firm
                right[axis] -= firm * off[axis]
            step = np.linalg.solve(normal + _FIRM, right)
            angle = step[:3] * min(1.0, LARGEST_STEP / max(*np.abs(step[:3]).tolist(), 1e-9))
            rotation = cv2.Rodrigues(angle)[0] @ rotation
            scale *= math.exp(min(max(float(step[3]), -LARGEST_STEP), LARGEST_STEP))
            shift = shift + step[4:]
        return HeadPose(float(scale), rotation, shift)

    def _by_jacobians(self, normal, right, local, scale, rotation) -> None:
        """Adds the evidence of `local` = s (R_2x2 + R_xy,z slopes^T) to the normal equations."""
        slopes = self.slopes
        flat, deep = rotation[:2, :2], rotation[:2, 2]
        expected = scale * (flat[None] + deep[None, :, None] * slopes[:, None, :])
        error = local - expected
        off = (error * error).sum((1, 2)) / (LOCAL_NOISE * OUTLIER) ** 2
        weight = self.weights / (1 + off) / LOCAL_NOISE**2
        # A small turn w changes R by [w] R. Rows of [w] R for each axis, seen in the plane:
        turns = np.stack(
            [
                np.stack([0 * rotation[0], -rotation[2]]),
                np.stack([rotation[2], 0 * rotation[0]]),
                np.stack([-rotation[1], rotation[0]]),
            ]
        )
        rows = np.empty((len(slopes), 2, 2, 4))
        for axis in range(3):
            rows[..., axis] = scale * (
                turns[axis][None, :, :2] + turns[axis][None, :, 2:] * slopes[:, None, :]
            )
        rows[..., 3] = expected
        rows = rows.reshape(len(slopes), 4, 4)
        weighted = rows * weight[:, None, None]
        normal[:4, :4] += (weighted.reshape(-1, 4)).T @ rows.reshape(-1, 4)
        right[:4] += weighted.reshape(-1, 4).T @ error.reshape(-1)
