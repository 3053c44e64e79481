"""`livepuppet evaluate WEIGHTS --faces FOLDER`, `--avatars FOLDER`: people's clips and people's
images.

Images are read, framed and moved as the live path does it; a command may reach up for that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from livepuppet.train.cli.evaluate_puppets import rest_sentence

#: Puppets per factor of `--score`, and their seed: as many as a training can afford, and none of
#: those that are quoted.
SCORED, SCORE_SEED = 4, 7

#: How far from its median, in the units of `calibration.pose` and in eye distances, an amount has
#: to go to be worth a column.
WORTH = {"eyes": 0.03, "mouth": 0.1, "turn": 0.1, "nod": 0.08, "tilt": 0.05, "smile": 0.05, "brow": 0.04}

#: Columns of the table of clips: heading, name in the JSON, format.
COLUMNS = (
    ("moves", "movement px", "7.1f"),
    ("L1", "L1", "8.4f"),
    ("warp", "warp L1", "8.4f"),
    ("copy", "copy L1", "8.4f"),
    ("r x", "correlation x", "6.2f"),
    ("r y", "correlation y", "6.2f"),
    ("slope x", "slope x", "8.2f"),
    ("y", "slope y", "6.2f"),
    ("flow px", "flow error px", "8.2f"),
    ("still", "no motion px", "6.2f"),
    ("better", "better than no motion", "7"),
    ("lip gap", "lip gap px", "8.1f"),
    ("mouth", "open mouth response", "6.2f"),
    ("still wander", "still wander px", "13.2f"),
    ("noise", "noise wander px", "6.2f"),
    ("sure", "confidence", "6.2f"),
    ("none", "confidence, shuffled", "6.2f"),
)


def on_faces(
    model, folder: Path, avatars: Path | None, weights: Path, device: str, limit, every, sheet, videos
) -> dict:
    """Metric, print and return figures of each clip; draw sheets and videos of avatars that the
    clips move.

    Raises:
        DataError: there is no clip.
    """
    from livepuppet.train.metrics.faces.clips import read_clips
    from livepuppet.train.metrics.faces.following import by_keypoint, follow, pooled
    from livepuppet.train.metrics.faces.stability import detect_all, faceless
    from livepuppet.train.metrics.faces.summary import clip_metrics

    skipped: list[str] = []
    rows, followed = {}, []
    show = None
    if (sheet or videos) and avatars:
        show = _Show(weights, device, avatars, skipped)
        _say(skipped, 0)
    said = len(skipped)
    for clip in read_clips(folder, model.preset.size, skipped, limit):
        said = _say(skipped, said)
        if not rows:
            click.echo(f"{'clip':12}" + "".join(f"{heading:>{_width(form)}}" for heading, _, form in COLUMNS))
        followed.append(follow(model, clip))
        rows[clip.name] = clip_metrics(model, clip, followed[-1])
        click.echo(_line(clip.name.removesuffix(".mp4"), rows[clip.name]))
        if show:
            if sheet:
                show.sheet(clip.name, clip.frames, sheet.with_stem(f"{sheet.stem}-{Path(clip.name).stem}"))
            if videos:
                show.video(clip.frames, every, videos / f"{Path(clip.name).stem}.mp4")
    _say(skipped, said)
    if not rows:
        raise click.ClickException(
            f"None of the clips in {folder} could be read; look at the sentences above."
        )
    mean = _mean(list(rows.values()))
    click.echo(_line("mean", mean))
    all_together = pooled(followed)
    keypoint_rows = by_keypoint(followed)
    moving = [row for row in rows.values() if row["moves"]]
    better = sum(bool(row.get("better than no motion")) for row in moving)
    click.echo(
        f"all clips' pairs together: correlation {all_together['correlation x']:.2f} / {all_together['correlation y']:.2f}, "
        f"slope {all_together['slope x']:.2f} / {all_together['slope y']:.2f} (x / y; single keypoints: "
        f"{all_together['single correlation x']:.2f} / {all_together['single correlation y']:.2f}, "
        f"{all_together['single slope x']:.2f} / {all_together['single slope y']:.2f})"
    )
    click.echo(
        f"dense flow better than no motion on {better} of {len(moving)} clips that move"
        + "".join(
            f"; not on {name}"
            for name, row in rows.items()
            if row["moves"] and not row.get("better than no motion")
        )
    )
    for name, row in keypoint_rows.items():
        click.echo(
            f"{name:20} correlation {row['correlation x']:5.2f} / {row['correlation y']:5.2f}, "
            f"slope {row['slope x']:5.2f} / {row['slope y']:5.2f}"
        )
    report = {"clips": rows, "mean": mean, "together": all_together, "keypoints": keypoint_rows}
    if hasattr(model, "detect_with_confidence"):
        empty = detect_all(model, faceless(model.preset.size))[1]
        assert empty is not None
        empty = empty.mean(1)
        report["confidence without a face"] = {"mean": float(empty.mean()), "highest": float(empty.max())}
        click.echo(
            f"confidence without a face (plain, noise, stripes, boxes): {empty.mean():.2f} on average, {empty.max():.2f} "
            "at most"
        )
    return report | {"skipped": len(skipped)}


def on_avatars(model, folder: Path, sheet: Path | None) -> dict:
    """What comes back of each image when nothing moves; print and return the figures.

    Raises:
        UserError: there is no image that can be read.
    """
    import torch

    from livepuppet.realtime.avatars import load_avatars
    from livepuppet.train.metrics.inference import to_batch
    from livepuppet.train.metrics.responses import at_rest, mean_rows

    avatars, skipped = load_avatars(folder, model.preset.size, "auto")
    _say(skipped, 0)
    images = torch.cat([to_batch(avatar.image[None]) for avatar in avatars])
    rows = at_rest(model, images)
    for avatar, row in zip(avatars, rows, strict=True):
        click.echo(f"{avatar.name:34} {rest_sentence(row)}")
    mean = mean_rows(rows)
    click.echo(f"{'mean':34} {rest_sentence(mean)}")
    if sheet:
        from livepuppet.train.sheets.probes import rest_sheet
        from livepuppet.train.sheets.tiles import write

        write(sheet, rest_sheet(model, images))
    named = {avatar.name: row for avatar, row in zip(avatars, rows, strict=True)}
    return {"avatars": named, "mean": mean, "skipped": len(skipped)}


def _say(skipped: Sequence[str], said: int) -> int:
    """Tell what was skipped since; returns how many sentences have been said."""
    for sentence in skipped[said:]:
        click.echo(f"skipped: {sentence}", err=True)
    return len(skipped)


def _mean(rows: list[dict]) -> dict[str, float]:
    """Of each figure that is a number, over the clips that have it."""
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            if not isinstance(value, bool):
                found.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in found.items()}


def _width(form: str) -> int:
    return int(form.split(".")[0])


def _line(name: str, row: dict) -> str:
    cells = []
    for _, figure, form in COLUMNS:
        value = row.get(figure)
        if isinstance(value, bool):
            value, form = ("yes" if value else "no"), f">{form}"
        cells.append("-".rjust(_width(form.lstrip(">"))) if value is None else f"{value:{form}}")
    return f"{name:12}" + "".join(cells)


# -------------------------------------------------------------------------------------------------------
# clips move avatars


@dataclass(frozen=True)
class _Moment:
    """A frame worth showing, and why."""

    number: int
    why: str


class _Show:
    """The avatars of a folder, moved by clips as the live path moves them, with a D1 that fits
    each.

    Raises UserError where there is no avatar, or the weights cannot be run.
    """

    def __init__(self, weights: Path, device: str, avatars: Path, skipped: list[str]):
        from livepuppet.realtime.avatars import load_avatars
        from livepuppet.realtime.engines import TorchEngine

        self.engine = TorchEngine(weights, device=device)
        self.avatars, unreadable = load_avatars(avatars, self.engine.size, "auto")
        skipped += unreadable
        images = [avatar.image for avatar in self.avatars]
        self.features = [self.engine.encode(image) for image in images]
        self.keypoints = [self.engine.detect(image) for image in images]
        self._driver: tuple[np.ndarray, list] | None = None

    def sheet(self, name: str, frames: np.ndarray, path: Path) -> None:
        """Rows: the driver, then the avatars; columns: at rest, then the most extreme moments of
        the clip.
        """
        from livepuppet.train.sheets.tiles import labelled, small, tiled, write

        track = self._track(frames)
        moments = extremes(np.stack([one.points for one in track]), self.engine.keypoint_names)
        rows = [[None, *(labelled(small(frames[moment.number]), moment.why) for moment in moments)]]
        for k, avatar in enumerate(self.avatars):
            mover = self._mover(k, track, smoothing=0.0)
            shown = [self._render(k, mover.move(track[moment.number], moment.number)) for moment in moments]
            rows.append([small(avatar.image), *(small(image) for image in shown)])
        rows[0][0] = labelled(small(frames[0]), name)
        write(path, tiled(rows))

    def video(self, frames: np.ndarray, every: int, path: Path, rate: float = 25.0) -> None:
        """The driver and the avatars side by side, moving, with the smoothing that the live path
        has.
        """
        from fractions import Fraction

        from livepuppet.train.puppets.clips import write_clip
        from livepuppet.train.sheets.tiles import small, tiled

        track = self._track(frames)
        movers = [self._mover(k, track, smoothing=1.0) for k in range(len(self.avatars))]
        # H.264 wants even sides: 192 and lines of 2 give them, whatever the number of images.
        count = len(self.avatars) + 1
        wide = int(np.ceil(np.sqrt(1.6 * count)))
        columns = min(range(wide, wide + 3), key=lambda columns: (-count % columns, columns))

        def images() -> Iterator[np.ndarray]:
            for number, (frame, driving) in enumerate(zip(frames, track, strict=True)):
                moved = [mover.move(driving, number / rate) for mover in movers]
                if number % every:
                    continue
                shown = [small(frame, 192)]
                shown += [small(self._render(k, keypoints), 192) for k, keypoints in enumerate(moved)]
                yield tiled(
                    [shown[start : start + columns] for start in range(0, len(shown), columns)], side=192
                )

        path.parent.mkdir(parents=True, exist_ok=True)
        write_clip(path, images(), Fraction(rate / every).limit_denominator(1001))

    def _track(self, frames: np.ndarray) -> list:
        """Keypoints of all frames of the clip at hand."""
        if self._driver is None or self._driver[0] is not frames:
            self._driver = (frames, [self.engine.detect(frame) for frame in frames])
        return self._driver[1]

    def _mover(self, k: int, track: list, smoothing: float):
        """As live, D1 being the frame of the clip that fits the avatar best."""
        from livepuppet.realtime.motion.calibration import Candidates, Fit
        from livepuppet.realtime.motion.retargeter import Retargeter
        from livepuppet.realtime.motion.settings import MotionSettings

        names = self.engine.keypoint_names
        settings = MotionSettings(smoothing=smoothing, countdown=0, lost_to_neutral=False)
        mover = Retargeter(names, settings, matrices=self.engine.matrices)
        mover.set_avatar(self.keypoints[k])
        fit, candidates = Fit(self.keypoints[k], names), Candidates()
        for keypoints in track:
            candidates.add(keypoints, fit(keypoints))
        mover.initial = candidates.best()
        return mover

    def _render(self, k: int, keypoints) -> np.ndarray:
        if keypoints is None:
            return self.avatars[k].picture
        return self.engine.render(self.features[k], self.keypoints[k], keypoints)


def extremes(points: np.ndarray, names: Sequence[str], apart: int = 4) -> list[_Moment]:
    """The moments of a clip in which pose and expression are farthest from their median, by
    keypoints (T, K, 2).

    Without named landmarks, frames at even distances. Moments nearer than `apart` frames to an
    earlier one are left out, and so are extremes that nobody would see (`WORTH`).
    """
    from livepuppet.realtime.motion.calibration import pose, pose_indices

    where = pose_indices(names)
    if where is None:
        return _evenly(len(points))
    track = [pose(one, where) for one in points]
    rows = {name: np.array([one[name] for one in track]) for name in track[0]}
    index = {name: k for k, name in enumerate(names)}
    eyes = np.linalg.norm(points[:, where.lids[0]].mean(1) - points[:, where.lids[1]].mean(1), axis=-1)
    corners = points[:, list(where.corners)]
    rows["smile"] = np.linalg.norm(corners[:, 1] - corners[:, 0], axis=-1) / eyes
    wanted = [
        ("eyes", np.argmin, "eyes shut"),
        ("mouth", np.argmax, "mouth open"),
        ("turn", np.argmin, "turned"),
        ("turn", np.argmax, "turned"),
        ("nod", np.argmin, "nod"),
        ("nod", np.argmax, "nod"),
        ("tilt", np.argmin, "tilt"),
        ("tilt", np.argmax, "tilt"),
        ("smile", np.argmax, "wide mouth"),
        ("smile", np.argmin, "narrow mouth"),
    ]
    if "left brow" in index and "left lower lid" in index:
        gap = points[:, index["left lower lid"], 1] - points[:, index["left brow"], 1]
        rows["brow"] = gap / eyes
        wanted.append(("brow", np.argmax, "brows"))
    chosen: list[_Moment] = []
    for name, extreme, why in wanted:
        number = int(extreme(rows[name]))
        if abs(rows[name][number] - np.median(rows[name])) < WORTH[name]:
            continue
        if all(abs(number - moment.number) >= apart for moment in chosen):
            chosen.append(_Moment(number, why))
    return chosen or _evenly(len(points))


def _evenly(frames: int) -> list[_Moment]:
    return [
        _Moment(int(number), f"frame {number}")
        for number in np.unique(np.linspace(0, frames - 1, 8).round().astype(int))
    ]


def score(model, folder: Path | None, setting: str | None) -> dict:
    """Print and return the number by which training chooses checkpoints, as it would see these
    weights.
    """
    from dataclasses import asdict

    from livepuppet.train.metrics.responses import draw_probes
    from livepuppet.train.metrics.score import read_faces, score_model

    setting = setting or "rich"
    skipped: list[str] = []
    clips = read_faces(folder, model.preset.size, skipped=skipped) if folder else None
    _say(skipped, 0)
    found = score_model(model, draw_probes(SCORED, SCORE_SEED, model.preset.size, setting=setting), clips)
    faces = "" if found.faces is None else f", faces {found.faces:.3f}"
    click.echo(
        f"score {found.total:.3f}: response {found.response:.3f}, explained {found.explained:.3f}, "
        f"sharpness {found.sharpness:.3f}{faces}"
    )
    return asdict(found)
