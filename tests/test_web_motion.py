"""The browser's copy of what happens between `detect` and `render`, against Python's, on keypoints made here."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from livepuppet.core.bundle import read_bundle
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.square import Square, cut
from livepuppet.core.transfer import hull_area
from livepuppet.realtime.app import web
from livepuppet.realtime.bundled import MODEL
from livepuppet.realtime.framing.crop import Framing
from livepuppet.realtime.framing.follow import reexpressed
from livepuppet.realtime.framing.refine import face_middle, refined_square
from livepuppet.realtime.framing.seek import Trial, disagreement, grid
from livepuppet.realtime.motion.calibration import Fit
from livepuppet.realtime.motion.retargeter import Retargeter
from livepuppet.realtime.motion.settings import MotionSettings

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="there is no Node.js to run the page's modules with")

STATIC = Path(web.__file__).parent / "static"

#: Of the page.
DEFAULTS = {"strength": 1, "smoothing": 1, "shift": 1, "turn": 1, "zoom": 1, "eyes": 1, "countdown": 2}

#: How far the two may part: in [-1, 1] units of points, and of Jacobians, which are about 1.
CLOSE = 1e-6


def run(script: str, told: dict, patience: float = 60) -> dict:
    """What a module script writes within `patience` seconds, given `told`; it finds the page's modules under `motion`."""
    script = script.replace("motion/", f"{STATIC.as_uri()}/motion/")
    begin = "import fs from 'node:fs'; const told = JSON.parse(fs.readFileSync(0, 'utf8'));"
    restore = (
        "const keypoints = (one) => ({points: Float32Array.from(one.points), jacobians: Float32Array.from(one.jacobians),"
        " confidence: one.confidence && Float32Array.from(one.confidence)});"
    )
    done = subprocess.run(
        [NODE, "--input-type=module", "-e", begin + restore + script],
        input=json.dumps(told),
        capture_output=True,
        text=True,
        timeout=patience,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def written(keypoints: Keypoints) -> dict:
    return {
        "points": keypoints.points.ravel().tolist(),
        "jacobians": keypoints.jacobians.ravel().tolist(),
        "confidence": None if keypoints.confidence is None else keypoints.confidence.tolist(),
    }


def names() -> list[str]:
    return read_bundle(MODEL)["keypoint_names"]


def face(random: np.random.Generator) -> np.ndarray:
    """Landmarks in the order of `names`, float64 (16, 2)."""
    places = [
        *[(-0.2, -0.12), (0.2, -0.12), (-0.2, -0.03), (0.2, -0.03), (-0.2, -0.08), (0.2, -0.08)],
        *[(-0.2, -0.25), (0.2, -0.25), (0.0, 0.12), (-0.15, 0.35), (0.15, 0.35), (0.0, 0.31)],
        *[(0.0, 0.4), (0.0, 0.6), (0.0, -0.5), (0.0, 0.9)],
    ]
    return np.array(places) + random.normal(0, 0.02, (16, 2))


def jacobians(random: np.random.Generator, spread: float) -> np.ndarray:
    return (np.eye(2) + random.normal(0, spread, (16, 2, 2))).astype(np.float32)


def clip(seed: int, confidence: bool = True) -> list[tuple[Keypoints, float]]:
    """A driver who moves, blinks, leaves, comes back elsewhere, and pauses: keypoints and times."""
    random = np.random.default_rng(seed)
    rest, own = face(random), jacobians(random, 0.1)
    frames, time = [], 100.0
    for index in range(240):
        time += 0.9 if index == 130 else random.uniform(0.02, 0.05)
        phase = index / 20
        angle, scale = 0.4 * np.sin(phase), 1 + 0.25 * np.sin(0.7 * phase)
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        points = rest.copy()
        if index % 40 < 6:
            points[:2, 1] += 0.1  # both lids down
        points[12:14, 1] += 0.1 * max(0.0, np.sin(2 * phase))
        points = points @ turn.T + 0.5 * np.array([np.sin(0.5 * phase), np.cos(0.3 * phase)])
        points += random.normal(0, 0.004, points.shape)
        there = not 160 <= index < 195
        sure = np.full(16, 0.75 if there else 0.2) + random.uniform(-0.1, 0.1, 16)
        if not there:
            points = random.uniform(-1, 1, points.shape)
        matrices = turn @ own + random.normal(0, 0.3 if index % 25 == 0 else 0.02, own.shape)
        frames.append(
            (
                Keypoints(
                    points.astype(np.float32),
                    matrices.astype(np.float32),
                    sure.astype(np.float32) if confidence else None,
                ),
                time,
            )
        )
    return frames


@pytest.mark.parametrize(
    ("settings", "confidence"),
    [
        ({}, True),
        ({"countdown": 0.0, "smoothing": 0.0}, True),
        ({"strength": 1.7, "smoothing": 1.6, "eyes": 2.0, "countdown": 1.0}, True),
        ({"shift": 0.3, "turn": 0.0, "zoom": 0.5, "strength": 0.6, "eyes": 0.4}, True),
        ({"eyes": 0.0, "countdown": 3.0}, False),
    ],
)
def test_the_page_moves_keypoints_as_python_does(settings, confidence):
    random = np.random.default_rng(3)
    avatar = Keypoints((0.8 * face(random)).astype(np.float32), jacobians(random, 0.2))
    frames = clip(7, confidence)
    retargeter = Retargeter(names(), MotionSettings(**settings))
    retargeter.set_avatar(avatar)
    expected = []
    for keypoints, time in frames:
        moved = retargeter.move(keypoints, time)
        expected.append((moved, retargeter.state, retargeter.countdown_left, retargeter.initial_fit))

    found = run(
        """
        const { Retargeter } = await import("motion/retargeter.js");
        const retargeter = new Retargeter(told.names, told.settings);
        retargeter.setAvatar(keypoints(told.avatar));
        const moved = told.frames.map(([one, time]) => {
          const moved = retargeter.move(keypoints(one), time);
          return {
            moved: moved && { points: [...moved.points], jacobians: [...moved.jacobians] },
            state: retargeter.state, left: retargeter.countdownLeft, fit: retargeter.initialFit,
          };
        });
        process.stdout.write(JSON.stringify(moved));
        """,
        {
            "names": names(),
            "settings": DEFAULTS | settings,
            "avatar": written(avatar),
            "frames": [(written(keypoints), time) for keypoints, time in frames],
        },
    )
    assert {state for _, state, _, _ in expected} >= {"live", "lost"}
    for page, (moved, state, left, fit) in zip(found, expected, strict=True):
        assert (page["moved"] is None) == (moved is None) and page["state"] == state
        assert page["left"] == pytest.approx(left, abs=1e-9) and page["fit"] == pytest.approx(fit, abs=1e-6)
        if moved is not None:
            assert np.abs(np.array(page["moved"]["points"]) - moved.points.ravel()).max() <= CLOSE
            off = np.abs(np.array(page["moved"]["jacobians"]) - moved.jacobians.ravel())
            assert (off / np.maximum(1, np.abs(moved.jacobians.ravel()))).max() <= CLOSE


def test_the_page_frames_faces_as_python_does():
    random = np.random.default_rng(5)
    faces = []
    for _ in range(12):
        points = face(random) * random.uniform(0.5, 1.5) + random.uniform(-0.3, 0.3, 2)
        faces.append(Keypoints(points.astype(np.float32), jacobians(random, 0.1)))
    faces.append(Keypoints(-faces[0].points, faces[0].jacobians))  # upside down
    squares = [Square(*random.uniform(0, 100, 2).tolist(), float(random.uniform(80, 300))) for _ in faces]
    fit = Fit(faces[0], names())
    trials = [Trial(square, one) for square, one in zip(squares[:3], faces[:3], strict=True)]
    found = run(
        """
        const { disagreement, faceMiddle, grid, reexpressed, refinedSquare } = await import("motion/framing.js");
        const { Fit } = await import("motion/neutral.js");
        const { hullArea } = await import("motion/transfer.js");
        const faces = told.faces.map(keypoints);
        const fit = new Fit(faces[0], told.names);
        process.stdout.write(JSON.stringify({
          grids: told.sizes.map(([height, width]) => grid(height, width)),
          middles: faces.map((one) => faceMiddle(one, told.names)),
          refined: faces.map((one, at) => refinedSquare(told.squares[at], one, told.names)),
          moved: [...reexpressed(faces[1], told.squares[0], told.squares[1], 256).points],
          apart: disagreement([0, 1, 2].map((at) => ({ square: told.squares[at], keypoints: faces[at] })), 256),
          fits: faces.map((one) => fit.of(one)),
          areas: faces.map((one) => hullArea(one.points)),
        }));
        """,
        {
            "names": names(),
            "faces": [written(one) for one in faces],
            "squares": [vars(square) for square in squares],
            "sizes": [(720, 1280), (480, 640), (256, 256), (900, 300)],
        },
    )
    for (height, width), squares_found in zip(
        [(720, 1280), (480, 640), (256, 256), (900, 300)], found["grids"], strict=True
    ):
        assert squares_found == [pytest.approx(vars(square)) for square in grid(height, width)]
    seen = 0
    for at, one in enumerate(faces):
        middle = face_middle(one, names())
        assert (found["middles"][at] is None) == (middle is None)
        if middle is not None:
            seen += 1
            assert found["middles"][at]["middle"] == pytest.approx(middle[0].tolist(), abs=CLOSE)
            assert found["middles"][at]["distance"] == pytest.approx(middle[1], abs=CLOSE)
        refined = refined_square(squares[at], one, names(), limited=False)
        assert found["refined"][at] == pytest.approx(vars(refined), abs=1e-3)
        assert found["fits"][at] == pytest.approx(fit(one), abs=CLOSE)
        assert found["areas"][at] == pytest.approx(hull_area(one.points), abs=CLOSE)
    assert 3 < seen < len(faces)
    moved = reexpressed(faces[1], squares[0], squares[1])
    assert found["moved"] == pytest.approx(moved.points.ravel().tolist(), abs=CLOSE, rel=CLOSE)
    assert found["apart"] == pytest.approx(disagreement(trials, 256), abs=1e-5)


@pytest.mark.parametrize(
    "square", [Square(384, 104, 512), Square(300, 20, 611), Square(-90, -40, 700), Square(640, 350, 480)]
)
def test_the_page_cuts_squares_without_aliasing(square):
    random = np.random.default_rng(2)
    picture = cv2.resize(
        random.integers(0, 255, (36, 64, 3), np.uint8), (1280, 720), interpolation=cv2.INTER_CUBIC
    )
    found = run(
        """
        const { shrink } = await import("motion/../cutting.js");
        const rgba = Uint8Array.from(told.rgba);
        const out = new Uint8Array(256 * 256 * 3);
        shrink(rgba, 1280, 720, told.square, 256, told.flipped, out);
        process.stdout.write(JSON.stringify([...out]));
        """,
        {
            "rgba": cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA).ravel().tolist(),
            "square": vars(square),
            "flipped": square.x == 640,
        },
    )
    # Repeated edges, then the mean over areas: what `core.square.cut` approximates fast.
    wide = cv2.copyMakeBorder(picture, 400, 400, 400, 400, cv2.BORDER_REPLICATE)
    x, y, side = (int(value) for value in (square.x, square.y, square.side))
    part = wide[400 + y : 400 + y + side, 400 + x : 400 + x + side]
    expected = cv2.resize(part, (256, 256), interpolation=cv2.INTER_AREA).astype(int)
    if x == 640:
        expected = expected[:, ::-1]
    assert np.abs(np.array(found).reshape(256, 256, 3) - expected).max() <= 1
    if x > 0:
        fast = cut(picture, square, 256, quick=True)
        assert np.abs((fast[:, ::-1] if x == 640 else fast) - expected).mean() < 2


