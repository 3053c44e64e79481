"""The window of `livepuppet rig --edit`: the picture with handles to drag, and what the rig makes
of them.
"""

from __future__ import annotations

import cv2
import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.realtime.rig.amounts import amounts
from livepuppet.realtime.rig.contours import Contours
from livepuppet.realtime.rig.editing import Handle, handles, moved, nearest, switched
from livepuppet.realtime.rig.eyes import Eyes
from livepuppet.realtime.rig.mouth import Mouth
from livepuppet.realtime.rig.patches import paste
from livepuppet.realtime.rig.sheet import EYES, MOUTHS, draw_contours
from livepuppet.realtime.rig.sidecar import from_json, to_json

TITLE = "livepuppet rig"
HELP = "drag points | space: look at it | 1 2 3: left eye, right eye, mouth on or off | u: undo | s: save | Esc: leave"

#: Longest side of what the window shows, and how near to a handle a click has to be, in the
#: window's pixels.
SIDE, REACH = 900, 14


class RigEditor:
    """What the window shows and does, without a window.

    Args:
        picture: uint8 RGB (H, W, 3).
        contours: of it.

    Attributes:
        contours: as they are now.
        preview: index of what is shown instead of the handles, 0 for the handles.
        message: why it cannot be saved, shown until something is dragged.
    """

    def __init__(self, picture: np.ndarray, contours: Contours):
        self.picture, self.contours = picture, contours
        self.preview = 0
        self._poses = (*EYES[1:], *MOUTHS[1:])
        self.message = ""
        self._held: Handle | None = None
        self._before: list[Contours] = []
        self._place()

    def _place(self) -> None:
        """The part of the picture with the face, enlarged to the window."""
        points = np.array([handle.at for handle in handles(self.contours)])
        height, width = self.picture.shape[:2]
        if len(points) == 0:
            raise UserError("There is no face in this picture whose rig could be edited.")
        low, high = points.min(0), points.max(0)
        margin = 0.35 * float((high - low).max())
        left, top = np.maximum(low - margin, 0)
        right, bottom = np.minimum(high + margin, (width, height))
        self.scale = SIDE / max(right - left, bottom - top, 1)
        self.left, self.top = float(left), float(top)
        self.size = max(round((right - left) * self.scale), 1), max(round((bottom - top) * self.scale), 1)

    def to_picture(self, x: float, y: float) -> tuple[float, float]:
        """The picture's pixel under one of the window's."""
        return x / self.scale + self.left, y / self.scale + self.top

    def press(self, x: float, y: float) -> None:
        if not self.preview:
            self._held = nearest(self.contours, *self.to_picture(x, y), REACH / self.scale)
            if self._held:
                self._before = [*self._before[-49:], self.contours]

    def drag(self, x: float, y: float) -> None:
        if self._held:
            self.message = ""
            self.contours = moved(self.contours, self._held, *self.to_picture(x, y))

    def release(self) -> None:
        self._held = None

    def key(self, code: str) -> None:
        """A key that changes something here: space, u, 1, 2, 3."""
        if code == " ":
            self.preview = (self.preview + 1) % (len(self._poses) + 1)
        elif code == "u" and self._before:
            self.contours = self._before.pop()
        elif code in "123":
            self._before = [*self._before[-49:], self.contours]
            self.contours = switched(self.contours, ("left", "right", "mouth")[int(code) - 1])

    def saved(self) -> Contours | None:
        """The contours as a sidecar will have them; None, and a message, where they are in no
        possible order.
        """
        try:
            return from_json(to_json(self.contours, self.picture).encode(), self.picture)
        except ValueError as error:
            self.message = f"This cannot be saved, because {error}: u takes the last step back."
            return None

    def draw(self) -> np.ndarray:
        """What the window shows, uint8 RGB."""
        if self.preview:
            text, values = self._poses[self.preview - 1]
            wanted = amounts(values)
            drawn = Eyes(self.picture, self.contours).draw(wanted) + Mouth(self.picture, self.contours).draw(
                wanted
            )
            shown, contours = paste(self.picture.copy(), drawn), None
        else:
            shown, text, contours = self.picture, self.message or HELP, self.contours
        k = self.scale
        matrix = np.array([[k, 0, -k * self.left], [0, k, -k * self.top]], np.float32)
        view = cv2.warpAffine(
            shown, matrix, self.size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        if contours is not None:
            here = contours.mapped(k, self.left * k, self.top * k)
            view = draw_contours(view, here)
            for handle in handles(contours):
                x, y = (handle.at[0] - self.left) * k, (handle.at[1] - self.top) * k
                sure = getattr(contours, handle.part).sure
                colour = (255, 255, 255) if sure else (150, 150, 150)
                cv2.circle(view, (round(x), round(y)), 4, (20, 20, 20), -1, cv2.LINE_AA)
                cv2.circle(view, (round(x), round(y)), 3, colour, -1, cv2.LINE_AA)
        cv2.putText(view, text, (8, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (20, 20, 20), 3, cv2.LINE_AA)
        cv2.putText(view, text, (8, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
        return view


def edit(picture: np.ndarray, contours: Contours) -> Contours | None:
    """Let a person drag the contours. Returns them when they are to be saved, None when they are
    left.

    Raises:
        UserError: there is nothing to edit, or no window can be opened.
    """
    editor = RigEditor(picture, contours)

    def mouse(event: int, x: int, y: int, flags: int, data) -> None:
        if event == cv2.EVENT_LBUTTONDOWN:
            editor.press(x, y)
        elif event == cv2.EVENT_MOUSEMOVE:
            editor.drag(x, y)
        elif event == cv2.EVENT_LBUTTONUP:
            editor.drag(x, y)
            editor.release()

    try:
        cv2.namedWindow(TITLE, cv2.WINDOW_AUTOSIZE)
        cv2.setMouseCallback(TITLE, mouse)
    except cv2.error as error:
        raise UserError(
            "No window can be opened here: edit the rig on a machine with a screen, or change the points in the .rig.json file."
        ) from error
    try:
        while True:
            cv2.imshow(TITLE, cv2.cvtColor(editor.draw(), cv2.COLOR_RGB2BGR))
            code = cv2.waitKey(30) & 0xFF
            if code == 27 or cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1:
                return None
            if code == ord("s") and (saved := editor.saved()) is not None:
                return saved
            if code < 128:
                editor.key(chr(code))
    finally:
        cv2.destroyAllWindows()
