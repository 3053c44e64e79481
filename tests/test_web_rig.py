"""The browser's copy of what a rig does per frame, against Python's: drawing, reading a driver, cutting close-ups."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_rig import drawn_face, gaping_face, landmarks_of, narrower, smiling_face
from test_web_motion import DEFAULTS, NODE, clip, names, written
from test_web_motion import run as run_motion

from livepuppet.core.keypoints import Keypoints
from livepuppet.core.reading import EYE_NUMBERS, HEAD_NUMBERS, MOUTH_NUMBERS, FaceReading
from livepuppet.core.square import Square
from livepuppet.realtime.app.web.example import example_file
from livepuppet.realtime.avatars import load_avatar
from livepuppet.realtime.bundled import AVATAR, DRIVING, MODEL
from livepuppet.realtime.engines import load_engine
from livepuppet.realtime.motion.retargeter import Retargeter
from livepuppet.realtime.motion.settings import MotionSettings
from livepuppet.realtime.rig import tables
from livepuppet.realtime.rig.amounts import amounts
from livepuppet.realtime.rig.close_ups import ALIASED, PLACING, CloseUps, crop_maps, cut_crop
from livepuppet.realtime.rig.driver import RigDriver, RigMotion
from livepuppet.realtime.rig.finding import find
from livepuppet.realtime.rig.pose import HeadPose, joined
from livepuppet.realtime.rig.rig import Face, Rig

pytestmark = pytest.mark.skipif(NODE is None, reason="there is no Node.js to run the page's modules with")

#: Levels that a picture may be off by: everywhere but in one pixel of a thousand, there (at strands of hair), and on average. Both sample at
#: 32nds of a pixel, which are not always rounded alike.
OFF, FEW, OFF_THERE, OFF_ON_AVERAGE = 2, 1e-3, 32, 0.1


def run(folder: Path, script: str, told: dict, patience: float = 60) -> dict:
    """What a module script writes, given `told`; it finds the page's modules under `web`, and files of `folder` by `open`."""
    begin = (
        "const {readNpz} = await import('motion/../npz.js');"
        "const open = async (name) => { const file = fs.readFileSync(`${told.folder}/${name}`);"
        " return readNpz(file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength)); };"
    )
    return run_motion(begin + script.replace("web/", "motion/../"), {**told, "folder": str(folder)}, patience)


def with_readings(frames: list[tuple[Keypoints, float]], seed: int) -> list[tuple[Keypoints, float]]:
    """The same, with close-ups of a face that blinks, smiles, looks about and turns."""
    random = np.random.default_rng(seed)
    rest = FaceReading(
        np.abs(random.normal(0.15, 0.05, (2, EYE_NUMBERS))).astype(np.float32),
        np.abs(random.normal(0.1, 0.05, MOUTH_NUMBERS)).astype(np.float32),
        random.normal(0, 0.05, HEAD_NUMBERS).astype(np.float32),
    )
    away = np.array(
        [(-0.3, -0.1), (-0.1, -0.1), (0.3, -0.1), (0.1, -0.1), (0, -0.1), (0, 0.1), (-0.05, 0.1), (0.05, 0.1)]
    )
    angles = np.linspace(-np.pi, np.pi, 12, endpoint=False)
    outline = np.stack([0.37 * np.cos(angles), 0.15 * np.sin(angles)], 1)
    shape = np.concatenate([outline, 0.6 * outline[[0, 1, 3, 5, 6, 7, 9, 11]]])
    found = []
    for index, (keypoints, time) in enumerate(frames):
        phase = index / 20
        eyes, mouth, head = rest.eyes.copy(), rest.mouth.copy(), rest.head.copy()
        if index % 40 < 6:
            eyes[:, 0], eyes[:, 3] = 0.02, 0.9
        eyes[:, 1] += np.sin(phase) * np.array([0.1, -0.1])
        mouth += 0.4 * np.sin(phase + np.arange(len(mouth)))
        head[:3] += (0.3 * np.sin(phase), 0.2 * np.cos(phase), 0.1 * np.sin(2 * phase))
        eyes, mouth, head = (part + random.normal(0, 0.01, part.shape) for part in (eyes, mouth, head))
        anchors = keypoints.points[4:6].mean(0) + away + random.normal(0, 0.004, away.shape)
        lips = shape + 0.1 * np.sin(phase + np.arange(40)).reshape(20, 2)
        reading = FaceReading(*(part.astype(np.float32) for part in (eyes, mouth, head, anchors, lips)))
        found.append((Keypoints(keypoints.points, keypoints.jacobians, keypoints.confidence, reading), time))
    return found


