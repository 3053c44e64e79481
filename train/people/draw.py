"""Pictures of people by OpenGL, and per pixel which point of the person is seen.

Needs `moderngl` and EGL; nothing else of a window system. Without a graphics card Mesa's llvmpipe draws: one process per
core, each with LP_NUM_THREADS=1.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import cv2
import numpy as np

from livepuppet.train.people import hair, paint, shaders
from livepuppet.train.people.assets import AssetsError
from livepuppet.train.people.person import Person, Posed, vertex_table
from livepuppet.train.people.scene import Scene

#: Raised with each change that alters pictures or truth.
RENDERER = 16

#: Versions whose pools are as good to train on: looks alone have changed since, what arrays mean has not.
READABLE = (4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)

#: Kinds of parts that cast no shadow (a rim's would be a row of dots), and those that are no surface of their own for flow and depth.
NO_SHADOW = frozenset(["lash", "teeth", "tongue", "eye", "lens", "strands", "fur", "ring", "glasses"])
NO_POINT = frozenset(["lash", "lens", "strands"])

#: Kinds of parts that nothing shows through.
SOLID = frozenset(
    [
        "skin",
        "eye",
        "teeth",
        "tongue",
        "cloth",
        "hat",
        "glasses",
        "phones",
        "ring",
        "hand",
        "microphone",
    ]
)

#: Kinds of parts that stay where they are without the head.
OF_BODY = frozenset(["cloth", "hand", "microphone"])

#: Opacity of hair from which on it hides what is behind it.
WHOLE = 0.9

#: Side of the shadow map, and what it covers round the head, in decimetres.
SHADOW, REACH = 512, 3.4


@dataclass
class Picture:
    """One drawn pose.

    Attributes:
        colour: (S, S, 3) uint8 RGB, before a background of its own: the whole picture.
        alpha: (S, S, 3) uint8: of the figure, of the head, of the body (the figure without its head).
        plate: (S, S, 3) uint8 what is seen without the head.
    """

    colour: np.ndarray
    alpha: np.ndarray
    plate: np.ndarray


@dataclass
class Points:
    """What is seen at each pixel of a coarse picture.

    Attributes:
        triangle: (C, C) int32, -1 for the background.
        depth: (C, C) distance along the camera's axis, decimetres; infinite for the background.
    """

    triangle: np.ndarray
    depth: np.ndarray


def context():
    """An OpenGL context without a window.

    Raises:
        AssetsError: there is no moderngl, no EGL, or an OpenGL below 3.3.
    """
    os.environ.setdefault("LP_NUM_THREADS", "1")
    try:
        import moderngl
    except ImportError as error:
        raise AssetsError(
            "People are drawn by moderngl: install it with  pip install livepuppet[people]"
        ) from error
    try:
        return moderngl.create_context(standalone=True, backend="egl", require=330)
    except Exception as error:  # each loader and driver has its own exceptions
        raise AssetsError(
            f"People are drawn by OpenGL 3.3 over EGL, and there is none here ({error}): on Debian  apt install "
            "libegl1 libgl1-mesa-dri  brings one that needs no graphics card."
        ) from error


class Renderer:
    """Draws people of one set of assets.

    Args:
        assets: see `assets.load_assets`.
        size: side of the pictures.
        supersampling: samples per pixel and axis.

    Raises:
        AssetsError: nothing can be drawn here; see `context`.
    """

    def __init__(self, assets, size: int = 256, supersampling: float = 2.0):
        import moderngl

        self.gl, self.assets, self.size, self.supersampling = moderngl, assets, size, supersampling
        self.context = c = context()
        self.name = c.info["GL_RENDERER"]
        self.programs: dict[tuple[int, int], object] = {}
        # Each without and with holes.
        self.shadow_programs = [
            c.program(shaders.SHADOW_VERTEX, fragment)
            for fragment in (shaders.SHADOW_FRAGMENT, shaders.HOLES_FRAGMENT)
        ]
        self.point_programs = [
            c.program(shaders.POINT_VERTEX, shaders.POINT_FRAGMENT),
            c.program(shaders.POINT_VERTEX, shaders.POINT_FRAGMENT.replace("330", "330\n#define HOLES", 1)),
        ]
        side = self.side = round(size * supersampling)
        self.target = c.framebuffer(
            [c.renderbuffer((side, side), 4), c.renderbuffer((side, side), 4)],
            c.depth_renderbuffer((side, side)),
        )
        self.coarse: dict[int, object] = {}
        self.shadow_map = c.depth_texture((SHADOW, SHADOW))
        self.shadow_map.compare_func = "<="
        self.shadow_map.filter = (moderngl.LINEAR, moderngl.LINEAR)
        self.shadow_target = c.framebuffer(depth_attachment=self.shadow_map)
        self.textures: dict[str, tuple] = {}
        self.white = c.texture((1, 1), 4, b"\xff" * 4)
        rng = np.random.default_rng(0)
        grain = rng.standard_normal((512, 512)).astype(np.float32)
        grain = cv2.GaussianBlur(np.tile(grain, (3, 3)), (0, 0), 0.8)[512:1024, 512:1024]
        grain = np.clip(0.5 + 0.22 * grain / grain.std(), 0, 1)
        self.grain = self._texture((grain * 255).astype(np.uint8)[..., None])
        self.maps = paint.SkinMap(assets)
        self.occlusion = self._bake()
        self.person: Person | None = None
        self._own: list = []
        self._arrays = {}
        self._values: dict[str, object] = {}
        self._written: Posed | None = None
        self._background: tuple[Scene, np.ndarray] | None = None

    # ---------------------------------------------------------------------------------------------------------- textures

    def _texture(self, picture: np.ndarray, repeat: bool = True):
        texture = self.context.texture(
            picture.shape[1::-1], picture.shape[2], np.ascontiguousarray(picture).tobytes(), alignment=1
        )
        texture.build_mipmaps()
        texture.filter = (self.gl.LINEAR_MIPMAP_NEAREST, self.gl.LINEAR)
        texture.repeat_x = texture.repeat_y = repeat
        return texture

    def _named(self, name: str) -> tuple:
        """A texture of the assets and its mean colour (3,) (square root of linear), or (white, None)."""
        if name not in self.textures:
            picture = self.assets.texture(name)
            if picture is None:
                self.textures[name] = (self.white, None)
            else:
                if name.startswith("teeth/"):
                    picture = paint.whitened(picture)
                elif name.startswith("tongue/"):
                    # Its seam is painted black, and its root gray.
                    least = 0.85 * np.median(picture.reshape(-1, picture.shape[2]), 0)
                    picture = np.maximum(picture, least.astype(np.uint8))
                there = picture[..., 3] > 128
                mean = picture[..., :3][there].mean(0) / 255
                self.textures[name] = (self._texture(picture), mean)
        return self.textures[name]

    def _hair(self, name: str) -> tuple:
        """The texture of a mesh of hair, and per corner where its strands run in it; see `hair.strands`."""
        if name not in self.textures:
            texture, directions = hair.strands_of(self.assets, name)
            self.textures[name] = (self._texture(texture, False), directions)
        return self.textures[name]

    def skin_tone(self, person: Person) -> np.ndarray:
        """The mean colour (3,) of the person's skin, linear."""
        look = person.look
        if look.skin is None:
            tone = np.asarray(look.tone)
        else:
            _, mean = self._named(f"skin/{look.skin}")
            tone = mean**2 * look.gain
        return tone + look.flat * (look.flat_colour - tone) if look.style else tone

    def skin_luminance(self, person: Person) -> float:
        """Of the person's skin, linear."""
        return float(self.skin_tone(person).mean())

    # ----------------------------------------------------------------------------------------------------------- loading

    def load(self, person: Person) -> None:
        """Bring a person to the card; all that follows draws this one."""
        if self.person is person:
            return
        for thing in (*self._own, *self._arrays.values()):
            thing.release()
        self._written = None
        c, count = self.context, len(person.corners)
        more = np.zeros((count, 4), np.float32)
        more[:, 0] = 1
        #: Of the skin and of fur, places on the base head; of hair, where strands run, at rest.
        home = np.zeros((count, 3), np.float32)
        first = 0
        for k, part in enumerate(person.parts):
            rows = slice(first, first + len(part.corners))
            occlusion = self._occlusion_of(part)
            if occlusion is not None:
                more[rows, 0] = occlusion[part.corners]
            if part.kind == "fur":
                more[rows, 1], more[rows, 3] = part.extra[:, 0], part.extra[:, 1]
            if part.kind == "skin":
                more[rows, 1] = self.maps.mouth[part.corners]
            if part.kind in ("skin", "fur"):
                home[rows] = self.assets.base[part.anchors[part.corners, 0]]
            elif part.kind == "hair":
                skull = person.joints["head"] + np.array([0, 0.55, 0.35])
                own = person.rest[person.starts[k] : person.starts[k + 1]]
                home[rows] = hair.along(part, own, self._hair(part.name)[1], skull + np.array([0, 1, 0]))
                more[rows, 0] = hair.depth(own, skull)[part.corners]
            elif part.kind == "strands":
                home[rows] = part.extra
            elif part.kind == "microphone":
                more[rows, 1] = part.extra
            first += len(part.corners)
            assert person.starts[k + 1] - person.starts[k] == len(part.anchors)
        more[:, 2] = person.headness[person.corners]
        uv = person.uv.copy()
        rest = person.rest[person.corners] - person.joints["head"].astype(np.float32)
        # An eye is painted as it is seen from its front.
        first = 0
        for part in person.parts:
            if part.kind == "eye":
                rows = slice(first, first + len(part.corners))
                for letter in "LR":
                    _, centre, radius, _, _ = person.balls[letter]
                    place = person.rest[person.corners[rows]]
                    mine = (place[:, 0] > 0) == (letter == "L")
                    uv[rows][mine] = (place[mine] - centre)[:, :2] / radius / 2 + 0.5
            first += len(part.corners)
        self.places = c.buffer(reserve=count * 12, dynamic=True)
        self.normals = c.buffer(reserve=count * 12, dynamic=True)
        coordinates, extra, index, at_rest, at_home = (
            c.buffer(np.ascontiguousarray(values).tobytes())
            for values in (uv, more, person.triangles, rest.astype(np.float32), home)
        )
        self._vertices = (
            [
                (self.places, "3f", "place"),
                (self.normals, "3f", "normal"),
                (coordinates, "2f", "uv"),
                (extra, "4f", "more"),
                (at_rest, "3f", "rest"),
                (at_home, "3f", "home"),
            ],
            index,
        )
        self._arrays: dict[int, object] = {}
        self.shadow_arrays, self.point_arrays = (
            [
                c.vertex_array(
                    program,
                    [
                        (buffer, form, name)
                        for buffer, form, name in ((self.places, "3f", "place"), (coordinates, "2f", "uv"))
                        if program.get(name, None) is not None
                    ],
                    index,
                )
                for program in programs
            ]
            for programs in (self.shadow_programs, self.point_programs)
        )
        overlay, relief = paint.details(self.maps, person.look, self.skin_tone(person))
        self.overlay = self._texture(overlay, False)
        self.relief = self._texture(relief, False)
        self.iris = self._texture(paint.iris(person.look), False)
        self._own = [
            *(*self.shadow_arrays, *self.point_arrays, self.places, self.normals),
            *(coordinates, extra, index, at_rest, at_home, self.overlay, self.relief, self.iris),
        ]
        #: Triangles of fur that stand for it where one surface is wanted: the layer in the middle, where it is thick.
        self.middle_fur = {}
        for (first, last), part in zip(person.ranges, person.parts, strict=True):
            if part.kind == "fur":
                layers = sorted(set(np.round(part.extra[:, 0], 4).tolist()))
                each = (last - first) // len(layers)
                at = len(layers) // 2
                self.middle_fur[id(part)] = (first + at * each, first + (at + 1) * each)
        self.person = person

    def _occlusion_of(self, part) -> np.ndarray | None:
        if part.name in self.occlusion:
            return self.occlusion[part.name]
        if part.kind in ("teeth", "tongue"):
            # The further back in the mouth, the darker.
            z = part.place(self.assets.base)[:, 2]
            front, back = (1.0, 0.15) if part.kind == "teeth" else (0.8, 0.06)
            return np.interp(z, [z.max() - 0.45, z.max()], [back, front]).astype(np.float32)
        return None

    def _bake(self, directions: int = 64) -> dict[str, np.ndarray]:
        """Ambient occlusion of the base head's vertices, by depth maps from many directions."""
        assets = self.assets
        eyes = assets.meshes.get("eyes") or assets.meshes["plain eyes"]
        parts = [assets.meshes["body"], eyes]
        places = [part.place(assets.base) for part in parts]
        faces = [part.corners[part.triangles] for part in parts]
        both = np.concatenate(places).astype(np.float32)
        all_faces = np.concatenate([faces[0], faces[1] + len(places[0])])
        from livepuppet.train.people.extras import normals_of

        normal = normals_of(both, all_faces)
        c, side = self.context, 384
        depth = c.depth_texture((side, side))
        target = c.framebuffer(depth_attachment=depth)
        buffer = c.buffer(both[all_faces.reshape(-1)].tobytes())
        array = c.vertex_array(self.shadow_programs[0], [(buffer, "3f", "place")])
        seen, total = np.zeros(len(both)), np.zeros(len(both))
        for k in range(directions):
            y = 1 - 2 * (k + 0.5) / directions
            angle = k * 2.399963
            direction = np.array([np.sqrt(1 - y * y) * np.cos(angle), y, np.sqrt(1 - y * y) * np.sin(angle)])
            matrix = parallel(direction, np.array([0, 6.9, 0.6]), 2.6)
            target.use()
            target.clear(depth=1.0)
            c.enable(self.gl.DEPTH_TEST)
            self.shadow_programs[0]["camera"].write(matrix.T.astype(np.float32).tobytes())
            array.render()
            found = np.frombuffer(depth.read(), np.float32).reshape(side, side)
            q = np.c_[both + normal * 0.02, np.ones(len(both))] @ matrix.T
            cell = ((q[:, :2] * 0.5 + 0.5) * side).astype(int).clip(0, side - 1)
            clear = (q[:, 2] * 0.5 + 0.5) <= found[cell[:, 1], cell[:, 0]] + 0.004
            weight = np.maximum(normal @ direction, 0) * (1.1 + 0.6 * direction[1])
            seen += weight * clear
            total += weight
        for thing in (array, buffer, target, depth):
            thing.release()
        open_to = np.clip(seen / np.maximum(total, 1e-6) * 1.15, 0.08, 1).astype(np.float32)
        split = len(places[0])
        return {parts[0].name: open_to[:split], parts[1].name: np.clip(open_to[split:], 0.5, 1)}

    # ----------------------------------------------------------------------------------------------------------- drawing

    def draw(self, person: Person, posed: Posed, scene: Scene, plate: bool = True) -> Picture:
        """One pose as a picture; without `plate`, neither the body without its head nor its alpha is drawn."""
        whole, share, without = self._layers(person, posed, scene, plate)
        background = self.background(scene)
        alpha = np.dstack([whole[..., 3], share, without[..., 3]])
        return Picture(_over(whole, background), alpha, _over(without, background))

    def colour(self, person: Person, posed: Posed, scene: Scene) -> np.ndarray:
        """The colours of `draw` alone, uint8 RGB (S, S, 3), for less work."""
        whole, *_ = self._layers(person, posed, scene, False, False)
        return _over(whole, self.background(scene))

    def figure(self, person: Person, posed: Posed, scene: Scene) -> np.ndarray:
        """The person without a background: premultiplied linear colours and opacity, float32 (S, S, 4)."""
        whole = self._layers(person, posed, scene, False, False)[0].astype(np.float32) / 255
        alpha = whole[..., 3:]
        linear = linear_of(np.minimum(whole[..., :3] / np.maximum(alpha, 1e-3), 1))
        return np.concatenate([linear * alpha, alpha], -1)

    def _layers(
        self, person: Person, posed: Posed, scene: Scene, plate: bool, share: bool = True
    ) -> tuple[np.ndarray, ...]:
        """Premultiplied RGBA of the figure (S, S, 4); where they are asked for, its head's share (S, S), and RGBA of the body; uint8."""
        self.load(person)
        self._write(posed)
        matrix = self._shadows(posed, scene)
        camera, eye = person.camera
        # Pixel i of S lies at -1 + 2 i / (S - 1), as everywhere here; OpenGL's lies at (2 i + 1) / S - 1.
        fit = np.diag([(self.size - 1) / self.size] * 2 + [1, 1])
        self._uniforms(fit @ camera, eye, matrix, scene)
        self._values |= self._eyes(posed) | self._mouth(posed)
        body, head = self._halves()
        self.target.use()
        self.target.clear(0, 0, 0, 0, depth=1.0)
        # The head is drawn over the body, which is seen alone before.
        self._solids(body, culled=("eye",))
        look = person.look

        def seen() -> np.ndarray:
            layer = self._read()
            if look.lines > 0:
                layer = paint.inked(layer, look.ink, look.lines, look.pen)
                layer = paint.outlined(layer, self._read(1, 1), look.ink, look.pen)
            return layer

        without = seen() if plate else None
        self._solids(head, ("teeth", "tongue") if posed.shut else (), culled=("skin", "eye"))
        self._transparent()
        whole = seen()
        return whole, self._read(1) if share else whole[..., 3], whole if without is None else without

    def background(self, scene: Scene) -> np.ndarray:
        """The background alone, uint8 (S, S, 3)."""
        if self._background is None or self._background[0] is not scene:
            size = (self.size, self.size)
            picture = cv2.resize(scene.background, size, interpolation=cv2.INTER_LINEAR)
            self._background = scene, (tone(picture * scene.exposure) * 255 + 0.5).astype(np.uint8)
        return self._background[1]

    def _write(self, posed: Posed) -> None:
        from livepuppet.train.people.extras import normals_of

        if self._written is posed:
            return
        person, self._written = self.person, posed
        normal = normals_of(posed.vertices, person.faces)
        self.places.write(posed.vertices[person.corners].tobytes())
        self.normals.write(normal[person.corners].tobytes())

    def _shadows(self, posed: Posed, scene: Scene) -> np.ndarray:
        c, gl, person = self.context, self.gl, self.person
        centre = posed.head[:, :3] @ (person.joints["head"] + np.array([0, -0.3, 0.2])) + posed.head[:, 3]
        matrix = parallel(scene.key, centre, REACH)
        self.shadow_target.use()
        self.shadow_target.clear(depth=1.0)
        c.enable(gl.DEPTH_TEST)
        c.disable(gl.BLEND)
        for program in self.shadow_programs:
            program["camera"].write(matrix.T.astype(np.float32).tobytes())
        for part, (first, last) in zip(person.parts, person.ranges, strict=True):
            if part.kind in NO_SHADOW:
                continue
            holes = part.kind == "hair"
            if holes:
                self._hair(part.name)[0].use(0)
            (c.enable if part.kind == "skin" else c.disable)(gl.CULL_FACE)
            self.shadow_arrays[holes].render(vertices=3 * (last - first), first=3 * first)
        return matrix

    def _uniforms(self, camera: np.ndarray, eye: np.ndarray, light: np.ndarray, scene: Scene) -> None:
        """What is the same for all surfaces of a picture."""
        look = self.person.look

        def three(value) -> tuple[float, ...]:
            return tuple(float(x) for x in value)

        self._values = {
            "key": three(scene.key),
            "key_colour": three(scene.key_colour),
            "fill": three(scene.fill),
            "fill_colour": three(scene.fill_colour),
            "eye": three(eye),
            "flat_colour": three(look.flat_colour),
            "shade": three(look.shade),
            "camera": camera.T.astype(np.float32).tobytes(),
            "light": light.T.astype(np.float32).tobytes(),
            "sh": scene.harmonics.astype(np.float32).tobytes(),
            "span": (paint.LOW, paint.HIGH),
            # Where a camera brightens a dark face, it would shine like metal.
            "gloss": look.gloss * min(1.0, self.skin_luminance(self.person) / 0.25) ** 0.5,
            "exposure": scene.exposure,
            "skin": 0,
            "over": 1,
            "relief": 2,
            "grain": 3,
            "shadow": 4,
        }
        self._filled: set[tuple[int, int]] = set()
        self.overlay.use(1)
        self.relief.use(2)
        self.grain.use(3)
        self.shadow_map.use(4)

    def _eyes(self, posed: Posed) -> dict[str, object]:
        """Where the lids lie over the eyeballs, which they shade, and where corneas bulge."""
        person = self.person
        turn, shift = posed.head[:, :3], posed.head[:, 3]
        table = vertex_table(self.assets)
        lids, balls, fronts = [], [], []
        for side, letter, iris in (("left", "R", posed.irises[0]), ("right", "L", posed.irises[1])):
            centre = turn @ person.balls[letter][1] + shift
            away = iris - centre
            for lid in ("upper", "lower"):
                names = ("outer corner", f"{lid} outer", lid, f"{lid} inner", "inner corner")
                rows = person.own[[table[f"{side} eye {name}"] for name in names]]
                x, y = ((posed.vertices[rows] - shift) @ turn[:, :2]).T
                middle = 0.5 * (x[0] + x[-1])
                # A parabola, written about the middle of the eye.
                a, b, c = np.polyfit(x - middle, y, 2)
                lids.append((a, b - 2 * a * middle, a * middle**2 - b * middle + c))
            balls.append((*centre, float(np.linalg.norm(away))))
            fronts.append(away / np.linalg.norm(away))

        def packed(values) -> bytes:
            return np.asarray(values, np.float32).tobytes()

        across = np.append(turn[:, 0], -turn[:, 0] @ shift), np.append(turn[:, 1], -turn[:, 1] @ shift)
        return {
            "lids": packed(lids),
            "balls": packed(balls),
            "fronts": packed(fronts),
            "of_head": packed(across),
        }

    def _mouth(self, posed: Posed) -> dict[str, object]:
        """Where the lips' edges lie, which shade what is between and behind them."""
        person, table = self.person, vertex_table(self.assets)
        turn, shift = posed.head[:, :3], posed.head[:, 3]
        rows = person.own[[table[f"mouth inside {k}"] for k in range(8)]]
        x, y, z = ((posed.vertices[rows] - shift) @ turn).T
        edges = []
        for lip in ([0, 1, 2, 3, 4], [4, 5, 6, 7, 0]):
            middle = 0.5 * (x[0] + x[4])
            a, b, c = np.polyfit(x[lip] - middle, y[lip], 2)
            edges.append((a, b - 2 * a * middle, a * middle**2 - b * middle + c))
        before = 0.5 * (z[2] + z[6])
        plane = np.append(turn[:, 2], -turn[:, 2] @ shift - before)
        return {
            "lips": np.asarray(edges, np.float32).tobytes(),
            "lip_plane": plane.astype(np.float32).tobytes(),
            # Middle and half width of the opening.
            "corners": (float(x[0] + x[4]) / 2, max(float(x[4] - x[0]) / 2, 1e-3)),
            # The opening as a disc: what lies as far behind it as its radius has half of its light.
            "opening": max(float((x[4] - x[0]) * max(y[2] - y[6], 0.0)) / 4, 1e-5),
        }

    def _surface(self, kind: int, **values):
        """The vertex array of a kind of surface, its program filled; uniforms that it lacks are left out."""
        key = (kind, {"cel": 1, "ink": 1, "paint": 2}.get(self.person.look.style, 0))
        if key not in self.programs:
            source = shaders.PICTURE_FRAGMENT % {"kind": key[0], "cel": key[1]}
            self.programs[key] = self.context.program(shaders.PICTURE_VERTEX, source)
        program = self.programs[key]
        if key not in self._filled:
            values = self._values | values
            self._filled.add(key)
        for name, value in values.items():
            uniform = program.get(name, None)
            if uniform is None:
                continue
            if isinstance(value, bytes):
                uniform.write(value)
            else:
                uniform.value = value
        if kind not in self._arrays:
            buffers, index = self._vertices
            there = [buffer for buffer in buffers if program.get(buffer[2], None) is not None]
            self._arrays[kind] = self.context.vertex_array(program, there, index)
        return self._arrays[kind]

    def _halves(self) -> tuple[list, list]:
        """Parts and their triangles: of the body, and of the head. Those of the skin are sorted so by `Person`."""
        body, head = [], []
        for part, (first, last) in zip(self.person.parts, self.person.ranges, strict=True):
            if part.kind == "skin":
                middle = first + self.person.head_triangles
                body.append((part, (middle, last)))
                head.append((part, (first, middle)))
            else:
                (body if part.kind in OF_BODY else head).append((part, (first, last)))
        return body, head

    def _solids(self, parts: list, hidden: tuple[str, ...] = (), culled: tuple[str, ...] = ()) -> None:
        c, gl, look = self.context, self.gl, self.person.look
        c.enable(gl.DEPTH_TEST)
        c.disable(gl.BLEND)
        c.cull_face = "back"
        # The skin last: what lies over it is there already.
        for part, span in sorted(parts, key=lambda one: one[0].kind == "skin"):
            if part.kind in SOLID and part.kind not in hidden:
                self._part(part, span, 0.0, cull=part.kind in culled)
        if look.outline > 0:
            # Lines: the back sides, grown along the normals.
            c.enable(gl.CULL_FACE)
            c.cull_face = "front"
            for part, (first, last) in parts:
                # Hair has none of these: of locks with holes only dots would be seen. Its line follows what is seen of it.
                if part.kind in ("skin", "cloth", "hat", "phones", "hand", "microphone"):
                    lines = self._surface(shaders.INK, grow=look.outline, tint=tuple(look.ink.tolist()))
                    lines.render(vertices=3 * (last - first), first=3 * first)
            c.cull_face = "back"

    def _transparent(self) -> None:
        c, person = self.context, self.person
        parts = list(zip(person.parts, person.ranges, strict=True))
        c.enable(self.gl.BLEND)
        c.blend_func = (self.gl.ONE, self.gl.ONE_MINUS_SRC_ALPHA)
        self.target.depth_mask = False
        for part, span in parts:
            if part.kind in ("fur", "lash"):
                self._part(part, span, 0.04, cull=part.kind == "fur")
        self.target.depth_mask = True
        # What is whole first, by depth; then what shows through, whose order hardly matters: it is of one colour.
        for part, span in parts:
            if part.kind == "hair":
                self._part(part, span, WHOLE)
        self.target.depth_mask = False
        # Single hairs are for what looks like a photograph.
        fine = () if person.look.style in ("cel", "ink") else ("strands",)
        for part, span in parts:
            if part.kind in ("hair", "lens", *fine):
                self._part(part, span, 0.02)
        self.target.depth_mask = True

    def _read(self, attachment: int = 0, plane: int = 0) -> np.ndarray:
        """What was drawn, uint8: premultiplied RGBA (S, S, 4); of attachment 1 the head's share (S, S) or, as its plane 1, hair's."""
        side = self.side
        data = self.target.read(components=4, attachment=attachment)
        picture = np.frombuffer(data, np.uint8).reshape(side, side, 4)
        if attachment:
            picture = np.ascontiguousarray(picture[..., plane])
        if side != self.size:
            picture = cv2.resize(picture, (self.size, self.size), interpolation=cv2.INTER_AREA)
        return picture[::-1]

    def _part(self, part, span: tuple[int, int], cut: float, cull: bool = False) -> None:
        c, look = self.context, self.person.look
        kind = shaders.SURFACE[part.kind]
        texture, mean = self.white, None
        tint, second, amounts = np.ones(3), np.zeros(3), [1.0, 0, 0, 0]
        if kind == shaders.SKIN:
            if look.skin is not None:
                texture, mean = self._named(f"skin/{look.skin}")
            tint = look.gain if mean is not None else look.tone
            amounts = [
                self.skin_luminance(self.person),
                1.0,
                1.0 if not look.style else 0.3,
                float(bool(look.combed_back)),
            ]
        elif part.kind == "eye":
            texture, mean = self.iris, np.ones(3)
            # Whites of one brightness would glow in faces that are exposed for dark skin.
            tint = np.full(3, np.clip(self.skin_luminance(self.person) / 0.25, 0.2, 1.0) ** 0.3)
        elif part.kind in ("teeth", "tongue"):
            if not look.style:
                texture, mean = self._named(f"{part.kind}/{part.name}")
            # Light comes through enamel, which no surface here lets it; nor do a dark face's teeth glow.
            glow = 1.9 * min(self.skin_luminance(self.person) / 0.30, 1.0) ** 0.5
            tint = (
                look.teeth * np.array([1.02, 1.0, 0.96]) * (glow if mean is not None else 0.8)
                if part.kind == "teeth"
                else np.array([0.95, 0.60, 0.60])
            )
            if mean is None and part.kind == "tongue":
                tint = np.array([0.42, 0.13, 0.12])
        elif kind == shaders.CLOTH:
            if part.kind == "cloth":
                texture, mean = self._named(f"{part.kind}/{part.name}")
            own = part.kind == "cloth" and look.cloth_textured and mean is not None and not look.style
            tint = look.part_colours.get(part.kind, look.cloth)
            second = look.cloth_second
            amounts[0] = float(own)
        elif kind == shaders.HAIR:
            tint, second = look.hair, look.hair_tips
            if part.kind == "hair":
                texture, mean = self._hair(part.name)
                amounts[1] = float(not look.style)
        elif kind == shaders.FINE:
            texture, mean = self._named(f"{part.kind}/{part.name}")
            tint, amounts[0] = np.array([0.012, 0.010, 0.010]), look.lash_density
        elif kind == shaders.FUR:
            of_scalp = part.name == "shorn"
            tint, amounts = look.hair if of_scalp else look.beard * 0.8, [1.0, float(of_scalp), 0, 0]
        elif kind == shaders.HARD:
            tint = look.part_colours.get(part.kind, np.full(3, 0.1))
            amounts[0] = 0.9 if part.kind == "ring" else 0.12 if part.kind == "glasses" else 0.05
            amounts[1] = 1.0 if part.kind == "glasses" or part.kind == "ring" else 0.25
        elif kind == shaders.LENS:
            colour = look.part_colours.get("lens", np.array([0, 0, 0, 0.05]))
            tint, amounts = colour[:3], [float(colour[3]), 0, 0, 0]
        texture.use(0)
        array = self._surface(
            kind,
            cut=cut,
            grow=0.0,
            textured=float(mean is not None),
            tint=tuple(float(x) for x in tint),
            tint2=tuple(float(x) for x in second),
            par=tuple(float(x) for x in amounts),
            flatness=float(look.flat) if kind == shaders.SKIN else 0.0,
            pattern=look.cloth_pattern if part.kind == "cloth" else 0,
            pattern_scale=float(look.cloth_scale),
            hue=tuple(look.cloth_hue.tolist()),
        )
        (c.enable if cull else c.disable)(self.gl.CULL_FACE)
        first, last = span
        array.render(vertices=3 * (last - first), first=3 * first)

    # ------------------------------------------------------------------------------------------------------------- truth

    def points(self, person: Person, posed: Posed, side: int) -> Points:
        """Which point of the person each pixel of a picture of `side` shows, without anti-aliasing."""
        self.load(person)
        c, gl = self.context, self.gl
        if side not in self.coarse:
            self.coarse[side] = c.framebuffer(
                [c.texture((side, side), 2, dtype="f4")], c.depth_renderbuffer((side, side))
            )
        target = self.coarse[side]
        self._write(posed)
        c.disable(gl.BLEND)
        c.disable(gl.CULL_FACE)
        c.enable(gl.DEPTH_TEST)
        target.use()
        target.clear(0, 0, 0, 0, depth=1.0)
        fit = np.diag([(side - 1) / side] * 2 + [1, 1])
        for program in self.point_programs:
            program["camera"].write((fit @ person.camera[0]).T.astype(np.float32).tobytes())
        for part, (first, last) in zip(person.parts, person.ranges, strict=True):
            if part.kind in NO_POINT or (posed.shut and part.kind in ("teeth", "tongue")):
                continue
            first, last = self.middle_fur.get(id(part), (first, last))
            holes = part.kind == "hair"
            if holes:
                self._hair(part.name)[0].use(0)
            self.point_programs[holes]["first"] = float(first)
            self.point_arrays[holes].render(vertices=3 * (last - first), first=3 * first)
        found = np.frombuffer(target.read(components=2, dtype="f4"), np.float32).reshape(side, side, 2)[::-1]
        triangle = np.round(found[..., 0]).astype(np.int32) - 1
        return Points(triangle, np.where(triangle >= 0, found[..., 1], np.float32(np.inf)))


