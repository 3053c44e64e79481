"""How fast the live loop runs, in constant memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from livepuppet.core.durations import Durations

#: The stages of one frame, in order. `wait` is the time from its capture until the loop took it
#: from the slot, `slot` that until the painting thread took it from the next; what is left of the
#: latency is keys, transfer and bookkeeping.
STAGES = ("wait", "crop", "detect", "render", "slot", "compose", "output")


@dataclass
class LiveStats:
    """What the live loop counts.

    Attributes:
        latency: from a frame's capture to its hand-over to the last output.
        stages: of every one of `STAGES`.
        frames: animated and handed over.
        captured, dropped: frames read, and frames overtaken by newer ones, since the neutral pose
            was taken.
        first, last: `time.perf_counter()` of the first and the last hand-over.
        errors: what went wrong on single frames, and how often.
        reduced: names of `load.STEPS`, and how many frames were shown with each in force.
    """

    latency: Durations = field(default_factory=Durations)
    stages: dict[str, Durations] = field(default_factory=lambda: {stage: Durations() for stage in STAGES})
    frames: int = 0
    captured: int = 0
    dropped: int = 0
    first: float | None = None
    last: float | None = None
    errors: dict[str, int] = field(default_factory=dict)
    reduced: dict[str, int] = field(default_factory=dict)

    def add(self, captured: float, marks: dict[str, float], handed_over: float) -> None:
        """Count one frame, captured and handed over at those times, with seconds per stage."""
        self.frames += 1
        self.first = handed_over if self.first is None else self.first
        self.last = handed_over
        self.latency.add(handed_over - captured)
        for stage, seconds in marks.items():
            self.stages[stage].add(seconds)

    @property
    def seconds(self) -> float:
        """Between the first and the last hand-over."""
        return 0.0 if self.first is None or self.last is None else self.last - self.first

    @property
    def fps(self) -> float:
        return (self.frames - 1) / self.seconds if self.seconds > 0 else 0.0

    def as_dict(self) -> dict:
        """For JSON; times in milliseconds."""
        return {
            "frames": self.frames,
            "captured": self.captured,
            "dropped": self.dropped,
            "seconds": round(self.seconds, 3),
            "fps": round(self.fps, 2),
            "errors": dict(self.errors),
            "reduced": dict(self.reduced),
            "latency_ms": self.latency.summary(),
            "stages_ms": {stage: durations.summary() for stage, durations in self.stages.items()},
        }

    def sentence(self) -> str:
        """For people."""
        latency = self.latency.summary()
        reduced = "".join(f", {count} with reduced {name}" for name, count in self.reduced.items())
        return (
            f"{self.frames} frames{reduced}, {self.dropped} dropped, {self.fps:.1f} FPS; camera to output "
            f"p50 {latency['p50']:.1f} ms, p95 {latency['p95']:.1f} ms, p99 {latency['p99']:.1f} ms; median "
            + ", ".join(f"{stage} {self.stages[stage].percentile(50) * 1000:.1f} ms" for stage in STAGES)
            + "."
        )


class RecentRate:
    """Frames per second over about the last second, for the display."""

    def __init__(self):
        self._last: float | None = None
        self._interval = 0.0

    def tick(self, now: float) -> None:
        if self._last is not None:
            interval = now - self._last
            share = min(1.0, max(0.03, interval))
            self._interval += share * (interval - self._interval) if self._interval else interval
        self._last = now

    @property
    def fps(self) -> float:
        return 1 / self._interval if self._interval > 0 else 0.0
