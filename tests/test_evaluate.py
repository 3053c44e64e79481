"""The benchmarks of quality, on models whose faults are known: an oracle, one that copies, one that blurs."""

import json

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_model import SIZE, small_model

from livepuppet.model import checkpoint
from livepuppet.model.geometry import make_grid, warp
from livepuppet.model.lite import LANDMARKS
from livepuppet.realtime.app.cli import main
from livepuppet.train.cli import evaluate_faces
from livepuppet.train.cli.evaluate_faces import extremes
from livepuppet.train.metrics.faces.clips import face_clip
from livepuppet.train.metrics.faces.following import by_keypoint, follow, pooled
from livepuppet.train.metrics.faces.reconstruction import mouth_opening
from livepuppet.train.metrics.faces.stability import faceless, shuffled, still_drift
from livepuppet.train.metrics.faces.summary import clip_metrics
from livepuppet.train.metrics.inference import to_batch
from livepuppet.train.metrics.responses import FREE, at_rest, draw_probes, flow_at, grouped, responses
from livepuppet.train.metrics.score import WEIGHTS, faces_score, score_model
from livepuppet.train.puppets.clips import neutral, supersampled, write_clip
from livepuppet.train.puppets.identities import draw_identities, generator
from livepuppet.train.sheets.probes import probe_sheet
from livepuppet.train.sheets.tiles import tiled

FACTORS = ("yaw", "smile", "blink", "brow")
PIXELS = 96


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def probes():
    torch.set_num_threads(1)
    return draw_probes(2, 5, PIXELS, (*FACTORS, FREE))


def key(image):
    return hash(image.numpy().tobytes())


class Fake:
    """What the measures ask of a model, without networks."""

    class preset:
        keypoint_names = LANDMARKS

    training = False

    def modules(self):
        return []

    def eval(self):
        return self

    def encode(self, image):
        return {"picture": image}


class Oracle(Fake):
    """Knows every puppet of the probes: its exact keypoints, and the image that belongs to given ones."""

    def __init__(self, probes):
        self.known = {}
        for probe in probes:
            for images, points in (
                (probe.source, probe.points),
                (probe.truth, probe.points_after),
                (probe.driver, probe.driver_points),
                (probe.driver_after, probe.driver_points_after),
            ):
                for one, found in zip(images, points, strict=True):
                    self.known[key(one)] = found
        self.avatars = [
            (probe.source[k : k + 1], probe.truth[k : k + 1], probe.points_after[k])
            for probe in probes
            for k in range(len(probe.source))
        ]

    def detect(self, image):
        points = self.known[key(image[0])][None]
        return points, torch.eye(2).expand(1, points.shape[1], 2, 2)

    def image(self, features, source_points, driving_points):
        """The truth of this avatar whose keypoints are nearest, or the avatar."""
        source = features["picture"]
        choices = [(source, source_points[0])]
        choices += [(truth, points) for one, truth, points in self.avatars if torch.equal(one, source)]
        return min(choices, key=lambda choice: (choice[1] - driving_points[0]).abs().sum())[0]

    def render(self, features, source_points, _, driving_points, __):
        shown = self.image(features, source_points, driving_points)
        return {"prediction": shown, "warped": shown}


class Copying(Oracle):
    """Nothing ever moves, its keypoints neither."""

    def detect(self, image):
        return torch.zeros(1, 16, 2), torch.eye(2).expand(1, 16, 2, 2)

    def render(self, features, *_):
        still = make_grid(24, 24)[None]
        return {"prediction": features["picture"], "warped": features["picture"], "deformation": still}


class Blurring(Oracle):
    def render(self, *arguments):
        shown = super().render(*arguments)["prediction"]
        return {"prediction": F.avg_pool2d(F.pad(shown, (2, 2, 2, 2), mode="replicate"), 5, 1)}


# --------------------------------------------------------------------------------------------------------------- puppets


def test_an_oracle_shows_everything_and_a_copy_nothing(probes):
    right, none = responses(Oracle(probes), probes), responses(Copying(probes), probes)
    for factor in FACTORS:
        for name in ("self", "cross", "warp", "keypoint slope", "explained"):
            assert right[factor][name] == pytest.approx(1, abs=1e-4), (factor, name)
            assert none[factor][name] == pytest.approx(0, abs=1e-4), (factor, name)
        assert right[factor]["l1"] == 0 and none[factor]["l1"] == none[factor]["copy"] > 0
        assert none[factor]["flow px"] == pytest.approx(none[factor]["still px"], abs=0.02)
    assert grouped(right) == pytest.approx({"head": 1, "mouth": 1, "eyes": 1})
    assert grouped({"blink": {"cross": 3.0}, "gaze": {"cross": -1.0}}) == {"eyes": 0.5}


