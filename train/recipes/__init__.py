"""Trainings that any program can call: the default model, videos, fine-tuning, image-to-video."""
