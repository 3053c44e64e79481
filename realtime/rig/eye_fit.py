"""Find both eyes' edges in the picture itself, from landmarks that are right to a tenth of the eyes' distance.

A lid's edge is where skin ends, and an iris is a dark disc. A family of eyes (opening, lids, tilt, skew, iris) is searched
for the pair along whose curves the picture changes most, with eye inside and skin around: first as two eyes of one shape,
then each by itself. Everything happens in upright crops whose unit is the eyes' distance D, the right one mirrored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

#: Pixels of the crop per D, and its size. Small pictures are enlarged: edges then move by parts of their pixels.
PER_D = 160.0
WIDTH, HEIGHT = 176, 144

#: Columns in which curves are sampled, from corner to corner.
U = np.linspace(-1, 1, 25).astype(np.float32)


class EyeMaps:
    """What the fit looks at: the crop's edges, its difference from skin, its darkness.

    Args:
        crop: uint8 RGB (HEIGHT, WIDTH, 3), the eye in the middle.
    """

    def __init__(self, crop: np.ndarray):
        self.lab = cv2.cvtColor(cv2.GaussianBlur(crop, (0, 0), 1.2), cv2.COLOR_RGB2LAB).astype(np.float32)
        self.light = np.ascontiguousarray(self.lab[..., 0])
        dx, dy = cv2.Scharr(self.lab, cv2.CV_32F, 1, 0) / 32, cv2.Scharr(self.lab, cv2.CV_32F, 0, 1) / 32
        xx, yy, xy = (dx * dx).sum(2), (dy * dy).sum(2), (dx * dy).sum(2)
        # What counts as an edge depends on the picture; 0.8 is JPEG's noise.
        self.usual = max(float(np.percentile(np.sqrt(xx + yy)[24:-24, 16:-16], 70)), 0.8)
        self.tensor = np.dstack([xx, yy, xy])
        self.slope = np.ascontiguousarray(np.dstack([dx[..., 0], dy[..., 0]]))
        self.skin = self._skin()
        away = self._away()
        scale = max(float(np.median(away[self._ring])), 2.0)
        self.other = (away / (away + 3.0 * scale)).astype(np.float32)

    def _away(self) -> np.ndarray:
        """How far each pixel's colour is from the skin's: shadows, which darken all of it, count least."""
        neutral = np.float32((0, 128, 128))
        skin, off = self.skin - neutral, self.lab - self.skin
        length = np.linalg.norm(skin, axis=2) + 1e-3
        along = (off * skin).sum(2) / length
        across = np.sqrt(np.maximum((off * off).sum(2) - along * along, 0))
        return np.hypot(np.where(along < 0, 0.25, 0.8) * along, 2.0 * across).astype(np.float32)

    def _skin(self) -> np.ndarray:
        """The skin's colour at every pixel: a quadratic surface through what surrounds the eye, without brow and hair."""
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
        u, v = (x - WIDTH / 2) / (0.5 * WIDTH), (y - HEIGHT / 2) / (0.5 * HEIGHT)
        radius = np.hypot(u / 0.72, (v - 0.05) / 0.62)
        self._ring = (radius > 1.0) & (radius < 1.75) & (v > -0.62)
        basis = np.stack([np.ones_like(u), u, v, u * v, u * u, v * v], -1)
        a, b = basis[self._ring][::3], self.lab[self._ring][::3]
        weight = np.where(a[:, 2] > 0, 1.0, 0.5).astype(np.float32)
        # The cheek is skin; what is far from its middle colour may be brow, hair or a rim.
        centre = np.median(b[a[:, 2] > 0.1], axis=0)
        fit = np.zeros((6, 3), np.float32)
        fit[0] = centre
        # Towards flat: it bends only as far as the picture insists.
        ridge = np.diag([1e-3, 0.05, 0.05, 0.5, 0.5, 0.5]) * len(a)
        for _ in range(6):
            off = np.linalg.norm(b - a @ fit, axis=1)
            spread = max(float(np.median(off)), 2.0)
            w = (weight / (1 + (off / (1.5 * spread)) ** 2))[:, None]
            fit = np.linalg.solve((a * w).T @ a + ridge, (a * w).T @ (b - centre)).astype(np.float32)
            fit[0] += centre
        return (basis @ fit).astype(np.float32)


