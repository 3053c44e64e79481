"""Drive a picture from the webcam, in a window: python webcam_window.py me.png [CAMERA]

Look straight ahead when it starts: your first frame is the neutral pose. Space takes it anew,
Escape ends.
"""

import sys

import cv2

import livepuppet


def main(avatar: str, camera: str = "auto") -> None:
    animator = livepuppet.Animator(avatar, size=512, mirror=True, follow=True)
    with livepuppet.open_camera(camera) as frames:
        for frame in frames:
            picture = animator(frame)
            cv2.imshow("livepuppet", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
            key = cv2.waitKey(1)
            if key == 27:
                break
            if key == ord(" "):
                animator.reset()
    cv2.destroyAllWindows()


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])
