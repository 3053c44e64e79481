"""Everything that drawing an avatar's rig takes, as arrays: what has to be worked out once is worked out here, so that
whoever draws elsewhere (the page in the browser) only has to do what is done per frame.
"""

from __future__ import annotations

import json
from typing import Any

import cv2
import numpy as np

from livepuppet.core import reading
from livepuppet.core.files import npz_bytes
from livepuppet.realtime.rig import (
    amounts,
    blendshapes,
    brows,
    close_ups,
    driver,
    eyes,
    head,
    mouth,
    pose,
    range,
    surface,
)
from livepuppet.realtime.rig.eyes import EyeLayers
from livepuppet.realtime.rig.head import Head, own_sheets
from livepuppet.realtime.rig.mouth import MouthLayers
from livepuppet.realtime.rig.rig import Face, Rig
from livepuppet.realtime.rig.template import head_template

#: Of the format. Whoever reads another refuses it.
VERSION = 5

#: Bytes from which on colours are lossy, and their quality, from 0 to 100.
LARGE, QUALITY = 200_000, 92


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


#: Names of what is taken as it is; an underscore in front of them is left out.
_EYE_NUMBERS = _names(
    "width tall radius left top iris_x iris_y iris_v before_iris soft rigid gives_way_above gives_way_below rise squint to_right to_left turn_right turn_left to_up "
    "to_down has_white leaves lashes_come dims bares line stiff has_front along down _aside _ball_at _low_rows _up_rows _lash_rows_at _front_rows"
)
_EYE_PLANES = _names(
    "v up low closed arch within cover _mask under aside front steep lash_x line_tall between tapers room follow follow_arch _turns"
)
_EYE_COLOURS = _names("crop skin lashes upper_lid lower_lid")
_MOUTH_NUMBERS = _names(
    "width half left top block chin unit drop tongue_length gap soft drawn outlined plain own shuts shows_teeth _hides_teeth "
    "_chin_share _above _sag _smile _level _slant _teeth_line _far _span _small _tilt _stands _pucker _seam _toothless along down origin lip line teeth "
    "dark flesh shadow tongue tongue_out"
)
_MOUTH_TABLES = _names("_rest fields _lines _lip_colours teeth_end inside")

#: Numbers of modules that drawing uses, and of those that reading the driver does.
_DRAWING = {
    head: "FURTHEST STRIP REACHES AROUND WITHIN FACE_INVERSION HALFWAY STILL",
    surface: "SMALL_TILT LARGEST_TILT DISTANCE LARGE BODY INVERSION LEAST_SIZE LARGEST_STEP",
    eyes: "NOTHING ALIKE _STEP _ONSET SHADE GLINT UP_UNDER",
    brows: "INNER_TO_OUTER OUTER_TO_INNER WIDE OUTER_DOWN TOGETHER",
    mouth: "NOTHING LEAST_SLOPE SMILE STRETCH FROWN FUNNEL TONGUE HANG OVERBITE LOWER_BARED FILLED PRESS ASIDE_UP PUFF JAW_ASIDE PARTS_OPEN PARTS_BARED PARTS_FUNNEL PARTS_TONGUE PARTS_BEGIN FAR_STAYS MOVES MOVED FIELDS LENSES",
}
_READING = {
    driver: "REST_CUTOFF CUTOFF_PER_SPEED SPEED_CUTOFF AMOUNT_REST AMOUNT_RISE AMOUNT_SPEED AMOUNT_GUARD HOLDS RELEASE GIVES_WAY HELD",
    pose: "NOISE OUTLIER CLOSE_TILT CLOSE_TURN_GAIN CLOSE_NOD_GAIN ANCHOR_WEIGHTS BESIDE_ANCHORS ANCHOR_REACH STILL_TURNS STILL_NODS "
    "ROUNDS STILL_ROUNDS LARGEST_STEP NEEDED WEIGHTS",
    range: "BEGINS ENDS LONGEST SHALLOWEST BOTH REMEMBERED WHOLE LEAST FRAMES FIRST EVERY QUIET MOST_NOISE USUALLY SMILED OVER STRONG "
    "MISREAD BEFORE MOST EASES",
    amounts: "NAMES CALM LEARNT USUAL CLOSE_SHUT_AT CLOSE_BLINK_GAIN CLOSE_SIDEWAYS CLOSE_VERTICAL CLOSE_DOWN_OPEN CLOSE_DOWN_LOWERED CLOSE_ARCH CLOSE_OWN_GAZE CLOSE_CROSSED "
    "CLOSE_BEHIND_LID CLOSE_ASIDE CLOSE_ASIDE_CALM CLOSE_LIKE_NOSE CLOSE_TURNED SHAPE CLOSE_OPEN CLOSE_GAP CLOSE_BARED CLOSE_CALM CLOSE_TONGUE_CALM CLOSE_FIT_CALM CLOSE_SMALLEST _CLOSE_GAIN "
    "CLOSE_GRIN CLOSE_GRIN_ENDS CLOSE_WINK CLOSE_BOTH_SHUT CLOSE_LIDS_TURNED CLOSE_LIDS_ALIKE CLOSE_BROW_UP CLOSE_BROW_DOWN CLOSE_BROW_IN CLOSE_BROW_NODDED CLOSE_PLACE_CALM CLOSE_BROW_SHUT CLOSE_BROW_KEPT CLOSE_BROW_TURNED "
    "_LOWEST _HIGHEST",
    blendshapes: "POINT_NOISE AMOUNT_NOISE LEAST MOST STEPS",
    close_ups: "EYE_SIDE MOUTH_SIDE HEAD_SIDE HEAD_FALL EYE_RISE PLACING ALIASED _ANCHOR_ROWS _BROW_ROWS",
    reading: "EYE_AMOUNTS MOUTH_AMOUNTS HEAD_AMOUNTS HEAD_MEASURES",
}