def sample(plane: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear values of a plane (h, w) or (h, w, c) at points (N, M)."""
    x, y = np.ascontiguousarray(x, np.float32), np.ascontiguousarray(y, np.float32)
    return cv2.remap(plane, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


# An eye is a row of parameters, in D: centre x, y; half width; heights of the lids; tilt (radians); skew of the upper
# lid's highest point; roundness of both; iris x, y and radius.
EYE = 11
_LOWEST = np.array([-0.3, -0.3, 0.10, 0.015, 0.012, -0.45, -0.35, 0.45, -0.3, -0.3, 0.055], np.float32)
_HIGHEST = np.array([0.3, 0.3, 0.46, 0.36, 0.36, 0.45, 0.35, 1.3, 0.3, 0.3, 0.31], np.float32)
_SIGMA = np.array([0.03, 0.03, 0.035, 0.04, 0.03, 0.12, 0.12, 0.15, 0.02, 0.02, 0.012])


def heights(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lids of (N, 11) eyes at `U`: two of (N, 25), in D."""
    u = U[None]
    skewed = u - theta[:, 6:7] * (1 - u * u)
    bump = np.maximum(1 - skewed * skewed, 0) ** theta[:, 7:8]
    low = np.maximum(1 - u * u, 0) ** (0.9 * theta[:, 7:8])
    return -theta[:, 3:4] * bump, theta[:, 4:5] * low


def place(theta: np.ndarray, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Crop coordinates of (N, M) places: u in half widths along, v in D across."""
    c, s = PER_D * np.cos(theta[:, 5:6]), PER_D * np.sin(theta[:, 5:6])
    along = u * theta[:, 2:3]
    x = PER_D * theta[:, 0:1] + WIDTH / 2 + c * along - s * v
    y = PER_D * theta[:, 1:2] + HEIGHT / 2 + s * along + c * v
    return x, y


_EDGE = slice(2, -2, 2)
_INNER = np.linspace(-0.86, 0.86, 9).astype(np.float32)
_PICK = np.searchsorted(U, _INNER)
_LEVELS = (0.25, 0.5, 0.75)
_AROUND = 7
_U_ROWS = np.concatenate([np.tile(_INNER, _AROUND), np.float32([-1.15, -1.28, 1.15, 1.28])])[None]


def score(maps: EyeMaps, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How well (N, 11) openings fit: total, edge and inside parts, each (N,)."""
    many = len(theta)
    up, low = heights(theta)
    c, s = np.cos(theta[:, 5:6]), np.sin(theta[:, 5:6])
    # The corners' curves turn steeply, and say little.
    u = U[_EDGE]
    both = np.concatenate([up[:, _EDGE], low[:, _EDGE]], 1)
    x, y = place(theta, np.tile(u, 2)[None], both)
    n = len(u)
    slope = np.concatenate([np.gradient(both[:, :n], axis=1), np.gradient(both[:, n:], axis=1)], 1)
    slope /= (u[1] - u[0]) * theta[:, 2:3]
    norm = 1 / np.sqrt(1 + slope * slope)
    nx, ny = (-slope * c - s) * norm, (c - slope * s) * norm
    power = sample(maps.tensor, x, y)
    change = np.sqrt(
        np.maximum(power[..., 0] * nx * nx + power[..., 1] * ny * ny + 2 * power[..., 2] * nx * ny, 0)
    )
    lighter = sample(maps.slope, x, y)
    lighter = lighter[..., 0] * nx + lighter[..., 1] * ny
    lighter = lighter / (np.abs(lighter) + 2.0 * maps.usual)
    change = change / (change + 2.0 * maps.usual)
    # The iris's own rim says little of lids.
    far = np.hypot(x - WIDTH / 2 - PER_D * theta[:, 8:9], y - HEIGHT / 2 - PER_D * theta[:, 9:10]) / PER_D
    change *= 1 - 0.5 * np.exp(-(((far - theta[:, 10:11]) / 0.016) ** 2))
    # Down across the upper lid it gets darker, across the lower one lighter.
    edge_up = (change[:, :n] * (1 - 0.35 * lighter[:, :n])).mean(1)
    edge_low = (change[:, n:] * (1 + 0.35 * lighter[:, n:])).mean(1)
    edges = 0.58 * edge_up + 0.42 * edge_low

    top, bottom = up[:, _PICK], low[:, _PICK]
    rows = [top + (bottom - top) * level for level in _LEVELS]
    rows += [top - 0.04, bottom + 0.035, top - 0.075, bottom + 0.07, np.zeros((many, 4), np.float32)]
    values = sample(maps.other, *place(theta, _U_ROWS, np.concatenate(rows, 1)))
    beside = values[:, -4:].mean(1)
    values = values[:, :-4].reshape(many, _AROUND, -1)
    thirds = values[:, :3].mean(1).reshape(many, 3, 3).mean(2)
    inside = 0.4 * thirds.mean(1) + 0.6 * thirds.min(1)
    contrast = inside - 0.75 * values[:, 3:].mean((1, 2)) - 0.25 * beside

    # The iris is behind the opening: most of its width between the corners; upper lids cover some of it, lower ones touch.
    dx, dy = theta[:, 8] - theta[:, 0], theta[:, 9] - theta[:, 1]
    along = dx * c[:, 0] + dy * s[:, 0]
    across = -dx * s[:, 0] + dy * c[:, 0]
    at = np.clip(along / theta[:, 2], -0.7, 0.7)
    top_at = -theta[:, 3] * (1 - at * at) ** theta[:, 7]
    low_at = theta[:, 4] * (1 - at * at) ** (0.9 * theta[:, 7])
    r = theta[:, 10]
    beyond = np.maximum(np.abs(along) + 0.5 * r - theta[:, 2], 0)
    lid = ((across - top_at) / r - 0.75) ** 2 + 1.2 * ((low_at - across) / r - 0.9) ** 2
    penalty = 6 * beyond + 0.5 * lid / (1 + 0.4 * lid)
    return 1.3 * edges + 1.2 * contrast - penalty, edges, contrast


_RADII = np.geomspace(0.06, 0.30, 18).astype(np.float32)
_STEP = 0.016
_STEPS = (np.arange(-9, 10) * _STEP).astype(np.float32)
_ANGLES = np.radians(np.concatenate([np.arange(-40, 56, 19), 180 + np.arange(-55, 41, 19)])).astype(
    np.float32
)


class Irises:
    """How much each disc near a guess looks like an iris.

    Args:
        maps: of the crop.
        guess: (x, y) in D from the crop's middle.
        spread: how far the landmark's looks disagree, in D.

    Attributes:
        total: float32 (radii, x, y), the score of each.
        stands: how much each stands out, in [0, 1].
    """

    def __init__(self, maps: EyeMaps, guess: np.ndarray, spread: float):
        self.guess = np.asarray(guess, np.float32)
        shape = (len(_RADII), len(_STEPS), len(_STEPS))
        gr, gx, gy = (
            a.ravel()
            for a in np.meshgrid(_RADII, _STEPS + self.guess[0], _STEPS + self.guess[1], indexing="ij")
        )
        # Only the sides of the disc: lids cover it above and below.
        ca, sa = np.cos(_ANGLES), np.sin(_ANGLES)

        def ring(share: float) -> tuple[np.ndarray, np.ndarray]:
            x = WIDTH / 2 + PER_D * (gx[:, None] + (share * gr)[:, None] * ca)
            y = HEIGHT / 2 + PER_D * (gy[:, None] + (share * gr)[:, None] * sa)
            return x, y

        def rim(share: float) -> np.ndarray:
            x, y = ring(share)
            slope, power = sample(maps.slope, x, y), sample(maps.tensor, x, y)
            outward = slope[..., 0] * ca + slope[..., 1] * sa
            change = power[..., 0] * (ca * ca) + power[..., 1] * (sa * sa) + 2 * power[..., 2] * (ca * sa)
            change = np.sqrt(np.maximum(change, 0))
            # Lighter outside than inside; but bright irises only differ.
            lighter = np.clip(outward / (np.abs(outward) + 2 * maps.usual), -0.3, 1)
            return 0.55 * lighter + 0.45 * change / (change + 2 * maps.usual)

        edge, half = rim(1.0), len(_ANGLES) // 2
        # Both sides count: a shadow has one.
        sides = 0.6 * np.minimum(edge[:, :half].mean(1), edge[:, half:].mean(1)) + 0.7 * edge.mean(1)
        pupil = np.maximum(rim(0.38).mean(1), rim(0.55).mean(1))
        low, high = np.percentile(maps.light, [2, 90])
        span = max(float(high - low), 20.0)
        # Catch-lights are in the inside: its middle value counts.
        core, middle, around = (sample(maps.lab, *ring(share)) for share in (0.3, 0.75, 1.3))
        within = np.median(np.concatenate([core[..., 0], middle[..., 0]], 1), axis=1)
        beside = np.median(around[..., 0], axis=1)
        differs = np.linalg.norm(np.median(middle, axis=1) - np.median(around, axis=1), axis=1)
        stands = np.clip(0.7 * (beside - within) / span + 0.3 * differs / (differs + 20), -0.5, 1)
        off = np.hypot(gx - self.guess[0], gy - self.guess[1])
        unusual = (np.log(gr / 0.1) / np.where(gr > 0.1, 0.55, 0.4)) ** 2
        total = sides + 0.3 * pupil + 0.7 * stands + 0.35 * (high - np.median(core[..., 0], axis=1)) / span
        trust = float(np.clip(0.03 / (spread + 0.012), 0.35, 2.0))
        total -= 0.13 * unusual + trust * (1.5 * off + 20 * np.maximum(off - 0.04, 0) ** 2)
        self.total = total.reshape(shape).astype(np.float32)
        self.stands = (np.clip(sides + stands, 0, 1.8) / 1.8).reshape(shape)

    def _index(self, x: np.ndarray, y: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, ...]:
        ratio = np.log(_RADII[1] / _RADII[0])
        return (
            np.clip(np.rint(np.log(r / _RADII[0]) / ratio), 0, len(_RADII) - 1).astype(int),
            np.clip(np.rint((x - self.guess[0]) / _STEP) + 9, 0, 18).astype(int),
            np.clip(np.rint((y - self.guess[1]) / _STEP) + 9, 0, 18).astype(int),
        )

    def at(self, theta: np.ndarray) -> np.ndarray:
        """The scores of the irises of (N, 11) eyes."""
        out = np.maximum(np.abs(theta[:, 8:10] - self.guess).max(1) - 9 * _STEP, 0)
        return self.total[self._index(theta[:, 8], theta[:, 9], theta[:, 10])] - 20 * out

    def standing(self, theta: np.ndarray) -> float:
        """How much the iris of one eye (11,) stands out."""
        return float(self.stands[self._index(*(theta[k : k + 1] for k in (8, 9, 10)))][0])


def iris_pairs(one: Irises, other: Irises, count: int = 3) -> list[tuple[np.ndarray, np.ndarray]]:
    """Likely pairs of irises, best first: of one size, and as high beside one another as the landmarks have them."""
    # For each size and height the best place along.
    rows = [maps.total.max(1) for maps in (one, other)]
    apart = ((_STEPS[:, None] - _STEPS[None, :]) / 0.03) ** 2
    sums = rows[0][:, :, None] + rows[1][:, None, :] - 0.12 * apart[None]
    result, sums = [], sums.copy()
    for _ in range(count):
        k, y0, y1 = np.unravel_index(int(np.argmax(sums)), sums.shape)
        pair = []
        for maps, y in ((one, y0), (other, y1)):
            x = int(np.argmax(maps.total[k, :, y]))
            pair.append(
                np.array([_STEPS[x] + maps.guess[0], _STEPS[y] + maps.guess[1], _RADII[k]], np.float32)
            )
        result.append(tuple(pair))
        # The next one has to be another: two sizes, or a quarter of a D/10, away.
        sums[max(k - 2, 0) : k + 3, max(y0 - 2, 0) : y0 + 3, max(y1 - 2, 0) : y1 + 3] = -np.inf
    return result


def _cross_entropy(objective, mean: np.ndarray, sigma: np.ndarray, bounds, rounds: int, count: int):
    """The maximum of `objective` (N, P) -> (N,) near `mean`; the same for the same picture."""
    rng = np.random.default_rng(7)
    kept, most = mean.astype(np.float32), -np.inf
    for _ in range(rounds):
        tried = mean + sigma * rng.standard_normal((count, len(mean)))
        tried[0] = kept
        tried = np.clip(tried, *bounds).astype(np.float32)
        total = objective(tried)
        order = np.argsort(total)[::-1][: max(count // 10, 8)]
        mean, sigma = tried[order].mean(0), 0.8 * tried[order].std(0) + 0.12 * sigma
        if total[order[0]] > most:
            kept, most = tried[order[0]], float(total[order[0]])
    return kept, most


#: How far close-ups may be off, in D (radians and ratios for tilt, skew and roundness), where their looks agree.
_SEEN_SIGMA = np.array([0.012, 0.012, 0.016, 0.014, 0.012, 0.06, 0.15, 0.25, 0.02, 0.02], np.float32)

#: Weight of what close-ups saw.
SEEN_WEIGHT = 0.12


@dataclass(frozen=True, eq=False)
class Seen:
    """What close-ups saw of one eye.

    Attributes:
        theta: (10,), an eye without the iris's radius.
        sigma: (10,), how far that may be off.
    """

    theta: np.ndarray
    sigma: np.ndarray

    @classmethod
    def of(cls, looks: list[np.ndarray]) -> Seen:
        """From `EYE_POINTS` (9, 2) of several looks, in D from the crop's middle."""
        every = np.stack([cls._theta(points) for points in looks])
        middle = np.median(every, axis=0)
        spread = np.median(np.abs(every - middle), axis=0) * 1.5
        return cls(middle.astype(np.float32), np.hypot(_SEEN_SIGMA, 1.5 * spread).astype(np.float32))

    @staticmethod
    def _theta(points: np.ndarray) -> np.ndarray:
        outer, inner, iris = points[0], points[4], points[8]
        line = inner - outer
        half = max(float(np.hypot(*line)) / 2, 1e-3)
        middle, along = (outer + inner) / 2, line / (2 * half)
        down = np.array([-along[1], along[0]])
        upper, lower = ((points[rows] - middle) @ down for rows in ([1, 2, 3], [7, 6, 5]))
        at = (points[[1, 2, 3]] - middle) @ along / half
        # The highest point of a parabola through the three.
        curve = np.polyfit(at, -upper, 2)
        top = float(np.clip(-curve[1] / (2 * min(curve[0], -1e-3)), -0.35, 0.35))
        height = max(float(-upper.min()), float(np.polyval(curve, top)))
        return np.array(
            [*middle, half, height, lower.max(), np.arctan2(along[1], along[0]), top, 0.85, *iris]
        )

    def off(self, theta: np.ndarray) -> np.ndarray:
        """How far (N, 11) eyes are from it, squared and bent so that one wrong number does not decide."""
        off = np.square((theta[:, :10] - self.theta) / self.sigma)
        return (off / (1 + off / 16)).sum(1)


#: Where the search begins: half width, heights of the lids over the iris's radius, roundness.
_STARTS = ((0.23, 0.8, 0.8, 0.9), (0.235, 1.1, 1.0, 0.65))


@dataclass(frozen=True)
class EyeFit:
    """One eye of the crop: its parameters, how well it fits, its edges' and its inside's part, and its iris's."""

    theta: np.ndarray
    total: float
    edges: float
    contrast: float
    stands: float


def search(
    maps: tuple[EyeMaps, EyeMaps], guesses, spreads, opening: float, seen: Sequence[Seen] = ()
) -> list[EyeFit]:
    """Both eyes, the second crop mirrored so that both are left ones: first of one shape, then each by itself.

    Args:
        maps: of both crops.
        guesses: (x, y) of both irises in D from the crops' middles.
        spreads: how far the looks disagree on each, in D.
        opening: the landmarks' height of the openings, in D.
        seen: of both, by close-ups, if there are any.
    """
    if seen:
        guesses = [0.5 * (guess + one.theta[8:10]) for guess, one in zip(guesses, seen, strict=True)]
    irises = tuple(Irises(*one) for one in zip(maps, guesses, spreads, strict=True))

    def each(theta: np.ndarray, k: int) -> np.ndarray:
        total = score(maps[k], theta)[0] + 0.8 * irises[k].at(theta) - prior(theta, opening)
        return total - SEEN_WEIGHT * seen[k].off(theta) if seen else total

    def second(theta: np.ndarray) -> np.ndarray:
        other = theta[:, :EYE].copy()
        other[:, 0:2], other[:, 8:10] = theta[:, EYE : EYE + 2], theta[:, EYE + 2 :]
        return other

    def both(theta: np.ndarray) -> np.ndarray:
        return each(theta[:, :EYE], 0) + each(second(theta), 1)

    own = [0, 1, 8, 9]
    bounds = [np.concatenate([edge, edge[own]]) for edge in (_LOWEST, _HIGHEST)]
    sigma = np.concatenate([_SIGMA, _SIGMA[own]])
    tries = []
    for one, other in iris_pairs(*irises):
        for half, up, low, power in _STARTS:
            shape = [max(half, 1.1 * one[2]), up * one[2], low * one[2], 0.0, 0.0, power]
            mean = np.array([*one[:2], *shape, *one, *other[:2], *other[:2]])
            tries.append(_cross_entropy(both, mean, sigma, bounds, 3, 160))
        if seen:
            left, right = (
                _with_radius(view.theta, radius)
                for view, radius in zip(seen, (one[2], other[2]), strict=True)
            )
            mean = np.concatenate([(left + right) / 2, right[own]])
            mean[own] = left[own]
            tries.append(_cross_entropy(both, mean, sigma, bounds, 3, 160))
    tries.sort(key=lambda found: -found[1])
    best = max(
        (_cross_entropy(both, start, 0.6 * sigma, bounds, 5, 160) for start, _ in tries[:2]),
        key=lambda found: found[1],
    )[0]
    result = []
    weight = np.array([0.03, 0.03, 0.05, 0.03, 0.03, 0.2, 0.2, 0.3, 0.02, 0.02, 0.01], np.float32)
    for k in range(2):
        start = best[:EYE] if k == 0 else second(best[None])[0]

        def alone(theta: np.ndarray, k=k, start=start) -> np.ndarray:
            return each(theta, k) - 0.03 * np.square((theta - start) / weight).sum(1)

        theta, total = _cross_entropy(alone, start, 0.4 * _SIGMA, (_LOWEST, _HIGHEST), 5, 120)
        _, edges, contrast = score(maps[k], theta[None])
        if seen:
            # How clear the edges are has nothing to do with what close-ups saw.
            total += SEEN_WEIGHT * float(seen[k].off(theta[None])[0])
        result.append(EyeFit(theta, total, float(edges[0]), float(contrast[0]), irises[k].standing(theta)))
    return result


def _with_radius(theta: np.ndarray, radius: float) -> np.ndarray:
    return np.append(theta, np.float32(radius))


def prior(theta: np.ndarray, opening: float) -> np.ndarray:
    """What is unusual costs: odd widths and proportions, tilt, skew."""
    tall = theta[:, 3] + theta[:, 4]
    wide = ((theta[:, 2] - 0.23) / 0.04) ** 2
    ratio = np.log(theta[:, 3] / theta[:, 4] / 1.6)
    return (
        0.05 * wide / (1 + wide / 16)
        + 0.8 * (theta[:, 5] - 0.07) ** 2
        + 0.6 * theta[:, 6] ** 2
        + 0.5 * np.maximum(tall / (2 * theta[:, 2]) - 0.9, 0)
        + 0.05 * ratio**2
        # Landmarks see the openings of drawn and narrow eyes too small, seldom too large.
        + 4.0 * np.maximum(min(opening, 0.25) - 0.04 - tall, 0)
        + 3.0 * np.maximum(0.11 - tall, 0)
    )


def _iris_by_size(maps: EyeMaps, theta: np.ndarray, r0: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best iris of each radius seen through a known opening, all of its rim that shows: radii, (x, y), scores."""
    x0, y0 = theta[8:10]
    radii = np.clip(r0 * np.geomspace(0.6, 1.5, 13), 0.05, 0.25)
    steps = np.linspace(-0.55, 0.55, 11) * r0
    gr, gx, gy = (
        a.ravel().astype(np.float32) for a in np.meshgrid(radii, x0 + steps, y0 + 0.7 * steps, indexing="ij")
    )
    angle = np.radians(np.arange(0, 360, 15)).astype(np.float32)
    ca, sa = np.cos(angle), np.sin(angle)
    px, py = gx[:, None] + gr[:, None] * ca, gy[:, None] + gr[:, None] * sa
    # Where the rim is in the opening's own coordinates.
    c, s = np.cos(theta[5]), np.sin(theta[5])
    u = ((px - theta[0]) * c + (py - theta[1]) * s) / theta[2]
    v = -(px - theta[0]) * s + (py - theta[1]) * c
    up, low = (h[0] for h in heights(theta[None]))
    flat = u.ravel()
    top, bottom = np.interp(flat, U, up).reshape(u.shape), np.interp(flat, U, low).reshape(u.shape)
    seen = (np.abs(u) < 0.97) & (v > top + 0.012) & (v < bottom - 0.008)
    x, y = WIDTH / 2 + PER_D * px, HEIGHT / 2 + PER_D * py
    slope, power = sample(maps.slope, x, y), sample(maps.tensor, x, y)
    outward = slope[..., 0] * ca + slope[..., 1] * sa
    change = np.sqrt(
        np.maximum(power[..., 0] * ca * ca + power[..., 1] * sa * sa + 2 * power[..., 2] * ca * sa, 0)
    )
    lighter = np.clip(outward / (np.abs(outward) + 2 * maps.usual), -0.4, 1)
    rim = 0.65 * lighter + 0.35 * change / (change + 2 * maps.usual)
    count = seen.sum(1)
    half = seen & (ca < 0), seen & (ca > 0)
    sides = [np.where(k.sum(1) > 0, (rim * k).sum(1) / np.maximum(k.sum(1), 1), 0.0) for k in half]
    score = (rim * seen).sum(1) / np.maximum(count, 1) + 0.5 * np.minimum(*sides)
    # A rim of which hardly anything shows proves nothing; the lids lie about the iris as they mostly do.
    score -= 1.2 * np.maximum(0.45 - count / len(angle), 0)
    at = np.clip(((gx - theta[0]) * c + (gy - theta[1]) * s) / theta[2], -0.7, 0.7)
    across = -(gx - theta[0]) * s + (gy - theta[1]) * c
    above = (across - np.interp(at, U, up)) / gr - 0.75
    below = (np.interp(at, U, low) - across) / gr - 0.9
    score -= 0.10 * above**2 + 0.18 * below**2
    # Human irises are of one size; those of large drawn eyes and of animals go with the opening.
    usual = max(0.093, 0.47 * float((low - up).max()))
    score -= 0.35 * (np.log(gr / usual) / 0.4) ** 2
    score -= 0.04 * ((gx - x0) ** 2 + (gy - y0) ** 2) / (0.5 * r0) ** 2
    rows = score.reshape(len(radii), -1)
    best = rows.argmax(1)
    at = np.column_stack(
        [
            gx.reshape(rows.shape)[np.arange(len(radii)), best],
            gy.reshape(rows.shape)[np.arange(len(radii)), best],
        ]
    )
    return radii, at, rows.max(1)


#: Rims that are worse by no more than this may be the iris's where a pupil's is the best.
PUPIL = 0.42

#: Irises below this radius, in D, are mostly pupils: people's have 0.093.
SMALL_IRIS = 0.075


def refine_irises(maps: tuple[EyeMaps, EyeMaps], fits: list[EyeFit]) -> list[np.ndarray]:
    """Both irises (x, y, r), which are of one size, seen through their known openings."""
    size = float(np.sqrt(fits[0].theta[10] * fits[1].theta[10]))
    found = [_iris_by_size(one, fit.theta, size) for one, fit in zip(maps, fits, strict=True)]
    total = found[0][2] + found[1][2]
    k = int(np.argmax(total))
    irises = [np.array([*at[k], radii[k]], np.float32) for radii, at, _ in found]
    # A pupil's rim may be clearer than the iris's: around it there is iris, not white.
    left = _left_over(maps, fits, irises)
    if left > 0.25:
        wider = [_iris_by_size(one, fit.theta, 1.5 * size) for one, fit in zip(maps, fits, strict=True)]
        more, best = wider[0][2] + wider[1][2], float(total[k])
        for k in np.argsort(-more):
            if more[k] < best - (PUPIL if irises[0][2] > SMALL_IRIS else 2.5 * PUPIL):
                break
            others = [np.array([*at[k], radii[k]], np.float32) for radii, at, _ in wider]
            # Both are as high in their openings.
            high = [(other[1] - fit.theta[1]) / other[2] for other, fit in zip(others, fits, strict=True)]
            alike = abs(high[0] - high[1]) < 0.4
            if alike and others[0][2] > 1.15 * irises[0][2] and _left_over(maps, fits, others) < 0.3 * left:
                return others
    return irises


def _left_over(maps: tuple[EyeMaps, EyeMaps], fits: list[EyeFit], irises: list[np.ndarray]) -> float:
    """How much of what lies right around two irises (x, y, r) is none of the white, their mean: 0 where it is white, 1 where it is as far
    from it as what lies right within.
    """
    angle = np.radians(np.concatenate([np.arange(-30, 46, 15), 180 + np.arange(-45, 31, 15)]))
    found = []
    for one, fit, (x, y, r) in zip(maps, fits, irises, strict=True):
        theta = fit.theta
        up, low = (h[0] for h in heights(theta[None]))
        c, s = np.cos(theta[5]), np.sin(theta[5])

        def seen(x: np.ndarray, y: np.ndarray, one=one, theta=theta, up=up, low=low, c=c, s=s) -> np.ndarray:
            """The colours (N, 3) of those places that lie in the opening."""
            u = ((x - theta[0]) * c + (y - theta[1]) * s) / theta[2]
            v = -(x - theta[0]) * s + (y - theta[1]) * c
            within = (np.abs(u) < 0.9) & (v > np.interp(u, U, up) + 0.02) & (v < np.interp(u, U, low) - 0.012)
            x, y = (np.float32(size / 2 + PER_D * k) for size, k in ((WIDTH, x), (HEIGHT, y)))
            return sample(one.lab, x[None], y[None])[0][within]

        grid = np.meshgrid(
            theta[0] + theta[2] * np.linspace(-0.85, 0.85, 35),
            theta[1] + np.linspace(-theta[3], theta[4], 15),
        )
        whole = seen(*(k.ravel() for k in grid))
        inner, outer = (
            seen(x + far * r * np.cos(angle), y + far * r * np.sin(angle)) for far in (0.78, 1.22)
        )
        if min(len(whole) / 4, len(inner), len(outer)) < 3:
            return 0.0
        # The lightest of the opening is the white.
        white = np.median(whole[whole[:, 0] >= np.percentile(whole[:, 0], 80)], axis=0)
        inner, outer = (float(np.linalg.norm(np.median(k, axis=0) - white)) for k in (inner, outer))
        found.append(min(outer / max(inner, 8.0), 1.0))
    return float(np.mean(found))


_REACH = np.linspace(-0.045, 0.045, 25).astype(np.float32)


def follow_edge(maps: EyeMaps, theta: np.ndarray, base: np.ndarray, upper: bool) -> np.ndarray:
    """Heights (25,) at `U` of a lid that follows the strongest edge near `base`, by dynamic programming."""
    tapered = np.minimum(1.0, 3.0 * (1 - np.abs(U)))
    tried = base[:, None] + tapered[:, None] * _REACH[None]
    c, s = np.cos(theta[5]), np.sin(theta[5])
    slope = np.gradient(base) / (np.gradient(U) * theta[2])
    norm = 1 / np.sqrt(1 + slope * slope)
    nx, ny = ((-slope * c - s) * norm)[:, None], ((c - slope * s) * norm)[:, None]
    one = theta[None]
    x, y = place(np.repeat(one, len(U), 0), np.repeat(U[:, None], len(_REACH), 1), tried)
    power, light = sample(maps.tensor, x, y), sample(maps.slope, x, y)
    change = np.sqrt(
        np.maximum(power[..., 0] * nx * nx + power[..., 1] * ny * ny + 2 * power[..., 2] * nx * ny, 0)
    )
    lighter = light[..., 0] * nx + light[..., 1] * ny
    lighter = lighter / (np.abs(lighter) + 2 * maps.usual)
    gain = change / (change + 2 * maps.usual) * (1 + (-0.4 if upper else 0.4) * lighter)
    cost = -gain + 0.25 * (_REACH[None] / 0.045) ** 2
    jump = 0.9 * ((_REACH[:, None] - _REACH[None]) / 0.012) ** 2
    total, back = cost[0].copy(), []
    for k in range(1, len(U)):
        ways = total[:, None] + jump
        back.append(ways.argmin(0))
        total = ways.min(0) + cost[k]
    path = [int(total.argmin())]
    for step in reversed(back):
        path.append(int(step[path[-1]]))
    offset = _REACH[path[::-1]] * tapered
    return base + cv2.GaussianBlur(offset[None], (0, 0), 1.0, borderType=cv2.BORDER_REFLECT_101)[0]


#: A white that is lighter than the skin and differs from it by this much (CIELAB of 8 bits) tells where the opening ends; it is followed so far, in D.
WHITE_STANDS_OUT, WHITE_REACH = 40.0, 0.07


def include_white(
    maps: EyeMaps, theta: np.ndarray, iris: np.ndarray, up: np.ndarray, low: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The heights of both lids at `U`, moved outwards to where the white ends that they cut.

    Args:
        theta: the eye's parameters (11,).
        iris: (x, y, r) in D.
    """
    one = theta[None]
    rows = up[:, None] + (low - up)[:, None] * np.linspace(0.15, 0.85, 8, dtype=np.float32)[None]
    x, y = place(one, U[None, 2:-2].repeat(8, 0).reshape(1, -1), rows[2:-2].T.reshape(1, -1))
    inside, skin = sample(maps.lab, x, y)[0], sample(maps.skin, x, y)[0]
    away = np.hypot(x - WIDTH / 2 - PER_D * iris[0], y - HEIGHT / 2 - PER_D * iris[1])[0] / PER_D
    beside = away > 1.15 * iris[2]
    if beside.sum() < 12:
        return up, low
    light = inside[beside][:, 0]
    white = np.median(inside[beside][light >= np.percentile(light, 60)], axis=0)
    if np.linalg.norm(white - np.median(skin, axis=0)) < WHITE_STANDS_OUT:
        return up, low
    steps = np.linspace(-0.02, WHITE_REACH, 19).astype(np.float32)
    result = []
    for edge, sign in ((up, -1), (low, 1)):
        tried = edge[:, None] + sign * steps[None]
        x, y = place(
            np.repeat(one, len(U), 0), np.repeat(U[:, None], len(steps), 1), tried.astype(np.float32)
        )
        there = sample(maps.lab, x, y)
        # On the way from the skin beside this column to the white, in shares of it.
        beside = (edge + sign * np.float32(1.7 * WHITE_REACH))[None].astype(np.float32)
        skin = sample(maps.lab, *place(one, U[None], beside))[0]
        way = white - skin
        far = np.linalg.norm(way, axis=1)
        share = np.einsum("usc,uc->us", there - skin[:, None], way) / np.maximum(far * far, 1)[:, None]
        alike = (share > 0.4) & ((far > WHITE_STANDS_OUT) & (way[:, 0] > 0.4 * far))[:, None]
        # From within the edge outwards as long as it is white. What does not end is none.
        ends = np.where(alike[:, 0], np.argmin(np.c_[alike, np.zeros(len(U), bool)], axis=1), 0)
        ends[ends == len(steps)] = 0
        further = np.maximum(steps[np.maximum(ends - 1, 0)], 0)
        # Before the iris there is none: as far as beside it.
        x, y = place(one, U[None], edge[None].astype(np.float32))
        before = np.hypot(x - WIDTH / 2 - PER_D * iris[0], y - HEIGHT / 2 - PER_D * iris[1])[0] / PER_D
        known = before > 1.25 * iris[2]
        if known.sum() > 3:
            further = np.interp(U, U[known], further[known])
        further = np.array([np.median(further[max(k - 2, 0) : k + 3]) for k in range(len(U))])
        further[[0, -1]] = 0
        further = cv2.GaussianBlur(further[None].astype(np.float32), (0, 0), 1.0)[0] * np.minimum(
            1, 4 * (1 - np.abs(U))
        )
        result.append((edge + sign * further).astype(np.float32))
    return result[0], result[1]


#: An opening ends where it looks like skin: by so little of what its middle does, in both eyes, over so many of the columns before
#: a corner. So much of it is left at least.
LIKE_SKIN, COLUMNS, LEFT_OVER = 0.45, 2, 0.7


def opening_ends(maps: EyeMaps, theta: np.ndarray, up: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Where along an opening (of heights at `U`) there is eye and no skin, from its left end to its right one: (2,) of `U`."""
    rows = up[:, None] + (low - up)[:, None] * np.linspace(0.35, 0.75, 7, dtype=np.float32)[None]
    x, y = place(theta[None], np.repeat(U, 7)[None], rows.reshape(1, -1).astype(np.float32))
    other = sample(maps.other, x, y)[0].reshape(len(U), 7).mean(1)
    usual = float(np.median(other[5:-5]))
    ends = [-1.0, 1.0]
    for k, columns in ((0, other[1:]), (1, other[::-1][1:])):
        skin = int(np.argmin(columns < LIKE_SKIN * usual))
        if skin >= COLUMNS:
            step = (skin + 0.5) * float(U[1] - U[0])
            ends[k] += step if k == 0 else -step
    return np.array(ends)


def ended(up: np.ndarray, low: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An opening cut at `ends`, with round corners there: its columns, and both heights at those."""
    columns = np.linspace(*ends, len(U)).astype(np.float32)
    up, low = np.interp(columns, U, up), np.interp(columns, U, low)
    middle = (up + low) / 2
    for end in ends:
        if abs(end) < 1:
            open_ = np.clip(np.abs(columns - end) / 0.45, 0, 1) ** 0.6
            up, low = middle + (up - middle) * open_, middle + (low - middle) * open_
    return columns, up.astype(np.float32), low.astype(np.float32)
