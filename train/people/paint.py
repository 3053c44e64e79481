"""What is painted on people: details of the skin in its texture, and eyes.

MakeHuman's skins are few and clean. Over them lies a second texture of the head alone, painted anew for each person: colour
with its opacity (freckles, moles, make-up, stubble, redness) and relief (pores, wrinkles).
"""

from __future__ import annotations

import cv2
import numpy as np

from livepuppet.train.people.assets import Assets
from livepuppet.train.people.extras import beard, scalp, smooth

#: Side of the texture of details, and of an eye's.
SIDE, EYE_SIDE = 512, 128


class SkinMap:
    """Where on the head each texel of the details lies.

    Attributes:
        box: (4,) least u and v, and extent, of the head's part of the skin's texture.
        rest: (SIDE, SIDE, 3) place on the base head, row 0 is least v.
        inside: (SIDE, SIDE) whether there is skin.
        masks: by name, (SIDE, SIDE) in [0, 1].
    """

    def __init__(self, assets: Assets):
        body = assets.meshes["body"]
        places = assets.base[body.anchors[body.corners, 0]]
        head = (places[:, 1] > 5.9) & (np.abs(places[:, 0]) < 1.1)
        triangles = body.triangles[head[body.triangles].all(1)]
        uv = body.uv[np.unique(triangles)]
        low, high = uv.min(0) - 0.005, uv.max(0) + 0.005
        self.box = np.array([*low, *(high - low)], np.float32)
        self.rest = np.zeros((SIDE, SIDE, 3), np.float32)
        self.inside = np.zeros((SIDE, SIDE), bool)
        at = (body.uv - low) / (high - low) * SIDE - 0.5
        for triangle in triangles:
            self._fill(at[triangle], places[triangle])
        far = cv2.distanceTransform((~self.inside).astype(np.uint8), cv2.DIST_L2, 3)
        for _ in range(3):
            # Texels beside the seams show at the seams.
            self._dilate()
        self.masks = {}
        for name in ("lips", "inside-mouth", "eyelids", "ears"):
            whole = assets.mask(name, 1024)
            columns = (low[0] + (np.arange(SIDE) + 0.5) / SIDE * (high - low)[0]) * 1024 - 0.5
            rows = (low[1] + (np.arange(SIDE) + 0.5) / SIDE * (high - low)[1]) * 1024 - 0.5
            x, y = np.meshgrid(columns.astype(np.float32), rows.astype(np.float32))
            self.masks[name] = cv2.remap(whole, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        flat = self.rest.reshape(-1, 3)
        self.masks["beard"] = beard(flat).reshape(SIDE, SIDE)
        self.masks["scalp"] = scalp(flat).reshape(SIDE, SIDE) * (far < 4)
        # Closed lids and the border of the eye: where the base head's lids are.
        x, y, z = np.abs(self.rest[..., 0]), self.rest[..., 1], self.rest[..., 2]
        self.masks["cheek"] = np.exp(-(((x - 0.42) / 0.17) ** 2) - ((y - 6.92) / 0.16) ** 2) * (z > 0.8)
        self.masks["nose"] = np.exp(-((x / 0.13) ** 2) - ((y - 7.0) / 0.14) ** 2) * (z > 1.35)
        self.masks["under eye"] = np.exp(-(((x - 0.29) / 0.14) ** 2) - ((y - 7.15) / 0.055) ** 2) * (z > 1.1)
        self.masks["lid"] = np.exp(-(((x - 0.31) / 0.17) ** 2) - ((y - 7.40) / 0.07) ** 2) * (z > 1.1)
        edge = np.abs(
            y - (7.285 + 0.05 * np.sign(y - 7.285) * np.sqrt(np.clip(1 - ((x - 0.307) / 0.15) ** 2, 0, 1)))
        )
        self.masks["liner"] = np.exp(-((edge / 0.022) ** 2)) * (np.abs(x - 0.307) < 0.16) * (z > 1.2)
        self.masks["wrinkles"] = self._wrinkles(x, y, z).astype(np.float32)
        #: Rows and columns within which a mask is not nothing.
        self.windows = {}
        for name, mask in self.masks.items():
            self.masks[name] = mask.astype(np.float32)
            rows, columns = (np.flatnonzero((np.abs(mask) > 0.01).any(axis)) for axis in (1, 0))
            self.windows[name] = (
                (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
                if len(rows)
                else (slice(0, 0), slice(0, 0))
            )

    def _fill(self, at: np.ndarray, values: np.ndarray) -> None:
        """Interpolate three corners' values over a triangle of texels."""
        x0, y0 = np.maximum(np.floor(at.min(0)).astype(int), 0)
        x1, y1 = np.minimum(np.ceil(at.max(0)).astype(int) + 1, SIDE)
        if x1 <= x0 or y1 <= y0:
            return
        a, b, c = at
        det = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
        if abs(det) < 1e-9:
            return
        x, y = np.meshgrid(np.arange(x0, x1), np.arange(y0, y1))
        u = ((x - a[0]) * (c[1] - a[1]) - (y - a[1]) * (c[0] - a[0])) / det
        v = ((y - a[1]) * (b[0] - a[0]) - (x - a[0]) * (b[1] - a[1])) / det
        hit = (u >= -0.02) & (v >= -0.02) & (u + v <= 1.02)
        window = (slice(y0, y1), slice(x0, x1))
        mixed = values[0] + u[..., None] * (values[1] - values[0]) + v[..., None] * (values[2] - values[0])
        self.rest[window][hit] = mixed[hit]
        self.inside[window] |= hit

    def _dilate(self) -> None:
        weight = cv2.blur(self.inside.astype(np.float32), (3, 3))
        total = cv2.blur(self.rest * self.inside[..., None], (3, 3))
        grow = ~self.inside & (weight > 0)
        self.rest[grow] = (total / np.maximum(weight, 1e-6)[..., None])[grow]
        self.inside |= grow

    @staticmethod
    def _wrinkles(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Relief of an old face: forehead, frown, crow's feet, nasolabial folds, under the eyes. Below 0 is a furrow."""
        wave = np.sin((y + 0.05 * np.sin(5 * x)) * 62)
        forehead = (
            -(np.clip(wave, 0, 1) ** 3) * smooth(7.55, 7.62, y) * smooth(8.02, 7.85, y) * smooth(0.62, 0.4, x)
        )
        frown = -np.exp(-(((x - 0.055) / 0.012) ** 2)) * np.exp(-(((y - 7.42) / 0.10) ** 2))
        angle, radius = np.arctan2(y - 7.27, x - 0.38), np.hypot(y - 7.27, x - 0.38)
        crow = (
            -(np.clip(np.sin(angle * 13), 0, 1) ** 2)
            * smooth(0.10, 0.14, radius)
            * smooth(0.30, 0.2, radius)
            * (x > 0.43)
        )
        fold_x = np.interp(y, [6.45, 6.62, 6.80, 6.97], [0.34, 0.33, 0.28, 0.19])
        fold = -1.3 * np.exp(-(((x - fold_x) / 0.022) ** 2)) * smooth(6.42, 6.5, y) * smooth(7.0, 6.92, y)
        bags = -np.exp(-(((y - 7.13 + 0.35 * (x - 0.3) ** 2) / 0.015) ** 2)) * np.exp(
            -(((x - 0.30) / 0.12) ** 2)
        )
        lips = (
            -0.6
            * np.clip(np.sin(x * 95), 0, 1) ** 2
            * np.exp(-(((y - 6.72) / 0.05) ** 2))
            * smooth(0.25, 0.2, x)
        )
        return (forehead + frown + crow + fold + bags + lips) * (z > 0.6)


def noise(rng: np.random.Generator, cells: int, side: int = SIDE) -> np.ndarray:
    """Smooth noise (side, side) of about unit deviation, `cells` blobs across."""
    small = rng.standard_normal((cells, cells)).astype(np.float32)
    return cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)


class _Overlay:
    """Colours laid over one another, with their opacity: premultiplied, plane by plane, (4, SIDE, SIDE)."""

    def __init__(self, maps: SkinMap):
        self.maps, self.layer = maps, np.zeros((4, SIDE, SIDE), np.float32)

    def put(self, colour, amount: np.ndarray | float, mask: str | None = None) -> None:
        """Lay a colour over with opacity `amount` times a mask; only where the mask is."""
        window = self.maps.windows[mask] if mask else (slice(None), slice(None))
        if isinstance(amount, np.ndarray):
            amount = amount[window]
        if mask:
            amount = amount * self.maps.masks[mask][window]
        amount = np.clip(amount, np.float32(0), np.float32(1)).astype(np.float32, copy=False)
        left = 1 - amount
        for plane, value in zip(self.layer, (*np.asarray(colour, np.float32), None), strict=True):
            part = plane[window]
            part *= left
            part += amount if value is None else amount * value


def _spots(rng: np.random.Generator, count: int, largest: int, blur: float) -> np.ndarray:
    picture = np.zeros((SIDE, SIDE), np.float32)
    for x, y, strength in rng.random((count, 3)):
        centre = (int(x * SIDE), int(y * SIDE))
        cv2.circle(picture, centre, int(rng.integers(1, largest)), float(strength), -1)
    return cv2.GaussianBlur(picture, (0, 0), blur)


def details(maps: SkinMap, look) -> tuple[np.ndarray, np.ndarray]:
    """A person's overlay (SIDE, SIDE, 4) uint8 (premultiplied square root of linear RGB, opacity), and relief (SIDE, SIDE) uint8, 128 is level."""
    rng = np.random.default_rng(look.seed)
    d, masks, over = look.details, maps.masks, _Overlay(maps)
    tone = np.asarray(look.tone, np.float32)
    blotch, fine = noise(rng, 26), rng.standard_normal((SIDE, SIDE), dtype=np.float32)
    over.put(tone * np.array([1.05, 0.66, 0.60]), 0.13 * d["blotches"] * np.abs(blotch))
    for name, amount in (("cheek", 0.45), ("nose", 0.40), ("ears", 0.22)):
        over.put(tone * np.array([1.15, 0.5, 0.45]), amount * d["redness"] * (0.8 + 0.3 * blotch), name)
    over.put(tone * np.array([0.50, 0.36, 0.42]), 0.55 * d["circles"], "under eye")
    if d["freckles"] > 0:
        spots = _spots(rng, 900, 3, 0.8)
        for name in ("cheek", "nose"):
            over.put(tone * np.array([0.55, 0.36, 0.24]), 0.8 * d["freckles"] * spots, name)
        over.put(tone * np.array([0.55, 0.36, 0.24]), 0.2 * d["freckles"] * spots)
    if d["wrinkles"] > 0.2:
        over.put(tone * np.array([0.55, 0.38, 0.28]), 0.25 * d["wrinkles"] * _spots(rng, 90, 4, 1.3))
    if d["moles"] >= 1:
        over.put(tone * 0.22, 0.9 * (_spots(rng, int(d["moles"]), 3, 0.7)))
    hair = np.asarray(look.hair, np.float32)
    if d["stubble"] > 0:
        dots = np.clip(0.55 + 0.5 * fine, 0, 1)
        over.put(np.minimum(hair * 0.6, 0.12) + tone * 0.1, min(d["stubble"], 1.0) * 0.75 * dots, "beard")
    if d.get("scalp", 0) > 0:
        over.put(hair * 0.55, d["scalp"] * np.clip(0.9 + 0.25 * fine, 0, 1), "scalp")
    if d["shadow"] > 0:
        over.put(d.get("shadow colour", tone * 0.5), 0.8 * d["shadow"], "lid")
    if d["blush"] > 0:
        over.put(tone * np.array([1.1, 0.42, 0.42]), 0.6 * d["blush"], "cheek")
    if d["liner"] > 0:
        over.put([0.012, 0.01, 0.01], 0.9 * d["liner"], "liner")
    over.put(tone * np.array([0.95, 0.45, 0.42]), 0.45, "lips")
    if d["lips"] > 0:
        over.put(look.lip_colour, d["lips"], "lips")
    over.put([0.12, 0.022, 0.02], 0.85, "inside-mouth")
    relief = fine * np.float32(5 * d["pores"]) + cv2.GaussianBlur(fine, (0, 0), 1.4) * np.float32(
        26 * d["pores"]
    )
    relief *= 1 - 0.7 * masks["lips"]
    if d["wrinkles"] > 0.02:
        relief += (12 + 110 * d["wrinkles"]) * masks["wrinkles"]
    layer = over.layer
    np.sqrt(layer[:3], out=layer[:3])
    layer *= 255
    layer += np.float32(0.5)
    return cv2.merge(list(layer.astype(np.uint8))), (relief + 128).clip(0, 255).astype(np.uint8)


def iris(look) -> np.ndarray:
    """An eye seen from its front, uint8 RGB square root of linear (EYE_SIDE, EYE_SIDE, 3): [-1, 1] is the ball's radius; row 0 is below."""
    f = look.iris
    rng = np.random.default_rng(look.seed + 1)
    n = EYE_SIDE
    x, y = np.meshgrid(*[np.linspace(-1, 1, n, dtype=np.float32)] * 2)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    size = f["size"]
    white = np.array([1.0, 0.97, 0.93]) * f["white"]
    picture = np.ones((n, n, 3)) * white
    veins = np.zeros((n, n), np.float32)
    for _ in range(int(14 * f["red"])):
        a, r = rng.uniform(0, 2 * np.pi), np.linspace(1.0, rng.uniform(0.62, 0.8), 9)
        path = np.stack(
            [r * np.cos(a + 0.10 * rng.standard_normal(9)), r * np.sin(a + 0.10 * rng.standard_normal(9))], 1
        )
        cv2.polylines(veins, [((path + 1) / 2 * n).astype(np.int32)], False, 1.0, 1, cv2.LINE_AA)
    redness = 0.25 * f["red"] * smooth(0.6, 1.0, radius) + 0.5 * veins
    picture = picture * (1 - np.clip(redness, 0, 0.8)[..., None] * np.array([0.1, 0.55, 0.55]))
    if "drawn" in f:
        return _drawn_iris(picture, x, y, f)
    fibres = 0.5 + 0.5 * np.sin(angle * 47 + 3 * np.sin(angle * 11 + rng.uniform(0, 6)) + 7 * radius)
    ring = radius / size
    inner = np.exp(-(((ring - 0.5) / 0.22) ** 2))
    colour = np.asarray(f["colour"]) * (0.65 + 0.7 * fibres * smooth(0.3, 0.6, ring))[..., None]
    colour = colour + 0.35 * inner[..., None] * np.asarray(f["colour"]) * np.array([1.3, 1.0, 0.7])
    colour = colour * (1 - f["ring"] * smooth(0.72, 1.0, ring))[..., None]
    pupil = smooth(f["pupil"] + 0.05, f["pupil"] - 0.05, ring)[..., None]
    colour = colour * (1 - pupil) + 0.004 * pupil
    inside = smooth(1.06, 0.94, ring)[..., None]
    picture = picture * (1 - inside) + colour * inside
    return (np.sqrt(np.clip(picture, 0, 1)) * 255).round().astype(np.uint8)


def _drawn_iris(picture, x, y, f) -> np.ndarray:
    """As in cartoons: a large disc, dark above and bright below, with highlights."""
    radius = np.hypot(x, y * f.get("oval", 1.0)) / f["size"]
    shade = np.clip(y / f["size"] * 0.5 + 0.5, 0, 1)[..., None]
    colour = np.asarray(f["colour"]) * (1.25 - 0.95 * shade)
    colour = np.where((np.abs(radius - 0.95) < 0.10)[..., None], np.asarray(f["colour"]) * 0.08, colour)
    colour = np.where((radius < f["pupil"])[..., None], np.asarray(f["colour"]) * 0.02, colour)
    picture = np.where((radius < 1.0)[..., None], colour, picture)
    for dx, dy, r in ((-0.33, 0.36, 0.26), (0.34, -0.38, 0.13)):
        lit = np.hypot(x - dx * f["size"], y - dy * f["size"]) < r * f["size"]
        picture = np.where(lit[..., None], 1.0, picture)
    return (np.sqrt(np.clip(picture, 0, 1)) * 255).round().astype(np.uint8)
