"""How far one driver's face goes."""

from __future__ import annotations

import numpy as np
import pytest

from livepuppet.realtime.rig.amounts import INDEX, zeros
from livepuppet.realtime.rig.range import LEAST, DriverRange

LEFT, RIGHT, JAW = INDEX["eyeBlinkLeft"], INDEX["eyeBlinkRight"], INDEX["jawOpen"]

#: A blink of five frames.
BLINK = (0.4, 1.0, 1.0, 0.7, 0.2)


def series(depth: float, count: int = 3, every: int = 40, noise: float = 0.0) -> np.ndarray:
    """Amounts (N, 52) of a driver whose whole blinks are read as `depth`, with a syllable between them."""
    rows = np.tile(zeros(), (every * (count + 1), 1))
    for number in range(1, count + 1):
        for step, share in enumerate(BLINK):
            rows[number * every + step, [LEFT, RIGHT]] = depth * share
        rows[number * every + 20 : number * every + 26, JAW] = (0.1, 0.3, 0.4, 0.4, 0.3, 0.1)
    return rows + np.random.default_rng(0).normal(0, noise, rows.shape).astype(np.float32)


def shown(rows: np.ndarray, own: DriverRange) -> np.ndarray:
    return np.stack([own(row, number / 25) for number, row in enumerate(rows)])


def test_a_blink_that_is_read_as_a_half_is_whole_once_it_is_known():
    rows, own = series(0.6), DriverRange()
    live = shown(rows, own)
    assert np.allclose(own.whole, 0.6, atol=0.01)
    # The first one teaches, the next ones are whole.
    assert live[40:45, LEFT].max() < 0.61 and live[80:85, LEFT].max() > 0.99
    own.learning = False
    known = shown(rows, own)
    assert all(known[start : start + 5, RIGHT].max() > 0.99 for start in (40, 80, 120))
    # Eyes that are open stay so, and other amounts are nobody's blink.
    assert not known[:40].any() and np.allclose(known[:, JAW], rows[:, JAW])


def test_whole_blinks_stay_and_glances_are_no_blinks():
    rows, own = series(1.0), DriverRange()
    assert np.allclose(shown(rows, own), rows, atol=1e-6) and np.allclose(own.whole, 1)
    # A wink, narrowed for a second, or hardly at all.
    rows, own = series(1.0), DriverRange()
    rows[:, RIGHT] = 0
    assert np.allclose(shown(rows, own), rows) and np.allclose(own.whole, 1)
    for depth, frames in ((0.5, 25), (0.3, 4)):
        rows, own = np.tile(zeros(), (80, 1)), DriverRange()
        rows[20 : 20 + frames, [LEFT, RIGHT]] = depth
        assert np.allclose(shown(rows, own), rows) and np.allclose(own.whole, 1)


def test_readings_are_stretched_to_a_limit():
    own = DriverRange()
    rows = series(0.42)
    rows[:, RIGHT] *= 0.6
    shown(rows, own)
    assert np.allclose(own.whole, (0.42, LEAST), atol=0.01)


def test_the_eye_that_winks_is_the_one_that_does():
    """Blinks of the right eye are read half as deep: what is stretched twice as far must not overtake the left one's wink."""
    own = DriverRange()
    rows = series(0.7)
    rows[:, RIGHT] *= 0.6
    rows[150:154, [LEFT, RIGHT]] = np.tile([0.45, 0.3], (4, 1))
    seen = shown(rows, own)
    assert own.whole[1] < 0.7 * own.whole[0]
    assert (seen[150:154, RIGHT] <= seen[150:154, LEFT]).all()
    own.learning = False
    known = shown(rows, own)
    # Both eyes blink, and both wholly.
    assert known[80:85, [LEFT, RIGHT]].max(axis=0).min() > 0.99
    assert (known[150:154, RIGHT] <= known[150:154, LEFT]).all()


def test_an_eye_that_squints_while_the_other_one_winks_has_not_blinked():
    """Or it would be shut whenever it narrows as far again."""
    own = DriverRange()
    rows = series(0.9)
    rows[:, RIGHT] *= 0.4
    assert np.allclose(shown(rows, own), rows) and np.allclose(own.whole, 1)


def test_what_only_trembles_is_at_rest():
    rows, own = series(1.0, 6, noise=0.004), DriverRange()
    still = shown(rows, own)
    quiet = np.r_[126:138, 146:158, 170:178, 188:198, 210:218]
    assert still[quiet, JAW].std() < 0.6 * rows[quiet, JAW].std()
    # Syllables keep their height, and blinks theirs.
    assert still[180:186, JAW].max() > 0.97 * rows[180:186, JAW].max()
    assert still[160:165, LEFT].max() > 0.97


def smiles(height: float, count: int = 6, every: int = 50) -> np.ndarray:
    """Amounts (N, 52) of a driver who smiles for a second every other second, read as `height`, and more with one side."""
    rows, wave = np.tile(zeros(), (every * (count + 1), 1)), np.sin(np.pi * np.arange(25) / 24)
    for number in range(1, count + 1):
        rows[number * every : number * every + 25, SMILE] = height * wave[:, None]
    rows[:, INDEX["mouthSmileLeft"]] *= 0.8
    return rows


SMILE = [INDEX["mouthSmileLeft"], INDEX["mouthSmileRight"]]


def test_smiles_that_are_read_unlike_people_s_come_half_way():
    for height, low, high in ((0.45, 1.15, 1.3), (0.75, 0.999, 1.001), (1.4, 0.76, 0.85)):
        own = DriverRange()
        live = shown(smiles(height), own)
        assert low < own.strength < high
        # Nothing changes at once.
        assert live[50:75].max() == np.float32(min(height, 1.0))
        assert np.abs(np.diff(live[:, SMILE[1]])).max() < 1.3 * height * np.pi / 24
        own.learning = False
        known = shown(smiles(height), own)
        assert known[50:75, SMILE[1]].max() == pytest.approx(min(height * own.strength, 1.0), rel=1e-5)
        assert known[50:75, SMILE[0]].max() == pytest.approx(0.8 * height * own.strength, rel=1e-5)


def test_faint_smiles_tell_nothing():
    own = DriverRange()
    shown(smiles(0.3), own)
    assert own.strength == 1
