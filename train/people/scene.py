"""What is around a person: light from everywhere, a key light, a second light, exposure and background."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from livepuppet.train.people.assets import Assets

#: Cosine lobe of each order of harmonics, over pi.
LOBE = np.array([1, 2 / 3, 2 / 3, 2 / 3, 0.25, 0.25, 0.25, 0.25, 0.25])

#: Side at which backgrounds are made.
SIDE = 256


@dataclass
class Scene:
    """Light and background of one person.

    Attributes:
        harmonics: (9, 3) irradiance over pi, order 2, linear RGB.
        key, fill: directions to the lights (3,); key_colour, fill_colour: (3,).
        exposure: factor before the tone curve.
        background: (SIDE, SIDE, 3) linear RGB.
    """

    harmonics: np.ndarray
    key: np.ndarray
    key_colour: np.ndarray
    fill: np.ndarray
    fill_colour: np.ndarray
    exposure: float
    background: np.ndarray


def harmonics_of(environment: np.ndarray) -> np.ndarray:
    """Irradiance over pi of an equirectangular environment (h, w, 3), as order-2 spherical harmonics (9, 3)."""
    height, width, _ = environment.shape
    theta = (np.arange(height) + 0.5) / height * np.pi
    phi = (np.arange(width) + 0.5) / width * 2 * np.pi - np.pi
    y = np.cos(theta)[:, None] * np.ones(width)
    x, z = np.sin(theta)[:, None] * np.sin(phi), np.sin(theta)[:, None] * np.cos(phi)
    area = np.sin(theta)[:, None] * (np.pi / height) * (2 * np.pi / width) * np.ones(width)
    basis = np.stack(
        [
            0.282095 + 0 * x,
            0.488603 * y,
            0.488603 * z,
            0.488603 * x,
            1.092548 * x * y,
            1.092548 * y * z,
            0.315392 * (3 * z * z - 1),
            1.092548 * x * z,
            0.546274 * (x * x - y * y),
        ]
    )
    return np.einsum("khw,hwc,hw->kc", basis, np.minimum(environment, 50), area) * LOBE[:, None]


def irradiance(harmonics: np.ndarray, n: np.ndarray) -> np.ndarray:
    """What falls on a surface of normal n (3,), over pi: (3,)."""
    x, y, z = n
    basis = np.array([0.282095, 0.488603 * y, 0.488603 * z, 0.488603 * x, 1.092548 * x * y, 1.092548 * y * z])
    basis = np.append(basis, [0.315392 * (3 * z * z - 1), 1.092548 * x * z, 0.546274 * (x * x - y * y)])
    return np.maximum(basis @ harmonics, 0)


def _turned(environment: np.ndarray, angle: float) -> np.ndarray:
    return np.roll(environment, int(angle / (2 * np.pi) * environment.shape[1]), 1)


def _direction(rng: np.random.Generator, side: float, height: float, front: float) -> np.ndarray:
    found = np.array([rng.normal(0, side), rng.normal(height, 0.4), abs(rng.normal(front, 0.4))])
    return found / np.linalg.norm(found)


#: How much of the light's hue before the face a camera's white balance takes away.
BALANCE = 0.6


def draw_scene(assets: Assets, rng: np.random.Generator, skin: float, drawn: bool = False) -> Scene:
    """Light and background.

    Args:
        rng: the person's.
        skin: luminance of the skin, for the camera's exposure.
        drawn: plain backgrounds more often.
    """
    environments = assets.environments
    if environments:
        environment = environments[list(environments)[int(rng.integers(len(environments)))]]
        environment = _turned(environment, rng.uniform(0, 2 * np.pi))
    else:
        environment = _painted_sky(rng)
    small = cv2.resize(environment, (64, 32), interpolation=cv2.INTER_AREA)
    harmonics = harmonics_of(small)
    harmonics /= max(float((harmonics[0] * 0.282095).mean()), 1e-4)
    harmonics = 0.75 * harmonics + 0.25 * harmonics.mean(1, keepdims=True)
    harmonics = harmonics * rng.uniform(0.26, 0.58)
    warm = np.array([1 + 0.12 * rng.normal(), 1.0, 1 + 0.15 * rng.normal()]).clip(0.65, 1.4)
    key = _direction(rng, 0.85, 0.5, 0.7)
    key_colour = rng.uniform(0.2, 1.25) * warm
    fill = _direction(rng, 1.2, 0.1, 0.2)
    strength = rng.uniform(0.05, 0.55) if rng.random() < 0.6 else 0.0
    if strength > 0 and rng.random() < 0.4:
        # A light from behind draws the outline.
        fill, strength = fill * (1.6, 1.0, -1.0), 1.4 * strength
        fill /= np.linalg.norm(fill)
    # A screen or a lamp of another colour.
    tint = (
        np.array([0.75, 0.9, 1.25])
        if rng.random() < 0.5
        else np.clip(1 + 0.35 * rng.standard_normal(3), 0.3, 1.7)
    )
    fill_colour = strength * tint
    front = irradiance(harmonics, np.array([0.0, 0.15, 0.99])) + 0.7 * key_colour * max(key[2], 0.15)
    front = front + fill_colour * max(fill[2], 0.0) * 0.6
    # Cameras take most of the light's hue away: in blue light skin would be ashen.
    balance = (front.mean() / np.maximum(front, 1e-3)) ** BALANCE
    harmonics, key_colour, fill_colour = harmonics * balance, key_colour * balance, fill_colour * balance
    brightness = float((front * balance).mean()) * skin
    # A camera brings the person to the middle, most of the way.
    exposure = (0.24 / max(brightness, 0.01)) ** 0.65 * rng.uniform(0.8, 1.2)
    background = _background(environment, rng, drawn) * balance / max(exposure**0.7, 0.2)
    return Scene(
        harmonics, key, key_colour, fill, fill_colour, float(exposure), background.astype(np.float32)
    )


def _painted_sky(rng: np.random.Generator) -> np.ndarray:
    """An environment where none is installed: bright above, some windows."""
    height, width = 64, 128
    up = np.linspace(1, 0, height)[:, None, None]
    sky = rng.uniform(0.5, 1.5, 3) * up + rng.uniform(0.1, 0.6, 3) * (1 - up)
    picture = np.tile(sky, (1, width, 1))
    for _ in range(int(rng.integers(2, 7))):
        x, y = rng.integers(width), rng.integers(height // 2 + 8)
        w, h = rng.integers(3, 20), rng.integers(3, 14)
        picture[y : y + h, x : x + w] *= rng.uniform(0.2, 6.0)
    return cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 1.0)


# ------------------------------------------------------------------------------------------------------------ background


def _background(environment: np.ndarray, rng: np.random.Generator, drawn: bool) -> np.ndarray:
    """(SIDE, SIDE, 3), linear: a piece of the environment, a room, or a plain wall."""
    kind = rng.choice(4, p=[0.10, 0.30, 0.44, 0.16] if drawn else [0.54, 0.24, 0.18, 0.04])
    if kind == 0:
        picture = _piece(environment, rng)
    elif kind == 1:
        picture = _room(rng)
    elif kind == 2:
        picture = _wall(rng)
    else:
        picture = _pattern(rng)
    blur = rng.choice([0.0, 1.0, 3.0, 7.0], p=[0.25, 0.3, 0.25, 0.2]) * rng.uniform(0.6, 1.4)
    return defocused(picture, blur)


def defocused(picture: np.ndarray, blur: float) -> np.ndarray:
    """A picture (linear) out of focus by a deviation in pixels: lamps become discs."""
    if blur < 0.4:
        return picture
    if blur < 2:
        return cv2.GaussianBlur(picture, (0, 0), blur)
    reach = int(np.ceil(2 * blur))
    line = np.arange(-reach, reach + 1)
    disc = np.clip(2 * blur + 0.5 - np.hypot(*np.meshgrid(line, line)), 0, 1).astype(np.float32)
    return cv2.filter2D(picture, -1, disc / disc.sum(), borderType=cv2.BORDER_REFLECT)


def with_bystander(scene: Scene, figure: np.ndarray, rng: np.random.Generator) -> Scene:
    """A scene with somebody else behind the person, out of focus.

    Args:
        figure: (S, S, 4) premultiplied linear colours, and opacity.
    """
    side = int(SIDE * rng.uniform(0.55, 1.3))
    figure = cv2.resize(figure, (side, side), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        figure = figure[:, ::-1]
    x = int(rng.choice([-1, 1]) * rng.uniform(0.30, 0.75) * SIDE) + (SIDE - side) // 2
    y = SIDE - int(side * rng.uniform(0.75, 0.97))
    canvas = np.zeros((SIDE, SIDE, 4), np.float32)
    left, right, low = max(x, 0), min(x + side, SIDE), min(y + side, SIDE)
    if right <= left or low <= max(y, 0):
        return scene
    top = max(y, 0)
    canvas[top:low, left:right] = figure[top - y : low - y, left - x : right - x]
    canvas = defocused(canvas, rng.uniform(0.5, 4.0))
    light = rng.uniform(0.5, 1.2) / max(scene.exposure, 0.1)
    background = scene.background * (1 - canvas[..., 3:]) + canvas[..., :3] * np.float32(light)
    return replace(scene, background=background.astype(np.float32))


def _piece(environment: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width, _ = environment.shape
    u = (np.linspace(-1, 1, SIDE) * np.tan(rng.uniform(0.5, 1.2) / 2)).astype(np.float32)
    x, y = np.meshgrid(u, -u)
    y = y + np.float32(rng.normal(0, 0.15))
    column = (np.arctan2(x, np.float32(-1)) / np.float32(np.pi) + 1) * np.float32(width / 2)
    row = np.arccos(y / np.sqrt(x * x + y * y + 1)) * np.float32(height / np.pi)
    picture = cv2.remap(
        environment.astype(np.float32), column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
    )
    grain = cv2.resize(rng.standard_normal((SIDE, SIDE)).astype(np.float32), (SIDE, SIDE))
    picture *= np.float32(rng.uniform(0.4, 1.1) / max(float(np.median(picture)) * 2.4, 1e-3))
    return np.minimum(picture, 4) * (1 + 0.05 * grain[..., None])


def _colour(rng: np.random.Generator, saturation: float = 0.7) -> np.ndarray:
    grey = rng.random()
    return np.clip(grey + (rng.random(3) - grey) * rng.random() * saturation, 0.01, 1) ** 1.7


def _wall(rng: np.random.Generator) -> np.ndarray:
    """A wall under uneven light."""
    t = np.linspace(0, 1, SIDE)[:, None, None]
    angle = rng.random() < 0.5
    picture = (
        _colour(rng) * (1 - t) + _colour(rng) * t if rng.random() < 0.6 else _colour(rng) * np.ones_like(t)
    )
    picture = np.broadcast_to(picture, (SIDE, SIDE, 3)).copy()
    if angle:
        picture = picture.transpose(1, 0, 2)
    light = cv2.resize(cv2.GaussianBlur(rng.random((32, 32)).astype(np.float32), (0, 0), 3), (SIDE, SIDE))
    grain = rng.standard_normal((SIDE, SIDE)).astype(np.float32)
    return (picture * (0.7 + 0.6 * light[..., None]) * (1 + 0.03 * grain[..., None])).astype(np.float32)


def _room(rng: np.random.Generator) -> np.ndarray:
    """Shelves, doors, windows, pictures, lamps: boxes upon a wall."""
    picture = _wall(rng)
    for _ in range(int(rng.integers(3, 12))):
        x, y = (int(value) for value in rng.integers(-40, SIDE, 2))
        w, h = int(rng.integers(12, 110)), int(rng.integers(12, 150))
        colour = _colour(rng, 0.9) * (rng.uniform(1.5, 5) if rng.random() < 0.15 else 1.0)
        cv2.rectangle(picture, (x, y), (x + w, y + h), colour.tolist(), -1)
        if rng.random() < 0.5:
            cv2.rectangle(
                picture, (x, y), (x + w, y + h), (_colour(rng) * 0.6).tolist(), int(rng.integers(1, 5))
            )
        kind = rng.random()
        if kind < 0.35:
            # Books.
            left = x + 3
            while left < x + w - 3:
                wide = int(rng.integers(3, 10))
                cv2.rectangle(
                    picture,
                    (left, y + int(rng.integers(2, 14))),
                    (left + wide - 1, y + h - 2),
                    _colour(rng, 1.0).tolist(),
                    -1,
                )
                left += wide
        elif kind < 0.5:
            cv2.circle(
                picture, (x + w // 2, y + h // 2), max(4, min(w, h) // 3), _colour(rng, 1.0).tolist(), -1
            )
    if rng.random() < 0.3:
        # Leaves of a plant.
        cx, cy = (int(value) for value in rng.integers(0, SIDE, 2))
        green = np.array([0.03, 0.12, 0.03]) * rng.uniform(0.5, 3)
        for _ in range(25):
            a = rng.uniform(0, np.pi * 2)
            at = (int(cx + 25 * np.cos(a)), int(cy + 25 * np.sin(a)))
            size = (int(rng.integers(8, 22)), int(rng.integers(2, 6)))
            cv2.ellipse(
                picture, at, size, np.degrees(a), 0, 360, (green * rng.uniform(0.5, 1.6)).tolist(), -1
            )
    return picture


def _pattern(rng: np.random.Generator) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(0, 1, SIDE), np.linspace(0, 1, SIDE))
    angle = rng.uniform(0, np.pi)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    rate = rng.uniform(4, 22)
    kind = rng.integers(4)
    if kind == 0:
        t = (along * rate) % 1 > rng.uniform(0.3, 0.7)
    elif kind == 1:
        t = ((along * rate) % 1 > 0.5) ^ ((across * rate) % 1 > 0.5)
    elif kind == 2:
        t = ((along * rate) % 1 - 0.5) ** 2 + ((across * rate) % 1 - 0.5) ** 2 < 0.08
    else:
        t = np.sin(along * rate * 3) + np.sin(across * rate * 2 + 2 * np.sin(along * rate)) > 0
    t = t.astype(np.float32)[..., None]
    return (_colour(rng, 1.0) * t + _colour(rng, 1.0) * (1 - t)).astype(np.float32)
