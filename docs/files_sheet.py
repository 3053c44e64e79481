"""Make the sheet of the page on files: four clips that begin badly, as the papers' settings show them and as `animate` does.

python docs/files_sheet.py     # writes docs/images/files.webp; needs what docs/training/people.md lists

Everything in it comes from this repository: clips, avatar and weights. Nobody in it exists.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from hero import draw
from PIL import Image

import livepuppet
from livepuppet.core.errors import UserError
from livepuppet.core.video_writer import write_video

OUTPUT = Path(__file__).resolve().parent / "images/files.webp"

#: Options of `livepuppet puppets draw`.
DRIVER = ("--setting", "people", "--seed", "88", "--size", "480", "--seconds", "16")
AVATAR = ("--setting", "people", "--seed", "93", "--scene", "20", "--size", "512")

#: Of the clips that are wider than a face, in pixels; and the side of the face in them.
WIDTH, HEIGHT, FACE = 480, 270, 250

RATE = 25

#: The driver's frame at which the mouth is wide open.
OPEN = 370

#: Columns of the sheet, the height of its rows, and the space between clips.
COLUMNS, ROW, GAP = 8, 112, 12
CELL = -(-ROW * WIDTH // HEIGHT)


def beside(face: np.ndarray, left: int) -> np.ndarray:
    """A wide picture with a face that begins at `left`."""
    small = cv2.resize(face, (FACE, FACE), interpolation=cv2.INTER_AREA)
    return cv2.copyMakeBorder(
        small, HEIGHT - FACE, 0, left, WIDTH - FACE - left, cv2.BORDER_CONSTANT, value=small[4, 4].tolist()
    )


def labelled(picture: np.ndarray, text: str, at: tuple[int, int], scale: float) -> np.ndarray:
    return cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (40, 40, 40), 2, cv2.LINE_AA)


def card(text: str) -> np.ndarray:
    picture = np.full((HEIGHT, WIDTH, 3), 235, np.uint8)
    return labelled(picture, text, ((WIDTH - 32 * len(text)) // 2, HEIGHT // 2 + 14), 1.4)


def clips(face: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
    """Four clips of the frames of a driver."""
    title = [card("MY VIDEO")] * 30 + [beside(one, 220) for one in face[:100]]
    jump = [beside(one, 0) for one in face[:60]] + [beside(one, WIDTH - FACE) for one in face[60:120]]
    return [title, jump, [card("NOBODY HERE")] * 50, list(face[OPEN : OPEN + 100])]


def row(pictures: Sequence[np.ndarray] | str) -> np.ndarray:
    """Pictures evenly over a clip; or a sentence, where there are none."""
    cells = np.full((ROW, COLUMNS * CELL, 3), 255, np.uint8)
    if isinstance(pictures, str):
        return labelled(cells, pictures, (40, ROW // 2), 1.0)
    for column, number in enumerate(np.linspace(0, len(pictures) - 1, COLUMNS).round().astype(int)):
        picture = pictures[number]
        width = round(ROW * picture.shape[1] / picture.shape[0])
        left = column * CELL + (CELL - width) // 2
        cells[:, left : left + width] = cv2.resize(picture, (width, ROW), interpolation=cv2.INTER_AREA)
    return cells


def frames(video: Path) -> list[np.ndarray]:
    with livepuppet.open_video(video) as opened:
        return [frame.image for frame in opened]


def sheet(folder: Path) -> np.ndarray:
    """Three rows for each clip: the driver, with `--as-published`, and as it comes."""
    driver, avatar = draw(folder / "driver.mp4", DRIVER), draw(folder / "avatar.png", AVATAR)
    rows, result = [], folder / "result.mp4"
    for pictures in clips(frames(driver)):
        clip = folder / "clip.mp4"
        write_video(clip, pictures, RATE)
        rows.append(row(pictures))
        for as_published in (True, False):
            try:
                livepuppet.animate(avatar, clip, result, as_published=as_published)
                rows.append(row(frames(result)))
            except UserError as error:
                rows.append(row(str(error).partition(str(folder))[0].rstrip(" in") + "."))
        rows.append(np.full((GAP, COLUMNS * CELL, 3), 255, np.uint8))
    return np.vstack(rows[:-1])


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Image.fromarray(sheet(Path(folder))).save(OUTPUT, quality=85, method=6)


if __name__ == "__main__":
    main()
