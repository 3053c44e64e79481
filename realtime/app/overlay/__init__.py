"""What the window shows over the picture."""