def test_the_page_follows_a_head_as_python_does():
    random = np.random.default_rng(11)
    framing = Framing("auto")
    framing.begin_at(Square(380.3, 100.7, 500.0), (720, 1280))
    retargeter = Retargeter(names(), MotionSettings(countdown=0.5))
    avatar = Keypoints((0.8 * face(random)).astype(np.float32), jacobians(random, 0.2))
    retargeter.set_avatar(avatar)
    shape, own = face(random), jacobians(random, 0.1)
    told, expected = [], []
    for index in range(300):
        time = index / 30
        # The head goes aside and comes nearer, then leaves the picture's edge.
        x, y = 630 + 2.5 * max(0, index - 60), 350 + 20 * np.sin(time)
        size = 260 * (1 + 0.6 * np.clip((index - 90) / 90, 0, 1))
        square = framing.square.whole()
        place = np.array([x, y]) + size * shape
        points = (place - [square.x, square.y]) / square.side * 2 - 1 + random.normal(0, 0.003, shape.shape)
        matrices = own * np.float32(2 * size / square.side)
        sure = np.full(16, 0.8 if index % 50 else 0.3, np.float32)
        keypoints = Keypoints(points.astype(np.float32), matrices.astype(np.float32), sure)
        moved = retargeter.move(keypoints, time)
        change = framing.follow(keypoints, time)
        if change is not None:
            old, new = change
            retargeter.remap(lambda one, old=old, new=new: reexpressed(one, old, new, 256))
        told.append((written(keypoints), time))
        expected.append((moved, framing.square))
    found = run(
        """
        const { Follower, whole } = await import("motion/follow.js");
        const { reexpressed } = await import("motion/framing.js");
        const { Retargeter } = await import("motion/retargeter.js");
        const follower = new Follower();
        const retargeter = new Retargeter(told.names, told.settings);
        retargeter.setAvatar(keypoints(told.avatar));
        let square = told.square;
        process.stdout.write(JSON.stringify(told.frames.map(([one, time]) => {
          const driving = keypoints(one);
          const moved = retargeter.move(driving, time);
          const before = whole(square);
          square = follower.follow(square, { width: 1280, height: 720 }, driving, time);
          const after = whole(square);
          if (JSON.stringify(before) !== JSON.stringify(after)) retargeter.remap((kept) => reexpressed(kept, before, after, 256));
          return { points: moved && [...moved.points], square };
        })));
        """,
        {
            "names": names(),
            "settings": DEFAULTS | {"countdown": 0.5},
            "avatar": written(avatar),
            "square": {"x": 380.3, "y": 100.7, "side": 500.0},
            "frames": told,
        },
    )
    squares = {round(square.x) for _, square in expected}
    assert len(squares) > 10  # it went along
    for page, (moved, square) in zip(found, expected, strict=True):
        assert page["square"] == pytest.approx(vars(square), abs=1e-3)
        assert (page["points"] is None) == (moved is None)
        if moved is not None:
            assert np.abs(np.array(page["points"]) - moved.points.ravel()).max() <= CLOSE


