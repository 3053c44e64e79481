"""Cameras by number or name: which there are, which is meant, and where one is again that was
unplugged.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import cv2

from livepuppet.core.errors import UserError
from livepuppet.core.numbers import is_whole
from livepuppet.realtime.inputs import v4l2

#: How many numbers are tried where a system cannot list its cameras.
MOST_CAMERAS = 6

#: Words in the names of cameras that programs feed, on Windows and macOS.
VIRTUAL_WORDS = ("virtual", "obs", "unity video capture", "snap camera", "manycam")


@dataclass(frozen=True)
class CameraInfo:
    """One camera.

    Attributes:
        number: as `--driving` and OpenCV count.
        name: as the system calls it.
        path: device file on Linux, else empty.
        capture: whether it can be read now.
        virtual: whether a program feeds it.
        modes: what the driver offers; empty where the system does not say.
        problem: why it cannot be used, or an empty text.
        bus: where it is plugged in, where the system says; tells two cameras of one name apart.
        output: whether a program may write into it now, as far as the system says.
    """

    number: int
    name: str
    path: str = ""
    capture: bool = True
    virtual: bool = False
    modes: tuple[v4l2.Mode, ...] = ()
    problem: str = ""
    bus: str = ""
    output: bool = False

    def __str__(self) -> str:
        return f"{self.number} ({self.name})"


def backend() -> int:
    """The one OpenCV interface used to list and to open, so that the numbers mean the same."""
    return {"Linux": cv2.CAP_V4L2, "Windows": cv2.CAP_DSHOW, "Darwin": cv2.CAP_AVFOUNDATION}.get(
        platform.system(), cv2.CAP_ANY
    )


def list_cameras() -> list[CameraInfo]:
    """Everything that can be, or could become, a camera here, in the order of its numbers."""
    if sys.platform.startswith("linux"):
        return [
            CameraInfo(
                device.number,
                device.name,
                device.path,
                device.capture,
                device.loopback,
                device.modes,
                device.problem,
                device.bus,
                device.output,
            )
            for device in v4l2.list_devices()
        ]
    names = _names()
    if not names:
        names = [f"camera {number}" for number in range(MOST_CAMERAS) if _opens(number)]
    return [
        CameraInfo(number, name, virtual=any(word in name.casefold() for word in VIRTUAL_WORDS))
        for number, name in enumerate(names)
    ]


def _names() -> list[str]:
    """Names in the order of OpenCV's numbers, as far as Windows and macOS tell; empty where they do
    not.
    """
    try:
        if platform.system() == "Windows":
            # PyAV's DirectShow list and OpenCV's come from the same enumerator.
            from av import enumerate_input_devices

            devices = enumerate_input_devices("dshow")
            return [device.description for device in devices if "video" in (device.media_types or ["video"])]
        if platform.system() == "Darwin":
            report = subprocess.run(
                ["system_profiler", "-json", "SPCameraDataType"], capture_output=True, timeout=10, check=True
            )
            # OpenCV sorts AVFoundation's devices by their unique identifiers.
            cameras = json.loads(report.stdout)["SPCameraDataType"]
            cameras.sort(key=lambda camera: camera.get("spcamera_unique-id", ""))
            return [camera["_name"] for camera in cameras]
    except Exception:
        # A list of names is a help, not a need: whatever a system says in its own way, numbers go
        # on working.
        return []
    return []


def _opens(number: int) -> bool:
    capture = cv2.VideoCapture(number, backend())
    opened = capture.isOpened()
    capture.release()
    return opened


def is_camera(text: str) -> bool:
    """Whether `text` reads as a camera: `auto`, a number, a device file, or `camera:NAME`."""
    return text == "auto" or is_whole(text) or text.startswith(("/dev/video", "camera:"))


def find_camera(text: str, not_these: Sequence[str] = ()) -> CameraInfo:
    """The camera that `text` means: its number, its device file, a part of its name, or `auto` for
    the first real one.

    Args:
        text: what the person gave.
        not_these: device files, numbers or names of our own outputs, which must not be driven from.

    Raises:
        UserError: if there is none, several match, it cannot be read now, or it is our own output.
    """
    wanted = text.removeprefix("camera:").strip()
    cameras = list_cameras()
    ours = [camera for camera in cameras if _is_one_of(camera, not_these)]
    if wanted.casefold() == "auto":
        return _first_real([camera for camera in cameras if camera not in ours])
    if is_whole(wanted):
        matches = [camera for camera in cameras if camera.number == int(wanted)]
    else:
        matches = [camera for camera in cameras if wanted == camera.path] or [
            camera for camera in cameras if wanted.casefold() in camera.name.casefold()
        ]
        # A camera's second node (its metadata, or its loopback twin) must not make its name
        # ambiguous, nor ours.
        matches = [camera for camera in matches if camera not in ours] or matches
        matches = [camera for camera in matches if camera.capture] or matches
    if not matches:
        known = ", ".join(str(camera) for camera in cameras if camera.capture and camera not in ours)
        there = f"there is {known}" if known else "no camera is connected, or no program may use it"
        raise UserError(
            f"There is no camera '{wanted}': {there}; see livepuppet devices, or drive with a video file instead."
        )
    if len({camera.name for camera in matches}) > 1:
        names = ", ".join(map(str, matches))
        raise UserError(f"Several cameras match '{wanted}': {names}; give the number.")
    camera = matches[0]
    if camera in ours:
        raise UserError(
            f"{camera.path or camera.name} is the output: drive from another camera (livepuppet devices lists them)."
        )
    if camera.problem:
        raise UserError(
            f"The camera {camera} cannot be opened ({camera.problem}): close other programs that use it, or join the "
            "group 'video'."
        )
    if not camera.capture:
        raise UserError(
            f"{camera.path or camera.number} ({camera.name}) is a virtual camera that no program feeds yet: choose a "
            "real camera with livepuppet devices."
        )
    return camera


def _is_one_of(camera: CameraInfo, devices: Sequence[str]) -> bool:
    known = {camera.path, str(camera.number), camera.name.casefold()} - {""}
    return any(device.casefold() in known for device in map(str, devices))


def first_real(cameras: Sequence[CameraInfo]) -> CameraInfo | None:
    """What `auto` takes: the first camera that works and that no program feeds, or None."""
    return next(
        (camera for camera in cameras if camera.capture and not camera.virtual and not camera.problem), None
    )


def _first_real(cameras: Sequence[CameraInfo]) -> CameraInfo:
    camera = first_real(cameras)
    if camera is not None:
        return camera
    for broken in cameras:
        if broken.problem and not broken.virtual:
            raise UserError(
                f"The camera {broken} cannot be opened ({broken.problem}): close other programs that use it, or join "
                "the group 'video'."
            )
    fed = ", ".join(str(camera) for camera in cameras if camera.capture)
    there = (
        f"only virtual ones ({fed}), which are not taken unasked" if fed else "none that this program may use"
    )
    raise UserError(
        f"There is no camera here, {there}: plug one in, allow camera access in the system's privacy settings, name one "
        "of livepuppet devices with --driving, or drive with a video file or a microphone instead."
    )


def find_again(lost: CameraInfo, twins: Sequence[CameraInfo] = ()) -> CameraInfo | None:
    """The camera that was unplugged, under whatever number it has now; None while it is not there.

    Args:
        lost: as it was found before.
        twins: other cameras that were there with it; one of the same name is not mistaken for it.
    """
    others = {(twin.name, twin.bus) for twin in twins} - {(lost.name, lost.bus)}
    there = [
        camera
        for camera in list_cameras()
        if camera.name == lost.name
        and camera.capture
        and not camera.problem
        and (camera.name, camera.bus) not in others
    ]
    # Where two come into question: the one in the old socket, then the one with the old number.
    there.sort(key=lambda camera: (camera.bus != lost.bus, camera.number != lost.number))
    return there[0] if there else None
