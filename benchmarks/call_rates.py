"""What a call in which the far side draws needs, and what H.264 needs for pictures that are as good."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from livepuppet.core.engine import Engine
from livepuppet.core.errors import UserError
from livepuppet.core.video import open_video
from livepuppet.realtime.animator import Animator
from livepuppet.realtime.app.call_server import RECEIPT_SECONDS
from livepuppet.realtime.remote.call import Pace, Receipt, what_shows
from livepuppet.realtime.remote.datagrams import HEAD, OVERHEAD, TAG
from livepuppet.realtime.remote.packets import PacketDecoder, PacketEncoder, RenderRequest

#: Constant qualities (x264's CRF) of the H.264 that is compared.
QUALITIES = (11, 17, 23, 29, 35, 41, 47, 51)

#: Every so manieth frame is looked at closely.
LOOKED_AT = 8

#: What a datagram needs beside its packet, whose number it carries itself, in bytes at the level of IPv4; and a receipt.
DATAGRAM = OVERHEAD[4] + HEAD.size + TAG - 4
RECEIPT = OVERHEAD[4] + HEAD.size + TAG + len(Receipt(0, 0.0, 0.0, 0, 0.0).pack())

#: Headers of one packet of H.264 over RTP (IPv4, UDP, RTP, SRTP's tag), and how much of it is in one.
RTP, RTP_PAYLOAD = 28 + 12 + 10, 1150

#: Weights of the five scales (Wang et al., "Multi-scale structural similarity", 2003), and the window.
WEIGHTS, WINDOW, DEVIATION = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333), (11, 11), 1.5

HEADING = (
    "| clip | frames | held back | payload kbit/s | on the wire kbit/s | PSNR dB mean / worst | MS-SSIM | AKD px | H.264 as good, kbit/s |",
    "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
)
MEAN_HEADING = (
    "| way | kbit/s | PSNR dB | MS-SSIM | AKD px |",
    "|---|--:|--:|--:|--:|",
)


@dataclass(frozen=True)
class Quality:
    """What pictures are worth beside others: means over frames; `akd` in pixels of a picture 256 wide."""

    psnr: float
    worst: float
    ms_ssim: float
    akd: float


@dataclass(frozen=True)
class Point:
    """Pictures at a rate, in kbit/s: payload, and with all headers in both directions."""

    payload: float
    wire: float
    quality: Quality


def numbers(animator: Animator, clip: Path, frames: int, round_trip: float, neutral: str = "auto") -> dict:
    """One clip as a call would send it, and drawn from packed and unpacked numbers.

    Args:
        animator: draws the avatar; its driver is begun anew.
        frames: of the clip, at most.
        round_trip: after which receipts arrive, in seconds.
        neutral: D1, as of `Animator.take_neutral`.

    Returns:
        `drawn` (from unpacked numbers) and `packed`, lists of pictures; `frames`, the clip's own; rates.
    """
    animator.begin_anew(0.0)
    animator.take_neutral(clip, neutral)
    parts, needs = animator.shown_residuals, animator.has_rig
    pace, packer, unpacker = Pace(), PacketEncoder(), PacketDecoder()
    receipts: list[tuple[float, int]] = []
    receipted, payload, wire, held, number = -math.inf, 0, 0, 0, 0
    drawn, packed, faces, times = [], [], [], []
    with open_video(str(clip)) as video:
        for frame in video:
            if len(drawn) >= frames:
                break
            now = float(frame.time)
            plan = animator.plan(frame, now)
            animator.track(plan, frame, now)
            while receipts and receipts[0][0] <= now:
                packer.acknowledged(receipts.pop(0)[1])
                wire += RECEIPT
                pace.spend(0, RECEIPT)
            drawing = plan.drawing
            request = RenderRequest(at_rest=True)
            if drawing is not None and not plan.rests:
                request = RenderRequest(drawing.motion, plan.keypoints if parts is None else None)
            whole = np.empty(animator._rig_canvas.shape, np.uint8)
            animator.render_request(request.motion, request.keypoints, request.at_rest, whole)
            if pace.may_send(now):
                number += 1
                packet = packer.encode(
                    number, round(now * 1e4), what_shows(request, needs, parts), pace.coarse(now)
                )
                told = unpacker.decode(packet).request
                size = len(packet) + DATAGRAM
                pace.spend(len(packet), size)
                payload, wire = payload + len(packet), wire + size
                if now - receipted >= RECEIPT_SECONDS:
                    receipted = now
                    receipts.append((now + round_trip, number))
                found = np.empty_like(whole)
                animator.render_request(told.motion, told.keypoints, told.at_rest, found)
            else:
                held += 1
                found = packed[-1]
            drawn.append(whole)
            packed.append(found)
            faces.append(frame.image)
            times.append(now)
    if len(times) < 2:
        raise UserError(f"{clip} is too short: give clips of a second or more.")
    seconds = (times[-1] - times[0]) * len(times) / (len(times) - 1)
    rates = {"payload": payload * 8 / 1000 / seconds, "wire": wire * 8 / 1000 / seconds}
    return {
        "drawn": drawn,
        "packed": packed,
        "faces": faces,
        "held": held,
        "rate": len(times) / seconds,
        **rates,
    }


def h264(pictures: Sequence[np.ndarray], rate: float, crf: int) -> tuple[float, float, list[np.ndarray]]:
    """Pictures through x264 without delay and with one key picture: kbit/s, with RTP's headers, and what comes out."""
    height, width = pictures[0].shape[:2]
    options = {"preset": "veryfast", "tune": "zerolatency", "crf": str(crf), "g": "100000", "bf": "0"}
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.options = Fraction(1, 1000), options
    decoder = av.CodecContext.create("h264", "r")
    sizes, shown = [], []

    def took(packets) -> None:
        for packet in packets:
            sizes.append(packet.size)
            shown.extend(one.to_ndarray(format="rgb24") for one in decoder.decode(packet))

    for number, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts = round(number * 1000 / rate)
        took(encoder.encode(frame))
    took(encoder.encode(None))
    shown.extend(one.to_ndarray(format="rgb24") for one in decoder.decode(None))
    seconds = len(pictures) / rate
    headers = sum(-(-size // RTP_PAYLOAD) * RTP for size in sizes)
    return sum(sizes) * 8 / 1000 / seconds, (sum(sizes) + headers) * 8 / 1000 / seconds, shown


def quality(pictures: Sequence[np.ndarray], truth: Sequence[np.ndarray], engine: Engine) -> Quality:
    """How near pictures are to the true ones. Landmarks are found by `engine`, as `livepuppet evaluate --landmarks lite` does."""
    errors = [
        float(((one.astype(np.float32) - other) ** 2).mean())
        for one, other in zip(pictures, truth, strict=True)
    ]
    decibels = [10 * math.log10(255**2 / max(error, 0.01)) for error in errors]
    pairs = list(zip(pictures, truth, strict=True))[::LOOKED_AT]
    similar = [ms_ssim(_luma(one), _luma(other)) for one, other in pairs]
    off = [
        np.linalg.norm(_points(one, engine) - _points(other, engine), axis=1).mean() for one, other in pairs
    ]
    return Quality(float(np.mean(decibels)), min(decibels), float(np.mean(similar)), float(np.mean(off)))


def _points(picture: np.ndarray, engine: Engine) -> np.ndarray:
    """Landmarks in pixels of a picture 256 wide, (K, 2)."""
    square = cv2.resize(picture, (engine.size, engine.size), interpolation=cv2.INTER_AREA)
    return (engine.detect(square).points + 1) * 127.5


def _luma(picture: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)


def ms_ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Multi-scale structural similarity of two float32 (H, W) of levels up to 255, 1 for the same."""
    result = 1.0
    for scale, weight in enumerate(WEIGHTS):
        means = [cv2.GaussianBlur(image, WINDOW, DEVIATION) for image in (one, other)]
        squares = [
            cv2.GaussianBlur(a * b, WINDOW, DEVIATION) for a, b in ((one, one), (other, other), (one, other))
        ]
        variances = squares[0] - means[0] ** 2, squares[1] - means[1] ** 2
        both = squares[2] - means[0] * means[1]
        contrast = (2 * both + (0.03 * 255) ** 2) / (variances[0] + variances[1] + (0.03 * 255) ** 2)
        if scale == len(WEIGHTS) - 1:
            light = (2 * means[0] * means[1] + (0.01 * 255) ** 2) / (
                means[0] ** 2 + means[1] ** 2 + (0.01 * 255) ** 2
            )
            contrast = contrast * light
        result *= max(float(contrast.mean()), 0.0) ** weight
        one, other = (
            cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for image in (one, other)
        )
    return result


def measure(engine: Engine, clip: Path, avatar: Path, side: int, frames: int, round_trip: float) -> dict:
    """A clip that drives an avatar, drawn in a square of `side` pixels: the call, and H.264 of the same drawn pictures."""
    found = numbers(Animator(avatar, engine=engine, size=side), clip, frames, round_trip)
    call = Point(found["payload"], found["wire"], quality(found["packed"], found["drawn"], engine))
    video = [_video_point(found["drawn"], found["rate"], crf, engine) for crf in QUALITIES]
    return {
        "clip": clip.stem,
        "frames": len(found["drawn"]),
        "held": found["held"],
        "call": call,
        "video": video,
        "as_good": rate_at(video, call.quality.ms_ssim),
    }


def measure_face(engine: Engine, clip: Path, frames: int, round_trip: float) -> dict:
    """A clip whose own first frame is the avatar: the call and H.264 of the clip, both against the real frames."""
    with open_video(str(clip)) as video:
        first = next(iter(video)).image
    side = first.shape[0]
    animator = Animator(first, engine=engine, size=side, avatar_crop="center", crop="full")
    # The avatar shows the first frame's pose, so that is the neutral one.
    found = numbers(animator, clip, frames, round_trip, "first")
    faces = [cv2.resize(face, (side, side)) for face in found["faces"]]
    return {
        "clip": clip.stem,
        "call": Point(found["payload"], found["wire"], quality(found["packed"], faces, engine)),
        "video": [_video_point(faces, found["rate"], crf, engine) for crf in QUALITIES],
    }


def _video_point(truth: Sequence[np.ndarray], rate: float, crf: int, engine: Engine) -> Point:
    payload, wire, shown = h264(truth, rate, crf)
    return Point(payload, wire, quality(shown, truth[: len(shown)], engine))


def rate_at(video: Sequence[Point], similar: float) -> float | None:
    """The payload at which H.264 reaches an MS-SSIM, between its qualities; None where none of them does."""
    known = sorted(video, key=lambda point: point.payload)
    for low, high in itertools.pairwise(known):
        if low.quality.ms_ssim <= similar <= high.quality.ms_ssim:
            share = (similar - low.quality.ms_ssim) / max(high.quality.ms_ssim - low.quality.ms_ssim, 1e-9)
            return math.exp(math.log(low.payload) + share * math.log(high.payload / low.payload))
    return known[0].payload if similar < known[0].quality.ms_ssim else None


def line(row: dict) -> str:
    """A row of the Markdown table."""
    call, seen = row["call"], row["call"].quality
    best = max(point.payload for point in row["video"])
    as_good = f"more than {best:.0f}" if row["as_good"] is None else f"{row['as_good']:.0f}"
    return (
        f"| {row['clip']} | {row['frames']} | {row['held']} | {call.payload:.1f} | {call.wire:.1f} | {seen.psnr:.1f} / {seen.worst:.1f} | "
        f"{seen.ms_ssim:.4f} | {seen.akd:.2f} | {as_good} |"
    )


def mean_points(rows: Sequence[dict]) -> tuple[Point, list[Point]]:
    """Of the call, and of H.264 at each quality, means over clips."""

    def mean(points: Sequence[Point]) -> Point:
        seen = [point.quality for point in points]
        return Point(
            float(np.mean([point.payload for point in points])),
            float(np.mean([point.wire for point in points])),
            Quality(
                *(
                    float(np.mean([getattr(one, name) for one in seen]))
                    for name in ("psnr", "worst", "ms_ssim", "akd")
                )
            ),
        )

    return mean([row["call"] for row in rows]), [
        mean([row["video"][place] for row in rows]) for place in range(len(QUALITIES))
    ]


def mean_lines(call: Point, video: Sequence[Point]) -> list[str]:
    """Rows of the second Markdown table."""
    named = [
        ("numbers", call),
        *((f"H.264, CRF {crf}", point) for crf, point in zip(QUALITIES, video, strict=True)),
    ]
    return [
        f"| {name} | {point.payload:.1f} | {point.quality.psnr:.1f} | {point.quality.ms_ssim:.3f} | {point.quality.akd:.2f} |"
        for name, point in named
    ]


def as_dict(point: Point) -> dict:
    """For JSON."""
    return {"payload": point.payload, "wire": point.wire, **vars(point.quality)}
