"""What the window shows over the picture at one moment, gathered from the running session."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import cv2
import numpy as np

from livepuppet.core.video import Frame
from livepuppet.realtime.app import keys
from livepuppet.realtime.app.actions import SLIDERS
from livepuppet.realtime.app.overlay.screens import CameraView, OutputLine, Overlay, Slider, Status

if TYPE_CHECKING:
    from livepuppet.realtime.animator import Animator
    from livepuppet.realtime.app.loop import LiveLoop

#: Seconds for which figures stand: percentiles take time to count, and digits that dance cannot be
#: read.
_STATUS_SECONDS = 0.25

_HELP = tuple((binding.group, binding.label, binding.help) for binding in keys.BINDINGS)


class Snapshots:
    """Makes the overlays of one session. One thread at a time."""

    def __init__(self, live: LiveLoop):
        self._live = live
        self._status: Status | None = None
        self._status_until = 0.0

    def overlay(self, frame: Frame | None, square: np.ndarray | None) -> Overlay:
        """The present moment.

        Args:
            frame: of the camera, or None where it delivers nothing.
            square: the crop of it, as the model saw it, uint8 RGB (S, S, 3).
        """
        live, show, now = self._live, self._live.show, time.perf_counter()
        mode = live.mode
        lines_up = mode in ("looking", "counting")
        camera = driver = ghost = None
        if frame is not None and (show.preview or lines_up):
            camera = CameraView(frame.image, live.animator.framing.square)
            # The person is shown as in a mirror, whichever way the avatar goes.
            driver = cv2.flip(square, 1) if live.animator.mirror and square is not None else square
            if lines_up or show.ghost:
                ghost = live.animator.avatar.image
                ghost = cv2.flip(ghost, 1) if live.animator.mirror else ghost
        retargeter = live.animator.retargeter
        countdown = None
        if mode == "counting":
            countdown = (retargeter.countdown_left, max(live.countdown, retargeter.countdown_left))
        return Overlay(
            mode=mode,
            trouble=live.trouble,
            message=live.message if now < live.message_until else "",
            # The calibration screen takes the whole window.
            status=self._figures(now) if show.status and not lines_up else None,
            camera=camera,
            driver=driver,
            ghost=ghost,
            flip=True,
            fit=retargeter.fit
            if mode == "counting" or (mode == "live" and retargeter.settings.search)
            else None,
            countdown=countdown,
            help=_HELP if show.help else (),
            sliders=self._sliders() if now < show.sliders_until else (),
        )

    def _sliders(self) -> tuple[Slider, ...]:
        settings, chosen = self._live.animator.retargeter.settings, self._live.show.slider
        return tuple(
            Slider(name, getattr(settings, name), low, high, name == chosen)
            for name, (low, high, _) in SLIDERS.items()
        )

    def _figures(self, now: float) -> Status:
        if self._status is not None and now < self._status_until:
            return self._status
        live = self._live
        states = live.fanout.states()
        delay = next((state.delay_ms for state in states if state.written), live.stats.latency.summary())
        self._status_until = now + _STATUS_SECONDS
        self._status = Status(
            fps=live.rate.fps,
            camera_fps=live.capture.measured_rate or 0.0,
            delay=(delay["p50"], delay["p95"], delay["p99"]),
            stages=tuple(
                (name, durations.percentile(50) * 1000) for name, durations in live.stats.stages.items()
            ),
            dropped=live.counts()[1],
            repeated=sum(state.repeated for state in states),
            errors=live.failed,
            engine=_engine_line(live.animator),
            reduced=tuple(step.told for step in live.reduced),
            outputs=tuple(
                OutputLine(state.name, state.failed or f"{state.delay_ms['p50']:.0f} ms", bool(state.failed))
                for state in states
            ),
        )
        return self._status


def _engine_line(animator: Animator) -> str:
    """What runs, and why, without the figures; and how far away it renders."""
    engine, renderer = animator.engine, animator.renderer
    if renderer is not None:
        spread = renderer.figures()["delay_ms"]
        return f"rendered remotely, {spread['p50']:.0f} / {spread['p95']:.0f} ms"
    why = engine.reason.partition(" (")[0]
    return f"{engine.name} {engine.precision}" + (f", {why}" if why else "")
