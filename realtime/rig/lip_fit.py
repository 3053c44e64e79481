"""Find the lips' four curves in the picture itself, from landmarks that are right to a tenth of the eyes' distance.

As `eye_fit` does it for eyes: a family of mouths (corners, sag of the line, gap, both lips' thickness) is searched for the
one with edges along its curves, lips that differ from the skin around, and a dark line or an opening between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from livepuppet.realtime.rig.eye_fit import _cross_entropy, sample

#: Pixels of the crop per D, and its size.
PER_D = 120.0
WIDTH, HEIGHT = 208, 192

#: Columns in which curves are sampled, from corner to corner.
U = np.linspace(-1, 1, 31).astype(np.float32)

# A mouth is a row of parameters, in D: corners left x, y, right x, y; how far below their line the upper lip's edge is in
# the middle; the gap; thickness of both lips; where the gap is highest (skew).
MOUTH = 9
_SIGMA = np.array([0.05, 0.04, 0.05, 0.04, 0.04, 0.05, 0.03, 0.04, 0.1])
_LOWEST = np.array([-0.85, -0.5, 0.02, -0.5, -0.25, 0.0, 0.004, 0.006, -0.3], np.float32)
_HIGHEST = np.array([-0.02, 0.5, 0.85, 0.5, 0.35, 0.75, 0.22, 0.26, 0.3], np.float32)


class LipMaps:
    """What the fit looks at: the crop's edges, darkness, and difference from skin.

    Args:
        crop: uint8 RGB (HEIGHT, WIDTH, 3), the mouth in the middle.
        wide: the mouth's width by the landmarks, in D.
    """

    def __init__(self, crop: np.ndarray, wide: float):
        self.lab = cv2.cvtColor(cv2.GaussianBlur(crop, (0, 0), 1.1), cv2.COLOR_RGB2LAB).astype(np.float32)
        self.light = np.ascontiguousarray(self.lab[..., 0])
        dx, dy = cv2.Scharr(self.lab, cv2.CV_32F, 1, 0) / 32, cv2.Scharr(self.lab, cv2.CV_32F, 0, 1) / 32
        xx, yy, xy = (dx * dx).sum(2), (dy * dy).sum(2), (dx * dy).sum(2)
        self.usual = max(float(np.percentile(np.sqrt(xx + yy)[24:-24, 24:-24], 75)), 0.8)
        self.tensor = np.dstack([xx, yy, xy])
        self.slope = np.ascontiguousarray(np.dstack([dx[..., 0], dy[..., 0]]))
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
        u, v = (x - WIDTH / 2) / PER_D, (y - HEIGHT / 2) / PER_D
        # The skin: cheeks beside the mouth and the chin below; not the nostrils.
        ring = (np.abs(u) < 0.62) & (np.abs(v) < 0.62) & (v > -0.42)
        ring &= (np.abs(u) / (0.5 * wide + 0.1)) ** 2 + (v / 0.30) ** 2 > 1
        basis = np.stack([np.ones_like(u), u, v, u * v, u * u, v * v], -1)
        a, b = basis[ring][::4], self.lab[ring][::4]
        fit = np.zeros((6, 3), np.float32)
        fit[0] = centre = np.median(b, axis=0)
        ridge = np.diag([1e-3, 0.02, 0.02, 0.1, 0.1, 0.1]) * len(a)
        for _ in range(6):
            off = np.linalg.norm(b - a @ fit, axis=1)
            spread = max(float(np.median(off)), 2.0)
            w = (1 / (1 + (off / (1.5 * spread)) ** 2))[:, None]
            fit = np.linalg.solve((a * w).T @ a + ridge, (a * w).T @ (b - centre)).astype(np.float32)
            fit[0] += centre
        skin = (basis @ fit).astype(np.float32)
        # Lips are redder and darker; shadows only darker.
        neutral = np.float32((0, 128, 128))
        tone, off = skin - neutral, self.lab - skin
        length = np.linalg.norm(tone, axis=2) + 1e-3
        along = (off * tone).sum(2) / length
        across = np.sqrt(np.maximum((off * off).sum(2) - along * along, 0))
        away = np.hypot(0.4 * along, 2.0 * across)
        scale = max(float(np.median(away[ring])), 2.0)
        self.other = (away / (away + 2.5 * scale)).astype(np.float32)
        # Between skin's and lips' difference, to tell the area of the lips.
        middle = (np.abs(u) < 0.35 * wide) & (np.abs(v) < 0.16)
        self.between = max(
            0.5 * float(np.median(self.other[ring])) + 0.5 * float(np.percentile(self.other[middle], 85)),
            0.25,
        )
        low, high = np.percentile(self.light[40:-30, 30:-30], [3, 80])
        self.span = max(float(high - low), 24.0)


def curves(theta: np.ndarray, u: np.ndarray = U) -> list[np.ndarray]:
    """The four curves of (N, 9) mouths at u, as heights (N, len(u)) below the corners' line: outer and inner upper, inner
    and outer lower."""
    u = u[None]
    skewed = u - theta[:, 8:9] * (1 - u * u)
    arc = np.maximum(1 - skewed * skewed, 0)
    line = theta[:, 4:5] * arc
    gap = theta[:, 5:6] * np.maximum(1 - u * u, 0) ** 0.6
    bow = 1 - 0.16 * np.exp(-((u / 0.13) ** 2))
    upper = theta[:, 6:7] * np.maximum(1 - np.abs(u) ** 1.8, 0) ** 0.8 * bow
    lower = theta[:, 7:8] * np.maximum(1 - np.abs(u) ** 2.2, 0) ** 0.9
    return [line - upper, line, line + gap, line + gap + lower]


def place(theta: np.ndarray, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Crop coordinates of (N, M) places: u from corner to corner (-1 to 1), v in D below their line."""
    mx, my = (theta[:, 0:1] + theta[:, 2:3]) / 2, (theta[:, 1:2] + theta[:, 3:4]) / 2
    hx, hy = (theta[:, 2:3] - theta[:, 0:1]) / 2, (theta[:, 3:4] - theta[:, 1:2]) / 2
    half = np.hypot(hx, hy)
    x = mx + u * hx - v * hy / half
    y = my + u * hy + v * hx / half
    return WIDTH / 2 + PER_D * x, HEIGHT / 2 + PER_D * y