def read(keypoints: Keypoints) -> dict:
    reading = keypoints.reading
    parts = {name: getattr(reading, name).tolist() for name in ("eyes", "mouth", "head")}
    places = {name: getattr(reading, name).ravel().tolist() for name in ("anchors", "lips")}
    return {**written(keypoints), "reading": {**parts, **places}}


@pytest.mark.parametrize(
    "settings", [{}, {"strength": 0.7, "shift": 0.5, "turn": 0.5, "eyes": 1.6}, {"smoothing": 0}]
)
def test_the_same_driver_moves_the_same_rig(settings, tmp_path):
    (tmp_path / "reading.npz").write_bytes(tables.reading_file())
    avatar, frames = clip(5)[0][0], with_readings(clip(1), 3)
    settings = {**DEFAULTS, **settings}
    retargeter, driver = Retargeter(names(), settings=MotionSettings(**settings)), RigDriver(names())
    retargeter.set_avatar(avatar)
    script = """
        const {Retargeter} = await import('motion/retargeter.js');
        const {RigDriver} = await import('web/rig/driver.js');
        const {knowledgeFrom} = await import('web/rig/tracker.js');
        const retargeter = new Retargeter(told.names, told.settings);
        retargeter.setAvatar(keypoints(told.avatar));
        const driver = new RigDriver(told.names, retargeter.lids, knowledgeFrom(await open('reading.npz')));
        const floats = (values) => Float32Array.from(values);
        const seen = told.frames.map(([one, time]) => {
            const {eyes, mouth, head, anchors, lips} = one.reading;
            const reading = {eyes: eyes.map(floats), mouth: floats(mouth), head: floats(head), anchors: floats(anchors), lips: floats(lips)};
            if (retargeter.move({...keypoints(one), reading}, time) === null) return null;
            const {pose, residuals, amounts} = driver.motion(retargeter.transferred, retargeter.avatar, retargeter.settings);
            return [[pose.scale, ...pose.rotation, ...pose.shift], [...residuals], [...amounts]];
        });
        console.log(JSON.stringify({seen}));
    """
    told = {
        "names": names(),
        "settings": settings,
        "avatar": written(avatar),
        "frames": [(read(keypoints), time) for keypoints, time in frames],
    }
    shown = 0
    for (keypoints, time), seen in zip(frames, run(tmp_path, script, told)["seen"], strict=True):
        moved = retargeter.move(keypoints, time)
        assert (moved is None) == (seen is None)
        if moved is None:
            continue
        motion = driver.motion(retargeter.transferred, avatar, retargeter.settings)
        pose = motion.pose
        shown += 1
        np.testing.assert_allclose(
            seen[0], [pose.scale, *pose.rotation.ravel(), *pose.shift], atol=2e-5, err_msg=f"pose at {time}"
        )
        np.testing.assert_allclose(seen[1], motion.residuals.ravel(), atol=2e-5)
        np.testing.assert_allclose(seen[2], motion.amounts, atol=2e-5)
    assert shown > 100


