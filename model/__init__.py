"""Networks and their mathematics in PyTorch: keypoint detector, dense motion, generator, presets,
checkpoints.
"""
