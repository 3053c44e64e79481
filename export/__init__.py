"""From trained weights to a bundle: ONNX graphs of the three calls, and the pixel-parity check."""
