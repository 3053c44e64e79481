"""What is painted on people: details of the skin in its texture, and eyes.

MakeHuman's skins are few and clean. Over them lies a second texture of the head alone, painted anew for each person: colour
with its opacity (brows, lips, freckles, moles, make-up, stubble, redness), relief (pores, wrinkles) and shine.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from livepuppet.train.people import hair
from livepuppet.train.people.assets import Assets
from livepuppet.train.people.extras import beard, scalp, smooth

#: Columns and rows of the texture of details, and the heights on the base head that its rows span.
WIDTH, HEIGHT, LOW, HIGH = 768, 480, 5.85, 8.4

#: Brows are no lighter than this share of the skin's luminance.
BROW_BELOW_SKIN = 0.45

#: How far hair that is combed back begins below the scalp of short hair, in decimetres.
COMBED_LOWER = 0.05

#: Hair further from the skin than this does not grow there, in decimetres.
STANDING_OFF = 0.5

#: Side of an eye's texture.
EYE_SIDE = 128


def chart(places: np.ndarray) -> np.ndarray:
    """Where places of the base head (n, 3) lie in the texture of details: (n, 2) in [0, 1], v upwards.

    Angles about an upright axis, of which the face has more than the back of the head. The shader computes the same.
    """
    x, y, z = places.T
    angle = np.arctan2(x, z - np.interp(y, [6.0, 6.45], [0.2, 0.8]))
    return np.stack([0.5 + 0.5 * np.sin(angle / 2), (y - LOW) / (HIGH - LOW)], 1)


class SkinMap:
    """Where on the head each texel of the details lies.

    Attributes:
        rest: (HEIGHT, WIDTH, 3) place on the base head, row 0 is the lowest.
        inside: (HEIGHT, WIDTH) whether there is skin.
        masks: by name, (HEIGHT, WIDTH) in [0, 1].
        mouth: (n,) whether each vertex of the skin lies inside the mouth.
    """

    def __init__(self, assets: Assets):
        body = assets.meshes["body"]
        places = assets.base[body.anchors[:, 0]]
        of_corners = assets.mask("inside-mouth", 1024)[
            tuple((body.uv[:, ::-1] * 1023).astype(int).clip(0, 1023).T)
        ]
        self.mouth = np.zeros(len(places), np.float32)
        np.maximum.at(self.mouth, body.corners, of_corners)
        at = chart(places)
        faces = body.corners[body.triangles]
        head = (places[faces, 1].max(1) > LOW) & (np.abs(places[faces, 0]).max(1) < 1.1)
        # Not across the seam at the back, and nothing of the mouth's inside, which the lips hide.
        head &= (np.ptp(at[faces, 0], axis=1) < 0.4) & (self.mouth[faces].min(1) < 0.5)
        values = np.concatenate([places[body.corners], body.uv], 1)[body.triangles[head]]
        texels = at[faces[head]] * (WIDTH, HEIGHT) - 0.5
        # What lies further out hides what lies further in.
        out = np.linalg.norm(values[..., :3] - (0, 7.1, 0.6), axis=2).mean(1)
        found = np.zeros((HEIGHT, WIDTH, 5), np.float32)
        self.inside = np.zeros((HEIGHT, WIDTH), bool)
        for k in np.argsort(out):
            self._fill(found, texels[k], values[k])
        far = cv2.distanceTransform((~self.inside).astype(np.uint8), cv2.DIST_L2, 3)
        for _ in range(3):
            # Texels beside the seams show at the seams.
            self._dilate(found)
        self.rest = found[..., :3]
        uv = found[..., 3:] * 1024 - 0.5
        self.masks = {}
        for name in ("lips", "eyelids", "ears"):
            whole = assets.mask(name, 1024)
            mask = cv2.remap(whole, uv[..., 0], uv[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            self.masks[name] = mask * self.inside
        self.masks["lips"] = cv2.GaussianBlur(self.masks["lips"], (0, 0), 2.0)
        flat = self.rest.reshape(-1, 3)
        self.masks["beard"] = beard(flat).reshape(HEIGHT, WIDTH)
        bare = 1 - cv2.GaussianBlur(cv2.dilate(self.masks["ears"], np.ones((3, 3))), (0, 0), 1.0)
        for name, lower, temples in (("scalp", 0.0, 0.10), ("scalp combed back", COMBED_LOWER, -0.14)):
            grown = scalp(flat + np.array([0, lower, 0]), temples).reshape(HEIGHT, WIDTH)
            self.masks[name] = grown * bare * (far < 4)
        # Closed lids and the border of the eye: where the base head's lids are.
        x, y, z = np.abs(self.rest[..., 0]), self.rest[..., 1], self.rest[..., 2]
        self.masks["cheek"] = np.exp(-(((x - 0.42) / 0.17) ** 2) - ((y - 6.92) / 0.16) ** 2) * (z > 0.8)
        self.masks["nose"] = np.exp(-((x / 0.13) ** 2) - ((y - 7.0) / 0.14) ** 2) * (z > 1.35)
        self.masks["under eye"] = np.exp(-(((x - 0.29) / 0.14) ** 2) - ((y - 7.15) / 0.055) ** 2) * (z > 1.1)
        self.masks["lid"] = np.exp(-(((x - 0.31) / 0.17) ** 2) - ((y - 7.375) / 0.052) ** 2) * (z > 1.1)
        edge = np.abs(
            y - (7.285 + 0.05 * np.sign(y - 7.285) * np.sqrt(np.clip(1 - ((x - 0.307) / 0.15) ** 2, 0, 1)))
        )
        self.masks["liner"] = np.exp(-((edge / 0.012) ** 2)) * (np.abs(x - 0.307) < 0.16) * (z > 1.2)
        # Upper lids bear more of it.
        self.masks["liner"] *= np.where(y > 7.285, 1.0, 0.4)
        self.masks["lower lip"] = (
            self.masks["lips"]
            * smooth(6.606, 6.59, y)
            * np.exp(-((x / 0.16) ** 2) - ((y - 6.57) / 0.05) ** 2)
        )
        self.masks["line of the mouth"] = (
            np.exp(-(((y - 6.604 - 0.02 * x) / 0.012) ** 2)) * self.masks["lips"]
        )
        # Where skin shines.
        self.masks["oily"] = (
            np.exp(-((x / 0.3) ** 2) - ((y - 7.75) / 0.2) ** 2)
            + np.exp(-((x / 0.09) ** 2) - ((y - 7.05) / 0.25) ** 2)
            + 0.7 * np.exp(-(((x - 0.45) / 0.13) ** 2) - ((y - 7.08) / 0.1) ** 2)
            + 0.5 * np.exp(-((x / 0.13) ** 2) - ((y - 6.33) / 0.08) ** 2)
        ) * (z > 0.9)
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
        #: Where hair grows (HEIGHT, WIDTH), texels (n, 2) where it begins, and unit vectors from there to where it grows.
        self.shorn = self.masks["scalp"], *self._hairline(self.masks["scalp"])
        self._assets, self._under = assets, {}
        self._brow_depth = self._depths(places[self.mouth < 0.5])

    @staticmethod
    def _hairline(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        begins = cv2.findContours((mask > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
        at = np.concatenate(begins)[:, 0]
        broad = cv2.GaussianBlur(mask, (0, 0), 4.0)
        inwards = np.stack(
            [cv2.Sobel(broad, cv2.CV_32F, *order)[at[:, 1], at[:, 0]] for order in ((1, 0), (0, 1))], 1
        )
        length = np.linalg.norm(inwards, axis=1)
        keep = (length > 1e-3) & (at[:, 0] > 8) & (at[:, 0] < WIDTH - 8) & (at[:, 1] < HEIGHT - 8)
        return at[keep].astype(np.float32), inwards[keep] / length[keep, None]

    @staticmethod
    def _depths(places: np.ndarray) -> np.ndarray:
        """Coefficients of z as a polynomial of |x| and y where brows grow."""
        x, y = np.abs(places[:, 0]), places[:, 1]
        near = (x < 0.62) & (y > 7.36) & (y < 7.7) & (places[:, 2] > 0.9)
        return np.linalg.lstsq(_powers(x[near], y[near]), places[near, 2], rcond=None)[0]

    def texels(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Texels (n, 2) of places about the brows, x and y on the base head."""
        places = np.stack([x, y, _powers(np.abs(x), y) @ self._brow_depth], 1)
        return chart(places) * (WIDTH, HEIGHT) - 0.5

    def combed_back(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `shorn` of the scalp below a mesh of hair that is combed back.

        It ends where the mesh does: painted skin before that would be a visor.
        """
        if name not in self._under:
            mesh, places = self._assets.meshes[name], self._assets.meshes[name].place(self._assets.base)
            at = hair.spread(mesh, places, hair.strands_of(self._assets, name)[0])
            texel = (chart(at) * (WIDTH, HEIGHT) - 0.5).round().astype(int)
            inside = ((texel >= 0) & (texel < (WIDTH, HEIGHT))).all(1)
            column, row = texel[inside].T
            near = np.linalg.norm(at[inside] - self.rest[row, column], axis=1) < STANDING_OFF
            there = np.zeros((HEIGHT, WIDTH), np.uint8)
            there[row[near], column[near]] = 1
            there = cv2.morphologyEx(
                there, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (41, 41))
            )
            # Styles may be mirrored.
            there = np.maximum(there, there[:, ::-1]).astype(np.float32)
            mask = self.masks["scalp combed back"] * smooth(0.15, 0.85, cv2.GaussianBlur(there, (0, 0), 7.0))
            self._under[name] = mask.astype(np.float32), *self._hairline(mask)
        return self._under[name]

    def _fill(self, found: np.ndarray, at: np.ndarray, values: np.ndarray) -> None:
        """Interpolate three corners' values over a triangle of texels."""
        x0, y0 = np.maximum(np.floor(at.min(0)).astype(int), 0)
        x1, y1 = np.minimum(np.ceil(at.max(0)).astype(int) + 1, (WIDTH, HEIGHT))
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
        found[window][hit] = mixed[hit]
        self.inside[window] |= hit

    def _dilate(self, found: np.ndarray) -> None:
        weight = cv2.blur(self.inside.astype(np.float32), (3, 3))
        total = cv2.blur(found[..., :4] * self.inside[..., None], (3, 3))
        last = cv2.blur(found[..., 4] * self.inside, (3, 3))
        grow = ~self.inside & (weight > 0)
        whole = np.dstack([total, last]) / np.maximum(weight, 1e-6)[..., None]
        found[grow] = whole[grow]
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
            * smooth(1.0, 0.7, np.abs(angle))
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


def _powers(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    y = y - 7.5
    return np.stack([x**i * y**j for i in range(5) for j in range(4) if i + j < 5], 1)


def noise(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth noise (HEIGHT, WIDTH) of about unit deviation, `cells` blobs across."""
    small = rng.standard_normal((cells * HEIGHT // WIDTH, cells)).astype(np.float32)
    return cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


class _Overlay:
    """Colours laid over one another, with their opacity: premultiplied, plane by plane, (4, HEIGHT, WIDTH)."""

    def __init__(self, maps: SkinMap):
        self.maps, self.layer = maps, np.zeros((4, HEIGHT, WIDTH), np.float32)

    def put(self, colour, amount: np.ndarray | float, mask: str | None = None) -> None:
        """Lay a colour over with opacity `amount` times a mask; only where the mask is."""
        window = self.maps.windows[mask] if mask else (slice(None), slice(None))
        if isinstance(amount, np.ndarray):
            amount = amount[window]
        if mask:
            amount = amount * self.maps.masks[mask][window]
        self.put_in(window, colour, amount)

    def put_in(self, window, colour, amount: np.ndarray) -> None:
        """The same with opacity for a window of rows and columns."""
        amount = np.clip(amount, np.float32(0), np.float32(1)).astype(np.float32, copy=False)
        left = 1 - amount
        for plane, value in zip(self.layer, (*np.asarray(colour, np.float32), None), strict=True):
            part = plane[window]
            part *= left
            part += amount if value is None else amount * value


def _spots(rng: np.random.Generator, count: int, least: float, largest: float) -> np.ndarray:
    """Spots (HEIGHT, WIDTH) of radii in texels, each of its own strength, soft at the rim."""
    picture = np.zeros((HEIGHT, WIDTH), np.float32)
    for x, y, strength, size in rng.random((count, 4)):
        centre = (int(x * WIDTH * 16), int(y * HEIGHT * 16))
        radius = least + (largest - least) * size * size
        cv2.circle(picture, centre, int(radius * 16), float(strength), -1, cv2.LINE_AA, 4)
    return cv2.GaussianBlur(picture, (0, 0), 0.9)


@dataclass
class Brows:
    """The shape of brows on the base head, in decimetres; the picture's left one differs a little.

    Attributes:
        ends: distances from the middle of the face, of the inner and of the outer end.
        height: of the inner end.
        arch: how far the highest point, at `peak` of the length, lies over the line from end to end.
        fall: how far the outer end lies below the inner one.
        width: where it is widest.
        hairs: per brow.
        length: of a hair.
        solid: opacity of what lies under the hairs.
    """

    ends: tuple[float, float]
    height: float
    arch: float
    peak: float
    fall: float
    width: float
    hairs: int
    length: float
    solid: float


def draw_brows(rng: np.random.Generator, male: bool, old: float) -> Brows:
    """Brows as faces at rest have them: level or falling outwards a little, men's lower, broader and straighter."""
    groomed = not male and rng.random() < 0.6
    return Brows(
        (rng.normal(0.125, 0.014), rng.normal(0.535, 0.022)),
        (7.435 if male else 7.452) + float(np.clip(rng.normal(0, 0.013), -0.025, 0.03)),
        float(np.clip(rng.normal(0.030 if male else 0.042, 0.012), 0.008, 0.075)),
        rng.uniform(0.55, 0.70),
        float(np.clip(rng.normal(0.008, 0.012), -0.012, 0.035)),
        rng.uniform(0.050, 0.078)
        if male
        else rng.uniform(0.030, 0.048)
        if groomed
        else rng.uniform(0.04, 0.062),
        int(rng.uniform(240, 420) * (1 - 0.35 * old)),
        rng.uniform(0.045, 0.065) * (0.8 if groomed else 1.0),
        rng.uniform(0.25, 0.55) + (0.2 if groomed else 0.0),
    )


def _brow(maps: SkinMap, shape: Brows, side: int, rng: np.random.Generator) -> tuple[tuple, np.ndarray]:
    """A brow's opacity (h, w) in [0, 1] and the window of rows and columns where it lies; side 1 is the picture's right."""
    inner, outer = (end + rng.normal(0, 0.006) for end in shape.ends)
    height, arch = shape.height + rng.normal(0, 0.004), shape.arch + rng.normal(0, 0.004)

    def line(s: np.ndarray) -> np.ndarray:
        before, after = s / shape.peak, (1 - s) / (1 - shape.peak)
        return height - shape.fall * s + arch * np.sin(0.5 * np.pi * np.clip(np.minimum(before, after), 0, 1))

    def width(s: np.ndarray) -> np.ndarray:
        return shape.width * np.interp(s, [0, 0.12, 0.45, 0.75, 1], [0.62, 1.0, 0.95, 0.62, 0.16])

    s = rng.beta(1.05, 1.15, shape.hairs)
    t = np.clip(rng.normal(0, 0.24, shape.hairs), -0.5, 0.5)
    # Hairs stand up at the inner end and lie along the brow at the outer one; upper and lower ones lean to each other.
    angle = (
        np.interp(s, [0, 0.15, 0.4, 1], [1.35, 0.95, 0.45, -0.12])
        - 1.3 * t
        + rng.normal(0, 0.13, shape.hairs)
    )
    length = shape.length * rng.uniform(0.6, 1.15, shape.hairs) * np.interp(s, [0, 0.2, 1], [0.75, 1, 0.8])
    steps = np.array([0.0, 0.5, 1.0])[:, None]
    bend = angle - 0.35 * steps
    x = inner + s * (outer - inner) + length * steps * np.cos(bend) - 0.35 * length * np.cos(angle)
    y = line(s) + t * width(s) + length * steps * np.sin(bend) - 0.35 * length * np.sin(angle)
    at = maps.texels(side * x.reshape(-1), y.reshape(-1)).reshape(3, -1, 2).transpose(1, 0, 2)
    low = np.floor(at.reshape(-1, 2).min(0)).astype(int).clip(0) - 3
    high = np.ceil(at.reshape(-1, 2).max(0)).astype(int) + 4
    w, h = high - low
    # Drawn twice as large: hairs are finer than texels.
    hairs = np.zeros((2 * h, 2 * w), np.uint8)
    for path, strength in zip((at - low) * 2 * 16, rng.uniform(170, 255, shape.hairs), strict=True):
        cv2.polylines(hairs, [path.round().astype(np.int32)], False, strength, 1, cv2.LINE_AA, 4)
    along = np.linspace(0.03, 0.97, 24)
    middle, half = line(along), 0.42 * width(along)
    x = inner + along * (outer - inner)
    rim = maps.texels(
        side * np.concatenate([x, x[::-1]]), np.concatenate([middle + half, (middle - half)[::-1]])
    )
    solid = np.zeros_like(hairs)
    cv2.fillPoly(solid, [((rim - low) * 2 * 16).round().astype(np.int32)], 255, cv2.LINE_AA, 4)
    solid = cv2.GaussianBlur(solid, (0, 0), 3.5) * (shape.solid / 255)
    whole = 1 - (1 - hairs / 255) * (1 - solid)
    whole = cv2.resize(whole.astype(np.float32), (int(w), int(h)), interpolation=cv2.INTER_AREA)
    return (slice(low[1], high[1]), slice(low[0], high[0])), whole


def _hairline(at: np.ndarray, inwards: np.ndarray, rng: np.random.Generator, count: int = 2600) -> np.ndarray:
    """Opacity (HEIGHT, WIDTH) of short hairs where the scalp begins (see `SkinMap.shorn`): it is no line."""
    if not len(at):
        return np.zeros((HEIGHT, WIDTH), np.float32)
    pick = rng.integers(len(at), size=count)
    angle = rng.normal(0, 0.45, count)
    x, y = inwards[pick].T
    ahead = np.stack([x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)], 1)
    root = at[pick] - inwards[pick] * (rng.exponential(5.0, (count, 1)) - 4)
    tip = root + ahead * rng.uniform(6, 20, (count, 1))
    # Drawn twice as large: hairs are finer than texels.
    picture = np.zeros((2 * HEIGHT, 2 * WIDTH), np.uint8)
    for a, b, strength in zip(
        (root * 32).astype(int).tolist(),
        (tip * 32).astype(int).tolist(),
        rng.uniform(40, 170, count),
        strict=True,
    ):
        cv2.line(picture, a, b, strength, 1, cv2.LINE_AA, 4)
    return cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def details(maps: SkinMap, look, tone: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is painted on a person's head.

    Args:
        tone: (3,) the skin's colour as it is drawn, linear.

    Returns:
        overlay (HEIGHT, WIDTH, 4) uint8, premultiplied square root of linear RGB and opacity; and relief (HEIGHT, WIDTH, 4) uint8:
        height, of which 128 is level, how much the skin shines, and how thickly a beard and the head's hair grow.
    """
    rng = np.random.default_rng(look.seed)
    d, masks, over = look.details, maps.masks, _Overlay(maps)
    tone = np.asarray(tone, np.float32)
    blotch, mottled = noise(rng, 12), noise(rng, 60)
    fine = rng.standard_normal((HEIGHT, WIDTH), dtype=np.float32)
    pores = cv2.GaussianBlur(fine, (0, 0), 1.2) * np.float32(4)
    over.put(tone * np.array([1.05, 0.66, 0.60]), 0.16 * d["blotches"] * np.abs(blotch))
    over.put(tone * np.array([0.72, 0.55, 0.48]), 0.06 * d["blotches"] * np.maximum(mottled, 0))
    over.put(tone * np.array([0.62, 0.48, 0.42]), 0.10 * d["pores"] * np.maximum(-pores - 0.3, 0))
    for name, amount in (("cheek", 0.45), ("nose", 0.40), ("ears", 0.22)):
        over.put(tone * np.array([1.15, 0.5, 0.45]), amount * d["redness"] * (0.8 + 0.3 * blotch), name)
    over.put(tone * np.array([0.50, 0.36, 0.42]), 0.55 * d["circles"], "under eye")
    if d["freckles"] > 0:
        spots = _spots(rng, 1100, 1.2, 3.2)
        for name in ("cheek", "nose"):
            over.put(tone * np.array([0.55, 0.36, 0.24]), 0.8 * d["freckles"] * spots, name)
        over.put(tone * np.array([0.55, 0.36, 0.24]), 0.15 * d["freckles"] * spots)
    if d["wrinkles"] > 0.2:
        over.put(tone * np.array([0.55, 0.38, 0.28]), 0.15 * d["wrinkles"] * _spots(rng, 60, 3, 9))
    if d["moles"] >= 1:
        over.put(tone * 0.22, 0.9 * (_spots(rng, int(d["moles"]), 2, 4.5)))
    hair_colour = np.asarray(look.hair, np.float32)
    of_beard = np.asarray(look.beard, np.float32)
    if d["stubble"] > 0:
        dots = np.clip(0.45 + 0.30 * pores + 0.6 * d.get("bearded", 0.0), 0, 1)
        over.put(
            np.minimum(of_beard * 0.6, 0.12) + tone * 0.1,
            min(d["stubble"], 1.0) * (0.75 + 0.15 * d.get("bearded", 0.0)) * dots,
            "beard",
        )
    if d.get("scalp", 0) > 0:
        grown, at, inwards = maps.combed_back(look.combed_back) if look.combed_back else maps.shorn
        if look.style:
            # A drawing's roots are as its hair is.
            of_scalp = smooth(0.4, 0.6, grown)
            over.put(0.9 * hair_colour, d["scalp"] * of_scalp)
        else:
            # Hair shades the skin beside it.
            beside = cv2.GaussianBlur(grown, (0, 0), 14) * (1 - grown)
            over.put(tone * np.array([0.42, 0.34, 0.32]), 0.45 * d["scalp"] * beside)
            # Roots: darker than what is above them, in strands that begin where they like.
            strands = cv2.GaussianBlur(fine, (0, 0), sigmaX=1.1, sigmaY=8) * np.float32(9)
            of_scalp = smooth(0.25, 0.75, grown * (1 + 0.45 * strands * (1 - grown)))
            over.put(hair_colour * 0.5, d["scalp"] * np.clip(1.02 + 0.1 * pores, 0, 1) * of_scalp)
            over.put(hair_colour, d["scalp"] * np.clip(0.22 * strands, 0, 0.5) * of_scalp)
            over.put(hair_colour * 0.5, (d["scalp"] > 0.4) * _hairline(at, inwards, rng))
    if d["shadow"] > 0:
        over.put(d.get("shadow colour", tone * 0.5), 0.55 * d["shadow"], "lid")
    if d["blush"] > 0:
        over.put(tone * np.array([1.1, 0.42, 0.42]), 0.6 * d["blush"], "cheek")
    if d["liner"] > 0:
        over.put([0.012, 0.01, 0.01], 0.9 * d["liner"], "liner")
    _lips(over, look, tone, blotch, mottled)
    # Brows are darker than the skin, on dark skins too.
    colour = np.asarray(look.brow, np.float32)
    colour = colour * min(1.0, BROW_BELOW_SKIN * float(tone.mean()) / max(float(colour.mean()), 1e-3))
    for side in (-1, 1):
        window, amount = _brow(maps, look.brows, side, rng)
        over.put_in(window, colour, amount * look.brow_density)
    relief = pores * np.float32(8 * d["pores"]) + mottled * np.float32(4 * d["pores"])
    lips = maps.windows["lips"]
    of_lips = masks["lips"][lips]
    lines = np.abs(np.sin(maps.rest[lips][..., 0] * 110 + 2.5 * mottled[lips] + 2 * blotch[lips]))
    relief[lips] = relief[lips] * (1 - 0.8 * of_lips) - 14 * of_lips * lines
    if d["wrinkles"] > 0.02:
        relief += (8 + 90 * d["wrinkles"]) * masks["wrinkles"]
    # Hair grows unevenly, and its border is none that a ruler could draw.
    grown = []
    for name in ("beard", "scalp"):
        window = maps.windows[name]
        uneven = masks[name][window] * (1 + 0.25 * mottled[window] + 0.15 * pores[window])
        plane = np.zeros_like(relief)
        plane[window] = smooth(0.12, 0.75, uneven) * (1 - np.clip(2.5 * masks["lips"][window], 0, 1))
        grown.append(255 * plane)
    if look.combed_back and d.get("scalp", 0) > 0:
        # No hair grows on the skin itself: a drawing's line goes round what is painted.
        grown[1] = 255 * of_scalp
    shine = (0.42 + 0.5 * masks["oily"]) * (1 + 0.28 * pores + 0.2 * mottled)
    if d.get("scalp", 0) > 0:
        # Skin shines, hair that is painted on it does not.
        shine *= 1 - 0.95 * d["scalp"] * of_scalp
    wet = 0.55 + 0.9 * d["lip gloss"]
    shine[lips] += of_lips * (wet * (1 + 0.25 * pores[lips]) - shine[lips])
    layer = over.layer
    np.sqrt(layer[:3], out=layer[:3])
    layer *= 255
    layer += np.float32(0.5)
    return (
        cv2.merge(list(layer.astype(np.uint8))),
        cv2.merge([np.clip(plane, 0, 255).astype(np.uint8) for plane in (relief + 128, shine * 110, *grown)]),
    )


def _lips(over: _Overlay, look, tone: np.ndarray, blotch: np.ndarray, mottled: np.ndarray) -> None:
    """Lips are the skin's own tone, darker and redder; the lower one's middle is paler; paint on some."""
    d = look.details
    red = np.asarray(look.lip_tint, np.float32)
    over.put(tone * red, 0.75 + 0.08 * mottled, "lips")
    # On dark skins the lower lip is pinker where it is seldom dry.
    bright = float(np.clip(0.9 - 1.6 * tone.mean(), 0.25, 0.8))
    over.put(tone * np.array([1.45, 0.82, 0.80]) + 0.01, bright * (0.55 + 0.1 * blotch), "lower lip")
    if d["lips"] > 0:
        # Paint is thinner towards the lips' border and where it is worn off.
        over.put(look.lip_colour, d["lips"] * (0.85 + 0.10 * blotch + 0.06 * mottled), "lips")
    over.put(tone * np.array([0.22, 0.10, 0.09]), 0.55, "line of the mouth")


def inked(layer: np.ndarray, ink: np.ndarray, strength: float, width: float) -> np.ndarray:
    """A drawing with lines along its edges, on their darker sides (differences of Gaussians).

    Args:
        layer: uint8 (S, S, 4), premultiplied.
        ink: (3,) linear RGB.
        strength: opacity of the lines, in [0, 1].
        width: of the lines, over the picture's side.
    """
    alpha = layer[..., 3].astype(np.float32) / 255
    if not alpha.any():
        return layer
    grey = cv2.cvtColor(np.ascontiguousarray(layer[..., :3]), cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    # Beyond the figure as bright as the figure: its outline is drawn already.
    grey += (1 - alpha) * (grey.sum() / alpha.sum())
    fine, broad = (cv2.GaussianBlur(grey, (0, 0), factor * width * len(layer)) for factor in (0.9, 1.9))
    lines = strength * np.clip(14 * ((broad - fine) / (broad + 0.15) - 0.012), 0, 1)[..., None]
    found = layer.astype(np.float32)
    colour = 255 * np.sqrt(np.asarray(ink, np.float32))
    found[..., :3] += lines * (colour * alpha[..., None] - found[..., :3])
    return (found + 0.5).astype(np.uint8)


def outlined(layer: np.ndarray, hair: np.ndarray, ink: np.ndarray, width: float) -> np.ndarray:
    """A drawing with a line where its hair ends, which leaves single strands out.

    Args:
        layer, ink, width: as of `inked`.
        hair: (S, S) uint8, how much of each pixel is hair.
    """
    if not hair.any():
        return layer
    side = len(layer)
    # A contour of what is left when strands and gaps that are narrower than the line are gone.
    broad = cv2.GaussianBlur(hair.astype(np.float32) / 255, (0, 0), max(0.8 * width * side, 0.6))
    form = cv2.GaussianBlur(smooth(0.42, 0.58, broad), (0, 0), max(0.42 * width * side, 0.5))
    line = np.clip(1.8 - 4 * np.abs(form - 0.5), 0, 1)[..., None]
    found = layer.astype(np.float32)
    colour = 255 * np.sqrt(np.asarray(ink, np.float32))
    found[..., :3] += line * (colour * found[..., 3:] / 255 - found[..., :3])
    return (found + 0.5).astype(np.uint8)


def whitened(picture: np.ndarray) -> np.ndarray:
    """The texture of teeth and gums, uint8 RGB or RGBA, without the shade that is painted on them: the light makes its own."""
    red, green = (picture[..., k].astype(np.float32) for k in (0, 1))
    tooth = smooth(0.30, 0.12, (red - green) / (red + 8)).astype(np.float32)
    tooth, found = tooth[..., None], picture.copy()
    enamel, gum = np.array([240.0, 236.0, 226.0], np.float32), np.array([176.0, 96.0, 98.0], np.float32)
    # The dark rims of gums would be dots between the teeth.
    plain = found[..., :3] + 0.8 * (1 - tooth) * (gum - found[..., :3])
    found[..., :3] = plain + 0.8 * tooth * (enamel - plain) + 0.5
    return found


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