_PICK = np.arange(3, len(U) - 3, 2)
_FLANK = 0.014


def score(maps: LipMaps, theta: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """How well (N, 9) mouths fit, and the parts of that."""
    many = len(theta)
    u = U[_PICK]
    outer_up, upper, lower, outer_low = curves(theta, u)
    gap = theta[:, 5:6]
    # Edges: both outer ones on the spot, both inner ones on the lips' side, where a closed line has its flanks.
    rows = [outer_up, upper - _FLANK, lower + _FLANK, outer_low]
    n = len(u)
    uu = np.tile(u, 4)[None].repeat(many, 0)
    x, y = place(theta, uu, np.concatenate(rows, 1))
    half = np.hypot(theta[:, 2:3] - theta[:, 0:1], theta[:, 3:4] - theta[:, 1:2]) / 2
    slope = np.concatenate([np.gradient(row, axis=1) for row in rows], 1) / ((u[1] - u[0]) * half)
    c, s = (theta[:, 2:3] - theta[:, 0:1]) / 2 / half, (theta[:, 3:4] - theta[:, 1:2]) / 2 / half
    norm = 1 / np.sqrt(1 + slope * slope)
    nx, ny = (-slope * c - s) * norm, (c - slope * s) * norm
    power, light = sample(maps.tensor, x, y), sample(maps.slope, x, y)
    change = np.sqrt(
        np.maximum(power[..., 0] * nx * nx + power[..., 1] * ny * ny + 2 * power[..., 2] * nx * ny, 0)
    )
    change = change / (change + 2 * maps.usual)
    lighter = light[..., 0] * nx + light[..., 1] * ny
    lighter = lighter / (np.abs(lighter) + 2 * maps.usual)
    part = [slice(k * n, (k + 1) * n) for k in range(4)]
    outer = 0.5 * (change[:, part[0]] * (1 - 0.3 * lighter[:, part[0]])).mean(1)
    outer += 0.5 * (change[:, part[3]] * (1 + 0.3 * lighter[:, part[3]])).mean(1)
    # Towards a closed line it gets darker from both sides; an open mouth may hold teeth.
    closed = np.exp(-((gap / 0.05) ** 2))
    signed = 0.2 + 0.6 * closed
    inner = 0.5 * (change[:, part[1]] * (1 - signed * lighter[:, part[1]])).mean(1)
    inner += 0.5 * (change[:, part[2]] * (1 + signed * lighter[:, part[2]])).mean(1)

    # Regions: lips, inside, skin around.
    lip_rows = [
        outer_up + (upper - outer_up) * 0.5,
        lower + (outer_low - lower) * 0.35,
        lower + (outer_low - lower) * 0.7,
    ]
    skin_rows = [outer_up - 0.035, outer_up - 0.07, outer_low + 0.035, outer_low + 0.07]
    inner_rows = [upper + (lower - upper) * k for k in (0.25, 0.5, 0.75)]
    uu = np.tile(u, 7)[None].repeat(many, 0)
    values = sample(maps.other, *place(theta, uu, np.concatenate(lip_rows + skin_rows, 1))).reshape(
        many, 7, n
    )
    beside = sample(
        maps.other,
        *place(
            theta, np.float32([[-1.16, -1.28, 1.16, 1.28]]).repeat(many, 0), np.zeros((many, 4), np.float32)
        ),
    ).mean(1)
    lips = 0.5 * values[:, :3].mean((1, 2)) + 0.5 * np.minimum(
        values[:, 0].mean(1), values[:, 1:3].mean((1, 2))
    )
    contrast = lips - 0.8 * values[:, 3:].mean((1, 2)) - 0.2 * beside
    levels = (0.06, 0.2, 0.35, 0.5, 0.65, 0.8, 0.94)
    whole = [outer_up + (outer_low - outer_up) * level for level in levels]
    area = (
        sample(maps.other, *place(theta, uu, np.concatenate(whole, 1))).reshape(many, 7, n).mean(1)
        - maps.between
    )
    area = 2 * half[:, 0] * (area * (outer_low - outer_up)).mean(1)
    uu = np.tile(u, 3)[None].repeat(many, 0)
    inside = sample(maps.lab, *place(theta, uu, np.concatenate(inner_rows, 1)))
    lip_lab = sample(maps.lab, *place(theta, uu, np.concatenate(lip_rows, 1)))
    dark = (lip_lab[..., 0].mean(1) - inside[..., 0].mean(1)) / maps.span
    differs = np.abs(inside - lip_lab.mean(1, keepdims=True))[..., 0].mean(1) / maps.span
    between = np.where(gap[:, 0] < 0.05, np.clip(dark, -0.5, 1), np.clip(0.5 * dark + 0.6 * differs, -0.5, 1))
    total = 0.8 * outer + 1.3 * inner + 1.0 * contrast + 0.7 * between + 14.0 * area
    return total, {"outer": outer, "inner": inner, "contrast": contrast, "between": between, "area": area}


#: How far, in D, what close-ups see of a mouth may be off, and what they weigh against the picture's edges.
_SEEN_SIGMA = np.array([0.03, 0.025, 0.03, 0.025, 0.02, 0.02, 0.015, 0.02, 1.0])
SEEN_WEIGHT = 0.08


@dataclass(frozen=True)
class Seen:
    """What close-ups saw of a mouth.

    Attributes:
        theta: (9,), a mouth.
        sigma: (9,), how far that may be off.
    """

    theta: np.ndarray
    sigma: np.ndarray

    @classmethod
    def of(cls, looks: list[np.ndarray]) -> Seen:
        """From `MOUTH_POINTS` (20, 2) of several looks, in D from the crop's middle."""
        every = np.stack([cls._theta(points) for points in looks])
        middle = np.median(every, axis=0)
        spread = np.median(np.abs(every - middle), axis=0) * 1.5
        return cls(
            np.clip(middle, _LOWEST, _HIGHEST).astype(np.float32),
            np.hypot(_SEEN_SIGMA, 1.5 * spread).astype(np.float32),
        )

    @staticmethod
    def _theta(points: np.ndarray) -> np.ndarray:
        left, right = points[0], points[6]
        line = right - left
        along = line / max(float(np.hypot(*line)), 1e-3)
        down = np.array([-along[1], along[0]])
        top, upper, lower, bottom = ((points[k] - (left + right) / 2) @ down for k in (3, 14, 18, 9))
        # The bow of the upper lip's edge takes a part of its thickness in the middle.
        return np.array(
            [*left, *right, upper, max(lower - upper, 0.0), (upper - top) / 0.84, bottom - lower, 0.0]
        )

    def off(self, theta: np.ndarray) -> np.ndarray:
        """How far (N, 9) mouths are from it, squared and bent so that one wrong number does not decide."""
        off = np.square((theta - self.theta) / self.sigma)
        return (off / (1 + off / 16)).sum(1)


@dataclass(frozen=True)
class LipFit:
    """A mouth of the crop: its parameters, and how well it fits."""

    theta: np.ndarray
    total: float
    parts: dict[str, float]


def search(
    maps: LipMaps, corners: np.ndarray, upper: float, lower: float, seen: Seen | None = None
) -> LipFit:
    """The mouth near the landmarks.

    Args:
        corners: (4,), x and y of both in D from the crop's middle.
        upper, lower: heights of the lips' edges below the corners' line in the middle, in D, by the landmarks.
        seen: by close-ups, if there are any; it takes the landmarks' place.
    """
    if seen is not None:
        corners, upper, lower = seen.theta[:4], float(seen.theta[4]), float(seen.theta[4] + seen.theta[5])
    guess_gap = max(lower - upper, 0.0)
    width = float(np.hypot(corners[2] - corners[0], corners[3] - corners[1]))

    def objective(theta: np.ndarray) -> np.ndarray:
        off = np.stack([theta[:, k] - corners[k] for k in range(4)], 1)
        wide = np.hypot(theta[:, 2] - theta[:, 0], theta[:, 3] - theta[:, 1])
        thick = theta[:, 6] + theta[:, 7]
        centre = off[:, :2] + off[:, 2:]
        cost = 1.2 * np.square(off).sum(1) + 3.0 * np.square(centre / 2).sum(1)
        cost += 0.6 * np.log(wide / width) ** 2 + 3.0 * np.maximum(0.3 * width - wide, 0)
        # Landmarks take lips for a gap, and see none where there is one.
        cost += 1.5 * np.square(theta[:, 4] - upper) + 0.8 * np.maximum(
            np.abs(theta[:, 5] - guess_gap) - 0.12, 0
        )
        cost += 0.25 * np.abs(theta[:, 5] - max(guess_gap - 0.06, 0.0))
        cost += 3.0 * np.maximum(guess_gap - 0.14 - theta[:, 5], 0)
        cost += 0.12 * np.log(theta[:, 7] / theta[:, 6] / 1.2) ** 2 + 1.5 * np.maximum(thick - 0.34, 0)
        cost += (
            3.0 * np.maximum(0.13 - thick, 0)
            + 4.0 * np.maximum(0.03 - theta[:, 7], 0)
            + 0.4 * theta[:, 8] ** 2
        )
        cost += 0.5 * np.square(off[:, 1] - off[:, 3])
        if seen is not None:
            cost += SEEN_WEIGHT * seen.off(theta)
        return score(maps, theta)[0] - cost

    tries = []
    for gap, up, low in (
        (0.0, 0.07, 0.09),
        (0.0, 0.035, 0.05),
        (max(guess_gap, 0.06), 0.05, 0.08),
        (max(guess_gap, 0.15), 0.06, 0.08),
    ):
        mean = np.array([*corners, upper, gap, up, low, 0.0])
        tries.append(_cross_entropy(objective, mean, _SIGMA, (_LOWEST, _HIGHEST), 3, 200))
    if seen is not None:
        tries.append(_cross_entropy(objective, seen.theta, 0.6 * _SIGMA, (_LOWEST, _HIGHEST), 3, 200))
    tries.sort(key=lambda found: -found[1])
    best = max(
        (
            _cross_entropy(objective, start, 0.6 * _SIGMA, (_LOWEST, _HIGHEST), 6, 200)
            for start, _ in tries[:2]
        ),
        key=lambda found: found[1],
    )
    parts = {name: float(value[0]) for name, value in score(maps, best[0][None])[1].items()}
    return LipFit(best[0], best[1], parts)


#: Gaps, in D, of lips that are shut, and of some that stand open a little.
SHUT_GAPS, SMALL_GAPS = (0.0, 0.015, 0.03), (0.045, 0.06, 0.075)


def parted(maps: LipMaps, theta: np.ndarray) -> np.ndarray:
    """`theta` (9,) of a shut mouth, or the same one a little open, where its edges fit better so.

    The search holds gaps small. Where teeth show between lips, the line that it finds is their lower edge.
    """
    gaps = np.array(SHUT_GAPS + SMALL_GAPS)
    tried = np.repeat(np.asarray(theta, np.float64)[None], len(gaps), 0)
    wider = gaps - theta[5]
    tried[:, 4] -= wider
    tried[:, 5] = gaps
    tried[:, 6] = np.maximum(tried[:, 6] - wider, _LOWEST[6])
    fits = score(maps, tried.astype(np.float32))[0]
    best = int(fits.argmax())
    return theta if best < len(SHUT_GAPS) else tried[best].astype(theta.dtype)


#: Of a mouth of which nothing but its line is clear: thickness of what goes along above and below, in D; half its usual width.
_PLAIN_LIPS, _PLAIN_HALF = (0.045, 0.06), 0.36


def search_line(maps: LipMaps) -> tuple[np.ndarray, float]:
    """The clearest dark line in the crop's middle that may be a mouth: an animal's, or one under a moustache.

    Returns:
        Its parameters (9,), with thin lips, and how much darker it is than what is above and below, in shares of the crop's
        range of light.
    """

    def mouths(line: np.ndarray) -> np.ndarray:
        """Middle x and y, half the width, rise of the right side per width, sag."""
        x, y, half, tilt, sag = line.T
        rise = tilt * half
        thick = np.broadcast_to(np.float32(_PLAIN_LIPS), (len(line), 2)).T
        zero = np.zeros_like(x)
        return np.stack([x - half, y - rise, x + half, y + rise, sag, zero, *thick, zero], 1)

    def darkness(theta: np.ndarray) -> np.ndarray:
        row = curves(theta)[1]
        u = np.repeat(U[None], len(theta), 0)
        light = sample(maps.light, *place(theta, u, row))
        darker = []
        for step in (0.03, 0.06):
            above, below = (sample(maps.light, *place(theta, u, row + side)) for side in (-step, step))
            darker.append(0.275 * (above + below) + 0.45 * np.minimum(above, below) - light)
        return np.clip(np.maximum(*darker) / maps.span, -0.3, 0.6)

    def objective(line: np.ndarray) -> np.ndarray:
        dark = darkness(mouths(line))
        x, y, half, tilt, sag = line.T
        cost = (
            0.1 * np.square(x / 0.12)
            + 0.1 * np.square(y / 0.12)
            + 1.2 * np.square(np.log(half / _PLAIN_HALF))
        )
        cost += 0.1 * np.square(tilt / 0.15) + 0.05 * np.square(sag / 0.12)
        return 2.2 * dark.mean(1) + np.sort(dark, 1)[:, :10].mean(1) - cost

    bounds = np.float32([-0.5, -0.4, 0.2, -0.35, -0.2]), np.float32([0.5, 0.4, 0.55, 0.35, 0.25])
    sigma = np.array([0.12, 0.1, 0.08, 0.1, 0.07])
    line, _ = max(
        (
            _cross_entropy(objective, np.array([0, 0, _PLAIN_HALF, 0, sag]), sigma, bounds, 8, 200)
            for sag in (-0.08, 0.08)
        ),
        key=lambda found: found[1],
    )
    theta = mouths(line[None])
    return theta[0], float(darkness(theta).mean())


#: How far above or below a mouth's corners its line may end, in D; and the shares of its darkness that tell that it does there.
_CURLS, _AS_DARK, _LESS_DARK = 0.055, 0.5, 0.4


def curled(maps: LipMaps, theta: np.ndarray, line: np.ndarray) -> np.ndarray:
    """The dark `line`, heights (31,) at `U`, of a shut mouth, bent at its ends to where it is darkest there: pens curl."""
    steps = np.linspace(-_CURLS, _CURLS, 23, dtype=np.float32)

    def darkness(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        light = [
            sample(maps.light, *place(theta[None], u[None], (v + side)[None].astype(np.float32)))[0]
            for side in (-0.03, 0, 0.03)
        ]
        return (np.minimum(light[0], light[2]) - light[1]) / maps.span

    usual = float(np.median(darkness(U[3:-3], line[3:-3])))
    line = line.copy()
    for sign in (-1, 1):
        near = sign * U > 0.5
        ramp = np.clip((sign * U[near] - 0.7) / 0.3, 0, 1) ** 1.5
        # By how dark all of the bent end is: a spot beside it is not its end.
        dark = [darkness(U[near], line[near] + step * ramp) for step in steps]
        gain = np.array([float((one * ramp).sum() / ramp.sum()) for one in dark]) - 0.5 * np.abs(steps)
        best = int(gain.argmax())
        still = gain[len(steps) // 2]
        if gain[best] > max(_AS_DARK * usual, 0.05) and still < _LESS_DARK * gain[best] + 0.02:
            line[near] += steps[best] * ramp
    return line


def ends(maps: LipMaps, theta: np.ndarray, line: np.ndarray, most: float = 0.07) -> np.ndarray:
    """Both corners, float32 (2, 2) in the crop's pixels, of a shut mouth whose dark `line`, heights (31,) at `U`, may go on
    by up to `most` D.
    """
    half = float(np.hypot(theta[2] - theta[0], theta[3] - theta[1])) / 2
    steps = np.arange(1, round(most / 0.01) + 1, dtype=np.float32) * 0.01

    def darkness(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        light = [
            sample(maps.light, *place(theta[None], u[None], (v + side)[None]))[0]
            for side in np.float32([-0.03, 0, 0.03])
        ]
        return (np.minimum(light[0], light[2]) - light[1]) / maps.span

    usual = float(np.median(darkness(U[3:-3], line[3:-3].astype(np.float32))))
    found = []
    for side, sign in ((0, -1), (-1, 1)):
        inner = 4 if side == 0 else -5
        slope = float(np.clip((line[side] - line[inner]) / (abs(U[side] - U[inner]) * half), -0.7, 0.7))
        u, v = U[side] + sign * steps / half, line[side] + slope * steps
        rows = v + np.linspace(-0.02, 0.02, 5, dtype=np.float32)[:, None]
        dark = np.stack([darkness(u, row) for row in rows])
        goes_on = np.logical_and.accumulate(dark.max(0) > max(0.35 * usual, 0.05))
        count = int(goes_on.sum())
        at = (
            (U[side], line[side])
            if count == 0
            else (u[count - 1], rows[dark[:, count - 1].argmax(), count - 1])
        )
        x, y = place(theta[None], np.float32([[at[0]]]), np.float32([[at[1]]]))
        found.append((x[0, 0], y[0, 0]))
    return np.float32(found)


#: From what gap on, in D, the lower lip of an open mouth is looked for by its colour; how far below the upper one; and by how much
#: redder than the skin below, in levels of Lab, it has to be.
WIDE_GAP, _LOWEST_LIP, _LEAST_RED = 0.25, 0.85, 5.0


def lower_lip(
    maps: LipMaps, theta: np.ndarray, upper: np.ndarray, inner: np.ndarray, outer: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The lower lip's edges, heights (31,) at `U` as `inner` and `outer` are, of a mouth that stands wide open: jaws that drop make
    other curves than the family has, and the lip ends where red does.

    Args:
        upper: the upper lip's inner edge.
    """
    depth = np.arange(0.04, _LOWEST_LIP, 0.01, dtype=np.float32)
    rows = upper[:, None].astype(np.float32) + depth
    red = np.ascontiguousarray(maps.lab[..., 1])
    many, across = np.repeat(theta[None].astype(np.float32), len(U), 0), np.repeat(U[:, None], len(depth), 1)
    drop = 0.5 * sum(
        sample(red, *place(many, across, rows - step)) - sample(red, *place(many, across, rows + step))
        for step in np.float32([0.015, 0.035])
    )
    # Edges at the sides run down steeply, and pass through many rows of few columns.
    gain = np.clip(drop / 8, -1, 1.5) + 0.25 * np.sqrt(depth)
    jump = 18 * np.maximum(np.abs(depth[:, None] - depth[None]) - 0.02, 0) ** 2
    total, back = gain[1].copy(), []
    for k in range(2, len(U) - 1):
        ways = total[None] - jump * (2 if abs(U[k]) < 0.6 else 0.6)
        back.append(ways.argmax(1))
        total = ways.max(1) + gain[k]
    path = [int(total.argmax())]
    for move in reversed(back):
        path.append(int(move[path[-1]]))
    path = np.array(path[::-1])
    found = drop[np.arange(1, len(U) - 1), path]
    if float(np.median(found[3:-3])) < _LEAST_RED:
        return inner, outer
    edge = outer.copy()
    edge[1:-1] = rows[np.arange(1, len(U) - 1), path]
    edge = cv2.GaussianBlur(edge[None], (0, 0), 0.8, borderType=cv2.BORDER_REFLECT_101)[0]
    edge[[0, -1]] = outer[[0, -1]]
    half = float(np.hypot(theta[2] - theta[0], theta[3] - theta[1])) / 2
    slope = np.gradient(edge) / (np.gradient(U) * half)
    thick = (0.045 + 0.09 * (1 - U * U) ** 2) * np.sqrt(1 + slope * slope)
    return np.maximum(edge - thick, upper), edge


#: How much redder than skin a lip has to be to be told by it, in levels of Lab; and the shares of its redness and light from which
#: what is seen above it is still lip.
_RED, _AS_RED, _AS_LIGHT = 12.0, 0.85, 0.62


def without_flesh(
    maps: LipMaps, theta: np.ndarray, upper: np.ndarray, inner: np.ndarray, outer: np.ndarray
) -> np.ndarray:
    """The lower lip's inner edge, heights (31,) at `U` as `inner` is, higher up where what is taken for an opening is as red as the
    lip: its wet side, which lies in no light of its own, has the stronger edge.

    Args:
        upper, outer: the upper lip's inner edge, and the lower one's outer one.
    """
    many = np.repeat(theta[None].astype(np.float32), len(U), 0)

    def seen(rows: np.ndarray) -> np.ndarray:
        u = np.repeat(U[:, None], rows.shape[1], 1)
        return sample(maps.lab, *place(many, u, rows.astype(np.float32)))

    shares = np.float32([0.3, 0.45, 0.6, 0.75])
    lip = seen(inner[:, None] + (outer - inner)[:, None] * shares)[np.abs(U) < 0.6].reshape(-1, 3)
    light, red = np.median(lip[:, 0]), np.median(lip[:, 1]) - 128
    levels = np.linspace(0, 1, 25, dtype=np.float32)
    inside = seen(upper[:, None] + (inner - upper)[:, None] * levels)
    flesh = (inside[..., 1] - 128 > _AS_RED * red) & (inside[..., 0] > _AS_LIGHT * light)
    # In a mouth without lips, as drawings have, red is what lies in it.
    thick = float((outer - inner).max()) > 0.4 * float((inner - upper).max())
    if red < _RED or not thick:
        return inner
    # How far down each column is something else for the last time.
    open_ = np.where((~flesh).any(1), levels[len(levels) - 1 - (~flesh)[:, ::-1].argmax(1)], 0.0)
    beside = [np.clip(np.arange(len(U)) + k, 0, len(U) - 1) for k in range(-2, 3)]
    open_ = np.median(np.stack([open_[places] for places in beside]), axis=0)
    # Openings do not widen towards the corners.
    middle = len(U) // 2
    for order in (range(middle + 6, len(U)), range(middle - 6, -1, -1)):
        for k in order:
            open_[k] = min(open_[k], open_[k - 1 if k > middle else k + 1])
    open_ = cv2.GaussianBlur(open_[None], (0, 0), 3.0, borderType=cv2.BORDER_REPLICATE)[0]
    return upper + (inner - upper) * open_


#: Of an animal's mouth, or one in the shade, the shorter side reaches at least this share of the longer one's way from the middle.
_SHORTER_SIDE = 0.75


def widened(maps: LipMaps, theta: np.ndarray, middle: float) -> np.ndarray:
    """`theta` (9,) of a mouth whose line was found on one side of the face's `middle` (in D) more than on the other, with
    its shorter side longer, to where it is darkest there.
    """
    theta = np.array(theta, np.float32)
    reach = np.array([middle - theta[0], theta[2] - middle])
    side = int(reach.argmin())
    more = _SHORTER_SIDE * float(reach.max()) - float(reach[side])
    if more <= 0:
        return theta
    sign, x, y = (-1, 1)[side], *theta[2 * side : 2 * side + 2]
    steps = np.linspace(0.15, 1, 12, dtype=np.float32)
    ends = y + np.linspace(-0.16, 0.16, 33, dtype=np.float32)
    heights = y + (ends - y)[:, None] * steps
    across = np.broadcast_to(x + sign * more * steps, heights.shape)

    def light(down: float) -> np.ndarray:
        return sample(maps.light, WIDTH / 2 + PER_D * across, HEIGHT / 2 + PER_D * (heights + down))

    dark = np.clip((0.5 * (light(-0.04) + light(0.04)) - light(0.0)) / maps.span, -0.3, 0.6).mean(1)
    best = ends[int((dark - 8.0 * np.square(ends - y)).argmax())]
    theta[2 * side : 2 * side + 2] = x + sign * more, best
    return theta


_REACH = np.linspace(-0.06, 0.06, 31).astype(np.float32)


def follow(maps: LipMaps, theta: np.ndarray, base: np.ndarray, kind: str) -> np.ndarray:
    """Heights (31,) at `U` of a curve that follows the strongest edge near `base`, by dynamic programming.

    Args:
        kind: `line` (the dark line of a closed mouth), `outer upper`, `outer lower`, `inner upper` or `inner lower`.
    """
    # Where a line ends is seen as well as the rest of it; edges run together there.
    tapered = np.minimum(1.0, np.maximum(4.0 * (1 - np.abs(U)), 0.6 * (kind == "line")))
    reach = _REACH * (1.0 if kind == "line" else 0.7)
    tried = base[:, None] + tapered[:, None] * reach[None]
    half = np.hypot(theta[2] - theta[0], theta[3] - theta[1]) / 2
    c, s = (theta[2] - theta[0]) / 2 / half, (theta[3] - theta[1]) / 2 / half
    slope = np.gradient(base) / (np.gradient(U) * half)
    norm = 1 / np.sqrt(1 + slope * slope)
    nx, ny = ((-slope * c - s) * norm)[:, None], ((c - slope * s) * norm)[:, None]
    many = np.repeat(theta[None], len(U), 0)
    x, y = place(many, np.repeat(U[:, None], len(reach), 1), tried)
    if kind == "line":
        light = sample(maps.light, x, y)
        step = 0.03 * PER_D
        around = 0.5 * (
            sample(maps.light, x - step * nx, y - step * ny)
            + sample(maps.light, x + step * nx, y + step * ny)
        )
        gain = 2.0 * np.clip((around - light) / maps.span, -0.5, 1)
    else:
        power, light = sample(maps.tensor, x, y), sample(maps.slope, x, y)
        change = np.sqrt(
            np.maximum(power[..., 0] * nx * nx + power[..., 1] * ny * ny + 2 * power[..., 2] * nx * ny, 0)
        )
        lighter = light[..., 0] * nx + light[..., 1] * ny
        lighter = lighter / (np.abs(lighter) + 2 * maps.usual)
        sign = {"outer upper": -0.3, "outer lower": 0.3, "inner upper": -0.1, "inner lower": 0.1}[kind]
        gain = change / (change + 2 * maps.usual) * (1 + sign * lighter)
    cost = -gain + 0.22 * (reach[None] / 0.05) ** 2
    jump = 0.9 * ((reach[:, None] - reach[None]) / 0.016) ** 2
    total, back = cost[0].copy(), []
    for k in range(1, len(U)):
        ways = total[:, None] + jump
        back.append(ways.argmin(0))
        total = ways.min(0) + cost[k]
    path = [int(total.argmin())]
    for move in reversed(back):
        path.append(int(move[path[-1]]))
    offset = reach[path[::-1]] * tapered
    return base + cv2.GaussianBlur(offset[None], (0, 0), 1.2, borderType=cv2.BORDER_REFLECT_101)[0]
