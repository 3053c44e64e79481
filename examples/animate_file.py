"""Animate a picture with a video: python animate_file.py me.png talk.mp4 moved.mp4"""

import sys

import livepuppet


def main(avatar: str, driving: str, output: str) -> None:
    summary = livepuppet.animate(avatar, driving, output)
    print(f"{summary.frames} frames in {summary.seconds:.1f} s, by {summary.provider}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
