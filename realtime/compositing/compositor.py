"""The finished picture: the moved square in the whole avatar, sharp where the model is soft, on the background wanted."""

from __future__ import annotations

import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np

from livepuppet.core.avatar import Avatar
from livepuppet.core.errors import UserError
from livepuppet.core.memory import give_back
from livepuppet.core.square import Square, cut
from livepuppet.core.threads import COMPUTING, start_thread
from livepuppet.realtime.compositing.matte import blurred_background, figure_colours, find_matte
from livepuppet.realtime.compositing.warp import FEATHER, Bend, Box, Buffers, resize, soft_edges
from livepuppet.realtime.rig.closed_eyes import close_closed_eye
from livepuppet.realtime.rig.driver import RigMotion
from livepuppet.realtime.rig.matting import close_matting
from livepuppet.realtime.rig.patches import Patch, paste
from livepuppet.realtime.rig.remembering import layers_key, remember_layers, remembered_layers
from livepuppet.realtime.rig.rig import Face, Rig
from livepuppet.realtime.rig.sharing import drawing, of_avatar, rig_key, shared

logger = logging.getLogger(__name__)

#: Blur of the background, as standard deviation in shares of the longer side.
BLUR = 0.022

#: Pictures drawn with less detail are sharpened by so much, against a blur of 3 x 3, before they are enlarged.
CRISP = 0.6

#: So many avatars are kept ready for the canvas; others take some milliseconds when they are switched to.
KEPT_LAYERS, KEPT_MATTES, KEPT_RIGS = 10, 64, 10

FITS = ("letterbox", "fill")

#: Names that people use, and what they stand for.
_ALIASES = {"green": "#00ff00", "blue": "#0000ff", "as is": "as-is", "transparent": "alpha"}


def parse_background(text: str) -> str:
    """`as-is`, `blur`, `alpha` or a colour as `#rrggbb`, in lower case, from how people write it. Raises UserError."""
    background = text.strip().lower()
    background = _ALIASES.get(background, background)
    if background not in ("as-is", "blur", "alpha") and not re.fullmatch("#[0-9a-f]{6}", background):
        raise UserError(
            f"The background '{text}' is unknown: use as-is, blur, alpha, green, blue or a colour as #00ff00."
        )
    return background


@dataclass(frozen=True, eq=False)
class Layers:
    """What one avatar needs on one canvas, worked out once. Boxes are in the canvas's pixels.

    Attributes:
        rest: the finished picture at rest, uint8 (H, W, 3 or 4).
        picture: where the whole avatar goes; may reach beyond the canvas.
        square: where the model's square goes; may reach beyond both.
        seen: the part of it that is in the picture and on the canvas.
        figure: the avatar at the canvas's scale, uint8 RGB, as large as `picture`.
        bend: bends it; RGBA where there is a matte.
        edges: which edges of the square lie inside the picture: left, top, right, bottom.
        original: the avatar at the canvas's scale with its own background, uint8 RGB, as large as `picture`.
        matte: uint8, as large as `picture`, 255 where the figure is; None where the background stays as it is.
        behind: the new background under `seen`, uint8 RGB; None without one.
        detailed: whether the canvas shows more than the model paints.
    """

    rest: np.ndarray
    picture: Box
    square: Box
    seen: Box
    figure: np.ndarray
    bend: Bend
    original: np.ndarray
    edges: tuple[bool, bool, bool, bool]
    matte: np.ndarray | None
    behind: np.ndarray | None
    detailed: bool

    @cached_property
    def fading(self) -> list[tuple[slice, slice, np.ndarray, np.ndarray]]:
        """The parts of `seen` in which the square is not fully shown: rows and columns, how much of it, uint8
        (h, w, 3), and the avatar at rest times what is left to 255.
        """
        weight = self.seen.of(soft_edges(self.square.width, self.square.height, self.edges), self.square)
        figure = self.seen.of(self.figure, self.picture)
        parts = []
        for rows, columns in _strips(self):
            share = np.rint(255 * weight[rows, columns]).astype(np.uint8)
            share = cv2.cvtColor(share, cv2.COLOR_GRAY2RGB)
            rest = cv2.multiply(figure[rows, columns], cv2.bitwise_not(share), scale=1 / 255)
            parts.append((rows, columns, share, rest))
        return parts


