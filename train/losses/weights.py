"""Weights of the loss parts of both papers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LossWeights:
    """Weights of the loss parts; the defaults are FOMM's without an adversarial loss.

    Attributes:
        perceptual: of VGG-19's five feature maps; without VGG its substitute is used unless all are
            0.
        pyramid_levels: sizes at which images are compared: 1 the full size alone, 4 also 1/2, 1/4,
            1/8.
        generator_gan: of the generator's least-squares adversarial loss; 0 trains without a
            discriminator.
        discriminator_gan: of the discriminator's own loss.
        feature_matching: one per feature map of the discriminator (of Monkey-Net's, the image comes
            first).
        equivariance_value, equivariance_jacobian: of FOMM's Eq. 11 and Eq. 12-13.
        warped: of the difference between the driving frame and the source under the flow alone.
            Neither paper has it; the authors' early training of Monkey-Net on moving shapes weighed
            it by 10.
    """

    perceptual: tuple[float, ...] = (10.0, 10.0, 10.0, 10.0, 10.0)
    pyramid_levels: int = 4
    generator_gan: float = 0.0
    discriminator_gan: float = 1.0
    feature_matching: tuple[float, ...] = (10.0, 10.0, 10.0, 10.0)
    equivariance_value: float = 10.0
    equivariance_jacobian: float = 10.0
    warped: float = 0.0


#: Monkey-Net's: 10 for the difference of the images and of the discriminator's maps (the paper's
#: lambda_rec), but 1 for the coarsest of them, and 1 for the adversarial losses.
MONKEYNET = LossWeights(
    perceptual=(),
    generator_gan=1.0,
    feature_matching=(10.0, 10.0, 10.0, 10.0, 1.0),
    equivariance_value=0.0,
    equivariance_jacobian=0.0,
)
