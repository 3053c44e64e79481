"""The live loop: newest frame in, moved picture out, with nothing waiting in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from fractions import Fraction

import cv2
import numpy as np

from livepuppet.realtime import keys
from livepuppet.realtime.framing.crop import Framing
from livepuppet.realtime.framing.refine import refine
from livepuppet.realtime.inputs.capture import Capture
from livepuppet.realtime.inputs.clips import Frame
from livepuppet.realtime.outputs.base import Output
from livepuppet.realtime.outputs.window import Window
from livepuppet.realtime.puppet import Puppet
from livepuppet.realtime.stats import LiveStats, RecentRate
from livepuppet.realtime.view.display import Canvas, draw_help, draw_lines, draw_message, draw_preview

#: What one key press does to the crop: factor of its side, and share of its side.
ZOOM_STEP = 1.06
SHIFT_STEP = 0.03

#: Seconds for which a message stays in the window.
MESSAGE_SECONDS = 3.0

#: Longest wait for a frame before keys and window are looked after again.
_TAKE_SECONDS = 0.05


class Live:
    """One live session. Call `run` once.

    Until the driver's face is framed, the outputs show the avatar as it is. The frame after that becomes D1.

    Args:
        puppet: with its avatars encoded.
        capture: running.
        framing: fresh.
        outputs: opened for pictures of the canvas's size. A `Window` among them also shows messages and brings keys.
        canvas: on which the square is composed.
        mirror: flip the driver left to right, as a mirror does.
        frames: end after so many animated frames; None goes on until the source ends or somebody stops it.
        terminal: keys from the terminal, or None.
        say: called with what the person should know, one sentence at a time.
    """

    def __init__(
        self,
        puppet: Puppet,
        capture: Capture,
        framing: Framing,
        outputs: Sequence[Output],
        canvas: Canvas,
        mirror: bool = False,
        frames: int | None = None,
        terminal: keys.TerminalKeys | None = None,
        say: Callable[[str], None] = print,
    ):
        self.puppet, self.capture, self.framing = puppet, capture, framing
        self.outputs = [output for output in outputs if not isinstance(output, Window)]
        self.window = next((output for output in outputs if isinstance(output, Window)), None)
        self.canvas, self.mirror, self.frames_wanted = canvas, mirror, frames
        self.terminal, self._say_aloud = terminal, say
        self.stats = LiveStats()
        self.rate = RecentRate()
        self.stopping = False
        self.show_status = self.show_help = False
        self.show_preview = True
        self._message, self._message_until = "", 0.0
        self._overlay = np.empty_like(canvas.picture) if self.window else None
        self._start: float | None = None
        self._before = (0, 0)
        self._status_said = 0.0

    def stop(self) -> None:
        """End after the frame in hand. May be called from a signal handler or another thread."""
        self.stopping = True

    def say(self, text: str) -> None:
        """Tell the person: in the window where there is one, and on the terminal."""
        self._message, self._message_until = text, time.perf_counter() + MESSAGE_SECONDS
        self._say_aloud(text)

    def run(self) -> LiveStats:
        """Go on until stopped, the wanted number of frames, the source's end, or the window's.

        Raises:
            UserError: if the source or an output fails. `stats` then holds what was done until then.
        """
        self.say("Looking for your face: look straight ahead, with a neutral expression.")
        try:
            while not self.stopping:
                frame = self.capture.take(_TAKE_SECONDS)
                taken = time.perf_counter()
                self._handle_keys()
                if frame is None:
                    if self.capture.ended:
                        # An error of the reading thread comes out of the slot only once the frames are used up.
                        self.capture.take(0)
                        break
                    continue
                if not self.framing.settled:
                    self._find_driver(frame)
                    continue
                self._animate(frame, taken)
                if self.frames_wanted is not None and self.stats.frames >= self.frames_wanted:
                    break
        finally:
            self._count_captured()
        return self.stats

    def _find_driver(self, frame: Frame) -> None:
        if self.framing.look(frame.picture):
            refine(self.framing, self.puppet.engine, frame.picture)
            self.puppet.reset()
            if not self.stats.frames:
                # Figures begin here: what went by while a face was looked for is nobody's loss.
                self._before = self.capture.counts()
            if self.framing.crop == "auto" and not self.framing.faces:
                self.say(
                    "No face found, so the middle of the picture is used: press C to look again, W/S/I/J/K/L to adjust."
                )
        picture = self.canvas.compose(self.puppet.avatar.picture)
        self._hand_over(picture, self.framing.cut(frame.picture, self.puppet.engine.size), frame)

    def _animate(self, frame: Frame, taken: float) -> None:
        # A source that changes its size starts the search over.
        if not self.framing.look(frame.picture):
            return
        square = self.framing.cut(frame.picture, self.puppet.engine.size)
        if self.mirror:
            square = cv2.flip(square, 1)
        cropped = time.perf_counter()
        step = self.puppet.move(square)
        moved = time.perf_counter()
        picture = self.canvas.compose(step.picture)
        composed = time.perf_counter()
        self._hand_over(picture, square, frame)
        handed_over = time.perf_counter()
        self.rate.tick(handed_over)
        marks = {
            "wait": taken - frame.captured,
            "crop": cropped - taken,
            "detect": step.detect_seconds,
            "render": step.render_seconds,
            "compose": composed - moved,
            "output": handed_over - composed,
        }
        self.stats.add(frame.captured, marks, handed_over)

    def _hand_over(self, picture: np.ndarray, square: np.ndarray, frame: Frame) -> None:
        """Give the finished canvas to every output; the window last, as it may wait for the screen."""
        self._start = frame.captured if self._start is None else self._start
        elapsed = Fraction(frame.captured - self._start)
        for output in self.outputs:
            output.write(picture, elapsed)
        if self.window is not None:
            self.window.write(self._with_overlay(picture, square), elapsed)
        elif self.show_status:
            self._print_status()

    def _with_overlay(self, picture: np.ndarray, square: np.ndarray) -> np.ndarray:
        """A copy for the window: what the other side of the call sees carries no text."""
        if not (self.show_status or self.show_help or self.show_preview or self._message):
            return picture
        np.copyto(self._overlay, picture)
        if self.show_preview:
            draw_preview(self._overlay, square)
        if self.show_status:
            draw_lines(self._overlay, self.status_lines())
        if self.show_help:
            draw_help(self._overlay, [(binding.label, binding.help) for binding in keys.BINDINGS])
        if self._message:
            if time.perf_counter() < self._message_until:
                draw_message(self._overlay, self._message)
            else:
                self._message = ""
        return self._overlay

    def status_lines(self) -> list[str]:
        """Frame rate, delay and stages, for the display."""
        latency, stages = self.stats.latency, self.stats.stages
        captured, dropped = self.capture.counts()
        return [
            f"{self.rate.fps:.1f} FPS   delay {latency.percentile(50) * 1000:.0f} ms",
            f"detect {stages['detect'].percentile(50) * 1000:.0f} ms  render {stages['render'].percentile(50) * 1000:.0f} ms",
            f"dropped {dropped - self._before[1]} of {captured - self._before[0]}",
            f"{self.puppet.index + 1}/{len(self.puppet)} {self.puppet.avatar.name}",
        ]

    def _print_status(self) -> None:
        now = time.perf_counter()
        if now - self._status_said >= 1.0:
            self._status_said = now
            self._say_aloud("  ".join(self.status_lines()[:3]))

    def _count_captured(self) -> None:
        captured, dropped = self.capture.counts()
        self.stats.captured, self.stats.dropped = captured - self._before[0], dropped - self._before[1]

    def _handle_keys(self) -> None:
        pressed = self.terminal.read() if self.terminal is not None else []
        if self.window is not None:
            # Also lets the window draw itself.
            pressed.append(keys.name_of_code(self.window.key_code()))
            if self.window.closed:
                self.stop()
        for key in pressed:
            if key is not None:
                self.press(key)

    def press(self, key: str) -> None:
        """Do what `key`, a name of `keys.BINDINGS`, stands for. Other keys do nothing."""
        action = keys.ACTIONS.get(key)
        if action is None:
            return
        if action == "select":
            if int(key) <= len(self.puppet):
                self._select(int(key) - 1)
            return
        getattr(self, f"_do_{action}")()

    def _select(self, index: int) -> None:
        self.puppet.select(index)
        self.say(f"Avatar {self.puppet.index + 1} of {len(self.puppet)}: {self.puppet.avatar.name}.")

    def _do_previous(self) -> None:
        self._select(self.puppet.index - 1)

    def _do_next(self) -> None:
        self._select(self.puppet.index + 1)

    def _do_reset(self) -> None:
        self.puppet.reset()
        self.say("Neutral pose taken.")

    def _adjust_crop(self, change: Callable[[], None]) -> None:
        """Change the crop. Keypoints then mean other places of the frame, so D1 is taken anew."""
        change()
        self.puppet.reset()

    def _do_closer(self) -> None:
        self._adjust_crop(lambda: self.framing.zoom(1 / ZOOM_STEP))

    def _do_wider(self) -> None:
        self._adjust_crop(lambda: self.framing.zoom(ZOOM_STEP))

    def _shift(self, right: float, down: float) -> None:
        # Left is what the person sees as left.
        right = -right if self.mirror else right
        self._adjust_crop(lambda: self.framing.shift(right * SHIFT_STEP, down * SHIFT_STEP))

    def _do_shift_left(self) -> None:
        self._shift(-1, 0)

    def _do_shift_right(self) -> None:
        self._shift(1, 0)

    def _do_shift_up(self) -> None:
        self._shift(0, -1)

    def _do_shift_down(self) -> None:
        self._shift(0, 1)

    def _do_find(self) -> None:
        self.framing.search_again()
        self.say("Looking for your face.")

    def _do_mirror(self) -> None:
        self.mirror = not self.mirror
        self.puppet.reset()
        self.say(f"Mirror {'on' if self.mirror else 'off'}.")

    def _do_preview(self) -> None:
        self.show_preview = not self.show_preview

    def _do_status(self) -> None:
        self.show_status = not self.show_status

    def _do_help(self) -> None:
        self.show_help = not self.show_help
        if self.window is None and self.show_help:
            self._say_aloud("\n".join(keys.help_lines()))

    def _do_quit(self) -> None:
        self.stop()


def close_all(outputs: Sequence[Output]) -> None:
    """Close every output, whatever the others do; the first failure is raised at the end.

    Raises:
        UserError: if an output could not be finished.
    """
    failure = None
    for output in outputs:
        try:
            output.close()
        except Exception as error:
            failure = failure or error
    if failure is not None:
        raise failure
