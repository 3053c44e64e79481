"""Losses: reconstruction, perceptual, adversarial, equivariance. Images are (B, 3, H, W) RGB in [0,
1].
"""
