"""Where the things that come with the package lie. All of them are the project's own work."""

from __future__ import annotations

from pathlib import Path

DATA = Path(__file__).resolve().parent / "data"

#: The default model: an ONNX bundle (`bundle.json`, `detect.onnx`, `encode.onnx`, `render.onnx`).
MODEL = DATA / "lite-256"

#: The demo's puppet, a square picture, and a clip of another puppet that drives it.
AVATAR = DATA / "avatar.png"
DRIVING = DATA / "driving.mp4"