def test_the_true_flow_is_a_ceiling_near_one_where_nothing_is_uncovered(probes):
    table = responses(Copying(probes), probes)
    # An opened lid uncovers nothing when it shuts; a turned head uncovers a cheek.
    for factor in ("smile", "blink", "brow"):
        assert 0.8 < table[factor]["true flow"] < 1.1, factor
        assert table[factor]["true flow l1"] < table[factor]["copy"]
    assert table["yaw"]["true flow"] > 0.4


def test_keypoints_that_cannot_be_seen_do_not_count(probes):
    blink = next(probe for probe in probes if probe.factor == "blink")
    irises = [LANDMARKS.index("left iris"), LANDMARKS.index("right iris")]
    assert (blink.seen[:, irises] == 0).all()
    assert (blink.seen[:, LANDMARKS.index("nose tip")] == 1).all()


def test_a_deformation_is_asked_at_single_places():
    shift = torch.tensor([0.25, -0.1])
    places = torch.tensor([[[0.0, 0.0], [0.5, -0.5]]])
    assert torch.allclose(flow_at(make_grid(16, 16)[None] + shift, places), places + shift, atol=1e-5)


def test_a_blurring_model_is_not_as_sharp_as_the_avatar(probes):
    source = probes[0].source
    kept, blurred = at_rest(Oracle(probes), source), at_rest(Blurring(probes), source)
    assert len(kept) == 2
    for one, other in zip(kept, blurred, strict=True):
        assert one["levels"] == 0 and one["sharpness"] == pytest.approx(1)
        assert other["levels"] > 0.5 and other["sharpness"] < 0.5 and other["trembling sharpness"] < 0.5


def test_trembling_keypoints_are_told_from_none(probes):
    class Shaking(Oracle):
        """Goes soft as soon as a keypoint is not where it was."""

        def render(self, features, source_points, _, driving_points, __):
            soft = F.avg_pool2d(F.pad(features["picture"], (1, 1, 1, 1), mode="replicate"), 3, 1)
            moved = bool((source_points != driving_points).any())
            return {"prediction": soft if moved else features["picture"]}

    row = at_rest(Shaking(probes), probes[0].source)[0]
    assert row["sharpness"] == pytest.approx(1) and row["trembling sharpness"] < 0.6
    assert row["levels"] == 0 < row["trembling levels"]


def test_the_score_prefers_what_moves_rightly_and_stays_sharp(probes):
    right, none, soft = (score_model(kind(probes), probes) for kind in (Oracle, Copying, Blurring))
    assert right.total == pytest.approx(1, abs=1e-3) and right.faces is None
    rest = {name: weight for name, weight in WEIGHTS.items() if name != "faces"}
    assert none.total == pytest.approx(WEIGHTS["sharpness"] / sum(rest.values()), abs=1e-3)
    assert soft.sharpness < 0.6 and none.total < soft.total < right.total
    assert right.details["blink"] == pytest.approx(1)


def test_the_sheet_has_a_column_per_factor(probes):
    sheet = probe_sheet(Copying(probes), probes, 1)
    assert sheet.shape == (7 * 178 - 2, 5 * 178 - 2, 3)


# ----------------------------------------------------------------------------------------------------------------- faces

WANDER = [round(9 * np.sin(t / 4)) for t in range(32)], [round(5 * np.cos(t / 3)) for t in range(32)]


@pytest.fixture(scope="module")
def clip():
    """A puppet's image shifted by whole pixels from frame to frame."""
    torch.set_num_threads(1)
    image = supersampled(draw_identities(1, generator(4)), neutral(), 160)
    rng = np.random.default_rng(0)
    # A wall without texture says nothing of motion.
    image = (image * 0.8 + 40 * rng.random((160, 160, 1))).astype(np.uint8)
    return np.stack([image[24 + y : 136 + y, 24 + x : 136 + x] for x, y in zip(*WANDER, strict=True)])


class Tracker(Fake):
    """Knows where the image went; its keypoints go `share` of the way."""

    def __init__(self, frames, share=1.0):
        self.place = {
            key(to_batch(frame[None])): torch.tensor([-float(x), -float(y)])
            for frame, x, y in zip(frames, *WANDER, strict=True)
        }
        self.share, self.half = share, (frames.shape[1] - 1) / 2
        rest = torch.linspace(-0.4, 0.4, 4)
        self.rest = torch.stack(torch.meshgrid(rest, rest, indexing="xy"), -1).reshape(16, 2)

    def detect(self, image):
        places = [self.place.get(key(one), torch.zeros(2)) for one in image.split(1)]
        points = torch.stack([self.rest + self.share * place / self.half for place in places])
        return points, torch.eye(2).expand(*points.shape, 2)

    def render(self, features, source_points, _, driving_points, __):
        shift = (source_points - driving_points).mean(1)[:, None, None]
        side = features["picture"].shape[-1]
        grid = make_grid(side, side)[None] + shift
        moved = warp(features["picture"], grid, "border")
        return {"prediction": moved, "warped": moved, "deformation": make_grid(28, 28)[None] + shift}


