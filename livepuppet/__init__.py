"""Animate any still picture from the face in a video or a camera, with first-order motion models.

    import livepuppet

    animator = livepuppet.Animator("me.png")
    for frame in livepuppet.open_video("talk.mp4"):
        image = animator(frame)

    livepuppet.animate("me.png", "talk.mp4", "moved.mp4")

Everything below is imported on first use, so `import livepuppet` costs nothing. Whatever goes wrong
in a way that the caller can put right is a `LivePuppetError`, whose message says what to do. The
library logs to the logger `livepuppet` and prints nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# onnxruntime 1.29 and later report usage to their vendor unless this is set before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from livepuppet.core.errors import LivePuppetError
    from livepuppet.core.keypoints import Keypoints
    from livepuppet.core.transfer import transfer
    from livepuppet.core.video import open_video
    from livepuppet.realtime.animate import animate
    from livepuppet.realtime.animator import Animator
    from livepuppet.realtime.avatars import load_avatar
    from livepuppet.realtime.driving.opening import open_driving
    from livepuppet.realtime.engines import Engine, load_engine
    from livepuppet.realtime.inputs.opening import open_camera
    from livepuppet.realtime.motion.settings import MotionSettings
    from livepuppet.realtime.outputs.virtual_camera import VirtualCamera
    from livepuppet.realtime.rig.told import FacePose

    __version__: str

#: Public name -> the module that defines it.
_MODULES = {
    "Animator": "livepuppet.realtime.animator",
    "Engine": "livepuppet.realtime.engines",
    "FacePose": "livepuppet.realtime.rig.told",
    "Keypoints": "livepuppet.core.keypoints",
    "LivePuppetError": "livepuppet.core.errors",
    "MotionSettings": "livepuppet.realtime.motion.settings",
    "VirtualCamera": "livepuppet.realtime.outputs.virtual_camera",
    "animate": "livepuppet.realtime.animate",
    "load_avatar": "livepuppet.realtime.avatars",
    "load_engine": "livepuppet.realtime.engines",
    "open_camera": "livepuppet.realtime.inputs.opening",
    "open_driving": "livepuppet.realtime.driving.opening",
    "open_video": "livepuppet.core.video",
    "transfer": "livepuppet.core.transfer",
}

__all__ = [
    "Animator",
    "Engine",
    "FacePose",
    "Keypoints",
    "LivePuppetError",
    "MotionSettings",
    "VirtualCamera",
    "__version__",
    "animate",
    "load_avatar",
    "load_engine",
    "open_camera",
    "open_driving",
    "open_video",
    "transfer",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("livepuppet")
    elif name in _MODULES:
        from importlib import import_module

        # In the folder of a checkout this package hides the installed one; its siblings lie beside it.
        beside = os.path.dirname(__path__[0])
        if os.path.isfile(os.path.join(beside, "realtime", "animator.py")) and beside not in __path__:
            __path__.append(beside)
        try:
            value = getattr(import_module(_MODULES[name]), name)
        except ImportError as error:
            from livepuppet.core.packages import import_sentence

            sentence = import_sentence(error)
            if sentence is None:
                raise
            raise ImportError(sentence, name=error.name, path=error.path) from error
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
