"""From the sound of a voice to the shape of a mouth.

Every 10 ms the spectrum of the last 25 ms tells how loud it is above the room's noise, whether it is a voice (it repeats itself
at some pitch), and roughly which vowel: the lower formant, which says how far the jaw is down, lies below or above 500 Hz; the
upper one, which says whether lips are spread or round, below or above 1700 Hz. Consonants come out of the same numbers: where
the voice is shut off, or only hums below 500 Hz (m, n), the mouth shuts; a hiss above 3 kHz (s, f) shows teeth.

The room's noise is the quietest of the last seconds, and full opening the loudness of this speaker at this microphone, so that
nothing has to be set up.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from livepuppet.realtime.rig.amounts import INDEX, zeros
from livepuppet.realtime.rig.ramps import smooth

#: Seconds of one step, of the sound whose spectrum it looks at, and of the sound in which it looks for a pitch.
HOP, WINDOW, PITCH_WINDOW = 0.01, 0.025, 0.04

#: Samples per second that are enough; of more, every second, third... is taken, after a low-pass filter of so many taps for each.
ENOUGH, TAPS = 16_000, 12

#: Bands in Hz: of speech's loudness; what a hummed consonant has below and a vowel above; of the lower formant of narrow and of
#: open vowels; of the upper formant of round and of spread ones; of a hiss.
SPEECH = (100, 5000)
HUM, ABOVE_HUM = (80, 420), (450, 4000)
NARROW, OPEN = (200, 480), (550, 1100)
ROUND, SPREAD = (650, 1500), (1700, 3400)
HISS = (3200, 7800)
VOICE = (80, 1500)

#: Pitches of voices, in Hz, and by how much of itself sound has to repeat to begin to count as one, and wholly.
PITCHES, REPEATS = (70, 420), (0.45, 0.65)

#: The room's noise is the least level within so many seconds; how fast it is followed up and down, in seconds; and between
#: which levels it can lie, in decibels of full scale: below, a microphone is shut off, and above, nothing is understood.
NOISE_SECONDS, NOISE_UP, NOISE_DOWN, NOISE_LEAST, NOISE_MOST = 3.0, 1.0, 0.08, -70.0, -25.0

#: Decibels above the noise at which speech begins.
GATE = 8.0

#: The speaker's own loudness: decibels below full scale where it is assumed to begin, at which it is never less, seconds in which
#: louder is believed, decibels a second by which it falls while there is speech (in its first second, and later), and the least
#: above the gate.
LOUD_FIRST, LOUD_LEAST, LOUD_UP, LOUD_FALL, LOUD_ABOVE = -26.0, -52.0, 0.15, (36.0, 1.2), 12.0

#: Decibels between the quietest and the loudest vowel of one speaker.
DYNAMICS = 26.0

#: Seconds in which the mouth opens and shuts. Muscles open later than they shut, sound comes after both.
OPENS, SHUTS, SHAPES = 0.015, 0.03, 0.045

#: `jawOpen` of the loudest open vowel: in talk, mouths are far from as open as they can be.
WIDEST = 0.6

#: How far lips are pressed together between a speaker's syllables, of a picture whose lips are parted at rest (`jawOpen` below 0).
SHUT = 0.8

#: Seconds of speech in which a speaker's usual formants are learnt, and how far they may be from a usual speaker's, in decibels.
LEARNT, UNUSUAL = 6.0, 6.0


@dataclass(frozen=True)
class Mouth:
    """What is heard at one moment, each from 0 to 1.

    Attributes:
        open: of the jaw.
        round: lips forward, as in "oo".
        spread: lips wide, as in "ee".
        teeth: of a hiss.
        speaking: whether somebody speaks, slowly changing.
        level: of the sound, in decibels of full scale.
    """

    open: float = 0.0
    round: float = 0.0
    spread: float = 0.0
    teeth: float = 0.0
    speaking: float = 0.0
    level: float = -120.0

    @property
    def shut(self) -> float:
        """Whether lips meet in the middle of speech, 0 to 1; in a pause they rest as the picture has them."""
        return min(1.5 * self.speaking, 1.0) * (1 - float(smooth(0.0, 0.14, self.open))) * (1 - self.teeth)

    def amounts(self) -> np.ndarray:
        """As amounts of a face: float32 (52,), those of the mouth alone."""
        found = {
            "jawOpen": WIDEST * self.open + 0.05 * self.teeth - SHUT * self.shut,
            "mouthFunnel": 0.55 * self.round * min(2 * self.open, 1.0),
            "mouthPucker": 0.5 * self.round,
        }
        for side in ("Left", "Right"):
            found["mouthStretch" + side] = 0.3 * self.spread + 0.2 * self.teeth
            found["mouthSmile" + side] = 0.22 * self.spread
            found["mouthLowerDown" + side] = 0.22 * self.open * (1 - self.round) + 0.35 * self.teeth
            found["mouthUpperUp" + side] = 0.16 * self.open * (1 - self.round) + 0.15 * self.teeth
        vector = zeros()
        for name, value in found.items():
            vector[INDEX[name]] = value
        return vector


class SpeechFollower:
    """Follows a voice. One thread at a time.

    Args:
        rate: samples per second, at least 8000.
    """

    def __init__(self, rate: int):
        self._every = max(rate // ENOUGH, 1)
        taps = TAPS * self._every + 1
        at = np.arange(taps) - taps // 2
        low_pass = np.sinc(0.9 * at / self._every) * np.hamming(taps)
        self._low_pass = low_pass / low_pass.sum()
        self._before, self._phase = np.zeros(taps - 1, np.float32), 0
        thinned = rate / self._every
        self._hop, self._count, self._whole = (
            round(seconds * thinned) for seconds in (HOP, WINDOW, PITCH_WINDOW)
        )
        self._window, self._pitch_window = np.hanning(self._count), np.hanning(self._whole)
        self._tail = np.zeros(self._whole - self._hop, np.float32)
        size = 2 ** math.ceil(math.log2(2 * self._whole))
        self._size = size
        hertz = np.fft.rfftfreq(size, 1 / thinned)
        self._bands = {band: self._weights(hertz, band) for band in _BANDS}
        self._voice = hertz < VOICE[1]
        # The window's own autocorrelation: a sound that repeats wholly has as much.
        own = np.fft.irfft(np.abs(np.fft.rfft(self._pitch_window, size)) ** 2)
        low, high = round(thinned / PITCHES[1]), round(thinned / PITCHES[0])
        self._lags = slice(low, high)
        self._own = own[self._lags] / own[0]
        self._scale = 1 / float((self._window**2).sum()) / size * 2
        self._levels: deque[float] = deque(maxlen=round(NOISE_SECONDS / HOP))
        self._calm = -120.0
        self.noise, self.loud = -120.0, LOUD_FIRST
        self._heard, self._spoken = 0, 0.0
        self._usual = np.zeros(2)
        self.mouth = Mouth()

    @staticmethod
    def _weights(hertz: np.ndarray, band: tuple[int, int]) -> np.ndarray:
        return ((hertz >= band[0]) & (hertz < band[1])).astype(np.float64)

    def feed(self, samples: np.ndarray) -> int:
        """Hear more.

        Args:
            samples: float (n,) in [-1, 1]; what is not finite is silence.

        Returns:
            Steps of `HOP` seconds that were done.
        """
        samples = np.nan_to_num(np.asarray(samples, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        sound = np.concatenate([self._tail, self._thinned(np.clip(samples, -4.0, 4.0))])
        steps = max((len(sound) - self._whole) // self._hop + 1, 0)
        for step in range(steps):
            begin = step * self._hop
            self._step(sound[begin : begin + self._whole])
        self._tail = sound[steps * self._hop :]
        return steps

    def _thinned(self, samples: np.ndarray) -> np.ndarray:
        """`samples` at about `ENOUGH` a second."""
        if self._every == 1 or not len(samples):
            return samples
        joined = np.concatenate([self._before, samples])
        self._before = joined[len(samples) :]
        kept = np.convolve(joined, self._low_pass, "valid")[self._phase :: self._every]
        self._phase = (self._phase - len(samples)) % self._every
        return kept.astype(np.float32)

    def _step(self, sound: np.ndarray) -> None:
        power = np.abs(np.fft.rfft(sound[-self._count :] * self._window, self._size)) ** 2 * self._scale
        decibels = {
            band: 10 * math.log10(float(power @ weights) + 1e-12) for band, weights in self._bands.items()
        }
        level = decibels[SPEECH]
        # What is left of a hiss below may repeat itself as it likes.
        voiced = self._voiced(sound) * float(smooth(-16.0, -6.0, decibels[VOICE] - level))
        self._follow_noise(level, voiced)
        gate = self.noise + GATE
        above = level - gate
        speech = above > 0
        if speech and voiced > 0.5:
            self._spoken += HOP
            fall = max(LOUD_FALL[0] / (1 + self._spoken) ** 2, LOUD_FALL[1]) * HOP
            self.loud += (HOP / LOUD_UP) * (level - self.loud) if level > self.loud else -fall
        self.loud = max(self.loud, LOUD_LEAST)
        top = max(self.loud, gate + LOUD_ABOVE)
        low = max(gate, top - DYNAMICS)
        loud = float(min(max((level - low) / (top - low), 0.0), 1.0))
        openness = decibels[OPEN] - decibels[NARROW]
        front = decibels[SPREAD] - decibels[ROUND]
        if speech and voiced > 0.5:
            here = np.array([openness, front]) - _USUAL
            self._usual += (HOP / LEARNT) * loud * (here - self._usual)
            self._usual = np.clip(self._usual, -UNUSUAL, UNUSUAL)
        openness, front = np.array([openness, front]) - _USUAL - 0.7 * self._usual
        hum = float(smooth(12.0, 20.0, decibels[HUM] - decibels[ABOVE_HUM]))
        hiss = float(smooth(-4.0, 8.0, decibels[HISS] - max(decibels[HUM], decibels[ABOVE_HUM])))
        jaw = float(smooth(-14.0, 9.0, openness))
        wanted = {
            "open": loud * voiced * (1 - hum) * (0.45 + 0.55 * jaw) * (1 - 0.8 * hiss),
            "round": min(3 * loud, 1.0) * voiced * float(smooth(0.0, -7.0, front)) * (1 - jaw),
            "spread": min(3 * loud, 1.0) * voiced * float(smooth(0.0, 14.0, front)) * (1 - 0.4 * jaw),
            "teeth": min(3 * loud, 1.0) * hiss * (1 - voiced),
        }
        self._go_to(wanted, level, float(speech) * max(voiced, hiss))

    def _voiced(self, sound: np.ndarray) -> float:
        """How far the sound repeats itself at a pitch that voices have, 0 to 1."""
        power = np.abs(np.fft.rfft(sound * self._pitch_window, self._size)) ** 2
        own = np.fft.irfft(np.where(self._voice, power, 0.0))
        if own[0] <= 1e-9:
            return 0.0
        return float(smooth(*REPEATS, float((own[self._lags] / own[0] / self._own).max())))

    def _follow_noise(self, level: float, voiced: float) -> None:
        # Of a step alone, the least is far below what noise is.
        self._calm = level if not self._heard else self._calm + 0.3 * (level - self._calm)
        if not self._heard:
            self.noise = min(level, -45.0)
        self._heard += 1
        # A vowel that is held is no noise, however long.
        if voiced < 0.8 or self._calm < self.noise + GATE:
            self._levels.append(self._calm)
        least = min(self._levels, default=self._calm)
        if least < self.noise:
            self.noise += (HOP / NOISE_DOWN) * (least - self.noise)
        elif len(self._levels) * HOP > 0.4 * NOISE_SECONDS:
            self.noise += (HOP / NOISE_UP) * (least - self.noise)
        self.noise = min(max(self.noise, NOISE_LEAST), NOISE_MOST)

    def _go_to(self, wanted: dict[str, float], level: float, speech: float) -> None:
        now = self.mouth

        def nearer(name: str, seconds: float) -> float:
            before = getattr(now, name)
            return before + (1 - math.exp(-HOP / seconds)) * (wanted[name] - before)

        opening = wanted["open"] > now.open
        speaking = now.speaking + (HOP / (0.15 if speech > now.speaking else 0.6)) * (speech - now.speaking)
        self.mouth = Mouth(
            nearer("open", OPENS if opening else SHUTS),
            nearer("round", SHAPES),
            nearer("spread", SHAPES),
            nearer("teeth", SHAPES),
            speaking,
            level,
        )


_BANDS = (SPEECH, VOICE, HUM, ABOVE_HUM, NARROW, OPEN, ROUND, SPREAD, HISS)

#: Levels of a usual speaker's open above narrow, and spread above round vowels, in decibels.
_USUAL = np.array([-2.0, -10.0])