def test_motion_of_known_pixels_is_followed(clip):
    pairs = face_clip("moving", clip, 12)
    assert pairs.moves and pairs.back_agrees[:, 56, 56].mean() > 0.9
    good = pooled([follow(Tracker(clip), pairs)])
    for name in ("", "single "):
        for axis in "xy":
            assert good[f"{name}correlation {axis}"] > 0.97
            assert good[f"{name}slope {axis}"] == pytest.approx(1, abs=0.05)
    assert good["flow error px"] < 0.15 * good["no motion px"]
    half = pooled([follow(Tracker(clip, 0.5), pairs)])
    assert half["slope x"] == pytest.approx(0.5, abs=0.05) and half["correlation x"] > 0.97
    frozen = pooled([follow(Tracker(clip, 0.0), pairs)])
    assert frozen["slope x"] == frozen["correlation y"] == 0
    assert frozen["flow error px"] == pytest.approx(frozen["no motion px"], rel=0.01)
    assert faces_score(good) > 0.9 > 0.75 > faces_score(half) > faces_score(frozen)


def test_each_keypoint_is_told_apart(clip):
    class OneFrozen(Tracker):
        def detect(self, image):
            points, jacobians = super().detect(image)
            points[:, 3] = self.rest[3]
            return points, jacobians

    table = by_keypoint([follow(OneFrozen(clip), face_clip("moving", clip, 8))])
    assert table[LANDMARKS[3]]["slope x"] == 0 and table[LANDMARKS[2]]["slope x"] > 0.9


def test_a_clip_that_holds_still_does_not_count_as_moving(clip):
    still = face_clip("still", np.repeat(clip[:1], 8, 0), 4)
    assert not still.moves
    row = clip_metrics(Tracker(clip), still, follow(Tracker(clip), still), 4)
    assert "better than no motion" not in row and row["moves"] is False
    assert row["still wander px"] == 0


def test_still_keypoints_do_not_wander_and_trembling_ones_do():
    flow = np.zeros((9, 64, 64, 2), np.float32)
    points = np.zeros((10, 16, 2))
    points[::2, :, 0] = 0.5
    assert still_drift(points, flow) == pytest.approx(0.5)
    assert still_drift(points * 0, flow) == 0
    assert still_drift(points, flow + 3) is None


class Lips(Fake):
    """Renders the driving frame (`gain` 1) or the source (0); looks keypoints up by the frame's mean."""

    def __init__(self, gain):
        self.gain = gain

    def detect(self, image):
        points = torch.zeros(len(image), 16, 2)
        for name, x in (("left mouth corner", -0.3), ("right mouth corner", 0.3)):
            points[:, LANDMARKS.index(name), 0] = x
        # The keypoints carry the frame along.
        points[:, 0, 0] = image.mean((1, 2, 3))
        self.seen = image
        return points, torch.eye(2).expand(*points.shape, 2)

    def render(self, features, *_):
        shown = torch.lerp(features["picture"], self.seen, self.gain)
        return {"prediction": shown, "warped": shown}


def test_what_is_shown_of_an_opening_mouth_is_measured():
    frames = np.full((12, 64, 64, 3), 180, np.uint8)
    points = np.zeros((12, 16, 2))
    points[:, LANDMARKS.index("right mouth corner"), 0] = 20
    for t in range(6, 12):
        frames[t, 32 - t : 32 + t, 24:40] = 20
        points[t, LANDMARKS.index("lower lip"), 1] = 2 * t
    for gain in (0.0, 0.5, 1.0):
        row = mouth_opening(Lips(gain), frames, points)
        assert row["open mouth response"] == pytest.approx(gain, abs=1e-3)
    assert row["lip gap px"] > 15
    points[:, LANDMARKS.index("lower lip")] *= 0.2
    assert "open mouth response" not in mouth_opening(Lips(1.0), frames, points)


def test_shuffled_tiles_keep_the_colours_and_lose_the_face(clip):
    mixed = shuffled(clip[0])
    assert mixed.shape == clip[0].shape and np.abs(mixed.astype(int) - clip[0]).mean() > 5
    assert np.array_equal(np.sort(mixed.ravel()), np.sort(clip[0].ravel()))
    assert faceless(32).shape == (6, 32, 32, 3)