def parallel(direction: np.ndarray, centre: np.ndarray, reach: float) -> np.ndarray:
    """The matrix (4, 4) of a camera infinitely far away in a direction, which sees `reach` to each side."""
    d = np.asarray(direction, float) / np.linalg.norm(direction)
    up = np.array([0, 1, 0]) if abs(d[1]) < 0.95 else np.array([1, 0, 0])
    x = np.cross(up, d)
    x /= np.linalg.norm(x)
    y = np.cross(d, x)
    matrix = np.eye(4)
    matrix[0, :3], matrix[1, :3], matrix[2, :3] = x / reach, y / reach, -d / (2 * reach)
    matrix[:3, 3] = -(matrix[:3, :3] @ centre)
    return matrix


def tone(linear: np.ndarray) -> np.ndarray:
    """A camera's curve: linear light to what a picture stores, both from 0 on; highlights roll off."""
    x = np.maximum(linear, 0)
    return np.sqrt(np.clip(x * (1 + x / 9) / (1 + x * 0.55), 0, 1))


def linear_of(stored: np.ndarray) -> np.ndarray:
    """What `tone` was given for values in [0, 1]."""
    y = stored * stored
    b = 1 - 0.55 * y
    return 4.5 * (np.sqrt(b * b + 4 / 9 * y) - b)


def _over(layer: np.ndarray, background: np.ndarray) -> np.ndarray:
    """A premultiplied layer (S, S, 4) uint8 over a picture (S, S, 3) uint8."""
    left = 255 - layer[..., 3]
    behind = cv2.multiply(background, cv2.merge([left, left, left]), scale=1 / 255)
    return cv2.add(np.ascontiguousarray(layer[..., :3]), behind)


__all__ = ["RENDERER", "Picture", "Points", "Renderer", "context", "tone"]
