"""What `--driving` means, without a camera and with one."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from livepuppet.core.errors import UserError
from livepuppet.core.names import is_pipe, is_url, path_of
from livepuppet.core.numbers import is_whole
from livepuppet.realtime.inputs.capture import Capture, LiveSource
from livepuppet.realtime.inputs.opening import open_source

if TYPE_CHECKING:
    from livepuppet.realtime.driving.source import FaceSource

#: What drives without a camera.
KINDS = ("microphone", "mouse", "phone", "openseeface")

#: Files that hold sound alone, by their names' ends.
SOUND_SUFFIXES = {".wav", ".mp3", ".flac", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".aif", ".aiff", ".wma"}

#: Where phones and trackers are waited for, where nobody says: this computer alone can send then.
LOOPBACK = "127.0.0.1"

#: Samples of a piece of the microphone's sound: 10 ms.
_BLOCK = 480

_BETWEEN = re.compile(rf"\+(?=(?:{'|'.join(KINDS)})(?:[:+]|$))")


def is_sound_file(driving: str) -> bool:
    """Whether it is a file whose name says that there is sound alone in it."""
    return not is_url(driving) and Path(driving).suffix.lower() in SOUND_SUFFIXES and Path(driving).is_file()


def is_face(driving: str) -> bool:
    """Whether `driving` is a face in numbers instead of a picture: some of `KINDS` joined by `+`, or a sound file."""
    if is_url(driving) or is_pipe(driving):
        return False
    if Path(driving).exists():
        return is_sound_file(driving)
    return all(part.partition(":")[0] in KINDS for part in _BETWEEN.split(driving))


def open_face(
    driving: str, rate: float = 30.0, loop: bool = False, listen: str = LOOPBACK, seed: int = 0
) -> FaceSource:
    """A face in numbers as a live source.

    Args:
        driving: `microphone[:NAME]`, `microphone:FILE` (a sound file in its place), `mouse`, `phone[:ADDRESS[:PORT]]`,
            `openseeface[:ADDRESS[:PORT]]`, or several joined by `+`.
        rate: faces per second.
        loop: play a sound file again and again.
        listen: address of this computer at which phones and trackers without an address are waited for.
        seed: of blinks, looks and sway.

    Raises:
        UserError: there is no such thing, a device cannot be opened, a port is in use.
    """
    from livepuppet.realtime.driving.source import FaceSource

    if is_sound_file(driving):
        driving = f"microphone:{driving}"
    texts = _BETWEEN.split(driving)
    kinds = [text.partition(":")[0] for text in texts]
    if len(set(kinds)) < len(kinds):
        raise UserError(f"'{driving[:80]}' names something twice: give each of {', '.join(KINDS)} once.")
    if {"phone", "openseeface"} <= set(kinds):
        raise UserError("A phone and OpenSeeFace both say where the whole face is: choose one of them.")
    if "mouse" in kinds and set(kinds) & {"phone", "openseeface"}:
        raise UserError("The head cannot follow the pointer and a tracked face at once: leave mouse out.")
    parts: list = []
    try:
        # Whoever tracks a whole face comes first: the others have the last word on their part of it.
        for _, text in sorted(zip(kinds, texts, strict=True), key=lambda pair: -KINDS.index(pair[0])):
            parts.append(_part(text, loop, listen))
        return FaceSource(parts, rate, seed)
    except BaseException:
        for part in parts:
            part.close()
        raise


def _part(text: str, loop: bool, listen: str):
    kind, _, rest = text.partition(":")
    if kind == "microphone":
        return _voice(rest, loop)
    if kind == "mouse":
        from livepuppet.realtime.driving.parts import Pointer

        if rest:
            raise UserError(f"'{text[:60]}' cannot be: the mouse has no name, write mouse.")
        return Pointer()
    return _tracked(kind, rest, listen)


def _voice(name: str, loop: bool):
    from livepuppet.realtime.driving.parts import Voice, file_sound

    if name and (Path(name).is_file() or Path(name).suffix.lower() in SOUND_SUFFIXES):
        if not Path(name).is_file():
            raise UserError(f"There is no file {name}: check its name, or write microphone alone.")
        return Voice(file_sound(name, loop), Path(name).name, source=Path(name))
    from livepuppet.realtime.outputs.microphone import Microphone

    microphone = Microphone(name or None, block=_BLOCK)
    return Voice(microphone, microphone.name)


def _tracked(kind: str, rest: str, listen: str):
    from livepuppet.realtime.driving import packets
    from livepuppet.realtime.driving.parts import Tracked
    from livepuppet.realtime.driving.receiver import Receiver, checked_address, own_address_towards

    sender, port = _address(kind, rest)
    at = checked_address(listen)
    if sender is not None and at == LOOPBACK and not ipaddress.ip_address(sender).is_loopback:
        at = own_address_towards(sender)
    if kind == "phone":
        ports = [packets.IFACIALMOCAP_PORT, packets.LIVE_LINK_PORT] if port is None else [port]
        receiver = Receiver(packets.phone_face, at, ports, sender, packets.START)
        told = (
            "No face comes from the phone: open iFacialMocap or Live Link Face on it, have it send to this computer's "
            f"address (it listens at {at}, UDP port {' or '.join(map(str, ports))}), and let the firewall pass it."
        )
        return Tracked(receiver, "the phone", told, _note(kind, at, sender))
    port = packets.OPENSEEFACE_PORT if port is None else port
    receiver = Receiver(packets.openseeface_face, at, [port], sender)
    told = (
        f"No face comes from OpenSeeFace: start its facetracker, and have it send to {at}, UDP port {port}."
    )
    return Tracked(receiver, "OpenSeeFace", told, _note(kind, at, sender))


def _note(kind: str, at: str, sender: str | None) -> str | None:
    """What it means where it listens."""
    if sender is not None:
        return None
    if not ipaddress.ip_address(at).is_loopback:
        return f"Any machine of this network may send the face now (it listens at {at}): {kind}:ADDRESS hears one alone."
    if kind == "phone":
        return "Only programs on this computer can send the face now: give phone:ADDRESS, the address that the phone shows."
    return None


def _address(kind: str, text: str) -> tuple[str | None, int | None]:
    """Address and port of `ADDRESS`, `ADDRESS:PORT`, `PORT`, `[IPv6]:PORT`, or nothing. Raises UserError."""
    from livepuppet.realtime.driving.receiver import checked_address

    match = re.fullmatch(
        r"(?:\[(?P<six>[^]]*)\]|(?P<plain>[^:]*|[^[]*:[^[]*:[^[]*))(?::(?P<port>[^:]*))?", text
    )
    if match is None:
        raise UserError(
            f"'{kind}:{text[:60]}' is not {kind}:ADDRESS or {kind}:ADDRESS:PORT, as in {kind}:192.168.1.20."
        )
    address, port = match["six"] or match["plain"] or "", match["port"]
    if port is None and is_whole(address):
        address, port = "", address
    if port is not None and not (is_whole(port) and 0 < int(port) < 65536):
        raise UserError(
            f"'{port[:20]}' is no port: give a number from 1 to 65535, as in {kind}:192.168.1.20:50000."
        )
    return (checked_address(address) if address else None), (int(port) if port is not None else None)


def open_any(
    driving: str,
    camera_size: tuple[int, int] = (1280, 720),
    camera_rate: float = 30.0,
    pixel_format: str = "MJPG",
    loop: bool = False,
    not_these: Sequence[str] = (),
    listen: str = LOOPBACK,
) -> LiveSource:
    """Open what drives: a face in numbers (see `open_face`), or a picture (see `open_source`). Raises UserError."""
    name = path_of(driving, "what drives")
    if is_face(name):
        return open_face(name, camera_rate, loop, listen)
    try:
        return open_source(driving, camera_size, camera_rate, pixel_format, loop, not_these)
    except UserError as error:
        meant = _meant(name)
        if meant is None:
            raise
        raise UserError(f"There is no camera '{name[:60]}'. {meant}") from error


def _meant(driving: str) -> str | None:
    """What somebody may have meant who wrote something like some of `KINDS`, as advice; None for anything else."""
    written = [part.partition(":")[0].strip().lower() for part in driving.split("+")]
    meant = [_nearest_kind(one) for one in written]
    found = [kind for kind in meant if kind is not None]
    if not found:
        return None
    if len(found) == len(written) or not all(written):
        return f"To drive without one, write {'+'.join(dict.fromkeys(found))}."
    strange = written[meant.index(None)]
    return f"To drive without one, join some of {', '.join(KINDS)} by +: '{strange[:40]}' is none of them."


def _nearest_kind(written: str) -> str | None:
    if len(written) >= 3:
        for kind in KINDS:
            if kind.startswith(written):
                return kind
    return next(iter(difflib.get_close_matches(written, KINDS, 1, 0.7)), None)


def open_driving(driving: str, rate: float = 30.0, *, loop: bool = False, listen: str = LOOPBACK) -> Capture:
    """Open what drives a picture, whatever `livepuppet run --driving` takes. Iterate over it for its newest frames.

        animator = Animator("me.png")
        with open_driving("microphone+mouse") as faces:
            for frame in faces:
                image = animator(frame)

    Args:
        driving: `microphone`, `mouse`, `phone:ADDRESS`, `openseeface`, several joined by `+`, a sound file; or a camera, a
            video, an address, the screen (`open_camera`).
        rate: faces per second, or frames to ask of a camera.
        loop: play a file again and again.
        listen: address of this computer at which phones and trackers without an address are waited for.

    Raises:
        UserError: it cannot be opened.
    """
    return Capture(open_any(driving, camera_rate=rate, loop=loop, listen=listen))