def test_the_example_moves_any_avatar_and_begins_again(tmp_path):
    engine = load_engine("onnx", MODEL, precision="float32", use="detect")
    (tmp_path / "reading.npz").write_bytes(tables.reading_file())
    (tmp_path / "example.npz").write_bytes(example_file(DRIVING, engine))
    script = """
        const {Example} = await import('web/example.js');
        const {split} = await import('web/rig/pose.js');
        const {knowledgeFrom} = await import('web/rig/tracker.js');
        const knowledge = knowledgeFrom(await open('reading.npz'));
        const example = new Example(await open('example.npz'), told.names, knowledge);
        const places = knowledge.constants.amounts.NAMES;
        const avatars = told.avatars.map(keypoints);
        // Two rounds, and another avatar in the middle of a third.
        const seen = Array.from({length: 700}, (_, at) => {
            const {pose, amounts} = example.motion(avatars[at < 650 ? 0 : 1], (at * 0.04) % 12);
            return [...split(pose.rotation), amounts[places.indexOf('eyeBlinkLeft')], amounts[places.indexOf('jawOpen')]];
        });
        console.log(JSON.stringify({seen}));
    """
    avatars = [written(clip(seed)[0][0]) for seed in (5, 6)]
    seen = np.array(run(tmp_path, script, {"names": names(), "avatars": avatars})["seen"])
    assert np.isfinite(seen).all()
    # It begins at rest, turns both ways, blinks and speaks.
    assert np.abs(seen[0]).max() < 0.1
    first, second = seen[:300], seen[300:600]
    assert first[:, 1].min() < -0.2 and first[:, 1].max() > 0.2
    assert first[:, 3].max() > 0.7 and first[:, 4].max() > 0.3
    # Again, and without a jump: filters have settled, no more.
    assert np.abs(first[100:] - second[100:]).mean() < 0.02
    assert np.abs(second[0, :2] - first[-1, :2]).max() < 0.1


DRAW = """
    const {pictureFrom} = await import('web/rig/pixels.js');
    const {Rig, unpacked} = await import('web/rig/rig.js');
    const {joined} = await import('web/rig/pose.js');
    const {picture} = await open('picture.npz');
    const rig = new Rig(await unpacked(await open('rig.npz')), pictureFrom(picture));
    if (told.cut) rig.setCut(await unpacked(await open('sheets.npz')));
    const out = new Int32Array(rig.width * rig.height);
    const all = new Uint8Array(told.states.length * 4 * out.length);
    for (const [at, {scale, tilt, roll, shift, residuals, amounts}] of told.states.entries()) {
        const pose = {scale, rotation: joined(tilt[0], tilt[1], roll), shift};
        rig.draw({pose, residuals: Float64Array.from(residuals.flat()), amounts: amounts ? Float32Array.from(amounts) : null}, out, told.cut);
        all.set(new Uint8Array(out.buffer), at * 4 * out.length);
    }
    fs.writeFileSync(`${told.folder}/drawn`, all);
    console.log('{}');
"""


def drawn_by_the_page(
    folder: Path, rig: Rig, face: Face, square: Square, states: list[dict], cut: bool = False
):
    """The pictures of `states`, uint8 (N, H, W, 4)."""
    (folder / "rig.npz").write_bytes(tables.rig_file(rig, face, lossless=True))
    (folder / "sheets.npz").write_bytes(tables.sheets_file(rig, lossless=True) or b"")
    picture = rig.head._picture
    np.savez_compressed(folder / "picture.npz", picture=picture)
    run(folder, DRAW, {"states": states, "cut": cut})
    return np.fromfile(folder / "drawn", np.uint8).reshape(-1, *picture.shape[:2], 4)


def state(
    face: Face, yaw=0.0, pitch=0.0, roll=0.0, scale=1.0, shift=(0.0, 0.0), residuals=None, **values
) -> dict:
    residuals = np.zeros((len(face.names), 2)) if residuals is None else residuals
    told = {"scale": scale, "tilt": [-pitch, yaw], "roll": roll, "shift": list(shift)}
    return {**told, "residuals": residuals.tolist(), "amounts": amounts(values).tolist()}


def motion_of(told: dict) -> RigMotion:
    pose = HeadPose(told["scale"], joined(np.array(told["tilt"]), told["roll"]), np.array(told["shift"]))
    return RigMotion(pose, np.array(told["residuals"]), np.array(told["amounts"], np.float32))


def both(name: str, value: float = 1.0) -> dict[str, float]:
    return {name + "Left": value, name + "Right": value}