def test_of_a_picture_the_largest_face_counts_however_unusual():
    told = {"face": face(np.random.default_rng(3)).ravel().tolist(), "names": names()}
    script = """
        const {seek} = await import('motion/framing.js');
        const picture = {width: 400, height: 400};
        // A large face that the detector is not sure of, and in its middle a small one that looks more like a face.
        const [large, small] = [{x: 20, y: 20, side: 360}, {x: 150, y: 150, side: 100}];
        const look = async ({x, y, side}) => {
            const it = side < 180 ? small : large;
            const seen = told.face.map((value, at) => (2 * ((at % 2 ? it.y - y : it.x - x) + it.side * (value + 1) / 2)) / side - 1);
            return {points: Float32Array.from(seen), jacobians: new Float32Array(64), confidence: new Float32Array(16).fill(it === small ? 0.7 : 0.55)};
        };
        const found = [];
        for (const still of [false, true]) found.push(await seek(picture, look, 256, told.names, still));
        const nothing = async () => ({...await look(large), confidence: new Float32Array(16).fill(0.3)});
        console.log(JSON.stringify([...found, await seek(picture, nothing, 256, told.names, true)]));
    """
    driver, avatar, none = run(script, told)
    assert driver["side"] < 150 and avatar["side"] > 250
    assert none is None
