"""Lids of one eye: their edges, lashes and folds, the skin that they close with, and how they go along with their edges."""

from __future__ import annotations

import cv2
import numpy as np

from livepuppet.realtime.rig.closed_eyes import HEIGHT, LEFT, PER_WIDTH, ROUND, TOP, WIDTH, where_lids_meet
from livepuppet.realtime.rig.eye_crop import EyeCrop, disc, filled, membrane
from livepuppet.realtime.rig.ramps import held, smooth

#: Lashes and lines hang over an eye by no more than this, in its widths.
LASH_TALL = 0.2


class EyeLids(EyeCrop):
    """What an eye's lids are cut out of and closed with."""

    def _lower_edge(self) -> None:
        """Move the upper edge from where skin ends to where the lashes above the eye do, so that these go with the lid."""
        w, iris = self.width, (self.iris_x, self.iris_y)
        self.thick = self.solid = np.zeros(self.u.shape, np.float32)
        u = np.linspace(0, 1, 41)
        edge = np.interp(u, *self._edge_table())
        tall = np.maximum(np.interp(u, *self._column(self.low)) - edge, 1e-3)

        def seen(heights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            """How light places (N, 41) are, and how far from the iris's middle, in its radii."""
            mx, my = self._at(np.broadcast_to(u * w, heights.shape), heights)
            light = cv2.remap(self.light, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            return cv2.blur(light, (3, 1)), np.hypot(mx - iris[0], my - iris[1]) / self.radius

        inside, far = seen(edge + np.linspace(0.25, 0.9, 16)[:, None] * tall)
        offs = np.arange(-0.05, LASH_TALL, max(0.01, 0.5 / w)) * w
        light, _ = seen(edge + offs[:, None])
        light[offs[:, None] > 0.45 * tall] = 255
        first = light[offs < 0.6 * LASH_TALL * w].argmin(0)
        columns = np.arange(len(u))
        dark = light[first, columns]
        # Before the iris, whose top is as dark as they are, lashes are as thick as beside it.
        bright = np.percentile(inside, 75, axis=0)
        clear = (bright - dark > 25) & ((far < 1.1).mean(0) < 0.15) & (u > 0.06) & (u < 0.94)
        if clear.sum() < 4:
            return
        below = np.arange(len(offs))[:, None] > first
        behind = (far < 1.1).mean(0) >= 0.15
        bright = np.where(behind, np.percentile(inside, 50, axis=0), bright)
        ends = ((light > dark + 0.5 * (bright - dark)) & below).argmax(0)
        # A line is as dark all through, a shadow gets lighter.
        solid = ((light < dark + 0.25 * (bright - dark)) & (np.arange(len(offs))[:, None] < ends)).sum(0)
        curves = []
        for value in (np.maximum(offs[ends], 0), solid * (offs[1] - offs[0])):
            plain = np.interp(u, u[clear], value[clear])
            # Where they stand out from the iris they may be thicker, but not than elsewhere.
            most = np.minimum(value, 1.1 * np.percentile(value[clear], 80))
            stands = behind & (bright - dark > 40)
            value = np.where(stands, np.maximum(most, plain), plain)
            value = np.array([np.median(value[max(k - 5, 0) : k + 6]) for k in columns])
            value = np.minimum(value, 0.45 * tall) * smooth(0.0, 0.12, np.minimum(u, 1 - u))
            value = cv2.GaussianBlur(value[None].astype(np.float32), (0, 0), 2.5)[0]
            curves.append(np.interp(self.u.ravel(), u, value).reshape(self.u.shape).astype(np.float32))
        self.thick, self.solid = curves
        # The iris and the shade below a lid are dark as well.
        self.thick = np.minimum(self.thick, np.maximum(self.solid, 0.18 * (self.low - self.up)))
        self.up = self.up + self.thick
        self.low = np.maximum(self.low, self.up + 0.02)
        self.span = self.low - self.up
        middle = (self.u > 0.02) & (self.u < 0.98)
        self.tall = max(float(self.span[middle].max()), 1.0) if middle.any() else self.tall

    def _find_skin(self, picture: np.ndarray) -> None:
        """The lid's skin where the eye is open now: from the lid above to the skin below, smoothly."""
        room = self.up - self.crease
        self.start = self.crease - 0.5 * room
        sides = (self.u > -0.1) & (self.u < 1.1)
        above = (self.v > self.start) & (self.v < self.up - 0.4 * room) & sides
        below = (self.v > self.low + 0.09 * self.width) & (self.v < self.low + 0.22 * self.width) & sides
        cheek = self._band_colour(picture, below)
        self.cheek_colour = self._spread(cheek)
        self.lid_colour = self._spread(self._band_colour(picture, above, cheek.mean(0)))
        u = np.linspace(0, 1, 97)
        deep = max(float(self.low.max()), 1e-3)
        round_eye = float(smooth(*ROUND, deep / self.width))
        closed = where_lids_meet(np.interp(u, *self._column(self.low)), self.width)
        # Corners stay where they are, and beside them nothing comes down.
        ends = np.interp([0, 1], *self._edge_table())
        closed += ends[0] + (ends[1] - ends[0]) * u
        closed = np.interp(self.u.ravel(), u, closed).reshape(self.u.shape)
        # How much sooner than its share an edge comes down: beside the corners, most of round lids, and of others all over.
        sooner = 0.1 * (1 - round_eye)
        aside = 0.6 + 0.4 * round_eye
        self.arch = sooner + aside * np.square(2 * np.clip(self.u, 0, 1) - 1).astype(np.float32)
        inside = (self.u > 0) & (self.u < 1)
        self.closed = np.where(inside, np.maximum(closed, self.up), self.up).astype(np.float32)
        rough = picture - cv2.GaussianBlur(picture, (0, 0), 1.0)
        self.grain = float(np.median(np.abs(rough[below]))) if below.any() else 0.0
        self.flat = self.grain < 0.35
        # How uneven the skin below is: drawn skin is one colour or a smooth gradient.
        # Without rims that cross it.
        plain = below
        if self.rims is not None:
            plain = below & (cv2.dilate(self.rims.astype(np.uint8), disc(0.05 * self.width)) == 0)
            plain = plain if plain.sum() > 0.2 * below.sum() else below
        known = plain.astype(np.float32)
        usual, weight = (cv2.GaussianBlur(v, (0, 0), 0.12 * self.width) for v in (self.light * known, known))
        rough = self.light - usual / np.maximum(weight, 1e-3)
        level = max(float(self.cheek_colour.mean()), 1.0)
        self.shaded = 100 * float(np.percentile(np.abs(rough[plain]), 25)) / level if plain.any() else 0.0

    def _find_lashes(self, picture: np.ndarray) -> None:
        """What is dark along the upper lid's edge, as a band that moves with it: alpha and colour around the edge."""
        reach = 0.13 * self.width
        self.reach = reach
        lid = cv2.cvtColor(self.lid_colour.clip(0, 255).astype(np.uint8)[:, :], cv2.COLOR_RGB2LAB)[
            ..., 0
        ].astype(np.float32)
        offset = self.v - self.up
        band = (np.abs(offset) < 0.05 * self.width) & (self.u > 0.05) & (self.u < 0.95)
        dark = float(np.percentile(self.light[band], 8)) if band.any() else 0.0
        depth = np.maximum(lid - dark, 12.0)
        alpha = np.clip((lid - self.light - 0.12 * depth) / (0.75 * depth), 0, 1)
        # Along the edge's own coordinates: rows are offsets from it, columns u.
        rows = max(round(2 * reach), 8)
        self.lash_rows = np.linspace(-reach, reach, rows, dtype=np.float32)
        self.lash_u = np.linspace(-0.1, 1.1, max(round(1.2 * self.width), 12), dtype=np.float32)
        edge = self._edge_table()
        uu, rr = np.meshgrid(self.lash_u, self.lash_rows)
        height = np.interp(uu.ravel(), edge[0], edge[1]).reshape(uu.shape) + rr
        mx, my = self._at(uu * self.width, height)
        self.lash_rgb = cv2.remap(picture, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        a = cv2.remap(alpha.astype(np.float32), mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        # From the darkest place near the edge upwards it is lash until it is skin for once: the fold above is none.
        middle = int(np.searchsorted(self.lash_rows, 0.0))
        step = 2 * reach / (rows - 1)
        near = slice(
            max(middle - max(round(0.09 * self.width / step), 1), 0),
            middle + max(round(0.03 * self.width / step), 1),
        )
        tops = np.zeros(a.shape[1], np.float32)
        for k in range(a.shape[1]):
            strong = near.start + np.flatnonzero(a[near, k] >= 0.6 * a[near, k].max())
            first = int(strong[np.abs(strong - middle).argmin()])
            clear = np.flatnonzero(a[:first, k] < 0.2)
            # What is dark all the way up is a rim or a brow.
            top = int(clear[-1]) if len(clear) else max(first - round(0.035 * self.width / step), 0)
            tops[k] = -self.lash_rows[top] if a[first, k] > 0.3 else 0.0
        # Few columns reach further than those beside them.
        wide = max(round(0.06 * len(tops)), 1)
        usual = np.array(
            [np.median(tops[max(k - wide, 0) : k + wide + 1]) for k in range(len(tops))], np.float32
        )
        usual = cv2.GaussianBlur(usual[None], (0, 0), max(0.5 * wide, 0.5))[0]
        above = -self.lash_rows[:, None] - usual[None]
        a *= smooth(0.05 * self.width, 0.02 * self.width, above)
        self._lash_tops = np.maximum(usual, 0.0)
        # Below the edge an iris is as dark as lashes: there the band is that of the columns beside it.
        far = np.hypot(mx - self.iris_x, my - self.iris_y)
        iris = (far < 1.12 * self.radius) & (rr > -0.01 * self.width)
        known = ~iris
        for row in range(middle, rows):
            if known[row].any() and not known[row].all():
                a[row] = np.interp(self.lash_u, self.lash_u[known[row]], a[row][known[row]])
        below = np.maximum(self.lash_rows, 0)[:, None]
        # A line that the iris or a light interrupts goes on.
        wide = max(round(0.22 * a.shape[1]), 1)
        columns = np.clip(
            np.arange(-wide, wide + 1)[:, None] + np.arange(a.shape[1])[None], 0, a.shape[1] - 1
        )
        a = np.maximum(a, np.median(a[:, columns], axis=1)).astype(np.float32)
        a *= np.exp(-((below / max(0.034 * self.width, 0.8)) ** 4))
        a *= np.clip((reach - np.abs(self.lash_rows)) / (0.25 * reach), 0, 1)[:, None]
        a *= (smooth(-0.1, 0.0, self.lash_u) * smooth(1.1, 1.0, self.lash_u))[None]
        # No sharper than the picture.
        self.lash_alpha = cv2.GaussianBlur(a, (0, 0), max(0.3 * self.soft, 0.5))
        weight = a + 1e-4
        # One colour per column, the darkest's: what shows through thin lashes is not theirs.
        weight = weight**3 * np.where(iris, 0.02, 1.0)
        tone = (self.lash_rgb * weight[..., None]).sum(0) / weight.sum(0)[:, None]
        tone = cv2.GaussianBlur(tone[None], (0, 0), max(0.04 * self.width, 1.0))[0]
        own = (np.clip(a, 0, 1) ** 0.5 * ~iris)[..., None]
        self.lash_rgb = (self.lash_rgb * own + tone[None] * (1 - own)).astype(np.float32)
        strong = float(np.percentile(a.max(0), 60))
        # Lashes or a drawn line of at least this darkness show where lids meet.
        self.line_tone = np.minimum(tone.mean(0), self.lid_colour.mean((0, 1)) * 0.4).astype(np.float32)
        self.line_alpha = (0.95 if self.flat else 0.8) - 0.25 * strong
        tops = cv2.dilate(self._lash_tops[None], np.ones((1, 2 * wide + 1)))[0]
        tops = cv2.GaussianBlur(tops[None], (0, 0), max(0.5 * wide, 0.5))[0]
        self.lash_up = np.interp(self.u.ravel(), self.lash_u, tops).reshape(self.u.shape).astype(np.float32)

    def _shut(self, picture: np.ndarray) -> None:
        """The picture with closed lids but for their lashes: opening and lashes filled smoothly from the skin around."""
        w = self.width
        edge = self._edge_band(max(0.01, 0.8 / w))
        self.from_edge = cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, 5)
        lashes = self._old_lashes()
        reach = np.maximum(self.lash_up, 0.02 * w) + 0.03 * w
        zone = (
            (self.v > self.up - reach) & (self.v < self.low + 0.07 * w) & (self.u > -0.04) & (self.u < 1.04)
        )
        # Round eyes are steep beside their corners.
        opening = (self.v > self.up) & (self.v < self.low) & (self.u > 0) & (self.u < 1)
        zone |= cv2.dilate(opening.astype(np.uint8), disc(0.07 * w)) > 0
        # Between the corners lashes hang together with the edge all the way; folds lie beyond skin.
        folds = (self.v < self.up - self.lash_up - 0.16 * w) & (self.u > 0.02) & (self.u < 0.98)
        lashes[folds] = 0
        # There are hardly any beside the inner corner, and beside the outer one they do not go down.
        inward = self.u - 1 if self.side == "left" else -self.u
        beyond, deep = (lashes > 0) & (inward < -1.04), self.v > self.up + 0.06 * w
        if (beyond & deep).sum() > 0.3 * beyond.sum():
            # A fold that runs down past the corner is none.
            lashes[(inward < -1) | ((inward < -0.86) & (self.from_edge > 0.06 * w))] = 0
        lashes[(inward > 0.05) | ((inward < -1) & (self.v > self.up + 0.05 * w))] = 0
        if not self.has_white:
            # Dark eyes go on into their corners.
            near = cv2.dilate(opening.astype(np.uint8), disc(0.12 * w)) > 0
            dark = self.light < 0.6 * float(np.median(self.cheek_colour))
            lashes |= (near & dark & (np.abs(self.u - 0.5) > 0.42)).astype(np.uint8)
        lashes |= self._wing()
        grow = disc(0.03 * w)
        hole = zone | (cv2.dilate(lashes, grow) > 0)
        thin = self._thin()
        # What is in front of the eye.
        if self.rims is None:
            self.rim = np.zeros(self.u.shape, np.float32)
        else:
            rim = self._thick_rims() if self.dark_rims else self._coloured_rims()
            self.rim = cv2.dilate(rim, disc(0.015 * w))
        still = np.maximum(self.rim, self._dark_around(lashes, thin))
        self.front = cv2.GaussianBlur(still.astype(np.float32), (0, 0), max(0.7, 0.5 * self.soft))
        self.front[self.front < 0.03] = 0
        self.has_front = bool(self.front.max() > 0.2)
        self._find_fold(lashes)
        level = max(float(np.median(self.cheek_colour)), 1.0)
        #: Whether a deep fold hangs over the eye, 0 to 1.
        self.hooded = float(self.fine * smooth(0.14, 0.24, self.fold_depth / level)) if self.has_fold else 0.0
        if self.has_fold:
            # A fold that meets the lashes somewhere is none; they are darker than a faint one.
            faint = thin < 2.2 * self.fold_depth
            lashes[faint & (self.v < self.cut) & (self.u > 0.02) & (self.u < 0.98)] = 0
            lashes[(self.v < self.cut - 0.03 * w) & (np.abs(self.u - 0.5) > 0.2)] = 0
        # Lashes are short, and longer at the outer side; what is less dark is a shadow.
        far = self.up - self.v
        outward = self.u - 0.5 if self.side == "right" else 0.5 - self.u
        longest = (0.15 + 0.12 * smooth(0.2, 0.45, outward) - 0.09 * smooth(0.1, 0.4, -outward)) * w
        foot = (lashes > 0) & (far < 0.05 * w)
        black = float(np.percentile(thin[foot], 70)) if foot.any() else 0.0
        dense = (
            cv2.blur((lashes > 0).astype(np.float32), (2 * round(0.08 * w) + 1, 2 * round(0.03 * w) + 1))
            > 0.6
        )
        shadow = (far > 0.06 * w) & (thin < np.where(dense, 0.8, 0.4) * black)
        lashes[((far > longest) | shadow) & (outward < 0.48)] = 0
        # What belongs to the open eye, and to neither skin nor fold, with its blur.
        blur = 0.5 * max(self.soft - 0.02 * w, 0)
        line = blur + 0.03 * w if self.has_fold else np.maximum(self.lash_up, 0.02 * w) + 0.015 * w + blur
        bar = (self.v > self.up - line) & (self.v <= self.up)
        bar &= (self.u > 0.0) & (self.u < 1.0)
        strokes = cv2.dilate(lashes, disc(0.03 * w + blur)) > 0
        if not self.has_white:
            # Nor do the dark rims of eyes without one.
            near = cv2.dilate(opening.astype(np.uint8), disc(0.2 * w)) > 0
            # Below it only what is as dark as they are: tears leave their stains.
            below = (self.v > self.low) & (np.abs(self.u - 0.5) < 0.5)
            dark = self.light < np.where(below, 0.5, 0.8) * float(np.median(self.cheek_colour))
            rims = cv2.morphologyEx((near & dark).astype(np.uint8), cv2.MORPH_OPEN, disc(0.01 * w)) > 0
            strokes |= cv2.dilate(rims.astype(np.uint8), disc(0.03 * w)) > 0
        if self.has_fold and self.fine < 0.5:
            # A drawn fold stays as a whole.
            strokes &= (self.v > self.cut) | (np.abs(self.u - 0.5) > 0.48)
        gone = strokes | bar | (cv2.dilate(opening.astype(np.uint8), disc(0.05 * w + blur)) > 0)
        # Nor do tips that are left.
        tips = (cv2.dilate(strokes.astype(np.uint8), disc(0.06 * w)) > 0) & (thin > max(0.2 * black, 6.0))
        tips &= (self.v < self.up) & (self.v > (self.cut if self.has_fold else self.up - 0.3 * w))
        tips &= (outward > -0.46) & (outward < (0.46 if self.fine > 0.5 else 0.62))
        gone |= cv2.dilate(tips.astype(np.uint8), disc(0.02 * w)) > 0
        strokes = strokes | (gone & (self.v < self.up))
        gone &= self.front < 0.5
        # Nor does the lower lid's rim with its shade.
        rim = (self.v > self.low) & (self.v < self.low + 0.10 * w) & (self.u > -0.02) & (self.u < 1.02)
        known = (~gone & ~rim & (self.front < 0.05)).astype(np.float32)
        around = ~gone & (self.front < 0.3)
        behind = filled(picture, around.astype(np.float32)) if around.any() else picture
        behind = cv2.GaussianBlur(behind, (0, 0), max(0.02 * w, 0.7))
        # Shadows around an eye and the dark behind a face say little of its lid.
        usual = float(np.median(self.cheek_colour.mean(2)))
        known *= 0.02 + 0.98 * smooth(0.3, 0.6, picture.mean(2) / max(usual, 1.0)).astype(np.float32)
        clean = filled(picture, known) if known.any() else picture
        clean = cv2.GaussianBlur(clean, (0, 0), max(0.02 * w, 0.7))
        self.texture = self._texture_beside(picture, hole)
        # Specks that are left of them are no skin.
        close = cv2.dilate(gone.astype(np.uint8), disc(0.15 * w)) > 0
        specks = (thin > 6) & ~gone & (self.v < self.up) & (self.front < 0.3)
        _, labels, stats, _ = cv2.connectedComponentsWithStats(specks.astype(np.uint8), connectivity=8)
        small = np.maximum(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT]) < 0.2 * w
        small[0] = False
        close &= (self.v > self.up - 0.3 * w) & (np.abs(self.u - 0.5) < 0.7)
        gone |= (cv2.dilate(small[labels].astype(np.uint8), disc(0.03 * w)) > 0) & close
        changed = cv2.morphologyEx((gone | rim).astype(np.uint8), cv2.MORPH_CLOSE, disc(0.05 * w)) > 0
        fresh = cv2.GaussianBlur(changed.astype(np.float32), (0, 0), max(0.015 * w, 0.7))
        # Wide shadows beside an eye go on over its lid, hair and rims do not.
        wide = cv2.dilate(((self.rim > 0) | (thin > 10)).astype(np.uint8), disc(0.02 * w)) == 0
        wide &= np.abs(self.u - 0.5) > 0.5
        free = (~changed & ((self.front < 0.05) | wide)).astype(np.float32)
        if self.fine < 0.5:
            # A drawn line says nothing of the colours beside it.
            lines = cv2.morphologyEx(self.light, cv2.MORPH_BLACKHAT, disc(0.04 * w)) > max(8, 5 * self.grain)
            free[cv2.dilate(lines.astype(np.uint8), disc(0.02 * w)) > 0] = 0
        lid = clean
        if free.any():
            # The lid's skin goes down to where lids meet.
            lid = membrane(picture, free, w)
            above = membrane(picture, free * (self.v < self.closed), w)
            over = smooth(0.01 * w, -0.03 * w, self.v - self.closed) * (0.6 if self.has_fold else 0.3)
            over *= smooth(0.6, 0.44, np.abs(self.u - 0.5))
            lid = lid + (above - lid) * over[..., None]
        lid = lid + self.texture
        # Where lashes were outside of the lid there is skin.
        away = cv2.GaussianBlur((strokes | bar).astype(np.float32), (0, 0), max(0.012 * w, 0.6))
        away = held(1.6 * away) * (1 - self.front)
        inner = smooth(0.0, 0.12, 0.5 - np.abs(self.u - 0.5))
        # Those that hang together with hair stay for good.
        hair = cv2.GaussianBlur(self.front, (0, 0), max(0.06 * w, 1.0))
        stays = smooth(0.25, 0.05, hair)
        beyond = strokes & (np.abs(self.u - 0.5) > 0.5)
        keeps = self.fine < 0.5 and bool(beyond.any()) and float((stays[beyond] < 0.5).mean()) > 0.15
        if keeps:
            # A drawn one of which a part would be left stays as a whole.
            outer = smooth(0.1, 0.3, outward)
            stays = stays * (1 - outer)
        away *= np.maximum(inner, stays)
        skin = picture + (behind + self.texture - picture) * away[..., None]
        feather = max(0.02 * w, 0.7)
        if self.has_fold:
            fresh = fresh * smooth(-feather, feather, self.v - self.cut)
        share = held(2.5 * fresh) * (1 - self.front) * smooth(0.82, 0.7, np.abs(self.u - 0.5))
        if keeps:
            share *= np.maximum(inner, 1 - outer)
        self.skin = np.clip(skin + (lid - skin) * share[..., None], 0, 255).astype(np.float32)
        # How much of each pixel is lash, before the skin behind it.
        light, own = behind.mean(2), picture.mean(2)
        depth = max(float(np.percentile((light - own)[strokes], 90)) if strokes.any() else 0.0, 20.0)
        # Real ones are as soft as they are, drawn ones are there or not.
        least, most = 0.12 - 0.07 * self.fine, 0.6 + 0.35 * self.fine
        self.stroke = held((light - own - least * depth) / (most * depth)) * held(
            1.6 * cv2.GaussianBlur(strokes.astype(np.float32), (0, 0), max(0.012 * w, 0.6))
        )
        self.stroke *= (self.v < self.up + 0.5 * self.soft) * (1 - self.front)
        self.stroke *= smooth(longest, 0.75 * longest, far) * smooth(0.0, 0.03, 0.5 - np.abs(self.u - 0.5))
        if self.fine:
            # Towards the corners, past which they do not come down, they get shorter.
            most = (0.01 + 0.6 * (0.5 - np.abs(self.u - 0.5))) * w
            self.stroke *= 1 - self.fine * (1 - smooth(1.3 * most, 0.5 * most, far))
        if not self.has_white:
            self.stroke[:] = 0
        self._take_lashes(strokes | bar)
        self.cover = np.maximum(away, share)
        if self.fine > 0.5:
            self._close(picture)
        self.tapers = smooth(0.22, 0.02, 0.5 - np.abs(self.u - 0.5)).astype(np.float32)
        aside = np.maximum(smooth(0.04, -0.04, self.u), smooth(0.96, 1.04, self.u))
        self.beside = smooth(0.0, 0.1, self.cover) * (aside if self.has_white else 1.0)

    def _old_lashes(self) -> np.ndarray:
        """What is dark and hangs together with the upper lid's edge, uint8 (h, w): lashes and lines, also beyond the corners.

        What goes on beyond their reach is hair, a brow or a rim; of that only what is close to the edge counts.
        """
        w, edge = self.width, self._edge_band(0.045)
        if not edge.any():
            return np.zeros(self.u.shape, np.uint8)
        # Thin dark things stand out from what lies around them, shadows do not.
        off = self._thin()
        depth = max(float(np.percentile(off[edge], 85)), 12.0)
        near = (
            (self.u > -0.34) & (self.u < 1.34) & (self.v > self.up - 0.26 * w) & (self.v < self.up + 0.2 * w)
        )
        opening = (self.v > self.up + 0.03 * w) & (self.v < self.low) & (self.u > 0) & (self.u < 1)
        dark = ((off > 0.3 * depth) & near & ~opening).astype(np.uint8)
        # What comes together beside a corner, a fold and a line of lashes, is not one.
        corner = np.minimum(np.abs(self.u), np.abs(self.u - 1)) < 0.015
        dark[corner & ~edge] = 0
        _, labels = cv2.connectedComponents(dark, connectivity=8)
        tips = near & ((self.v < self.up - 0.24 * w) | (self.u < -0.33) | (self.u > 1.33))
        tips[[0, -1]] |= near[[0, -1]]
        tips[:, [0, -1]] |= near[:, [0, -1]]
        out = np.zeros(self.u.shape, np.uint8)
        # Those beside the corners begin there.
        start = (np.abs(self.v - self.up) < 0.045 * w) & (self.u > -0.08) & (self.u < 1.08)
        for label in set(np.unique(labels[start & (dark > 0)]).tolist()) - {0}:
            part = labels == label
            if (part & tips).any():
                # Most of it is lash, and hangs together with something else by chance; or hardly any is.
                close = part & (self.from_edge < 0.30 * w)
                between = (self.from_edge < 0.1 * w) & (np.abs(self.u - 0.5) < 0.46)
                part = close if close.sum() > 0.85 * part.sum() else part & between
            out |= part.astype(np.uint8)
        return out

    def _wing(self) -> np.ndarray:
        """Lashes and make-up beyond the outer corner, uint8 (h, w), where they run into the dark of hair or shade, which is less dark."""
        w, above = self.width, self.up - self.v
        outward = self.u if self.side == "right" else 1 - self.u
        beside = (outward > 1.2) & (outward < 1.4) & (np.abs(above - 0.15 * w) < 0.25 * w)
        if beside.sum() < 6:
            return np.zeros(self.u.shape, np.uint8)
        near = (
            (np.hypot((outward - 1) * w, above - 0.1 * w) < 0.22 * w) & (outward > 0.9) & (above > -0.06 * w)
        )
        dark = float(np.median(self.light[beside]))
        lid = float(np.median(self.cheek_colour))
        dark = min(0.6 * dark, 0.4 * lid) if dark < 0.5 * lid else 0.0
        return cv2.dilate((near & (self.light < dark)).astype(np.uint8), disc(0.025 * w))

    def _dark_around(self, lashes: np.ndarray, thin: np.ndarray) -> np.ndarray:
        """What is much darker than the lid and does not move with it, float32 (h, w) of 0 and 1: a brow, hair, the dark beside a face
        that is half turned away.
        """
        w = self.width
        lid = cv2.cvtColor(self.lid_colour.clip(0, 255).astype(np.uint8), cv2.COLOR_RGB2LAB)[..., 0]
        beside = cv2.dilate(lashes, disc(0.06 * w)) > 0
        brow = (self.light < 0.62 * lid) & (self.v < self.up - 0.15 * w) & ~beside
        brow = cv2.morphologyEx(brow.astype(np.uint8), cv2.MORPH_OPEN, disc(0.02 * w))
        if self.dark_rims:
            # What is dark up there hangs together with the rims, which are known.
            brow[:] = 0
        # Brows go higher than folds.
        _, labels = cv2.connectedComponents(brow, connectivity=8)
        high = (self.v < self.up - 0.26 * w) & (brow > 0)
        high[0] |= brow[0] > 0
        brow = np.isin(labels, np.unique(labels[high])) & (brow > 0)
        outside = (self.v < self.up) | (self.u < 0) | (self.u > 1)
        dark = (self.light < 0.4 * lid) & (thin < 10) & outside & (self.from_edge > 0.1 * w) & ~beside
        if not self.has_white:
            # The rim of an eye that is dark itself belongs to it.
            opening = (self.v > self.up) & (self.v < self.low) & (self.u > 0) & (self.u < 1)
            dark &= cv2.dilate(opening.astype(np.uint8), disc(0.2 * w)) == 0
        dark = cv2.morphologyEx(dark.astype(np.uint8), cv2.MORPH_OPEN, disc(0.08 * w))
        return (brow | dark).astype(np.float32)

    def _coloured_rims(self) -> np.ndarray:
        """Rims of another colour than lashes, float32 (h, w) of 0 and 1: not what is alike of the eye itself."""
        w = self.width
        outward = self.u - 1 if self.side == "right" else -self.u
        eye = (self.v > self.up - 0.14 * w) & (self.v < self.low + 0.02 * w) & (np.abs(self.u - 0.5) < 0.38)
        lashes = (self.from_edge < 0.17 * w) & (outward > -0.15)
        lashes |= (self.from_edge < 0.1 * w) & (np.abs(self.u - 0.5) < 0.56)
        rims = (self.rims & ~(eye | lashes)).astype(np.uint8)
        # What is left of an eye's own outline is small.
        _, labels, stats, _ = cv2.connectedComponentsWithStats(rims, connectivity=8)
        large = np.maximum(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT]) > 0.3 * w
        return (large[labels] & (rims > 0)).astype(np.float32)

    def _thick_rims(self) -> np.ndarray:
        """Rims that are dark, thicker than lashes and pass over the eye, float32 (h, w); 1 also close to its edge."""
        w = self.width
        light = cv2.cvtColor(self.lid_colour.clip(0, 255).astype(np.uint8), cv2.COLOR_RGB2LAB)[..., 0]
        dark = (self.light < 0.45 * light).astype(np.uint8)
        # With the light that lies on them.
        dark = cv2.morphologyEx(dark, cv2.MORPH_CLOSE, disc(0.02 * w))
        thick = cv2.morphologyEx(dark, cv2.MORPH_OPEN, disc(0.045 * w))
        thick = cv2.dilate(thick, disc(0.02 * w)) & dark
        thick[(self.from_edge < 0.17 * w) | ((self.v > self.up) & (self.u > -0.1) & (self.u < 1.1))] = 0
        _, labels = cv2.connectedComponents(thick, connectivity=4)
        # They pass over the whole eye; hair and lashes beside it do not.
        found = np.zeros(thick.shape, np.float32)
        for label in range(1, int(labels.max()) + 1):
            part = labels == label
            if np.ptp(self.u[part]) > 1:
                found[part] = 1
        return found if found.mean() < 0.5 else np.zeros_like(found)

    def _find_fold(self, lashes: np.ndarray) -> None:
        """Where the lid's own skin ends and what hangs over it begins: `cut`, float32 (h, w), heights. A fold that is seen ends it;
        without one, skin begins right above the lashes.
        """
        w = self.width
        u = np.linspace(0.04, 0.96, 47)
        top = np.interp(u, *self._column(self.lash_up))
        edge = np.interp(u, *self._edge_table())
        offs = np.arange(0.0, 0.26 * w, max(0.01 * w, 0.5))
        rows = edge[None] - offs[:, None]
        mx, my = self._at(np.broadcast_to(u * w, rows.shape), rows)
        line = cv2.morphologyEx(self.light, cv2.MORPH_BLACKHAT, disc(0.08 * w))
        seen = cv2.remap(line, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        # Folds go along the edge, lashes across.
        seen = cv2.blur(seen, (7, 1), borderType=cv2.BORDER_REPLICATE)
        front = cv2.remap(self.front, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=1)
        # Hair, brows and rims are no folds.
        blocked = np.maximum.accumulate(front > 0.3, axis=0)
        seen[blocked] = 0
        # A line of the lashes' own foot is none either: a fold has skin below it.
        seen -= np.minimum.accumulate(np.vstack([seen[:1], seen[:-1]]), axis=0)
        usual = float(np.median(line))
        cost = -np.minimum(seen, 40.0)
        step = 2
        total, back = cost.copy(), np.zeros(cost.shape, int)
        for k in range(1, cost.shape[1]):
            best = np.full(cost.shape[0], np.inf)
            for d in range(-step, step + 1):
                shifted = np.full(cost.shape[0], np.inf)
                lo, hi = max(d, 0), cost.shape[0] + min(d, 0)
                shifted[lo:hi] = total[lo - d : hi - d, k - 1] + 1.5 * abs(d)
                better = shifted < best
                best[better], back[better, k] = shifted[better], -d
            total[:, k] += best
        path = np.zeros(cost.shape[1], int)
        path[-1] = int(total[:, -1].argmin())
        for k in range(cost.shape[1] - 1, 0, -1):
            path[k - 1] = path[k] + back[path[k], k]
        depth = seen[path, np.arange(len(path))]
        self.fold_depth = float(np.median(depth))
        self.has_fold = bool(np.mean(depth > max(7.0, 1.2 * usual)) > 0.6)
        if self.fine < 0.5:
            # Nor is the upper rim of a drawn line.
            self.has_fold &= bool(np.median(offs[path]) > 0.06 * w)
        # Lashes that go on above it make none.
        mx, my = self._at(u * w, rows[path, np.arange(len(path))] - 0.06 * w)
        over = cv2.remap(lashes, mx[None], my[None], cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
        self.has_fold &= bool(over.mean() < 0.3)
        # Below it there is skin, as above.
        fold = np.interp(self.u.ravel(), u, rows[path, np.arange(len(path))]).reshape(self.u.shape)
        middle = (self.u > 0.1) & (self.u < 0.9)
        lid = middle & (self.v > fold) & (self.v < self.up - 0.03 * w)
        skin = middle & (self.v < fold - 0.06 * w) & (self.v > fold - 0.14 * w) & (self.front < 0.3)
        if lid.any() and skin.any():
            self.has_fold &= bool(np.percentile(self.light[lid], 70) > 0.75 * np.median(self.light[skin]))
        bottom = edge - top - 0.02 * w
        if self.has_fold:
            # To the fold's lower end.
            ends = path.copy()
            for k in range(len(path)):
                while ends[k] > 0 and seen[ends[k], k] > 0.3 * depth[k]:
                    ends[k] -= 1
            at = cv2.medianBlur(offs[ends].astype(np.float32)[None], 5)[0]
            fold = edge - cv2.GaussianBlur(at[None], (0, 0), 1.5)[0]
            bottom = np.minimum(fold, edge - 0.04 * w)
        bottom = cv2.GaussianBlur(
            bottom[None].astype(np.float32), (0, 0), 1.5, borderType=cv2.BORDER_REPLICATE
        )[0]
        self.cut = np.interp(self.u.ravel(), u, bottom).reshape(self.u.shape).astype(np.float32)

    def _close(self, picture: np.ndarray) -> None:
        """Let `skin` be closed as the network draws it, and `cover` be where that is not the picture."""
        w = self.width
        at = self.u if self.side == "right" else 1 - self.u
        x = (at - np.float32(LEFT)) * np.float32(PER_WIDTH)
        y = (self.v * np.float32(1 / w) - np.float32(TOP)) * np.float32(PER_WIDTH)
        colours, before = (
            cv2.remap(one, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE) for one in self._closed_eye
        )
        change = colours - before
        # Without a seam where the rectangle or the frame ends.
        height, wide = self.u.shape
        ends = [self.x, wide - 1 - self.x, self.y, height - 1 - self.y]
        far = np.minimum.reduce(
            [*ends, *(k * np.float32(w / PER_WIDTH) for k in (x, WIDTH - 1 - x, y, HEIGHT - 1 - y))]
        )
        change *= held(far / np.float32(0.1 * w))[..., None]
        # A deep fold and what lies above it, hair and thin rims among it, hardly change; others get fainter.
        level = max(float(np.median(self.cheek_colour)), 1.0)
        deep = float(smooth(0.12, 0.25, self.fold_depth / level)) if self.has_fold else 0.0
        top = self.cut if self.has_fold else self.crease - np.float32(0.04 * w)
        below = smooth((0.08 * deep - 0.1) * w, (0.03 + 0.12 * deep) * w, self.v - top)
        change *= (1 - (0.5 + 0.3 * deep) * (1 - below))[..., None]
        much = np.abs(change).max(2) / max(0.1 * float(np.median(self.cheek_colour)), 2.0)
        much = cv2.GaussianBlur(much, (0, 0), max(0.015 * w, 0.6))
        # What changes little keeps what is finer than the frame's pixels; what changes much is not in front of the eye.
        changes = smooth(0.7, 1.7, much)
        rim = cv2.GaussianBlur(self.rim, (0, 0), max(0.7, 0.5 * self.soft))
        self.front = np.maximum(self.front * (1 - changes), np.where(rim < 0.03, 0, rim)).astype(np.float32)
        # Towards a deep fold it goes over into what is there.
        anew = np.maximum(self.cover, changes * (1 - deep * (1 - below)))
        skin = picture + change
        skin += (colours + self.texture - skin) * anew[..., None]
        shown = 1 - self.front
        self.skin = np.clip(picture + (skin - picture) * shown[..., None], 0, 255).astype(np.float32)
        self.cover = (np.maximum(anew, smooth(0.05, 0.2, much)) * shown).astype(np.float32)

    def _texture_beside(self, picture: np.ndarray, hole: np.ndarray) -> np.ndarray:
        """What the skin has on its colours, pores, cracks, strokes or fur, float32 (h, w, 3): that below the eye, or that above
        where the picture ends, at the eye's place.
        """
        w = self.width
        free = (~hole) & (self.front < 0.1) & (cv2.dilate(hole.astype(np.uint8), disc(0.03 * w)) == 0)

        def finer(coarse: float) -> tuple[np.ndarray, float]:
            """What is finer than so many widths, and how much of it there is."""
            fine = picture - cv2.GaussianBlur(picture, (0, 0), max(coarse * w, 0.8))
            return fine, float(np.median(np.abs(fine[free]))) if free.sum() > 20 else 0.0

        if self.has_white:
            fine, usual = finer(0.02)
            # Wrinkles and folds are more than grain; cracks and strokes of paint are all over.
            rough = float(smooth(3.0, 5.0, usual))
            if rough > 0:
                fine, usual = finer(0.02 + 0.04 * rough)
            most = (1.5 + 4 * rough) * usual + 0.3
        else:
            fine, usual = finer(0.06)
            most = 3.5 * usual + 0.3
        best, known = np.zeros_like(fine), np.zeros(hole.shape, np.float32)
        tall = self.tall + 0.16 * w
        # Without seams, nor where the picture ends.
        clear = cv2.copyMakeBorder(free[1:-1, 1:-1].astype(np.float32), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
        clear = cv2.GaussianBlur(clear, (0, 0), max(0.05 * w, 1.0), borderType=cv2.BORDER_CONSTANT)
        clear = held(2 * clear - 1)
        below, beside = self.down * tall, self.along * w
        shifts = [below, 0.7 * below]
        shifts += [sign * far * beside for far in (0.6, 1.0, 0.35) for sign in (1, -1)]
        # Above there are brows.
        shifts += [-0.8 * below, -1.2 * below]
        for dx, dy in shifts:
            x, y = (self.x + np.float32(dx)), (self.y + np.float32(dy))
            seen = cv2.remap(fine, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
            there = cv2.remap(clear, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
            share = there * (1 - known)
            best += seen * share[..., None]
            known += share
        return np.clip(best, -most, most)

    def _take_lashes(self, strokes: np.ndarray) -> None:
        """The lashes' tone, and how they would hang down from a closed lid's edge: a band over u and the distance from the edge."""
        w = self.width
        strokes = strokes & (self.v < self.up)
        dark = strokes & (self.light <= np.percentile(self.light[strokes], 30)) if strokes.any() else strokes
        tone = np.median(self.crop[dark], axis=0) if dark.any() else self.line_tone
        edge = self._edge_table()
        uu, rr = np.meshgrid(self.lash_u, self.lash_rows)
        mx, my = self._at(uu * w, np.interp(uu.ravel(), *edge).reshape(uu.shape) + rr)
        alpha = cv2.remap(
            self.stroke.astype(np.float32), mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
        )
        # On the edge they begin.
        foot = np.abs(self.lash_rows) < 0.03 * w
        most = alpha[foot].max(0)
        alpha[self.lash_rows > -0.02 * w] = most
        alpha *= smooth(0.04 * w, 0.01 * w, self.lash_rows)[:, None] if self.has_white else 0
        alpha *= (smooth(0.0, 0.06, self.lash_u) * smooth(1.0, 0.94, self.lash_u))[None]
        alpha *= np.clip((self.reach - np.abs(self.lash_rows)) / (0.25 * self.reach), 0, 1)[:, None]
        self.hang_alpha = ((1 - 0.65 * self.fine) * alpha).astype(np.float32)
        # Lashes and lines are as dark as they are.
        self.line_tone = np.minimum(tone, 0.5 * self.lid_colour.mean((0, 1))).astype(np.float32)
        band = self._edge_band(0.06)
        if not self.has_white and band.any():
            # Rims have their own.
            darkest = band & (self.light <= np.percentile(self.light[band], 25))
            self.line_tone = np.median(self.crop[darkest], axis=0).astype(np.float32)

    def _lash_band(self) -> np.ndarray:
        """How much of `lash_rows` below a lid's edge and of `lash_u` is lash or line when the lid is down, float32 (rows, columns)."""
        w, u, below = self.width, self.lash_u, self.lash_rows[:, None]
        outward = u if self.side == "right" else 1 - u
        middle = np.abs(self.u - 0.5) < 0.3
        solid = float(np.median(self.solid[middle])) / w if middle.any() else 0.0
        # Drawn lines are as thick as they are, and go from corner to corner; dark rims meet.
        thick = 0.014 + (1 - self.fine) * np.clip(0.5 * solid - 0.014, 0.006, 0.026)
        thick = max((thick if self.has_white else 0.042) * w, 0.9)
        soft = float(np.hypot(thick, 0.5 * self.soft))
        most = self.line_alpha * (thick / soft) ** 0.5
        if not self.has_white:
            most = max(most, 0.95 * (thick / soft) ** 0.5)
        begins, ends = (-0.02, 0.1) if self.has_white else (-0.1, 0.12)
        bold = smooth(-0.05, 0.35, u) * smooth(1.05, 0.65, u) * (0.7 + 0.4 * smooth(0.2, 0.8, outward))
        swells = 0.0 if self.has_white else 0.8
        line = np.exp(-np.square(below / (soft * (1 - swells * (1 - np.maximum(bold, 0.3))))))
        line = line * most * smooth(begins, ends, 0.5 - np.abs(u - 0.5))
        # Their own, shorter than those that point up.
        taper = np.maximum(smooth(-0.10, 0.18, u) * smooth(1.10, 0.82, u), 0.1)
        own = np.zeros_like(line)
        for k, length in enumerate(taper * (0.35 + 0.2 * self.fine)):
            own[:, k] = np.interp(-self.lash_rows / length, self.lash_rows, self.hang_alpha[:, k], 0, 0)
        drawn = 1 - (1 - line) * (1 - own)
        if not self.fine:
            return drawn.astype(np.float32)
        # Real ones: a soft band, thickest at the outer side and a little past its corner, and out of it hang hairs.
        bold = (
            smooth(-0.06, 0.45, outward)
            * smooth(1.12, 0.85, outward)
            * (0.75 + 0.25 * smooth(0.3, 0.85, outward))
        )
        core = np.hypot(0.030 * w * np.maximum(bold, 0.15), 0.35 * self.soft)
        band = np.exp(-np.square(np.where(below < 0, 1.8, 1.0) * below / core))
        ends = smooth(-0.04, 0.08, outward) * smooth(1.10, 0.97, outward)
        long = (0.075 + 0.045 * smooth(0.3, 0.85, outward)) * w * np.maximum(bold, 0.1)
        hairs = held(1 - below / long) * (below > 0) * self._hairs(outward * w, below)
        real = ends * (1 - (1 - (0.75 + 0.17 * self.hooded) * band) * (1 - 0.5 * hairs) * (1 - 0.5 * own))
        real = cv2.GaussianBlur(real.astype(np.float32), (0, 0), max(0.25 * self.soft, 0.4))
        return (drawn + (real - drawn) * self.fine).astype(np.float32)

    def _hairs(self, outward: np.ndarray, below: np.ndarray) -> np.ndarray:
        """How dense hairs are, 0 to 1, over places from the inner to the outer corner (columns,) and below the edge (rows, 1), in pixels:
        they lean outward, and no two are alike.
        """
        w = self.width
        noise = np.random.default_rng(1).random(64).astype(np.float32)
        lean = 0.9 * (outward / w - 0.35)
        at = (outward - lean * below) / (0.02 * w) % 64
        first = np.floor(at).astype(int)
        share = smooth(0, 1, at - first)
        value = noise[first % 64] * (1 - share) + noise[(first + 1) % 64] * share
        return 0.25 + 0.75 * smooth(0.25, 0.75, value)

    def _lift(self, picture: np.ndarray) -> None:
        """Both lids as layers that slide with their edges, uint8 RGBA (h, w, 4): the picture without what is in front of it;
        alpha ends at the edge, and goes on in lashes.
        """
        soft = np.float32(1 / self.soft)
        bare = picture
        if self.has_front:
            clear = (self.front < 0.02).astype(np.float32)
            bare = picture + (filled(picture, clear) - picture) * self.front[..., None]
        # Lashes in the crop's own place, by their band.
        rows, columns = self.lash_alpha.shape
        per_row = (rows - 1) / (2 * self.reach)
        my = (self.v - self.up + np.float32(self.reach)) * np.float32(per_row)
        mx = (self.u + np.float32(0.1)) * np.float32((columns - 1) / 1.2)
        tone = cv2.remap(self.lash_rgb, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        # From the edge down it gets less.
        alpha = np.maximum.accumulate(self.lash_alpha[::-1])[::-1]
        alpha = cv2.remap(alpha, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        if not self.has_white:
            alpha[:] = 0
        alpha[self.v < self.up] = 1
        skin = held((self.up - self.v) * soft + np.float32(0.5))
        # Close to an edge the picture is half white, half lid: there the lid's colours are those a little further away.
        fringes = [
            edge * np.float32(0.9 * self.soft) * smooth(1.1 * self.soft, 0.2 * self.soft, np.abs(off))
            for edge, off in ((-1, self.v - self.up), (1, self.v - self.low))
        ]
        above, below = (
            cv2.remap(
                bare,
                self.x + shift * self.down[0],
                self.y + shift * self.down[1],
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
            for shift in fringes
        )
        above = self._without_iris(above)
        hangs = smooth(-0.3 * self.soft, 0.7 * self.soft, self.v - self.up)[..., None]
        colours = above + (tone - above) * hangs
        upper = np.dstack([colours, 255 * np.maximum(skin, alpha)])
        lower = np.dstack([below, 255 * held((self.v - self.low) * soft + np.float32(0.5))])
        self.upper_lid, self.lower_lid = (np.clip(lid, 0, 255).astype(np.uint8) for lid in (upper, lower))
        self._find_ways()

    def _without_iris(self, lid: np.ndarray) -> np.ndarray:
        """A lid's colours without what shows of the iris between its lashes: there they are as beside it."""
        w, off = self.width, self.v - self.up
        zone = (off > -(LASH_TALL + 0.05) * w) & (self.away < 1.12 * self.radius + self.soft)
        if not self.has_white or not zone.any():
            return lid
        reach = 1.15 * self.radius / w
        u = np.clip(np.array([self.iris_u / w - reach, self.iris_u / w + reach]), 0.02, 0.98)
        edge = np.interp(u, *self._edge_table())
        sides = []
        for at, top in zip(u, edge, strict=True):
            x, y = self._at(np.broadcast_to(np.float64(at * w), off.shape), top + off)
            sides.append(cv2.remap(lid, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
        share = np.clip((self.u - u[0]) / max(u[1] - u[0], 1e-3), 0, 1).astype(np.float32)[..., None]
        beside = sides[0] * (1 - share) + sides[1] * share
        # Lashes before it are darker.
        lighter = smooth(-8.0, 8.0, lid.mean(2) - beside.mean(2)) * smooth(
            0, 0.1 * self.radius, 1.12 * self.radius + self.soft - self.away
        )
        lighter *= smooth(-0.03 * w, 0.0, off + self.thick + 0.02 * w)
        return lid + (beside - lid) * lighter[..., None].astype(np.float32)

    def _find_ways(self) -> None:
        """How a lid's skin and lashes go along with its edge as it comes down."""
        w = self.width
        middle = np.abs(self.u - 0.5) < 0.4
        usual = float(np.percentile(self.lash_up[middle], 75)) if middle.any() else 0.0
        #: Above its edge a line goes along as it is, lashes up to `stiff` sink, and over `room` more the skin stretches.
        solid = float(np.median(self.solid[middle])) / w if middle.any() else 0.0
        self.line = float(0.03 + (1 - self.fine) * np.clip(1.2 * solid - 0.03, 0.0, 0.05)) * w
        self.stiff = float(np.clip(usual + 0.01 * w, self.line + 0.01 * w, 0.16 * w))
        room = cv2.GaussianBlur(self.up - (self.cut if self.has_fold else self.crease), (0, 0), 0.05 * w)
        self.room = np.maximum(room - self.stiff, 0.08 * w).astype(np.float32)
        #: How far what is above the corners goes: times the lid's share of its way, and times that and what is left of it.
        way = (self.closed - self.up).astype(np.float32)
        self.follow, self.follow_arch = (
            cv2.GaussianBlur(one, (0, 0), 0.1 * w) for one in (way, way * self.arch)
        )
        #: The lid's edge before the iris, how far it goes there, and how much sooner than its share.
        self.before_iris = tuple(
            float(np.interp(self.iris_u / w, *self._column(field)))
            for field in (self.up, self.closed - self.up, self.arch)
        )
        #: Of a lid's way, from where to where the skin that unfolds takes the place of what is seen now, of which lashes, fur and
        #: make-up would be drawn out.
        later = 0.02 * (1 - self.fine)
        self.bares = (0.1 + later, 0.27 + 4 * later) if self.has_white else (0.08, 0.4)
        # The line between the corners is left until the lid is nearly closed, and has one of its own.
        self.leaves = 0.5 + 0.1 * self.fine, 0.8 + 0.15 * self.fine
        inwards = 0.5 - np.abs(self.u - 0.5)
        self.between = smooth(-0.02, 0.06, inwards).astype(np.float32)
        self.line_tall = (self.line * (1 - (0.6 + 0.25 * self.fine) * smooth(0.28, 0.0, inwards))).astype(
            np.float32
        )
        self.tapers = np.maximum(self.tapers, np.float32(0.85))
        #: Of a blink, where lids begin to dim what is between them, and how much they do at last: drawn ones less.
        self.dims = float(0.45 - 0.1 * self.fine), 0.15 + 0.25 * self.fine
        #: Of a lid's way, from where to where the lashes of a closed one take the place of those of an open one.
        self.lashes_come = (0.4 - 0.25 * self.fine, 0.7 + 0.3 * self.fine) if self.has_white else (0.3, 0.95)
        #: Up to so far above its edge a lid that opens wide goes along as it is: with its lashes.
        self.rigid = np.float32(np.clip(np.percentile(self.lash_up, 75), 0.02 * w, 0.09 * w))

    def _skin_ends(self) -> np.ndarray:
        """Where skin above the eye ends, at the upper lid's edge or at a rim, (N, 2) in pixels of the picture."""
        u = np.linspace(-0.35, 1.35, 35)
        order = np.argsort(self.u.ravel())
        sorted_u, sorted_up = self.u.ravel()[order], self.up.ravel()[order]
        height = sorted_up[np.searchsorted(sorted_u, u).clip(0, self.u.size - 1)]
        if self.rim.any():
            rows, columns = np.nonzero(self.rim)
            at, v = self.u[rows, columns], self.v[rows, columns]
            for k, place in enumerate(u):
                near = np.abs(at - place) < 0.06
                height[k] = min(height[k], float(v[near].min())) if near.any() else height[k]
        x, y = self._at(u * self.width, height)
        return np.column_stack([x + self.left, y + self.top])
