"""Pictures whose mouths stand open, and where those are."""

from dataclasses import replace

import numpy as np
import pytest
from test_rig import drawn_face, gaping_face, smiling_face

from livepuppet.core.avatar import Avatar
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.reading import MOUTH_POINTS
from livepuppet.core.square import Square
from livepuppet.realtime.rig import shut_mouth as shutting
from livepuppet.realtime.rig.amounts import amounts
from livepuppet.realtime.rig.close_ups import Look
from livepuppet.realtime.rig.contours import SEEN_ALIKE, SEEN_OPEN, _Axes, _seen_open
from livepuppet.realtime.rig.mouth import Mouth
from livepuppet.realtime.rig.patches import paste
from livepuppet.realtime.rig.rig import Face
from livepuppet.realtime.rig.shut_mouth import at_rest, shut_mouth


def _inside(picture: np.ndarray, contours) -> float:
    """The share of what is between the lips at rest that is as dark as a mouth's inside."""
    mouth = contours.mouth
    left, right = mouth.inner_upper[0], mouth.inner_upper[-1]
    top, bottom = mouth.inner_upper[:, 1].min(), mouth.inner_lower[:, 1].max()
    part = picture[int(top) : int(bottom), int(left[0]) + 4 : int(right[0]) - 4]
    return float((part.astype(int).sum(2) < 300).mean())


def test_a_gaping_mouth_is_shut_and_all_else_stays():
    picture, contours = gaping_face()
    before = picture.copy()
    shown, shut = shut_mouth(picture, contours)
    assert np.array_equal(picture, before)
    assert _inside(picture, contours) > 0.4 and _inside(shown, contours) < 0.12
    old, new = contours.mouth, shut.mouth
    assert np.array_equal(new.inner_upper, new.inner_lower)
    assert np.abs(new.inner_upper[[0, -1]] - old.inner_upper[[0, -1]]).max() < 3
    # The chin comes up, lips keep an order, and eyes stay to the bit.
    assert new.chin[1] < old.chin[1] - 10
    for upper, lower in (("outer_upper", "inner_upper"), ("inner_lower", "outer_lower")):
        assert (getattr(new, lower)[1:-1, 1] - getattr(new, upper)[1:-1, 1]).min() > 0
    above = int(contours.left.lower[:, 1].max())
    assert np.array_equal(shown[:above], picture[:above])
    assert shut.left is contours.left and shut.right is contours.right
    # It opens again as any mouth does.
    assert Mouth(shown, shut).layers.gap == pytest.approx(0, abs=0.01)


def test_smiles_muzzles_and_what_is_the_avatars_own_stay():
    assert shut_mouth(*drawn_face()) is None and shut_mouth(*smiling_face()) is None
    picture, contours = gaping_face()
    for teeth in ("own", "none"):
        assert shut_mouth(picture, replace(contours, mouth=replace(contours.mouth, teeth=teeth))) is None
    assert shut_mouth(picture, replace(contours, mouth=None)) is None
    # A chin that is cut off cannot come up.
    cut = int(contours.mouth.chin[1])
    assert shut_mouth(np.ascontiguousarray(picture[:cut]), contours) is None


def _teeth(mouth: Mouth, picture: np.ndarray, told: dict[str, float]) -> int:
    """How many pixels are as white as teeth around the mouth with these amounts."""
    shown = paste(picture.copy(), mouth.draw(amounts(told)))[285:330, 160:240].astype(int)
    return int((shown.min(2) > 200).sum())


