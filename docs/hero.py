"""Make the moving picture of the front page: a rendered person moves another one, a drawing and a puppet.

python docs/hero.py            # writes docs/images/hero.webp; needs what docs/training/people.md lists

Everything in it comes from this repository: the clip, the avatars and the weights. Nobody in it exists.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import livepuppet

OUTPUT = Path(__file__).resolve().parent / "images/hero.webp"

#: Options of `livepuppet puppets draw`: of the clip, and of the avatars.
DRIVING = ("--setting", "people", "--seed", "88", "--size", "480")
AVATARS = (
    ("--setting", "people", "--seed", "93", "--scene", "20", "--size", "512"),
    ("--setting", "people-drawn", "--seed", "98", "--scene", "20", "--size", "512"),
    ("--setting", "rich", "--seed", "7", "--row", "2", "--size", "512"),
)

#: Side of each tile in pixels.
SIDE = 240

#: The frames shown, one of every two: turns, a smile, a blink, an open mouth.
SHOWN = slice(140, 300, 2)


def draw(path: Path, options: tuple[str, ...]) -> Path:
    command = Path(sys.executable).with_name("livepuppet")
    subprocess.run([command, "puppets", "draw", path, *options], check=True)
    return path


def tiles(video: str | Path) -> list[np.ndarray]:
    """The frames shown of a square video, uint8 RGB (SIDE, SIDE, 3)."""
    with livepuppet.open_video(video) as frames:
        shown = islice(frames, SHOWN.start, SHOWN.stop, SHOWN.step)
        return [cv2.resize(frame.image, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for frame in shown]


def write(videos: list[str | Path]) -> None:
    """Lay videos side by side."""
    columns = [tiles(video) for video in videos]
    first, *rest = [Image.fromarray(np.hstack(row)) for row in zip(*columns, strict=True)]
    first.save(
        OUTPUT, save_all=True, append_images=rest, duration=40 * SHOWN.step, quality=56, method=4, loop=0
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        driving = draw(Path(folder, "driving.mp4"), (*DRIVING, "--seconds", "12"))
        videos: list[str | Path] = [driving]
        for number, options in enumerate(AVATARS):
            avatar, video = draw(Path(folder, f"{number}.png"), options), Path(folder, f"{number}.mp4")
            # At the avatar's own resolution, then shown smaller.
            livepuppet.animate(avatar, driving, video, side=512)
            videos.append(video)
        write(videos)


if __name__ == "__main__":
    main()
