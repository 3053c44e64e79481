"""Where the things that come with the package lie. All of them are the project's own work."""

from __future__ import annotations

from pathlib import Path

DATA = Path(__file__).resolve().parent / "data"

#: The default model: an ONNX bundle (`bundle.json`, `detect.onnx`, `encode.onnx`, `render.onnx`).
MODEL = DATA / "lite-256"

#: The demo's avatar, a square picture, and a clip of a person who drives it; nobody in them exists. Renderers
#: of people before 11 drew them by
#: `livepuppet puppets draw avatar.png --setting people --seed 14 --scene 57 --size 512` and
#: `livepuppet puppets draw driving.mp4 --setting people --seed 101 --seconds 12`.
AVATAR = DATA / "avatar.png"
DRIVING = DATA / "driving.mp4"

#: The picture that a page of `livepuppet web` opens with, whose short hair turns well. The renderer of people 15 drew it by
#: `livepuppet puppets draw example.png --setting people --seed 45 --size 512`; it is kept as WebP of quality 95.
EXAMPLE = DATA / "example.webp"
