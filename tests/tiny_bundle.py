"""A bundle written by hand: the three calls in a few ONNX nodes, for tests of everything around the model.

`detect` reads the mean red and green of the picture's left half as a shift of four keypoints; `render` brightens the avatar by how far
the keypoints went to the right, and tells of a deformation that shifts everything by their mean movement. So a clip that turns red moves the avatar, by an amount that can be computed.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

SIZE = 64
POINTS = np.array([[-0.4, -0.4], [0.4, -0.4], [0.4, 0.4], [-0.4, 0.4]], np.float32)
#: Keypoints move by this much for a full red (x) or green (y) picture; a level of brightness per unit of movement.
SHIFT, GAIN = 0.5, 200.0


#: Side of the deformation's grid.
GRID = 8


def write_bundle(folder: Path, confidence: float | None = 0.9, deformation: bool = True) -> Path:
    """Make the bundle in `folder` and return it.

    Args:
        confidence: of every keypoint of every picture; None leaves the output out, as older bundles do.
        deformation: False leaves that output out, as older bundles do.
    """
    from onnx import TensorProto as Type
    from onnx import helper, numpy_helper, save

    folder.mkdir(parents=True, exist_ok=True)
    picture = [SIZE, SIZE, 3]

    def tensor(name, value):
        return numpy_helper.from_array(np.asarray(value), name)

    def graph(name, nodes, inputs, outputs, constants):
        made = helper.make_graph(nodes, name, inputs, outputs, constants)
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        save(model, folder / f"{name}.onnx")

    info = helper.make_tensor_value_info
    node = helper.make_node
    graph(
        "detect",
        [
            node("Slice", ["frame", "zero", "half", "one"], ["left"]),
            node("Cast", ["left"], ["real"], to=Type.FLOAT),
            node("ReduceMean", ["real", "axes"], ["mean"], keepdims=0),
            node("Slice", ["mean", "zero", "two"], ["red_green"]),
            node("Mul", ["red_green", "gain"], ["shift"]),
            node("Add", ["base", "shift"], ["points"]),
            node("Identity", ["eye"], ["jacobians"]),
            *([node("Identity", ["sure"], ["confidence"])] if confidence is not None else []),
        ],
        [info("frame", Type.UINT8, picture)],
        [
            info("points", Type.FLOAT, [4, 2]),
            info("jacobians", Type.FLOAT, [4, 2, 2]),
            *([info("confidence", Type.FLOAT, [4])] if confidence is not None else []),
        ],
        [
            *([tensor("sure", np.full(4, confidence, np.float32))] if confidence is not None else []),
            tensor("axes", np.array([0, 1], np.int64)),
            tensor("zero", np.array([0], np.int64)),
            tensor("one", np.array([1], np.int64)),
            tensor("two", np.array([2], np.int64)),
            tensor("half", np.array([SIZE // 2], np.int64)),
            tensor("gain", np.float32(SHIFT / 255)),
            tensor("base", POINTS),
            tensor("eye", np.tile(np.eye(2, dtype=np.float32), (4, 1, 1))),
        ],
    )
    graph(
        "encode",
        [node("Cast", ["avatar"], ["feature"], to=Type.FLOAT)],
        [info("avatar", Type.UINT8, picture)],
        [info("feature", Type.FLOAT, picture)],
        [],
    )
    line = np.linspace(-1, 1, GRID, dtype=np.float32)
    numbers = [
        info(f"{side}_{kind}", Type.FLOAT, [4, 2] if kind == "points" else [4, 2, 2])
        for side in ("source", "driving")
        for kind in ("points", "jacobians")
    ]
    graph(
        "render",
        [
            node("Sub", ["driving_points", "source_points"], ["movement"]),
            node("ReduceMean", ["movement", "rows"], ["mean"], keepdims=0),
            node("Slice", ["mean", "zero", "one"], ["right"]),
            node("Mul", ["right", "gain"], ["light"]),
            node("Add", ["feature", "light"], ["bright"]),
            node("Clip", ["bright", "black", "white"], ["clipped"]),
            node("Round", ["clipped"], ["rounded"]),
            node("Cast", ["rounded"], ["prediction"], to=Type.UINT8),
            *([node("Sub", ["grid", "mean"], ["deformation"])] if deformation else []),
        ],
        [info("feature", Type.FLOAT, picture), *numbers],
        [
            info("prediction", Type.UINT8, picture),
            *([info("deformation", Type.FLOAT, [GRID, GRID, 2])] if deformation else []),
        ],
        [
            *([tensor("grid", np.stack(np.meshgrid(line, line), -1))] if deformation else []),
            tensor("rows", np.array([0], np.int64)),
            tensor("zero", np.array([0], np.int64)),
            tensor("one", np.array([1], np.int64)),
            tensor("gain", np.float32(GAIN)),
            tensor("black", np.float32(0)),
            tensor("white", np.float32(255)),
        ],
    )
    facts = {
        "format": "livepuppet-bundle",
        "version": 1,
        "preset": {"name": "tiny"},
        "size": SIZE,
        "num_keypoints": 4,
        "keypoint_names": [],
        "features": [{"name": "feature"}],
        "graphs": {
            name: {
                "file": f"{name}.onnx",
                "sha256": hashlib.sha256((folder / f"{name}.onnx").read_bytes()).hexdigest(),
            }
            for name in ("detect", "encode", "render")
        },
    }
    (folder / "bundle.json").write_text(json.dumps(facts))
    return folder