#: What faces do: every amount that anything is drawn by.
FACES = (
    both("eyeBlink"),
    both("eyeBlink", 0.5),
    {"eyeBlinkLeft": 1.0, "eyeLookInRight": 0.6},
    {"eyeLookInLeft": 0.8, "eyeLookOutRight": 0.8, **both("eyeLookUp", 0.3)},
    {**both("eyeWide"), **both("browOuterUp", 0.6)},
    {**both("eyeSquint"), **both("eyeLookDown", 0.8), **both("browDown")},
    {"jawOpen": 1.0},
    {"jawOpen": 0.3, "mouthFunnel": 0.7},
    {**both("mouthSmile"), "browInnerUp": 1.0},
    {"jawOpen": 0.5, "mouthSmileLeft": 0.9, "mouthDimpleRight": 0.5},
    {**both("mouthFrown"), **both("mouthStretch", 0.5), "mouthPucker": 0.4},
    {"mouthLeft": 1.0, "jawRight": 0.6, "jawOpen": 0.2, "mouthShrugLower": 0.6},
    {"cheekPuff": 1.0, "mouthRollLower": 0.7, "mouthRollUpper": 0.7, **both("mouthPress", 0.5)},
    {**both("mouthUpperUp"), **both("mouthLowerDown"), **both("noseSneer", 0.4)},
    {"tongueOut": 1.0, "jawOpen": 0.5, "mouthClose": 0.2},
    {"jawOpen": -0.7, "mouthPucker": 0.3},
    {"tongueOut": 0.5, "mouthSmileLeft": 0.6, "mouthSmileRight": 0.6, "mouthLowerDownLeft": 0.4},
)


def states_of(face: Face) -> list[dict]:
    random = np.random.default_rng(1)
    found = [
        state(face),
        state(face, yaw=0.3),
        state(face, pitch=-0.25),
        state(face, -0.35, 0.1, 0.1, 1.1, (0.05, -0.03)),
    ]
    # Turned a little, since ties are broken either way: a mouth's line in the middle of a row of pixels, a grid's line on the edge
    # of what a mouth moves.
    found += [state(face, roll=0.02 if at > 5 else 0.0, **values) for at, values in enumerate(FACES)]
    for values in FACES[::3]:
        turns, moved = random.normal(0, 0.15, 3), random.normal(0, 0.01, (len(face.names), 2))
        found.append(
            state(face, *turns, float(np.exp(turns[0] / 3)), random.normal(0, 0.04, 2), moved, **values)
        )
    return found


@cache
def flat_rig(teeth: str = "auto", narrow: float = 1.0) -> tuple[Rig, Face, Square]:
    """Of the drawn face, which is one layer over a plain background."""
    picture, contours = drawn_face()
    contours = replace(contours, mouth=replace(narrower(contours.mouth, narrow), teeth=teeth))
    size = picture.shape[0]
    landmarks = landmarks_of(contours)
    keypoints = Keypoints(
        (landmarks.points * 2 / (size - 1) - 1).astype(np.float32),
        np.tile(np.eye(2, dtype=np.float32), (len(landmarks.names), 1, 1)),
        np.ones(len(landmarks.names), np.float32),
    )
    square = Square(0, 0, size)
    face = Face(keypoints, landmarks.names, size, square, contours)
    return Rig(picture, face, square), face, square


def muzzle_rig() -> tuple[Rig, Face, Square]:
    """The same with a small mouth without lips, which opens along its line."""
    return flat_rig("none", 0.6)


@cache
def smiling_rig() -> tuple[Rig, Face, Square]:
    """The same with a mouth that shows its teeth."""
    picture, contours = smiling_face()
    _, face, square = flat_rig()
    face = replace(face, contours=contours)
    return Rig(picture, face, square), face, square


@cache
def gaping_rig() -> tuple[Rig, Face, Square]:
    """The same with a mouth that stands wide open, not drawn."""
    picture, contours = gaping_face()
    contours = replace(contours, mouth=replace(contours.mouth, teeth="own"))
    _, face, square = flat_rig()
    face = replace(face, contours=contours)
    return Rig(picture, face, square), face, square


@cache
def painted_rig() -> tuple[Rig, Face, Square]:
    """Of the bundled avatar: head, body and plate, lashes, teeth."""
    engine, avatar = load_engine("onnx", MODEL, precision="float32", use="detect"), load_avatar(AVATAR)
    contours = find(engine, avatar.original, avatar.square)
    face = Face(
        engine.detect(avatar.image), tuple(engine.keypoint_names), engine.size, avatar.square, contours
    )
    return Rig(avatar.original, face, avatar.square), face, avatar.square


