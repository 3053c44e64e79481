"""Drive a picture from the webcam, into a virtual camera for Zoom or OBS: python virtual_camera.py
me.png [CAMERA]
"""

import contextlib
import sys

import livepuppet

SIZE = 1280, 720


def main(avatar: str, camera: str = "auto") -> None:
    animator = livepuppet.Animator(avatar, size=SIZE, background="blur", follow=True)
    with livepuppet.open_camera(camera) as frames, livepuppet.VirtualCamera(*SIZE) as output:
        print(f"Sending to {output.device}; Ctrl-C ends.")
        for frame in frames:
            output.send(animator(frame))


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