class Compositor:
    """Sets moved squares into canvases of one size.

    Where the engine tells how it bent the avatar, the avatar's own pixels are bent at the canvas's resolution, and what
    the model painted is added: `warp(avatar) + enlarged(model's picture - warp(model's avatar))`. So the avatar stays
    as sharp as its file, comes back exactly when nothing moves, and the bending fades out towards the square's edges;
    one picture fading into another would show outlines twice.

    One thread composes; only the search for figures goes on in another.

    Args:
        width, height: of the canvas, in pixels.
        fit: `letterbox` (everything is seen) or `fill` (no bars, edges may be cut off).
        paste: show the whole avatar picture; else the moving square alone.
        background: see `parse_background`. `alpha` makes canvases RGBA for as long as the stage lives.
        sharp: bend the avatar's own pixels as above.

    Attributes:
        shape: of the canvases, (H, W, 3) or (H, W, 4).
        detail: draw rigs at this share of the canvas's resolution, as soon as they are made; below 1 nothing is bent for
            sharpness' sake. May be set at any time.

    Raises:
        UserError: for another background or fit.
    """

    def __init__(
        self,
        width: int,
        height: int,
        fit: str = "letterbox",
        paste: bool = True,
        background: str = "as-is",
        sharp: bool = True,
    ):
        if fit not in FITS:
            raise UserError(f"The fit '{fit}' is unknown: use letterbox or fill.")
        self.width, self.height, self.fit, self.sharp = width, height, fit, sharp
        self.detail = 1.0
        self._paste, self._background = paste, parse_background(background)
        self.shape = (height, width, 4 if self._background == "alpha" else 3)
        self._avatar: Avatar | None = None
        self._layers: Layers | None = None
        self._waits = False
        self._kept: OrderedDict[tuple, tuple[Avatar, Layers]] = OrderedDict()
        self._mattes = _Mattes(max(width, height))
        self._rigs = _Rigs(self._build_rig)
        self._buffers = Buffers()
        self._canvas = Box(0, 0, width, height)

    @property
    def paste(self) -> bool:
        """Whether the whole avatar picture is shown. May be set at any time."""
        return self._paste

    @paste.setter
    def paste(self, wanted: bool) -> None:
        self._paste = wanted
        if self._avatar is not None:
            self.set_avatar(self._avatar)

    @property
    def background(self) -> str:
        """May be set at any time; until the figure is found (part of a second) the old background stays.

        Raises:
            UserError: it is unknown, or `alpha` where the canvases are RGB.
        """
        return self._background

    @background.setter
    def background(self, text: str) -> None:
        background = parse_background(text)
        if background == "alpha" and self.shape[2] == 3:
            raise UserError(
                "A transparent background has to be chosen at the start: restart with --background alpha."
            )
        self._background = background
        if self._avatar is not None:
            self.set_avatar(self._avatar)

    def prepare(self, avatar: Avatar, wait: bool = False, face: Face | None = None) -> None:
        """Do now what showing `avatar` would need later.

        Args:
            wait: for its figure, where it is needed (up to a second), and have `rig` wait for its rig. Otherwise they are made
                in a thread, one avatar after another, those that are shown first.
            face: of the avatar, where it is to be drawn by a rig.
        """
        if face is not None:
            self._rigs.begin(self._rig_key(avatar, 1.0), avatar, face, first=wait, awaited=wait)
        if self._background != "as-is":
            self._mattes.find(avatar) if wait else self._mattes.begin(avatar)
        self._layers_of(avatar, shown=False)

    def rig(self, avatar: Avatar, face: Face) -> Rig | None:
        """The avatar's rig on this canvas; None where it is still being made (a second at most) and not waited for, or cannot be."""
        found = None
        if self.detail < 1:
            found = self._rigs.get(self._rig_key(avatar, self.detail), avatar, face)
        return found or self._rigs.get(self._rig_key(avatar, 1.0), avatar, face)

    def compose_rig(self, rig: Rig, motion: RigMotion, out: np.ndarray) -> None:
        """Write the present avatar, drawn by its rig, into `out` uint8 (H, W, 3), or RGBA with straight alpha (H, W, 4)."""
        layers = self._newest_layers()
        whole = layers.picture
        shown = whole.common(self._canvas)
        _copy_around(layers.rest, shown, out)
        region = shown.of(out, self._canvas)
        small = rig.shape[:2] != (whole.height, whole.width)
        if shown == whole and rig.shape[2] == region.shape[2] and not small:
            with drawing(rig):
                rig.draw(motion, region)
            return
        drawn = self._buffers("rig", (whole.height, whole.width, rig.shape[2]), np.uint8)
        if small:
            part = self._buffers("small rig", rig.shape, np.uint8)
            with drawing(rig):
                rig.draw(motion, part)
            if part.shape[2] == 3:
                soft = cv2.blur(part, (3, 3), dst=self._buffers("soft rig", rig.shape, np.uint8))
                cv2.addWeighted(part, 1 + CRISP, soft, -CRISP, 0, dst=part)
            cv2.resize(part, (whole.width, whole.height), dst=drawn, interpolation=cv2.INTER_LINEAR)
        else:
            with drawing(rig):
                rig.draw(motion, drawn)
        part = shown.of(drawn, whole)
        if rig.shape[2] == region.shape[2]:
            np.copyto(region, part)
        else:
            cv2.cvtColor(np.ascontiguousarray(part), cv2.COLOR_RGB2RGBA, dst=region)

    def _rig_key(self, avatar: Avatar, detail: float) -> tuple:
        return id(avatar), self._paste, self._background, detail

    def _build_rig(self, key: tuple, avatar: Avatar, face: Face) -> Rig | None:
        """Called from a thread of its own, too."""
        detail: float = key[-1]
        layers = self._plain(avatar)
        whole, square = layers.picture, layers.square
        width, height = (max(1, round(detail * side)) for side in (whole.width, whole.height))
        picture = layers.original
        if detail < 1:
            picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        place = Square(
            detail * (square.left - whole.left), detail * (square.top - whole.top), detail * square.width
        )
        matte = avatar.matte
        if matte is not None:
            if not self._paste:
                matte = cut(matte, avatar.square, max(1, round(avatar.square.side)))
            matte = cv2.resize(matte, (width, height), interpolation=cv2.INTER_AREA)
        kept_as = layers_key(picture, place, face, matte)

        def make() -> Rig | None:
            return self._make_rig(layers, kept_as, picture, face, place, matte)

        return shared(rig_key(kept_as, layers.original, face, self._background), make)

    def _make_rig(
        self,
        layers: Layers,
        kept_as: dict,
        picture: np.ndarray,
        face: Face,
        place: Square,
        matte: np.ndarray | None,
    ) -> Rig | None:
        """See `Rig`; `kept_as` is the `layers_key`."""
        whole = layers.picture
        height, width = picture.shape[:2]
        background: np.ndarray | str | None = None
        known = remembered_layers(kept_as) if face.mode == "on" else None
        try:
            rig = Rig(picture, face, place, matte, layers=known)
        except ValueError:
            return None
        if known is None and rig.head is not None:
            remember_layers(kept_as, rig.head.layers)
        if self._background == "as-is" or rig.head is None:
            if rig.head is not None:
                rig.shrink()
            return rig
        found = rig.head.layers.matte
        if found is None:
            found = np.full(picture.shape[:2], 255, np.uint8)
        if self._background == "alpha":
            background = "alpha"
        else:
            found = cv2.resize(found, (whole.width, whole.height), interpolation=cv2.INTER_LINEAR)
            canvas = self._new_background(layers.original, found, whole)
            assert canvas is not None
            behind = np.zeros_like(layers.original)
            shown = whole.common(self._canvas)
            shown.of(behind, whole)[...] = shown.of(canvas, self._canvas)
            background = cv2.resize(behind, (width, height), interpolation=cv2.INTER_AREA)
        rig = Rig(picture, face, place, matte, background, rig.head.layers)
        rig.shrink()
        return rig

    def set_avatar(self, avatar: Avatar) -> None:
        """Show this avatar from the next picture on."""
        self._avatar = avatar
        self._layers, self._waits = self._layers_of(avatar)

    @property
    def needs_deformation(self) -> bool:
        """Whether the present avatar looks better with the engine's deformation."""
        layers = self._layers
        return layers is not None and (
            layers.matte is not None
            or (self.sharp and self.detail == 1 and (layers.detailed or any(layers.edges)))
        )

    def at_rest(self, out: np.ndarray) -> None:
        """Write the avatar itself into `out` uint8 (H, W, 3 or 4)."""
        np.copyto(out, self._newest_layers().rest)

    def compose(
        self,
        square: np.ndarray,
        deformation: np.ndarray | None,
        out: np.ndarray,
        patches: Sequence[Patch] = (),
    ) -> None:
        """Write the finished picture into `out`.

        Args:
            square: the moved avatar, uint8 RGB (S, S, 3).
            deformation: float32 (h, w, 2), where in the avatar's square each place of `square` came from, as (x, y) in
                [-1, 1], -1 and 1 being the centres of the outermost pixels; None where the engine does not say.
            out: uint8 RGB (H, W, 3), or RGBA with straight alpha (H, W, 4).
            patches: laid over the avatar before it is bent; they need a deformation.
        """
        layers = self._newest_layers()
        bend = layers.bend if deformation is not None and self.needs_deformation else None
        if patches and deformation is not None:
            # Others may have these layers, too.
            figure = self._buffers("patched figure", layers.bend.figure.shape, np.uint8)
            np.copyto(figure, layers.bend.figure)
            paste(figure[..., :3], patches)
            bend = replace(layers.bend, figure=figure)
        self._compose(layers, square, deformation, out, bend)

    def _compose(
        self,
        layers: Layers,
        square: np.ndarray,
        deformation: np.ndarray | None,
        out: np.ndarray,
        bend: Bend | None,
    ) -> None:
        seen = layers.seen
        if not seen.width or not seen.height:
            np.copyto(out, layers.rest)
            return
        _copy_around(layers.rest, seen, out)
        if layers.matte is not None:
            self._compose_figure(layers, square, deformation, seen.of(out, self._canvas), bend)
            return
        region = seen.of(out, self._canvas)
        moved = region if region.shape[2] == 3 else self._buffers("moved", (*region.shape[:2], 3), np.uint8)
        if bend is not None:
            assert deformation is not None
            bend.into(moved, square, deformation, self._buffers)
        else:
            self._enlarge(layers, square, moved)
        if region.shape[2] == 4:
            cv2.cvtColor(moved, cv2.COLOR_RGB2RGBA, dst=region)

    def _newest_layers(self) -> Layers:
        assert self._avatar is not None and self._layers is not None, "set_avatar has to be called first"
        if self._waits and self._mattes.get(self._avatar) is not None:
            self.set_avatar(self._avatar)
        return self._layers

    def _enlarge(self, layers: Layers, square: np.ndarray, out: np.ndarray) -> None:
        """The model's picture itself, faded into the avatar at rest where it has edges inside it. `out` may be a view."""
        extent = layers.square
        if layers.seen == extent:
            resize(square, (extent.width, extent.height), out)
        else:
            whole = self._buffers("square", (extent.height, extent.width, 3), np.uint8)
            resize(square, (extent.width, extent.height), whole)
            np.copyto(out, layers.seen.of(whole, extent))
        if any(layers.edges):
            for rows, columns, share, rest in layers.fading:
                part = out[rows, columns]
                cv2.multiply(part, share, dst=part, scale=1 / 255)
                cv2.add(part, rest, dst=part)

    def _compose_figure(
        self,
        layers: Layers,
        square: np.ndarray,
        deformation: np.ndarray | None,
        region: np.ndarray,
        bend: Bend | None,
    ) -> None:
        """Write the moved figure into the canvas: with its matte as alpha, or over the new background."""
        assert layers.matte is not None
        shape = region.shape[:2]
        if bend is None or deformation is None:
            moved = self._buffers("moved", (*shape, 3), np.uint8)
            self._enlarge(layers, square, moved)
            matte = layers.seen.of(layers.matte, layers.picture)
            if layers.behind is None:
                cv2.cvtColor(moved, cv2.COLOR_RGB2RGBA, dst=region)
                cv2.insertChannel(matte, region, 3)
                return
        else:
            # The matte goes along as alpha: one bending for both.
            opaque = self._buffers("opaque square", (*square.shape[:2], 4), np.uint8)
            cv2.cvtColor(square, cv2.COLOR_RGB2RGBA, dst=opaque)
            figure = region if layers.behind is None else self._buffers("figure", (*shape, 4), np.uint8)
            bend.into(figure, opaque, deformation, self._buffers)
            if layers.behind is None:
                return
            moved = cv2.cvtColor(
                figure, cv2.COLOR_RGBA2RGB, dst=self._buffers("moved", (*shape, 3), np.uint8)
            )
            matte = cv2.extractChannel(figure, 3, dst=self._buffers("matte", shape, np.uint8))
        share = self._buffers("share", moved.shape, np.uint8)
        cv2.cvtColor(matte, cv2.COLOR_GRAY2RGB, dst=share)
        cv2.multiply(moved, share, dst=moved, scale=1 / 255)
        cv2.bitwise_not(share, dst=share)
        cv2.multiply(layers.behind, share, dst=share, scale=1 / 255)
        if region.shape[2] == 3:
            cv2.add(moved, share, dst=region)
        else:
            cv2.add(moved, share, dst=moved)
            cv2.cvtColor(moved, cv2.COLOR_RGB2RGBA, dst=region)

    def _layers_of(self, avatar: Avatar, shown: bool = True) -> tuple[Layers, bool]:
        """The layers, and whether they lack a matte that is being looked for."""
        matte = None if self._background == "as-is" else self._mattes.get(avatar)
        if matte is None and shown and self._background != "as-is":
            self._mattes.begin(avatar, first=True)
        waits = matte is None and self._background != "as-is"
        key = (id(avatar), self._paste, "as-is" if waits else self._background)
        if key not in self._kept:
            # The avatar is kept with its layers, so that no other can come by its id.
            self._kept[key] = avatar, self._build(avatar, matte) if matte is not None else self._plain(avatar)
            while len(self._kept) > KEPT_LAYERS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key][1], waits

    def _plain(self, avatar: Avatar) -> Layers:
        """The layers with the avatar's own background: the same for all canvases of a kind, which only read them."""
        kind = (self.shape, self.fit, self._paste)
        return of_avatar(avatar, kind, lambda: self._build(avatar, None))

    def _build(self, avatar: Avatar, matte: np.ndarray | None) -> Layers:
        original, place = avatar.original, avatar.square
        if matte is not None and matte.shape != original.shape[:2]:
            matte = cv2.resize(matte, original.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        if not self._paste:
            side = max(1, round(place.side))
            original = cut(original, place, side)
            matte = None if matte is None else cut(matte, place, side)
            place = Square(0, 0, side)
        picture, square = _places(self.width, self.height, self.fit, original.shape, place)
        figure = np.empty((picture.height, picture.width, 3), np.uint8)
        if place.side == avatar.image.shape[0] == square.width and not self._paste:
            np.copyto(figure, avatar.image)
        else:
            resize(original, (picture.width, picture.height), figure)
        seen = square.common(picture).common(self._canvas)
        edges = (
            square.left > picture.left + 1,
            square.top > picture.top + 1,
            square.right < picture.right - 1,
            square.bottom < picture.bottom - 1,
        )
        behind, own = None, figure
        if matte is not None:
            matte = cv2.resize(
                matte,
                (picture.width, picture.height),
                interpolation=cv2.INTER_AREA if picture.width < matte.shape[1] else cv2.INTER_LINEAR,
            )
            behind = self._new_background(figure, matte, picture)
            figure = figure_colours(figure, matte)
        rest = self._rest(figure, matte, behind, picture)
        if matte is None and rest.shape[2] == 3 and picture.common(self._canvas) == picture:
            # All of it is there already.
            figure = own = picture.of(rest, self._canvas)
        small, bent = avatar.image, figure
        if matte is not None:
            small, bent = cv2.cvtColor(small, cv2.COLOR_RGB2RGBA), np.dstack([figure, matte])
        return Layers(
            rest,
            picture,
            square,
            seen,
            figure,
            Bend(small, bent, picture, square, seen, edges),
            own,
            edges,
            matte,
            None if behind is None else np.ascontiguousarray(seen.of(behind, self._canvas)),
            detailed=place.side > avatar.image.shape[0] < square.width,
        )

    def _new_background(self, figure: np.ndarray, matte: np.ndarray, picture: Box) -> np.ndarray | None:
        """uint8 RGB (H, W, 3) of the whole canvas, or None for a transparent one."""
        if self._background == "alpha":
            return None
        if self._background == "blur":
            # Beside the picture its edges go on, so that bars are as blurred as the rest.
            return blurred_background(
                _on_canvas(figure, picture, self.width, self.height),
                _on_canvas(matte, picture, self.width, self.height),
                BLUR,
            )
        colour = [int(self._background[place : place + 2], 16) for place in (1, 3, 5)]
        return np.full((self.height, self.width, 3), colour, np.uint8)

    def _rest(
        self, figure: np.ndarray, matte: np.ndarray | None, behind: np.ndarray | None, picture: Box
    ) -> np.ndarray:
        rest = np.zeros(self.shape, np.uint8)
        shown = picture.common(self._canvas)
        transparent = matte is not None and behind is None
        if behind is not None:
            rest[..., :3] = behind
        if rest.shape[2] == 4 and not transparent:
            rest[..., 3] = 255
        target, figure = shown.of(rest, self._canvas), shown.of(figure, picture)
        matte = None if matte is None else shown.of(matte, picture)
        if behind is not None:
            assert matte is not None
            share = cv2.multiply(matte, 1 / 255, dtype=cv2.CV_32F)  # pyright: ignore[reportCallIssue, reportArgumentType]
            figure = cv2.blendLinear(
                np.ascontiguousarray(figure), np.ascontiguousarray(target[..., :3]), share, 1 - share
            )
        target[..., :3] = figure
        if transparent:
            target[..., 3] = matte
        return rest


#: Set when Python ends: what is in hand is finished, and nothing else begun.
_ending = threading.Event()


class _Rigs:
    """Rigs, each made once, in a thread that lives while there is something to make.

    Args:
        build: makes the one with a key; None where it cannot be.
    """

    def __init__(self, build: Callable[[tuple, Avatar, Face], Rig | None]):
        self._build = build
        self._made: OrderedDict[tuple, tuple[Avatar, Face, Rig | None]] = OrderedDict()
        self._wanted: OrderedDict[tuple, tuple[Avatar, Face]] = OrderedDict()
        self._awaited: set[tuple] = set()
        self._lock = threading.Condition()
        self._working = False

    def get(self, key: tuple, avatar: Avatar, face: Face) -> Rig | None:
        """The rig, if it is made or waited for; else it is the next one to be."""
        with self._lock:
            self._lock.wait_for(lambda: key not in self._awaited)
            made = self._made.get(key)
            if made is not None:
                self._made.move_to_end(key)
                return made[2]
        self.begin(key, avatar, face, first=True)
        return None

    def begin(
        self, key: tuple, avatar: Avatar, face: Face, first: bool = False, awaited: bool = False
    ) -> None:
        """Have it made, before all others where it comes `first`. `get` waits for it where it is `awaited`."""
        with self._lock:
            if key in self._made:
                return
            if awaited:
                self._awaited.add(key)
            self._wanted.setdefault(key, (avatar, face))
            if first:
                self._wanted.move_to_end(key, last=False)
            if self._working:
                return
            self._working = True
        start_thread(self._work, "rigs", _ending, COMPUTING)

    def _make(self, key: tuple, avatar: Avatar, face: Face) -> None:
        try:
            rig = self._build(key, avatar, face)
        except Exception:
            # Whatever is wrong with this picture, the network can draw it.
            logger.exception("no rig could be made for %s", avatar.name)
            rig = None
        with self._lock:
            # The avatar is kept with its rig, so that no other can come by its id.
            self._made[key] = avatar, face, rig
            while len(self._made) > KEPT_RIGS:
                self._made.popitem(last=False)
            self._awaited.discard(key)
            self._lock.notify_all()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._wanted or _ending.is_set():
                    self._working = False
                    return
                key, (avatar, face) = next(iter(self._wanted.items()))
            self._make(key, avatar, face)
            with self._lock:
                self._wanted.pop(key, None)
                last = not self._wanted
            if last:
                # Making one takes far more than it is: without this 10 MB stay, and 100 where its layers are cut out.
                close_matting()
                close_closed_eye()
                give_back()


class _Mattes:
    """The figures of avatars, each looked for once, in a thread that lives while there is something to look for.

    Args:
        longest: side of the pictures they are found in, in pixels: no canvas shows more.
    """

    def __init__(self, longest: int):
        self._longest = longest
        self._found: OrderedDict[int, tuple[Avatar, np.ndarray]] = OrderedDict()
        self._wanted: OrderedDict[int, Avatar] = OrderedDict()
        self._lock = threading.Lock()
        self._working = False

    def get(self, avatar: Avatar) -> np.ndarray | None:
        """The matte, uint8, of any scale; None where it is not found yet."""
        if avatar.matte is not None:
            return avatar.matte
        with self._lock:
            found = self._found.get(id(avatar))
        return found[1] if found else None

    def begin(self, avatar: Avatar, first: bool = False) -> None:
        """Have it looked for, before all others where it comes `first`."""
        if self.get(avatar) is not None:
            return
        with self._lock:
            self._wanted.setdefault(id(avatar), avatar)
            if first:
                self._wanted.move_to_end(id(avatar), last=False)
            if self._working:
                return
            self._working = True
        start_thread(self._work, "mattes", _ending, COMPUTING)

    def find(self, avatar: Avatar) -> None:
        """Look for it now."""
        if self.get(avatar) is not None:
            return
        picture, square = avatar.original, avatar.square
        factor = self._longest / max(picture.shape[:2])
        if factor < 1:
            extent = [max(1, round(side * factor)) for side in picture.shape[1::-1]]
            picture, square = cv2.resize(picture, extent, interpolation=cv2.INTER_AREA), square.scaled(factor)
        try:
            matte = find_matte(picture, square)
        except Exception:
            # Whatever is wrong with this picture, it can be shown as it is.
            matte = np.full(picture.shape[:2], 255, np.uint8)
        with self._lock:
            self._found[id(avatar)] = avatar, matte
            while len(self._found) > KEPT_MATTES:
                self._found.popitem(last=False)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._wanted or _ending.is_set():
                    self._working = False
                    return
                avatar = next(iter(self._wanted.values()))
            self.find(avatar)
            with self._lock:
                self._wanted.pop(id(avatar), None)


def _places(width: int, height: int, fit: str, shape: tuple[int, ...], square: Square) -> tuple[Box, Box]:
    """Where a picture of `shape` and its `square` go on a canvas.

    Filling keeps the square's middle as near to the canvas's as the picture reaches.
    """
    scale = (min if fit == "letterbox" else max)(width / shape[1], height / shape[0])
    extent = max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))
    left, top = (width - extent[0]) // 2, (height - extent[1]) // 2
    if fit == "fill":
        left = int(np.clip(round(width / 2 - (square.x + square.side / 2) * scale), width - extent[0], 0))
        top = int(np.clip(round(height / 2 - (square.y + square.side / 2) * scale), height - extent[1], 0))
    across, down = extent[0] / shape[1], extent[1] / shape[0]
    place = Box(
        left + round(square.x * across),
        top + round(square.y * down),
        left + round((square.x + square.side) * across),
        top + round((square.y + square.side) * down),
    )
    return Box(left, top, left + extent[0], top + extent[1]), place