def test_moments_worth_showing_are_the_extreme_ones():
    rest = np.zeros((40, 16, 2))
    for name, place in {
        "left upper lid": (-0.3, -0.25),
        "left lower lid": (-0.3, -0.15),
        "right upper lid": (0.3, -0.25),
        "right lower lid": (0.3, -0.15),
        "left mouth corner": (-0.2, 0.4),
        "right mouth corner": (0.2, 0.4),
        "upper lip": (0.0, 0.39),
        "lower lip": (0.0, 0.41),
        "chin": (0.0, 0.7),
        "nose tip": (0.0, 0.1),
        "left brow": (-0.3, -0.4),
    }.items():
        rest[:, LANDMARKS.index(name)] = place
    rest[12, LANDMARKS.index("lower lip"), 1] = 0.7
    rest[30, [LANDMARKS.index("left upper lid"), LANDMARKS.index("right upper lid")], 1] = -0.15
    rest[20, LANDMARKS.index("nose tip"), 0] = 0.2
    found = {moment.why: moment.number for moment in extremes(rest, LANDMARKS)}
    assert found["eyes shut"] == 30 and found["mouth open"] == 12
    assert 20 in {moment.number for moment in extremes(rest, LANDMARKS)}
    assert len(extremes(rest, ())) == 8


def test_tiles_leave_gaps_white():
    sheet = tiled([[np.zeros((8, 8, 3), np.uint8), None]], side=4, line=2)
    assert sheet.shape == (4, 10, 3) and sheet[:, :4].max() == 0 and sheet[:, 4:].min() == 255


# --------------------------------------------------------------------------------------------------------------- people


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Weights in small, a clip beside a broken one, and an avatar beside a broken one."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("evaluate")
    checkpoint.save(small_model(), folder / "small.safetensors")
    people, images = draw_identities(2, generator(6)), folder / "pictures"
    (folder / "clips").mkdir()
    images.mkdir()
    face = supersampled(people[:1], neutral(), 80)
    write_clip(folder / "clips" / "one.mp4", (face[t : 64 + t, t : 64 + t] for t in range(10)), 25)
    (folder / "clips" / "broken.mp4").write_text("no video")
    cv2.imwrite(str(images / "good.png"), supersampled(people[1:], neutral(), SIZE))
    (images / "broken.png").write_text("no image")
    return folder


def test_faces_are_measured_and_drawn_and_broken_files_named(folders, tmp_path, capsys):
    given = ["--faces", folders / "clips", "--avatars", folders / "pictures", "--sheet", tmp_path / "s.png"]
    given += ["--videos", tmp_path / "videos", "--every", "3", "--json", tmp_path / "f.json"]
    main(["evaluate", str(folders / "small.safetensors"), *map(str, given)])
    said = capsys.readouterr()
    assert "all clips' pairs together" in said.out and "confidence without a face" in said.out
    sentences = [line for line in said.err.splitlines() if line.startswith("skipped: ")]
    assert len(sentences) == 2 and all("broken" in line for line in sentences)
    facts = json.loads((tmp_path / "f.json").read_text())["faces"]
    main(["evaluate", "--table", str(tmp_path / "f.json")])
    printed = capsys.readouterr().out
    assert "| one.mp4 |" in printed and "| small.safetensors |" in printed and "| nose tip |" in printed
    assert facts["clips"]["one.mp4"]["moves"] is True and facts["skipped"] == 2
    sheet = cv2.imread(str(tmp_path / "s-one.png"))
    assert sheet.shape[0] == 2 * 178 - 2 and sheet.shape[1] >= 3 * 178 - 2
    clip = cv2.VideoCapture(str(tmp_path / "videos" / "one.mp4"))
    assert clip.get(cv2.CAP_PROP_FRAME_COUNT) == 4 and clip.get(cv2.CAP_PROP_FRAME_WIDTH) == 2 * 194 - 2


def test_avatars_come_back_and_the_score_is_one_line(folders, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(evaluate_faces, "SCORED", 1)
    weights = str(folders / "small.safetensors")
    main(["evaluate", weights, "--avatars", str(folders / "pictures"), "--sheet", str(tmp_path / "a.png")])
    said = capsys.readouterr()
    assert "good.png" in said.out and "trembling" in said.out and "broken.png" in said.err
    assert cv2.imread(str(tmp_path / "a.png")).shape == (3 * 178 - 2, 176, 3)
    main(["evaluate", weights, "--score", "--setting", "plain", "--faces", str(folders / "clips")])
    assert capsys.readouterr().out.startswith("score 0.")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--faces", "nowhere"], "There is no folder nowhere"),
        (["--faces", "empty"], "empty"),
        (["--avatars", "nowhere"], "nowhere"),
        (["--setting", "purple"], "There is no setting purple"),
        (["--videos", "v"], "--videos needs --faces and --avatars"),
    ],
)
def test_what_is_missing_is_said_in_one_sentence(folders, tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", str(folders / "small.safetensors"), *arguments])
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and sentence in said and "Traceback" not in said
