"""Make the moving picture of the front page: the bundled clip moves three puppets.

python docs/hero.py            # writes docs/images/hero.webp; needs the extra `train`, which has the puppets' renderer

Everything in it comes from this repository: the clip, the avatars and the weights.
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
from livepuppet.realtime import bundled

OUTPUT = Path(__file__).resolve().parent / "images/hero.webp"

#: The avatars: seed and row of `livepuppet puppets draw --setting rich`.
PUPPETS = ((7, 2), (7, 14), (3, 22))

#: Side of each tile in pixels.
SIDE = 240

#: The frames shown, one of every two: turns, a smile, a blink, an open mouth.
SHOWN = slice(140, 300, 2)


def draw_puppet(path: Path, seed: int, row: int) -> None:
    command = Path(sys.executable).with_name("livepuppet")
    options = ["--setting", "rich", "--size", "512", "--seed", str(seed), "--row", str(row)]
    subprocess.run([command, "puppets", "draw", path, *options], check=True)


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
        OUTPUT, save_all=True, append_images=rest, duration=40 * SHOWN.step, quality=60, method=4, loop=0
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        videos = [bundled.DRIVING]
        for seed, row in PUPPETS:
            avatar, video = Path(folder) / f"{seed}-{row}.png", Path(folder) / f"{seed}-{row}.mp4"
            draw_puppet(avatar, seed, row)
            # At the avatar's own resolution, then shown smaller.
            livepuppet.animate(avatar, bundled.DRIVING, video, side=512)
            videos.append(video)
        write(videos)


if __name__ == "__main__":
    main()
