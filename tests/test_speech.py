"""From sound to mouths: vowels, consonants, noise, loudness, and how far behind the sound they are."""

from __future__ import annotations

import numpy as np
import pytest
from voices import RATE, hiss, hum, room, silence, talk, vowel

from livepuppet.realtime.driving.speech import HOP, Mouth, SpeechFollower
from livepuppet.realtime.rig.amounts import INDEX


def mouths(sound: np.ndarray, rate: int = RATE, piece: float = 0.01) -> list[Mouth]:
    """The mouth after each `HOP` of `sound`, heard in pieces of so many seconds."""
    follower, found, step = SpeechFollower(rate), [], round(piece * rate)
    for begin in range(0, len(sound), step):
        for _ in range(follower.feed(sound[begin : begin + step])):
            found.append(follower.mouth)
    return found


def column(found: list[Mouth], name: str) -> np.ndarray:
    return np.array([getattr(mouth, name) for mouth in found])


def lagged(level: np.ndarray, shown: np.ndarray) -> tuple[float, int]:
    """The highest correlation of the two, and by how many steps the second is behind there."""
    found = [(float(np.corrcoef(level[: len(level) - lag], shown[lag:])[0, 1]), lag) for lag in range(25)]
    return max(found)


def test_a_talk_opens_the_mouth_in_time():
    sound = talk(12, seed=3) + room(12, 0.001)
    shown = column(mouths(sound), "open")
    hop = round(HOP * RATE)
    level = np.sqrt((sound[: len(shown) * hop].reshape(-1, hop) ** 2).mean(1))
    correlation, lag = lagged(level, shown)
    assert correlation > 0.7 and lag * HOP < 0.08


def test_vowels_have_their_shapes():
    shapes = {}
    for name in "aeiou":
        # Two seconds of talk tell what this speaker is like.
        found = mouths(np.concatenate([talk(4, seed=1), vowel(name, 0.4)]))[-12]
        shapes[name] = found
    assert shapes["a"].open > 0.6
    assert shapes["i"].open < 0.8 * shapes["a"].open and shapes["u"].open < 0.8 * shapes["a"].open
    assert shapes["u"].round > 0.4 and shapes["i"].round < 0.1 and shapes["a"].round < 0.2
    assert shapes["i"].spread > 0.4 and shapes["e"].spread > 0.2
    assert shapes["u"].spread < 0.1 and shapes["o"].spread < 0.1


def test_consonants_shut_the_mouth():
    before = talk(3, seed=2)
    assert mouths(np.concatenate([before, vowel("a", 0.3)]))[-8].open > 0.5
    assert mouths(np.concatenate([before, vowel("a", 0.3), hum(0.2)]))[-6].open < 0.12
    assert mouths(np.concatenate([before, vowel("a", 0.3), silence(0.12)]))[-1].open < 0.12
    hissed = mouths(np.concatenate([before, vowel("a", 0.3), hiss(0.2)]))[-6]
    assert hissed.open < 0.15 and hissed.teeth > 0.3
    # Lips that are parted at rest meet between syllables, and not in a pause.
    jaw = INDEX["jawOpen"]
    assert mouths(np.concatenate([before, vowel("a", 0.3), hum(0.2)]))[-6].amounts()[jaw] < -0.4
    assert mouths(np.concatenate([before, silence(4)]))[-1].amounts()[jaw] > -0.05


@pytest.mark.parametrize("level", [0.0, 0.0005, 0.003, 0.03])
def test_a_room_does_not_flap_the_mouth(level):
    found = mouths(room(8, level))
    assert column(found, "open").max() < 0.12 and column(found, "speaking")[300:].max() < 0.1


def test_a_fan_that_starts_is_noise_after_a_moment():
    found = mouths(np.concatenate([talk(4), room(8, 0.02)]))
    assert column(found, "open")[-400:].max() < 0.1
    # And speech is heard over it.
    over = np.concatenate([talk(4), room(8, 0.004), talk(4, seed=5) + room(4, 0.004, seed=9)])
    assert column(mouths(over), "open")[-300:].max() > 0.5


def test_typing_is_no_talk():
    random = np.random.default_rng(4)
    sound = room(6, 0.001)
    for at in random.integers(0, len(sound) - 400, 30):
        sound[at : at + 160] += random.normal(size=160).astype(np.float32) * np.linspace(
            0.2, 0, 160, dtype=np.float32
        )
    assert column(mouths(sound), "open").max() < 0.25


@pytest.mark.parametrize("gain", [0.05, 0.3, 2.0])
def test_quiet_and_loud_microphones_open_it_as_far(gain):
    sound = talk(10, seed=6)
    usual = np.percentile(column(mouths(sound), "open")[400:], 90)
    assert np.percentile(column(mouths(gain * sound), "open")[400:], 90) == pytest.approx(usual, abs=0.2)


@pytest.mark.parametrize("rate", [8000, 22050, 48000])
def test_any_rate_and_any_pieces(rate):
    sound = talk(5, seed=7, rate=rate)
    shown = column(mouths(sound, rate), "open")
    assert 0.4 < shown.max() <= 1
    follower = SpeechFollower(rate)
    follower.feed(sound)
    assert follower.mouth == mouths(sound, rate, piece=0.017)[-1]


def test_what_is_no_sound_breaks_nothing():
    follower = SpeechFollower(RATE)
    for bad in (np.nan, np.inf, -np.inf, 1e30):
        follower.feed(np.full(RATE // 4, bad, np.float32))
    follower.feed(np.zeros(0, np.float32))
    amounts = follower.mouth.amounts()
    assert np.isfinite(amounts).all() and amounts.min() >= -1 and amounts.max() <= 1


def test_amounts_are_those_of_the_mouth_alone():
    amounts = Mouth(open=1, round=0.2, spread=0.3, teeth=0.5).amounts()
    told = {name for name, index in INDEX.items() if amounts[index]}
    assert told and all(name.startswith(("jaw", "mouth")) for name in told)
