"""What is trained, with which losses: FOMM, Monkey-Net, the default model's stages, image-to-video."""
