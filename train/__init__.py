"""Data sets, the procedural puppet renderer, losses, the trainer, metrics and evaluation."""