def rig_file(rig: Rig, face: Face, lossless: bool = False) -> bytes:
    """Everything that drawing this avatar takes, its picture apart: an `.npz` with NumPy's arrays.

    Of those `told` is JSON. Planes of numbers are uint16, `told["scales"]` has what is to be added and their step. Colours of layers are WebP
    pictures ("plate.webp"), and their alpha lies beside ("sheet 0 alpha").

    Args:
        rig: in mode `on`, before its picture's own background.
        face: that it was made of.
        lossless: colours are arrays.
    """
    return _npz(*rig_tables(rig, face), lossless)


def rig_tables(rig: Rig, face: Face) -> tuple[dict[str, np.ndarray], dict]:
    """The arrays of `rig_file` before they are packed, and what it tells beside them."""
    assert rig.head is not None
    arrays, told = _head(rig.head)
    told |= {"version": VERSION, "constants": _constants(_DRAWING), "names": amounts.NAMES, "unit": rig._unit}
    told["keypoints"] = {"points": face.keypoints.points, "jacobians": face.keypoints.jacobians}
    told["eyes"], told["mouth"] = {}, None
    told["still"] = rig._eyes, rig._brow_rows
    if rig.eyes is not None:
        for side, layers in rig.eyes.layers.items():
            planes, told["eyes"][side] = _eye(layers)
            told["eyes"][side]["strength"] = rig.eyes._strength.get(side, 1.0)
            arrays |= {f"{side} {name}": plane for name, plane in planes.items()}
    if rig.mouth is not None and rig.mouth.layers is not None:
        planes, told["mouth"] = _mouth(rig.mouth.layers)
        told["mouth"]["strength"] = rig.mouth._strength
        arrays |= {f"mouth {name}": plane for name, plane in planes.items()}
    told["brows"] = {"upright": rig._brows._upright, "down": rig._brows._down}
    arrays |= {f"{side} brow": planes for side, planes in rig._brows._planes.items()}
    return arrays, told


def sheets_file(rig: Rig, lossless: bool = False) -> bytes | None:
    """What moves where another background, or none, is behind the figure: the sheets of `rig_file` with the figure's own colours,
    premultiplied, and all of it at rest; None where no figure stands out.
    """
    arrays = sheets_tables(rig)
    return None if arrays is None else _npz(arrays, {"version": VERSION}, lossless)


def sheets_tables(rig: Rig, colours: np.ndarray | None = None) -> dict[str, np.ndarray] | None:
    """The arrays of `sheets_file` before they are packed.

    Args:
        colours: the figure's own, uint8 RGB (H, W, 3), where they are known.
    """
    assert rig.head is not None
    layers = rig.head.layers
    if layers.matte is None:
        return None
    sheets = own_sheets(rig.head._picture, layers, colours)
    arrays = {f"sheet {number}": _premultiplied(*sheet) for number, sheet in enumerate(sheets)}
    arrays["rest"] = _premultiplied(sheets[-1][0], layers.matte)
    return arrays


