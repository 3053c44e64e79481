"""Voices made of numbers: vowels as pulses through resonances, hisses, hums, rooms. No sound file is needed."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

RATE = 16_000

#: The first two formants of vowels, in Hz (Peterson and Barney, 1952, men).
FORMANTS = {"a": (730, 1090), "e": (530, 1840), "i": (270, 2290), "o": (570, 840), "u": (300, 870)}


def vowel(
    name: str, seconds: float, pitch: float = 115.0, level: float = 0.2, rate: int = RATE
) -> np.ndarray:
    """A vowel that fades in and out: float32 (n,)."""
    count = round(seconds * rate)
    phase = np.cumsum(np.full(count, pitch) * (1 + 0.02 * np.sin(np.arange(count) / rate * 30))) / rate
    pulses = (np.diff(np.floor(phase), prepend=0) > 0).astype(np.float64)
    sound = pulses
    for hertz, wide in zip((*FORMANTS[name], 2700), (80, 100, 160), strict=True):
        sound = _resonance(sound, hertz, wide, rate)
    sound = sound / max(float(np.abs(sound).max()), 1e-9) * level
    return (sound * _fade(count, rate)).astype(np.float32)


def hum(seconds: float, pitch: float = 115.0, level: float = 0.08, rate: int = RATE) -> np.ndarray:
    """An "m": the pitch and its first overtones."""
    at = np.arange(round(seconds * rate)) / rate
    sound = sum(np.sin(2 * np.pi * pitch * k * at) / k**2 for k in (1, 2))
    return (level * sound * _fade(len(at), rate)).astype(np.float32)


def hiss(seconds: float, level: float = 0.05, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """An "s": noise above 3.5 kHz."""
    return (level * _noise(seconds, (3500, 7500), rate, seed) * _fade(round(seconds * rate), rate)).astype(
        np.float32
    )


def room(seconds: float, level: float = 0.003, rate: int = RATE, seed: int = 1) -> np.ndarray:
    """A fan: noise, mostly low."""
    return (level * _noise(seconds, (60, 3000), rate, seed)).astype(np.float32)


def silence(seconds: float, rate: int = RATE) -> np.ndarray:
    return np.zeros(round(seconds * rate), np.float32)


def talk(seconds: float, seed: int = 0, rate: int = RATE, pitch: float = 115.0) -> np.ndarray:
    """Syllables of all vowels at different levels, with stops, hisses and hums between, and pauses between phrases."""
    random = np.random.default_rng(seed)
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < seconds * rate:
        for _ in range(int(random.integers(3, 7))):
            begin = random.integers(4)
            if begin == 1:
                parts.append(hiss(random.uniform(0.06, 0.11), 0.03, rate, int(random.integers(1000))))
            elif begin == 2:
                parts.append(hum(random.uniform(0.06, 0.1), pitch, 0.05, rate))
            elif begin == 3:
                parts.append(silence(random.uniform(0.05, 0.09), rate))
            name = random.choice(list(FORMANTS))
            loud = {"a": 0.3, "e": 0.2, "o": 0.22, "i": 0.1, "u": 0.1}[name] * random.uniform(0.5, 1.0)
            parts.append(
                vowel(name, random.uniform(0.09, 0.22), pitch * random.uniform(0.9, 1.15), loud, rate)
            )
        parts.append(silence(random.uniform(0.25, 0.7), rate))
    return np.concatenate(parts)[: round(seconds * rate)]


def write_wave(path: Path, sound: np.ndarray, rate: int = RATE) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def _fade(count: int, rate: int) -> np.ndarray:
    edge = min(round(0.015 * rate), count // 3)
    shape = np.ones(count)
    shape[:edge] = np.linspace(0, 1, edge)
    shape[count - edge :] = np.linspace(1, 0, edge)
    return shape


def _noise(seconds: float, band: tuple[int, int], rate: int, seed: int) -> np.ndarray:
    count = round(seconds * rate)
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=count))
    hertz = np.fft.rfftfreq(count, 1 / rate)
    spectrum[(hertz < band[0]) | (hertz > band[1])] = 0
    sound = np.fft.irfft(spectrum, count)
    return sound / max(float(np.sqrt((sound**2).mean())), 1e-9)


def _resonance(sound: np.ndarray, hertz: float, wide: float, rate: int) -> np.ndarray:
    """`sound` through a two-pole resonance, by its impulse response."""
    at = np.arange(round(0.04 * rate)) / rate
    response = np.exp(-np.pi * wide * at) * np.sin(2 * np.pi * hertz * at)
    size = len(sound) + len(response)
    return np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(response, size), size)[: len(sound)]
