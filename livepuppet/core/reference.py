"""What float32 PyTorch draws, kept in every bundle; how an engine compares with it, and what
difference passes.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from livepuppet.core.engine import Engine, Features, Precision
from livepuppet.core.errors import UserError
from livepuppet.core.keypoints import Keypoints


@dataclass(frozen=True)
class Thresholds:
    """The largest differences from float32 PyTorch that pass.

    Attributes:
        keypoints: of points, in units of [-1, 1]; 0.0078 is one pixel of 256. What trembles here
            trembles on the screen.
        matrices: of Jacobians (or covariances).
        pixels_max: of a single pixel of any picture, in levels of 0 to 255. Beside hard edges a
            shift of a tenth of a pixel is many levels, so this one catches what is plainly wrong
            only.
        pixels_mean: of the worst picture's pixels, on average, in levels.
        psnr: of the worst picture, in dB; the least that passes.
    """

    keypoints: float
    matrices: float
    pixels_max: float
    pixels_mean: float
    psnr: float


#: Per precision, between what sound engines reach and what people would see. Measured with lite-256
#: on 55 pictures drawn of ten faces and of photographs, cartoons and animals; in brackets the same
#: for the bundle's own reference, which the gate uses.
#:
#: | | keypoints | Jacobians | max | mean | PSNR |
#: |---|---|---|---|---|---|
#: | float32, onnxruntime and OpenVINO | 1e-5 (1e-6) | 1e-5 | 1 | 1e-4 | 89 dB (96) |
#: | float16, heads in float32 | 0.0014 (0.0001) | 0.006 | 3 | 0.013 | 67 dB (74) |
#: | float16, heads too | 0.0031 (0.0004) | 0.031 | 3 | 0.016 | 66 dB (73) |
#: | bfloat16, heads in float32 | 0.0094 (0.0012) | 0.035 | 6 | 0.043 | 61 dB (67) |
#: | bfloat16, PyTorch's autocast, detector in float32 | 0 | 0 | 10 | 0.060 | 60 dB (62) |
#: | int8, network for motion and last convolutions in float32 | 0 | 0 | 20 | 0.09 | 49 dB (62) |
#: | int8, all convolutions of `render` | 0 | 0 | 125 | 2.8 | 31 dB (36) |
#: | int8, `detect` | 0.075 (0.005) | 0.27 | | | |
#:
#: *Trembling.* The noise of a webcam alone (2 levels) makes float32 keypoints tremble by 0.09
#: pixels of 256. To it float16 adds 0.002, bfloat16 0.02, bfloat16 in the positions too 0.10, and
#: an int8 detector 0.34, which anybody sees: `keypoints` lets the first two pass, with a quarter
#: and half a pixel for the worst keypoint of all.
#:
#: *Blotches.* Quantised flow shifts outlines by parts of a pixel, and quantised pixels band smooth
#: cheeks: below about 42 dB in the worst picture. Beside a hard edge even an unseen shift is dozens
#: of levels, so `pixels_max` is for what is plainly wrong.
THRESHOLDS: dict[Precision, Thresholds] = {
    "float32": Thresholds(keypoints=1e-4, matrices=1e-3, pixels_max=4, pixels_mean=0.02, psnr=60),
    "float16": Thresholds(keypoints=2e-3, matrices=2e-2, pixels_max=16, pixels_mean=0.1, psnr=55),
    "bfloat16": Thresholds(keypoints=4e-3, matrices=5e-2, pixels_max=32, pixels_mean=0.2, psnr=50),
    "int8": Thresholds(keypoints=2e-3, matrices=2e-2, pixels_max=80, pixels_mean=0.5, psnr=42),
}


#: How to say that a figure is beyond what passes. Figures of these names are the larger the worse.
PHRASES = {
    "keypoints": "keypoints differ by {:.2g} (at most {:.2g} is right)",
    "matrices": "Jacobians differ by {:.2g} (at most {:.2g} is right)",
    "deformation": "the deformation differs by {:.2g} (at most {:.2g} is right)",
    "pixels_max": "a pixel differs by {:.3g} levels (at most {:.3g} is right)",
    "pixels_mean": "pixels differ by {:.3g} levels on average (at most {:.3g} is right)",
}


def exceeded(found: object, allowed: object) -> list[str]:
    """A phrase for each attribute of `PHRASES` that both have and that is larger in `found`.
    Not-a-number counts as larger.

    Used by the gate, which asks whether an engine on this computer draws what PyTorch drew at
    export, and by `export.parity`, which asks whether exported graphs are the model at all.
    """
    return [
        phrase.format(getattr(found, name), getattr(allowed, name))
        for name, phrase in PHRASES.items()
        if hasattr(found, name) and hasattr(allowed, name)
        if not getattr(found, name) <= getattr(allowed, name)
    ]


def pixel_errors(drawn: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Absolute differences of two uint8 images of one shape, in levels, int16."""
    return np.abs(drawn.astype(np.int16) - expected)