def _on_canvas(pixels: np.ndarray, picture: Box, width: int, height: int) -> np.ndarray:
    """`pixels`, which cover `picture`, on the whole canvas; its edges are repeated beside it."""
    canvas = Box(0, 0, width, height)
    shown = picture.common(canvas)
    return cv2.copyMakeBorder(
        np.ascontiguousarray(shown.of(pixels, picture)),
        shown.top,
        height - shown.bottom,
        shown.left,
        width - shown.right,
        cv2.BORDER_REPLICATE,
    )


def _copy_around(rest: np.ndarray, hole: Box, out: np.ndarray) -> None:
    """Copy the canvas `rest` into `out` but for a hole."""
    rows = slice(hole.top, hole.bottom)
    np.copyto(out[: hole.top], rest[: hole.top])
    np.copyto(out[hole.bottom :], rest[hole.bottom :])
    np.copyto(out[rows, : hole.left], rest[rows, : hole.left])
    np.copyto(out[rows, hole.right :], rest[rows, hole.right :])


def _strips(layers: Layers) -> list[tuple[slice, slice]]:
    """The parts of what is seen of the square in which it is not fully shown, as rows and columns, none twice."""
    square, seen = layers.square, layers.seen
    band = int(np.ceil(FEATHER * max(square.width, square.height)))
    inner = Box(square.left + band, square.top + band, square.right - band, square.bottom - band).common(seen)
    left, top, right, bottom = layers.edges
    start = inner.top - seen.top if top else 0
    stop = inner.bottom - seen.top if bottom else seen.height
    first = inner.left - seen.left if left else 0
    last = inner.right - seen.left if right else seen.width
    rows = slice(start, stop)
    strips = [
        (slice(0, start), slice(None)),
        (slice(stop, None), slice(None)),
        (rows, slice(0, first)),
        (rows, slice(last, None)),
    ]
    return [
        strip
        for strip in strips
        if len(range(*strip[0].indices(seen.height))) and len(range(*strip[1].indices(seen.width)))
    ]
