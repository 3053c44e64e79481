"""What smoothing does to keypoints: how much steadier a still face gets, and what that costs in
delay and in blinks.

Real motion is a clip's own keypoints, as the detector gives them; a still face is one of its frames
under a webcam's noise. Nothing is assumed about the detector.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.video import open_video
from livepuppet.realtime import bundled
from livepuppet.realtime.engines import Engine, load_engine
from livepuppet.realtime.framing.crop import centred_square, cut
from livepuppet.realtime.motion.eyes import lid_pairs, openings
from livepuppet.realtime.motion.smoothing import Smoother
from livepuppet.train.metrics.camera_noise import camera_noise

#: Frames of one still, of which the first are left out until the filter has settled.
STILL_FRAMES, SETTLING = 80, 20

#: Shortest and longest blink in seconds, and how far the lids have to come together, to count as
#: one.
BLINK_SECONDS, BLINK_DEPTH = (0.06, 0.45), 0.72


def smoothed(
    track: Sequence[Keypoints], rate: float, names: Sequence[str], strength: float
) -> list[Keypoints]:
    """A track filtered at `rate` frames per second."""
    smoother = Smoother(names)
    return [smoother(keypoints, index / rate, strength) for index, keypoints in enumerate(track)]


def points_of(track: Sequence[Keypoints]) -> np.ndarray:
    """float64 (N, K, 2)."""
    return np.stack([keypoints.points for keypoints in track]).astype(np.float64)


def jitter(points: np.ndarray, size: int) -> float:
    """RMS step from frame to frame of points (N, K, 2), in pixels of a picture of `size`."""
    steps = np.diff(points, axis=0) * (size - 1) / 2
    return float(np.sqrt((steps * steps).sum(-1).mean()))


def lag(raw: np.ndarray, filtered: np.ndarray, rate: float, longest: float = 0.2) -> float:
    """By how many seconds `raw` (N, ...) has to be delayed to be most like `filtered`; to a
    fraction of a frame.

    The least squares over all delays up to `longest`, between frames by linear interpolation, and
    between delays by a parabola. A track that never moves has none.
    """
    raw, filtered = raw.reshape(len(raw), -1), filtered.reshape(len(filtered), -1)
    first = int(np.ceil(longest * rate))
    if len(raw) <= first + 2 or raw.std(axis=0).max() < 1e-9:
        return 0.0
    shifts = np.arange(0, longest * rate, 0.1)
    errors = []
    for shift in shifts:
        place = np.arange(first, len(raw)) - shift
        below = np.floor(place).astype(int)
        share = (place - below)[:, None]
        delayed = raw[below] * (1 - share) + raw[np.minimum(below + 1, len(raw) - 1)] * share
        errors.append(((delayed - filtered[first:]) ** 2).sum())
    best = int(np.argmin(errors))
    if 0 < best < len(errors) - 1:
        before, here, after = errors[best - 1 : best + 2]
        best = best + 0.5 * (before - after) / max(before - 2 * here + after, 1e-12)
    return float(best * 0.1 / rate)


def blinks_kept(raw: np.ndarray, filtered: np.ndarray, rate: float, names: Sequence[str]) -> list[float]:
    """Of every blink of both eyes in points (N, K, 2): the share of the lids' travel that is left
    after filtering.
    """
    lids = lid_pairs(names)
    if lids is None:
        return []
    before = np.array([openings(points, lids) for points in raw])
    after = np.array([openings(points, lids) for points in filtered]).mean(axis=1)
    half = round(rate)
    gap = before.mean(axis=1)
    usual = np.array([np.median(gap[max(0, i - half) : i + half + 1]) for i in range(len(gap))])
    # Both eyes, or it is one eye's lid that the detector lost.
    shut = (gap < BLINK_DEPTH * usual) & (
        before.max(axis=1) < 0.9 * usual * before.max(axis=1).mean() / gap.mean()
    )
    edges = np.flatnonzero(np.diff(np.r_[False, shut, False].astype(int)))
    kept = []
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        if BLINK_SECONDS[0] <= (stop - start) / rate <= BLINK_SECONDS[1]:
            deepest = start + int(np.argmin(gap[start:stop]))
            shown = after[start : stop + 2].min()
            kept.append(float((usual[deepest] - shown) / (usual[deepest] - gap[deepest])))
    return kept


def lips_kept(raw: np.ndarray, filtered: np.ndarray, names: Sequence[str]) -> float | None:
    """The lips' opening and closing that is left after filtering: ratio of the 2nd to 98th
    percentile's ranges.
    """
    names = list(names)
    if "upper lip" not in names or "lower lip" not in names:
        return None

    def span(points: np.ndarray) -> float:
        gap = points[:, names.index("lower lip"), 1] - points[:, names.index("upper lip"), 1]
        return float(np.subtract(*np.percentile(gap, [98, 2])))

    return span(filtered) / max(span(raw), 1e-9)


def made_up(face: Keypoints, names: Sequence[str], strength: float, rate: float = 30.0) -> dict:
    """The filter on moves that are known exactly.

    Returns:
        ramp_ms: delay behind a head that moves aside at half the picture's width a second, once it
            moves evenly.
        nod_ms: delay behind a nod of 1 Hz by a tenth of the picture's height. blink_kept: of a
            blink of 150 ms.
        overshoot: largest excess over the end of a jump, as a share of it; a filter that never
            overshoots has 0.
    """
    seconds = np.arange(0, 4, 1 / rate)

    def follow(offsets: np.ndarray) -> np.ndarray:
        """Filtered minus unfiltered base, for offsets (N, K, 2)."""
        track = [Keypoints((face.points + offset).astype(np.float32), face.jacobians) for offset in offsets]
        return points_of(smoothed(track, rate, names, strength)) - face.points

    everywhere = np.ones((len(face.points), 1))
    along = np.array([1.0, 0.0])
    ramp = np.clip(seconds - 1, 0, 2)
    behind = ramp - follow(ramp[:, None, None] * everywhere * along)[:, :, 0].mean(axis=1)
    evenly = (seconds > 1.5) & (seconds < 2.9)
    nod = 0.2 * np.sin(2 * np.pi * seconds)
    nodding = follow(nod[:, None, None] * everywhere * along[::-1])[:, :, 1].mean(axis=1)
    jump = (seconds >= 1) * 0.2
    landed = follow(jump[:, None, None] * everywhere * along)
    facts = {
        "ramp_ms": 1000 * float(behind[evenly].mean()),
        "nod_ms": 1000 * lag(nod, nodding, rate),
        "overshoot": max(0.0, float(landed.max() / 0.2 - 1), float(-landed.min() / 0.2)),
    }
    lids = lid_pairs(names)
    if lids is not None:
        phase = np.clip((seconds - 2) / 0.15, 0, 1)
        shut = np.zeros((len(seconds), len(face.points), 2))
        travel = (face.points[lids[:, 1]] - face.points[lids[:, 0]])[:, 1]
        shut[:, lids[:, 0], 1] = np.sin(np.pi * phase)[:, None] ** 2 * travel
        shown = follow(shut)[:, lids[:, 0], 1].max(axis=0)
        facts["blink_kept"] = float((shown / shut[:, lids[:, 0], 1].max(axis=0)).mean())
    return facts


def _clip_figures(engine: Engine, path: Path, strength: float, stills: int) -> dict:
    clip = open_video(path)
    pictures = [cut(frame.image, centred_square(*frame.image.shape[:2]), engine.size) for frame in clip]
    if not pictures:
        raise UserError(f"{path} has no frames: give other clips.")
    rate, names = float(clip.rate), engine.keypoint_names
    track = [engine.detect(picture) for picture in pictures]
    raw, filtered = points_of(track), points_of(smoothed(track, rate, names, strength))
    random = np.random.default_rng(0)
    before, after = [], []
    for picture in pictures[:: max(1, len(pictures) // stills)][:stills]:
        still = [engine.detect(camera_noise(picture, random)) for _ in range(STILL_FRAMES)]
        before.append(jitter(points_of(still)[SETTLING:], engine.size))
        after.append(jitter(points_of(smoothed(still, 30.0, names, strength))[SETTLING:], engine.size))
    middle = raw.mean(axis=1, keepdims=True), filtered.mean(axis=1, keepdims=True)
    return {
        "clip": path.stem,
        "jitter_px": float(np.sqrt(np.mean(np.square(before)))),
        "smoothed_px": float(np.sqrt(np.mean(np.square(after)))),
        "ratio": float(np.sqrt(np.sum(np.square(before)) / max(np.sum(np.square(after)), 1e-18))),
        "lag_ms": 1000 * lag(raw, filtered, rate),
        "face_lag_ms": 1000 * lag(raw - middle[0], filtered - middle[1], rate),
        "blinks_kept": blinks_kept(raw, filtered, rate, names),
        "lips_kept": lips_kept(raw, filtered, names),
        "first": track[0],
    }


def jitter_figures(
    clips: Path | None = None,
    strength: float = 1.0,
    stills: int = 3,
    engine: Engine | None = None,
) -> dict:
    """Jitter of still faces with and without smoothing, and the delay that it adds on moving ones.

    Args:
        clips: a folder of clips of faces cut as in the papers, beside the bundled one.
        strength: of the smoothing, 0 to 2.
        stills: how many frames of each clip are held still under noise.
        engine: the default model by default.

    Returns:
        "clips": for each its name, jitter_px, smoothed_px and their ratio (RMS step of a keypoint
        from frame to frame, in pixels of the model's square), lag_ms of everything and face_lag_ms
        of the keypoints against their mean, blinks_kept (one share each) and lips_kept. "ratio",
        "worst_ratio", "lag_ms", "worst_lag_ms" over all of them, "blink_kept" and "lips_kept"
        (medians, or None). "made_up": see `made_up`. "strength", "model".

    Raises:
        UserError: there is no clip in the folder, or one cannot be read.
    """
    engine = engine or load_engine()
    paths = [bundled.DRIVING]
    if clips is not None:
        paths += sorted(
            path for path in Path(clips).glob("*") if path.suffix.lower() in (".mp4", ".mov", ".webm")
        )
        if len(paths) == 1:
            raise UserError(f"There are no clips (.mp4, .mov, .webm) in {clips}: give another folder.")
    rows = [_clip_figures(engine, path, strength, stills) for path in paths]
    face = rows[0].pop("first")
    for row in rows[1:]:
        del row["first"]
    blinks = [kept for row in rows for kept in row["blinks_kept"]]
    lips = [row["lips_kept"] for row in rows if row["lips_kept"] is not None]
    return {
        "model": engine.model_name,
        "strength": strength,
        "clips": rows,
        "ratio": sum(row["jitter_px"] for row in rows) / max(sum(row["smoothed_px"] for row in rows), 1e-9),
        "worst_ratio": min(row["ratio"] for row in rows),
        "lag_ms": float(np.mean([row["lag_ms"] for row in rows])),
        "worst_lag_ms": max(max(row["lag_ms"], row["face_lag_ms"]) for row in rows),
        "blink_kept": float(np.median(blinks)) if blinks else None,
        "lips_kept": float(np.median(lips)) if lips else None,
        "made_up": made_up(face, engine.keypoint_names, strength) if strength > 0 else None,
    }


def jitter_lines(facts: dict) -> list[str]:
    """The figures as a Markdown table and sentences."""

    def share(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.0f} %"

    lines = [
        "| clip | still face, px | smoothed, px | steadier | lag ms | lag of the face alone ms | blinks kept | lips kept |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in facts["clips"]:
        kept = row["blinks_kept"]
        blinks = f"{share(float(np.median(kept)))} of {len(kept)}" if kept else "-"
        lines.append(
            f"| {row['clip']} | {row['jitter_px']:.3f} | {row['smoothed_px']:.3f} | {row['ratio']:.1f}x | "
            f"{row['lag_ms']:.1f} | {row['face_lag_ms']:.1f} | {blinks} | {share(row['lips_kept'])} |"
        )
    lines.append("")
    lines.append(
        f"{facts['model']}, smoothing {facts['strength']:g}: a still face is {facts['ratio']:.1f} times steadier "
        f"(at least {facts['worst_ratio']:.1f}), a moving one {facts['lag_ms']:.1f} ms late "
        f"(at most {facts['worst_lag_ms']:.1f}; one frame at 30 FPS is 33.3). Blinks keep {share(facts['blink_kept'])}, "
        f"lips {share(facts['lips_kept'])} of their travel."
    )
    known = facts["made_up"]
    if known:
        lines.append(
            f"Known moves at 30 FPS: {known['ramp_ms']:.1f} ms behind a head moving at half the picture's width a second, "
            f"{known['nod_ms']:.1f} ms behind a nod of 1 Hz, {share(known.get('blink_kept'))} of a blink of 150 ms, "
            f"overshoot {share(known['overshoot'])}."
        )
    return lines