def _premultiplied(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = cv2.cvtColor(alpha, cv2.COLOR_GRAY2RGB)
    return np.dstack([cv2.multiply(colours, share, scale=1 / 255), alpha])


def reading_file() -> bytes:
    """Everything that reading a driver's face takes, in the same form."""
    template = head_template()
    told = {"version": VERSION, "constants": _constants(_READING), "landmarks": template.landmarks}
    told["constants"]["fitted"] = amounts.fitted()
    shapes = blendshapes.mouth_blendshapes()
    told["blendshapes"] = {"moves": shapes.moves, "depth": shapes.depth}
    told["constants"]["sizes"] = close_ups.CloseUps(close_ups.PLACING).sizes
    return _npz(
        {"points": template.points.astype(np.float32), "normals": template.normals.astype(np.float32)},
        told,
        None,
    )


def _head(drawn: Head) -> tuple[dict[str, np.ndarray], dict]:
    own = drawn.surface
    arrays: dict[str, np.ndarray] = {}
    if drawn._plate is not None:
        arrays["plate"] = drawn._plate
    for number, sheet in enumerate(drawn._sheets):
        arrays[f"sheet {number} head"] = sheet.surface.head
        arrays[f"sheet {number} turning"] = sheet.surface.turning
        for edge, pin in enumerate(sheet.surface.pins):
            if pin is not None:
                arrays[f"sheet {number} pin {edge}"] = pin
        arrays[f"sheet {number} outline"] = sheet.surface.outline
        if not sheet.whole:
            arrays[f"sheet {number}"] = sheet.still
    arrays["body"] = own.body
    told = {
        "shape": own.shape,
        "cell": own.cell,
        "centre": own.centre,
        "pivot": own.pivot,
        "eyes_apart": own.unit,
        "sheets": len(drawn._sheets),
        "parts": drawn._parts,
        "widths": drawn._widths,
    }
    arrays["fields"] = drawn._fields
    return arrays, told


def _eye(layers: EyeLayers) -> tuple[dict[str, np.ndarray], dict]:
    arrays = {name.lstrip("_"): getattr(layers, name) for name in (*_EYE_PLANES, *_EYE_COLOURS)}
    if layers.has_white:
        arrays |= {name.lstrip("_"): getattr(layers, name) for name in ("_white_ball", "iris")}
        if layers.has_glint:
            arrays["glint"] = layers._glint
    else:
        arrays["ball"] = layers.ball
    arrays["still_upper"], arrays["still_lower"] = layers._still_lids
    arrays["cover_upper"], arrays["cover_lower"] = layers._covers
    told = {name.lstrip("_"): getattr(layers, name) for name in _EYE_NUMBERS}
    told["iris_size"] = layers.iris_size if layers.has_white else 0
    return arrays, told


def _mouth(layers: MouthLayers) -> tuple[dict[str, np.ndarray], dict]:
    arrays = {name.lstrip("_"): getattr(layers, name) for name in _MOUTH_TABLES}
    told = {name.lstrip("_"): getattr(layers, name) for name in _MOUTH_NUMBERS}
    lattice = layers._lattice
    told |= {"crop": layers.crop.shape[:2], "lattice": [lattice.left, lattice.top]}
    told["middle"] = layers._line
    told["nodes"] = [mouth.NODES[0], mouth.NODES[-1], len(mouth.NODES)]
    for name, row in (("upper", layers._upper_teeth), ("lower", layers._lower_teeth)):
        arrays |= {f"{name}_row": row.layer, f"{name}_row_shaded": row.shaded}
        told[f"{name}_row"] = [row.middle, row.edge]
    if layers.folds is not None:
        arrays |= {"folds": layers.folds, "unfolds": layers.unfolds}
        told |= {
            "fold_colours": layers.fold_colours,
            "fold_start": layers.fold_start,
            "fold_step": layers.fold_step,
        }
    if layers.plain:
        arrays["fringe_upper"], arrays["fringe_lower"] = layers._fringes
    return arrays, told


def _constants(modules: dict[Any, str]) -> dict:
    return {
        module.__name__.rpartition(".")[2]: {
            name.lstrip("_"): getattr(module, name) for name in names.split()
        }
        for module, names in modules.items()
    }


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, slice):
        return [int(value.start), int(value.stop)]
    raise TypeError(type(value))


def _npz(arrays: dict[str, np.ndarray], told: dict, lossless: bool | None) -> bytes:
    """See `rig_file`; None keeps arrays as they are."""
    kept: dict[str, np.ndarray] = {}
    scales = {}
    for name, array in arrays.items():
        if lossless is None:
            kept[name] = array
        elif array.dtype == np.uint8:
            kept |= {name: array} if lossless or array.size < LARGE else _webp(name, array)
        elif name.startswith("mouth "):
            # Where lips squeeze the skin between them and the nose, they magnify what is off.
            kept[name] = array.astype(np.float32)
        else:
            # Whole steps that are no finer than can be seen: they take half the room of the finest. Zero stays zero.
            low, high = float(array.min()), float(array.max())
            step = max((high - low) / 65500, 1 / 256 if high - low > 16 else 1e-9)
            first = int(np.floor(low / step))
            scales[name] = [first, step]
            kept[name] = _differences((np.rint(array / step) - first).astype("<u2"))
    kept["told"] = np.frombuffer(json.dumps({**told, "scales": scales}, default=_plain).encode(), np.uint8)
    return npz_bytes(kept)


def _differences(numbers: np.ndarray) -> np.ndarray:
    """What each of these uint16 (..., N) adds to the one before it, modulo 2^16: uint8 (2, ..., N), lower and upper bytes, which are mostly
    small, and pack well.
    """
    steps = np.ascontiguousarray(np.diff(numbers, axis=-1, prepend=np.uint16(0)).astype("<u2"))
    return np.ascontiguousarray(np.moveaxis(steps.view(np.uint8).reshape(*steps.shape, 2), -1, 0))


def _webp(name: str, picture: np.ndarray) -> dict[str, np.ndarray]:
    """Colours of `picture` uint8 (H, W, 3 or 4) as WebP, and its alpha, which is not lossy."""
    colours = cv2.cvtColor(np.ascontiguousarray(picture[..., :3]), cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".webp", colours, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    assert done
    found = {f"{name}.webp": data.ravel()}
    return found if picture.shape[2] == 3 else {**found, f"{name} alpha": picture[..., 3]}
