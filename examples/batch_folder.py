"""Animate every picture of a folder with one video: python batch_folder.py pictures/ talk.mp4
videos/
"""

import sys
from pathlib import Path

import livepuppet


def main(pictures: str, driving: str, output: str) -> None:
    Path(output).mkdir(parents=True, exist_ok=True)
    engine = livepuppet.load_engine()  # once for all
    for picture in sorted(Path(pictures).iterdir()):
        try:
            livepuppet.animate(picture, driving, Path(output) / f"{picture.stem}.mp4", engine=engine)
        except livepuppet.LivePuppetError as error:
            print(f"{picture.name} is left out: {error}", file=sys.stderr)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