def test_lips_that_bare_teeth_in_the_picture_shut_unless_the_driver_parts_them():
    picture, contours = smiling_face()
    mouth = Mouth(picture, contours)
    bared = {f"mouth{lip}{side}": 0.5 for lip in ("UpperUp", "LowerDown") for side in ("Left", "Right")}
    own = int((picture[285:330, 160:240].min(2) > 200).sum())
    # Neither a smile nor a pucker of shut lips shows teeth; where those end is a pixel beside the contours.
    for told in ({}, {"mouthPucker": 0.6}, {"mouthSmileLeft": 0.8, "mouthSmileRight": 0.8}):
        assert _teeth(mouth, picture, told) < 0.06 * own
    # They part little by little, until they are as in the picture.
    seen = [_teeth(mouth, picture, {"jawOpen": 0.02 * k}) for k in range(10)]
    assert np.abs(np.diff(seen)).max() < 0.4 * own and seen[-1] > 0.4 * own
    own_teeth = replace(contours, mouth=replace(contours.mouth, teeth="own"))
    assert Mouth(picture, own_teeth).draw(amounts()) == []
    kept = Mouth(picture, contours)
    kept.layers.shuts = False
    for told in (bared, {"jawOpen": 0.25}, {"mouthFunnel": 0.5}, {"tongueOut": 0.4}):
        (shown,), (own_shown,) = mouth.draw(amounts(told)), kept.draw(amounts(told))
        assert np.array_equal(shown.rgb, own_shown.rgb)


class _Engine:
    def detect(self, image: np.ndarray) -> Keypoints:
        count = 3
        return Keypoints(np.zeros((count, 2), np.float32), np.zeros((count, 2, 2), np.float32))


def _face(contours, mode: str = "on") -> Face:
    return Face(_Engine().detect(None), ("a", "b", "c"), 64, Square(0, 0, 400), contours, mode)


def test_a_mouth_that_is_still_open_afterwards_is_left_alone(monkeypatch):
    """Something stood in front of it, or its lips were misread."""
    picture, contours = gaping_face()
    avatar = Avatar("me", np.zeros((64, 64, 3), np.uint8), None, picture, Square(0, 0, 400))
    _, shut = shut_mouth(picture, contours)
    monkeypatch.setattr(shutting, "find", lambda *args: shut)
    changed, face = at_rest(_Engine(), avatar, _face(contours))
    assert (
        not np.array_equal(changed.original, picture) and face.contours.mouth.chin[1] < contours.mouth.chin[1]
    )
    assert changed.image.shape == avatar.image.shape and changed.name == avatar.name
    monkeypatch.setattr(shutting, "find", lambda *args: contours)
    assert at_rest(_Engine(), avatar, _face(contours))[0] is avatar
    for mode in ("off", "eyes"):
        assert at_rest(_Engine(), avatar, _face(contours, mode))[0] is avatar


def _looks(gap: float, off: float) -> list[Look]:
    """Two looks at a mouth of this gap, 80 pixels wide of an eye distance of 100, that far from one another."""
    angle = np.pi + np.arange(12) * np.pi / 6
    outer = np.column_stack([40 * np.cos(angle), (gap / 2 + 8) * np.sin(angle)])
    angle = np.pi + np.arange(8) * np.pi / 4
    inner = np.column_stack([36 * np.cos(angle), gap / 2 * np.sin(angle)])
    points = np.concatenate([outer, inner]) + np.array([200, 300])
    assert len(points) == len(MOUTH_POINTS)
    return [Look(None, None, points + np.array([0, sign * off]), None) for sign in (-1, 1)]


def test_open_mouths_are_where_close_ups_agree_that_they_are():
    axes = _Axes((np.array([150.0, 200]), np.array([250.0, 200])), 100.0, np.array([1.0, 0.0]))
    gap = 2.5 * SEEN_OPEN * 100
    outer_upper, inner_upper, inner_lower, outer_lower = _seen_open(_looks(gap, 0.5), axes)
    for curve in (outer_upper, inner_upper, inner_lower, outer_lower):
        assert curve.shape == (17, 2)
        assert np.allclose(curve[0], (160, 300), atol=0.1) and np.allclose(curve[-1], (240, 300), atol=0.1)
    assert np.abs((inner_lower - inner_upper)[8] - (0, gap)).max() < 1
    # Between its points a curve is as round as they are.
    x = (inner_upper[3:-3, 0] - 200) / 36
    assert np.abs(inner_upper[3:-3, 1] - (300 - gap / 2 * np.sqrt(1 - x**2))).max() < 0.06 * gap
    assert _seen_open(_looks(0.9 * SEEN_OPEN * 100, 0.5), axes) is None
    assert _seen_open(_looks(gap, 1.1 * SEEN_ALIKE * 100), axes) is None
    assert _seen_open([], axes) is None
