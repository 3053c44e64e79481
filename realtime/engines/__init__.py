"""What runs a model, behind three calls.

    engine = load_engine()
    features = engine.encode(avatar)               # once per avatar
    avatar_keypoints = engine.detect(avatar)
    keypoints = engine.detect(frame)               # once per frame; `motion.transfer` goes here
    picture = engine.render(features, avatar_keypoints, keypoints)

An engine belongs to one thread at a time. `offers()` lists what this machine can run, and what it
lacks for the rest.
"""

from livepuppet.core.bundle import BUNDLE_FORMAT, BUNDLE_VERSION, read_bundle
from livepuppet.core.engine import ENGINES, PRECISIONS, STAGES, Engine, Features, Precision
from livepuppet.realtime.engines.cores import usable_cores
from livepuppet.realtime.engines.loading import Offer, load_engine, offers
from livepuppet.realtime.engines.onnx import OnnxEngine
from livepuppet.realtime.engines.openvino import OpenVinoEngine
from livepuppet.realtime.engines.pytorch import TorchEngine

__all__ = [
    "BUNDLE_FORMAT",
    "BUNDLE_VERSION",
    "ENGINES",
    "PRECISIONS",
    "STAGES",
    "Engine",
    "Features",
    "Offer",
    "OnnxEngine",
    "OpenVinoEngine",
    "Precision",
    "TorchEngine",
    "load_engine",
    "offers",
    "read_bundle",
    "usable_cores",
]
