"""The live path: sources, avatars, engines, motion, framing, outputs, the loop and the command line."""

import os

# Builds of onnxruntime from 1.29 on report their use to their maker unless this is set before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
