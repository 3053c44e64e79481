"""Put your own network behind the three calls: python own_network.py me.png talk.mp4 moved.mp4

The one here has no weights: one keypoint where the picture's edges are, with the Jacobian that
their spread gives, and an affine warp. It is the smallest first-order motion model there is. Yours
only has to keep to shapes and ranges.
"""

import sys

import cv2
import numpy as np

import livepuppet


class AffineEngine:
    """See `livepuppet.Engine`, which says what each attribute and call means."""

    name, device, precision, provider, model_name = "affine", "cpu", "float32", "OpenCV", "affine-256"
    providers = dict.fromkeys(("detect", "encode", "render"), "OpenCV")
    size, num_keypoints, keypoint_names = 256, 1, ()
    matrices, deforms = "jacobian", False

    def detect(self, frame: np.ndarray) -> livepuppet.Keypoints:
        edges = np.abs(cv2.Laplacian(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.CV_32F))
        weights = (edges / edges.sum()).ravel()
        axis = np.linspace(-1, 1, self.size, dtype=np.float32)  # centres of the outermost pixels are -1 and 1
        places = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
        mean = weights @ places
        spread = np.sqrt(weights @ (places - mean) ** 2)
        return livepuppet.Keypoints(mean[None], np.diag(spread)[None].astype(np.float32))

    def encode(self, avatar: np.ndarray) -> np.ndarray:
        return avatar

    def render(
        self, features: np.ndarray, avatar_keypoints: livepuppet.Keypoints, keypoints: livepuppet.Keypoints
    ) -> np.ndarray:
        # FOMM, Eq. 4: where a place z of the moved picture comes from, p_avatar + J_avatar J^-1 (z
        # - p).
        matrix = avatar_keypoints.jacobians[0] @ np.linalg.inv(keypoints.jacobians[0])
        offset = avatar_keypoints.points[0] - matrix @ keypoints.points[0]
        # From [-1, 1] to pixels.
        half = (self.size - 1) / 2
        warp = np.hstack([matrix, (half * (offset + 1 - matrix.sum(1)))[:, None]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(
            features, warp, (self.size, self.size), flags=flags, borderMode=cv2.BORDER_REPLICATE
        )


def main(avatar: str, driving: str, output: str) -> None:
    livepuppet.animate(avatar, driving, output, engine=AffineEngine(), crop="full", avatar_crop="center")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