@dataclass(frozen=True)
class Quality:
    """The largest differences found, as in `Thresholds`; `psnr` is infinite where all pixels are
    equal.
    """

    keypoints: float
    matrices: float
    pixels_max: float
    pixels_mean: float
    psnr: float
    pictures: int

    def failures(self, allowed: Thresholds) -> list[str]:
        """What is off, as phrases; empty where the engine passes. Not-a-number counts as off."""
        found = exceeded(self, allowed)
        if not self.psnr >= allowed.psnr:
            found.append(f"the worst picture has {self.psnr:.1f} dB (at least {allowed.psnr:.0f} is right)")
        return found

    def with_worse(self, other: Quality) -> Quality:
        """The worse of each figure, of both sets of pictures. Not-a-number is the worst."""
        return Quality(
            *(
                float(np.maximum(getattr(self, name), getattr(other, name)))
                for name in ("keypoints", "matrices", "pixels_max", "pixels_mean")
            ),
            psnr=float(np.minimum(self.psnr, other.psnr)),
            pictures=self.pictures + other.pictures,
        )


@dataclass(frozen=True)
class Reference:
    """What float32 PyTorch finds in pictures and draws of them.

    Attributes:
        pictures: uint8 RGB (N, S, S, 3).
        points, matrices: float32 (N, K, 2) and (N, K, 2, 2), found in them.
        avatars: int (M,), which picture is moved.
        driving_points, driving_matrices: float32 (M, K, 2) and (M, K, 2, 2), the target keypoints.
        drawn: uint8 RGB (M, S, S, 3).
    """

    pictures: np.ndarray
    points: np.ndarray
    matrices: np.ndarray
    avatars: np.ndarray
    driving_points: np.ndarray
    driving_matrices: np.ndarray
    drawn: np.ndarray

    def save(self, path: Path) -> None:
        """Write an `.npz`."""
        np.savez_compressed(path, **{name: getattr(self, name) for name in self.__dataclass_fields__})

    @classmethod
    def load(cls, path: Path) -> Reference:
        """Read what `save` wrote; arrays only, never code. Raises UserError if it is damaged."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                return cls(**{name: stored[name] for name in cls.__dataclass_fields__})
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise UserError(
                f"{path} of the model bundle cannot be read; export or download it again."
            ) from error


def compare(engine: Engine, reference: Reference) -> Quality:
    """Run the engine on the reference.

    `render` gets the engine's own features, but the reference's keypoints, so that the figure for
    pixels does not hide behind, or suffer from, the one for keypoints.
    """
    keypoints: list[float] = []
    matrices: list[float] = []
    features: dict[int, Features] = {}
    for index, picture in enumerate(reference.pictures):
        found = engine.detect(picture)
        keypoints.append(np.abs(found.points - reference.points[index]).max())
        matrices.append(np.abs(found.jacobians - reference.matrices[index]).max())
        if index in reference.avatars:
            features[index] = engine.encode(picture)
    largest, means, squares = 0, [], []
    for index, points, jacobians, expected in zip(
        reference.avatars,
        reference.driving_points,
        reference.driving_matrices,
        reference.drawn,
        strict=True,
    ):
        own = Keypoints(reference.points[index], reference.matrices[index])
        drawn = engine.render(features[int(index)], own, Keypoints(points, jacobians))
        error = pixel_errors(drawn, expected)
        largest = max(largest, int(error.max()))
        means.append(error.mean())
        squares.append(np.square(error.astype(np.float64)).mean())
    worst = max(squares)
    return Quality(
        keypoints=float(np.max(keypoints)),
        matrices=float(np.max(matrices)),
        pixels_max=float(largest),
        pixels_mean=float(max(means)),
        psnr=float(10 * np.log10(255**2 / worst)) if worst else float("inf"),
        pictures=len(means),
    )