@pytest.mark.parametrize("make", [flat_rig, muzzle_rig, smiling_rig, gaping_rig, painted_rig])
def test_a_rig_is_drawn_as_python_draws_it(make, tmp_path):
    rig, face, square = make()
    assert rig.eyes.layers.keys() == {"left", "right"} and rig.mouth.layers is not None
    states = states_of(face)
    out = np.empty(rig.shape, np.uint8)
    for number, (told, seen) in enumerate(
        zip(states, drawn_by_the_page(tmp_path, rig, face, square, states), strict=True)
    ):
        rig.draw(motion_of(told), out)
        off = np.abs(out.astype(int) - seen[..., :3]).max(axis=2)
        assert (off > OFF).mean() <= FEW and off.max() <= OFF_THERE and off.mean() < OFF_ON_AVERAGE, (
            f"state {number}: {(off > OFF).sum()} pixels, {off.max()} levels, mean {off.mean():.3f}"
        )
        assert seen[..., 3].min() == 255


def test_a_figure_is_cut_out_as_it_is_drawn(tmp_path):
    """Before no background at all, and premultiplied."""
    rig, face, square = painted_rig()
    states = [state(face), state(face, 0.2, -0.1, 0.05, **FACES[9])]
    open_ = Rig(rig.head._picture, face, square, background="alpha", layers=rig.head.layers)
    out = np.empty(open_.shape, np.uint8)
    for told, seen in zip(
        states, drawn_by_the_page(tmp_path, rig, face, square, states, cut=True), strict=True
    ):
        open_.draw(motion_of(told), out)
        share = out[..., 3:].astype(int)
        off = np.abs(np.dstack([out[..., :3] * share // 255, share]) - seen.astype(int)).max(axis=2)
        assert seen[:20, :20].max() == 0
        assert off.mean() < 0.3 and np.percentile(off, 99.5) <= 6


def test_recorded_states_are_drawn_as_they_were(tmp_path):
    folder = Path(__file__).parent / "reference" / "rig"
    facts = json.loads((folder / "states.json").read_text())
    picture, wanted = (
        cv2.cvtColor(cv2.imread(str(folder / name)), cv2.COLOR_BGR2RGB)
        for name in ("avatar.png", "pictures.png")
    )
    square, size = Square(*facts["square"]), 256
    scale = square.side / size
    pixels = (np.array(list(facts["landmarks"].values())) - (square.x, square.y) + 0.5) / scale - 0.5
    keypoints = Keypoints(
        (pixels * 2 / (size - 1) - 1).astype(np.float32), np.zeros((len(pixels), 2, 2), np.float32), None
    )
    face = Face(keypoints, tuple(facts["landmarks"]), size, square)
    rig = Rig(picture, face, square)
    states = []
    for told in facts["states"]:
        residuals = np.zeros((len(face.names), 2))
        residuals[["brow" in name for name in face.names], 1] = told["brows"] / face.unit(square.side)
        shift = np.array(told["shift"], float) / face.unit(square.side)
        states.append(state(face, told["yaw"], told["pitch"], told["roll"], told["scale"], shift, residuals))
        # Brows go by their amounts where there are any.
        del states[-1]["amounts"]
    for index, seen in enumerate(drawn_by_the_page(tmp_path, rig, face, square, states)):
        small = cv2.resize(seen[..., :3], (64, 64), interpolation=cv2.INTER_AREA)
        off = np.abs(small.astype(int) - wanted[:, 64 * index : 64 * (index + 1)])
        assert off.mean() < 0.5 and np.percentile(off, 99) <= 6, f"state {index}: {off.mean():.2f}"


@pytest.mark.parametrize("mirrored", [False, True])
def test_close_ups_are_cut_and_read_alike(mirrored, tmp_path):
    avatar = load_avatar(AVATAR)
    picture = avatar.original
    (tmp_path / "reading.npz").write_bytes(tables.reading_file())
    np.savez_compressed(
        tmp_path / "picture.npz", picture=np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])
    )
    close_ups = CloseUps(names())
    points = load_engine("onnx", MODEL, precision="float32", use="detect").detect(avatar.image).points
    at = [((points[names().index(name)] + 1) * 255 / 2 + 0.5) * avatar.square.side / 256 for name in PLACING]
    at = {
        name: place - 0.5 + (avatar.square.x, avatar.square.y)
        for name, place in zip(PLACING, at, strict=True)
    }
    if mirrored:
        width = picture.shape[1]
        # What is left in a mirror is right.
        other = [name.replace("left", "@").replace("right", "left").replace("@", "right") for name in PLACING]
        at = {
            name: np.array([width - 1 - at[one][0], at[one][1]])
            for name, one in zip(PLACING, other, strict=True)
        }
    maps = crop_maps(at)
    look = close_ups._look(picture, maps, mirrored)
    crops = {name: crop.copy() for name, crop in close_ups._inputs.items()}
    outputs = [one.name for one in close_ups._session.get_outputs()]
    found = dict(zip(outputs, close_ups._session.run(None, close_ups._inputs), strict=True))
    script = """
        const {cropMaps, cutCrop, readingOf} = await import('web/rig/closeups.js');
        const {knowledgeFrom} = await import('web/rig/tracker.js');
        const {constants} = knowledgeFrom(await open('reading.npz'));
        const {picture} = await open('picture.npz');
        const [height, width] = picture.shape;
        const maps = cropMaps(told.at, constants.close_ups);
        const cut = maps.map((map, at) => {
            const side = told.sides[at];
            const out = new Uint8Array(side * side * 3);
            const placed = told.mirrored ? map.map((value, place) => place < 2 ? -value : place === 2 ? width - 1 - value : value) : map;
            cutCrop({pixels: picture.values, width, height}, placed, side, constants.close_ups.ALIASED, out);
            return [...out];
        });
        const outputs = Object.fromEntries(Object.entries(told.found).map(([name, values]) => [name, {data: Float32Array.from(values)}]));
        const {eyes, mouth, head, anchors, lips} = readingOf(outputs, maps, constants);
        console.log(JSON.stringify({maps, cut, eyes: eyes.map((one) => [...one]), mouth: [...mouth], head: [...head], anchors: [...anchors], lips: [...lips]}));
    """
    told = {
        "at": [at[name].tolist() for name in PLACING],
        "sides": [len(crop) for group in crops.values() for crop in group],
        "mirrored": mirrored,
        "found": {name: values.ravel().tolist() for name, values in found.items()},
    }
    seen = run(tmp_path, script, told)
    np.testing.assert_allclose(seen["maps"], [one.ravel() for one in maps], atol=1e-6)
    for own, crop in zip(seen["cut"], (crop for group in crops.values() for crop in group), strict=True):
        off = np.abs(np.array(own).reshape(crop.shape) - crop.astype(int))
        assert off.max() <= 4 and off.mean() < 0.5
    for name in ("eyes", "mouth", "head"):
        np.testing.assert_allclose(seen[name], getattr(look.reading, name), atol=1e-5)
    np.testing.assert_allclose(np.reshape(seen["anchors"], (-1, 2)), look.anchors, atol=1e-3)
    np.testing.assert_allclose(np.reshape(seen["lips"], (-1, 2)), look.reading.lips, atol=1e-3)


def test_large_faces_are_cut_without_aliasing(tmp_path):
    random = np.random.default_rng(2)
    picture = cv2.GaussianBlur(random.integers(0, 256, (700, 900, 4), np.uint8), (0, 0), 1.5)
    np.savez_compressed(tmp_path / "picture.npz", picture=picture)
    maps = [
        np.array([[s, 0.1 * s, x], [-0.1 * s, s, y]])
        for s, x, y in ((300, 400, 350), (90, 60, 650), (45, 300, 300))
    ]
    script = """
        const {cutCrop} = await import('web/rig/closeups.js');
        const {picture: {shape: [height, width], values}} = await open('picture.npz');
        const cut = told.maps.map((map) => {
            const out = new Uint8Array(64 * 64 * 3);
            cutCrop({pixels: values, width, height}, map, 64, told.aliased, out);
            return [...out];
        });
        console.log(JSON.stringify({cut}));
    """
    seen = run(tmp_path, script, {"maps": [one.ravel().tolist() for one in maps], "aliased": ALIASED})
    for own, affine in zip(seen["cut"], maps, strict=True):
        crop = cut_crop(np.ascontiguousarray(picture[..., :3]), affine, 64)
        off = np.abs(np.array(own).reshape(crop.shape) - crop.astype(int))
        assert off.max() <= 6 and off.mean() < 0.6
