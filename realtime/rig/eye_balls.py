"""The ball of one eye: its white, its iris and their lights, and where they lie under the lids."""

from __future__ import annotations

import cv2
import numpy as np

from livepuppet.realtime.rig.eye_crop import disc, filled
from livepuppet.realtime.rig.eye_lids import EyeLids
from livepuppet.realtime.rig.ramps import held, smooth

#: Up to so uneven, in percent of its light, skin is drawn, and from the second on real: then lashes are fine.
SHADED = 1.15, 1.4

#: Of the skin's colour, as far as it differs from gray, a real white has no more than this share.
SKIN_IN_WHITE = 0.42

#: Eyes that open wide do so by at most this share of their height.
WIDE = 0.3

#: So far, in its radii, an iris goes aside; and so much of what is seen of it at rest is seen there.
TURN, VISIBLE = 1.3, 0.7

#: Eyes without a white whose iris is as light as this beside their skin are of stone, and look nowhere.
STONE = 0.7


class EyeBall(EyeLids):
    """What is seen between an eye's lids."""

    def _find_white(self, picture: np.ndarray) -> None:
        """The eyeball without its iris: own pixels where it shows, a smooth surface where not."""
        edge = max(0.035 * self.width, 1.0)
        self.shows = (
            (self.v > self.up + edge) & (self.v < self.low - 0.6 * edge) & (self.u > 0.03) & (self.u < 0.97)
        )
        away = np.hypot(self.x - self.iris_x, self.y - self.iris_y)
        self.away = away
        white = self.shows & (away > 1.14 * self.radius)
        disc = self.shows & (away < 0.9 * self.radius)
        disc_light = float(np.median(self.light[disc])) if disc.any() else 60.0
        enough = white.sum() > max(0.08 * self.shows.sum(), 6)
        skin_light = float(np.median(self.cheek_colour))
        #: Of the iris, beside the skin's.
        self.darkness = disc_light / max(skin_light, 1.0)
        # Round eyes that the iris fills have none, nor have those of statues, whose irises are as light. In the shade of lids
        # a white is dark, but not as dark as the eye of a dog beside its fur.
        self.whiteness, self.has_white = 0.0, False
        if enough and disc.any() and self.radius < 0.35 * self.width:
            middle, high, most = np.percentile(self.light[white], [62, 80, 75])
            lighter = middle > disc_light + 12 or high > max(0.4 * skin_light, disc_light - 4)
            bright = self.light[white] >= middle
            off = np.median(self.lab[white][bright], axis=0) - np.median(self.lab[disc], axis=0)
            # What looks like the iris is none.
            differs = float(np.linalg.norm(off)) > 0.12 * skin_light
            self.has_white = bool(differs and lighter and most > max(0.5 * skin_light, disc_light + 2))
        if self._white_known is not None:
            self.has_white = self._white_known and bool(white.any())
        if not self.has_white:
            self._find_ball(picture)
            return
        self.white, self.white_seen = self._whole_white(picture)
        middle = self.shows & (np.abs(self.u - 0.5) < 0.4)
        light = self.white.mean(2)
        albedo = max(float(np.percentile(light[middle if middle.any() else self.shows], 88)), 1.0)
        self.white_tone = np.median(self.white[self.shows & (light > 0.85 * albedo)], axis=0)
        self.whiteness = albedo / max(skin_light, 1.0)
        # In the shade of lids it is never much darker than the skin.
        least = max(self._least_white or 0, 0.6 + 0.35 * self.real) * skin_light
        if least > albedo:
            lift = 1 + (least / albedo - 1) * (1 - self.white_seen)
            self.white = self.white * lift[..., None]
        # What lies on the eyeball, lids' and corners' shade, lies on the iris as well, but less is seen of it there.
        shade = cv2.GaussianBlur(self.white.mean(2), (0, 0), max(0.05 * self.width, 0.7))
        disc = self.shows & (self.away < 0.8 * self.radius)
        usual = float(np.median(shade[disc])) if disc.any() else max(albedo, least)
        self.shade = (np.clip(shade / max(usual, 1.0), 0.4, 1.0) ** 0.6).astype(np.float32)
        self.white = np.clip(self.white, 0, 255).astype(np.float32)

    def _whole_white(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The eyeball without its iris, float32 (h, w, 3), and where that is the picture's own (h, w), 0 to 1. What the picture does not
        show goes on from what it does, at the same share of the way from lid to lid, so that lids' shade goes on, too.
        """
        w, r = self.width, self.radius
        rim = max(0.10 * r, 1.2 * self.soft, 1.0)
        inside = (self.v > self.up) & (self.v < self.low) & (self.u > 0.0) & (self.u < 1.0)
        share, hue = self._white_share(inside & (self.away > r + 0.5 * rim), rim)
        # Over shares of the way across and down.
        rows, columns = np.linspace(0, 1, 33), np.linspace(0.0, 1.0, 97)
        edge = np.interp(columns, *self._edge_table())
        tall = np.maximum(np.interp(columns, *self._column(self.low)) - edge, 1e-3)
        mx, my = self._at(np.broadcast_to(columns * w, (33, 97)), edge + rows[:, None] * tall)
        # A ball is darker to its sides, and under its lid, but in flat drawings; where they are seen they are as they are.
        shade = 0.22 * smooth(0.2, 0.5, np.abs(self.u - 0.5))
        shade = shade + 0.30 * np.exp(-np.maximum(self.v - self.up, 0) / (0.07 * w))
        shade = 1 - smooth(0.3, 1.2, self.shaded) * shade
        # Where less light falls on the skin less falls on the ball.
        skin = self.cheek_colour.mean(2)
        shade = shade * np.clip(skin / max(float(np.median(skin[inside])), 1.0), 0.5, 1.5) ** 0.5
        shade = shade[..., None].astype(np.float32)
        colour = cv2.remap(picture / shade, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        weight = cv2.remap(share, mx, my, cv2.INTER_LINEAR) ** 2
        weight *= np.minimum(tall / (0.06 * w), 1)
        if weight.sum() < 1:
            colour[:], weight = 0.9 * self.cheek_colour.mean((0, 1)), np.ones_like(weight)
        # Veins and lashes are darker than the white around them.
        light = colour.mean(2)
        usual = float(np.average(light, weights=weight))
        weight = weight * smooth(0.5, 0.9, light / max(usual, 1.0)) + 1e-9
        # Shade that is none does not make it much lighter than it is anywhere.
        seen = cv2.remap(picture, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).mean(2)
        usual = min(float(np.average(light, weights=weight)), 1.2 * float(np.average(seen, weights=weight)))
        fill, total = np.zeros_like(colour), np.zeros_like(weight)
        # Close to what is seen as there; far from it as all of it.
        for across, down, part in ((5.0, 2.0, 1.0), (16.0, 4.0, 0.02), (60.0, 12.0, 1e-3)):

            def spread(value: np.ndarray, sigmas: tuple[float, float] = (across, down)) -> np.ndarray:
                return cv2.GaussianBlur(
                    value, (0, 0), sigmaX=sigmas[0], sigmaY=sigmas[1], borderType=cv2.BORDER_REFLECT
                )

            fill += part * spread((colour * weight[..., None]).astype(np.float32))
            total += part * spread(weight.astype(np.float32))
        fill /= total[..., None]
        deep = np.clip((self.v - self.up) / np.maximum(self.span, 1e-3), 0, 1)
        at = np.clip(self.u, 0, 1) * np.float32(96), deep * np.float32(32)
        fill = cv2.remap(fill, *(k.astype(np.float32) for k in at), cv2.INTER_LINEAR)
        # It is no lighter than most of it, and in drawings hardly.
        most = (1.08 - 0.08 * smooth(*SHADED, self.shaded)) * usual
        fill *= np.minimum(most / np.maximum(fill.mean(2, keepdims=True), 1.0), 1)
        # What is red at its ends is not the white's own.
        fill += 0.6 * (hue * fill.mean(2, keepdims=True) - fill)
        fill = self._neutral(fill) * shade
        share = cv2.GaussianBlur(share, (0, 0), max(0.5 * self.soft, 0.5))
        return (fill + (picture - fill) * share[..., None]).astype(np.float32), share

    def _white_share(self, outside: np.ndarray, rim: float) -> tuple[np.ndarray, np.ndarray]:
        """How much of each pixel `outside` the iris, bool (h, w), is white, float32 (h, w): skin, the corner's red and lashes are none;
        and the white's colour (3,), of a mean of 1.
        """
        share = cv2.erode(outside.astype(np.uint8), disc(max(0.4 * self.soft, 1.0))).astype(np.float32)
        chosen = share > 0
        if chosen.sum() < 6:
            return share, np.ones(3, np.float32)
        light, hue = self.light, self.lab[..., 1:]
        bright = chosen & (light >= np.percentile(light[chosen], 50))
        # Of what is bright the part that is least coloured.
        chroma = np.ptp(self.crop.astype(np.float32), axis=2)
        bright &= chroma <= np.percentile(chroma[bright], 50)
        colour = np.median(self.crop[bright], axis=0).astype(np.float32)
        usual, white = float(np.median(light[bright])), np.median(hue[bright], axis=0)
        share *= smooth(0.6, 0.82, light / max(usual, 1.0)) * smooth(1.5, 1.25, light / max(usual, 1.0))
        skin = cv2.cvtColor(self.cheek_colour.clip(0, 255).astype(np.uint8), cv2.COLOR_RGB2LAB)
        skin = np.median(skin[chosen].astype(np.float32), axis=0)[1:]
        way = skin - white
        length = float(np.hypot(*way))
        if length > 5:
            # Deeper in the white more of it may be red.
            along = ((hue - white) @ way) / length**2
            share *= smooth(1.0, 0.6, cv2.GaussianBlur(along, (0, 0), max(0.4 * self.soft, 0.6)))
        # Beside the iris, what is darker than the white is still iris.
        near = smooth(1.2, 2.0, self.away / (self.radius + rim))
        share *= np.maximum(
            smooth(0.62, 0.85, cv2.erode(light, disc(0.015 * self.width)) / max(usual, 1.0)), near
        )
        return share.astype(np.float32), colour / max(float(colour.mean()), 1.0)

    def _neutral(self, white: np.ndarray) -> np.ndarray:
        """The colours of a real white float32 (h, w, 3) without the skin's that is mixed into a narrow one's few pixels: under any
        light it is less red.
        """
        skin = np.median(self.cheek_colour, axis=(0, 1))
        skin = skin / max(float(skin.mean()), 1.0)
        light = white.mean(2, keepdims=True)
        usual = white[self.shows] if self.shows.any() else white.reshape(-1, 3)
        usual = usual.mean(0) / max(float(usual.mean()), 1.0)
        off = skin - 1
        # How much of the skin's colour it has.
        has = float((usual - 1) @ off) / max(float(off @ off), 1e-4)
        less = max(has - SKIN_IN_WHITE, 0.0) * self.real
        return white - light * np.float32(less * off)

    def _find_ball(self, picture: np.ndarray) -> None:
        """An eye without a white as it goes on behind its lids, uint8 RGB (h, w, 3)."""
        edge = self.shows & (self.v < self.low - 0.035 * self.width)
        whole = filled(picture, edge.astype(np.float32)) if edge.any() else picture
        share = cv2.GaussianBlur(edge.astype(np.float32), (0, 0), max(0.02 * self.width, 0.7))[..., None]
        share = np.clip(2 * share - 1, 0, 1)
        self.ball = np.clip(whole + (picture - whole) * share, 0, 255).astype(np.uint8)
        self.white = self.ball.astype(np.float32)

    def _find_iris(self, picture: np.ndarray) -> None:
        """The iris as a whole disc, and the catch-lights that stay while it turns."""
        r = self.radius
        size = int(np.ceil(1.35 * r)) + 1
        self.iris_size = size
        dy, dx = np.mgrid[-size : size + 1, -size : size + 1].astype(np.float32)
        far = np.hypot(dx, dy)
        mx, my = self.iris_x + dx, self.iris_y + dy
        tex = cv2.remap(picture, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        # Lashes hang over its top.
        hang = min((0.03 + 0.03 * self.fine) * self.width + 0.4 * self.soft, 0.18 * self.tall)
        clear = (self.v > self.up + hang) & (self.v < self.low - min(0.7 * self.soft, 0.18 * self.tall))
        clear &= (self.u > 0.02) & (self.u < 0.98)
        clear = clear if (clear & (self.away < r)).sum() > 20 else self.shows
        seen = cv2.remap(clear.astype(np.float32), mx, my, cv2.INTER_LINEAR) > 0.95
        # Up to the line along the lid's edge there may be iris, or lashes.
        maybe = (
            (self.v > self.up - self.thick + self.solid + 0.4 * self.soft) & (self.u > 0.02) & (self.u < 0.98)
        )
        maybe &= clear | (self.v < self.up + hang)
        maybe = (cv2.remap(maybe.astype(np.float32), mx, my, cv2.INTER_LINEAR) > 0.95) & ~seen
        if self.has_white:
            # Without the shade on it, which stays with the lids.
            shade = cv2.remap(self.shade, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            tex = tex / np.maximum(shade, 0.5)[..., None]
        light = tex.mean(2)
        if self.has_white:
            r *= self._disc_share(tex, (seen | maybe) & (np.abs(dy) < 0.5 * far))
        # The median over each ring, from what is seen; lower than the middle, so that catch-lights do not count.
        rings = np.arange(0, size + 2, 0.5, dtype=np.float32)
        profile = np.zeros((len(rings), 3), np.float32)
        last = None
        for k, ring in enumerate(rings):
            ringed = (np.abs(far - ring) < 1.0) & (far < 1.02 * r)
            near = seen & ringed
            if near.sum() < 0.2 * ringed.sum():
                near = (seen | maybe) & ringed
            if near.sum() > 3:
                order = np.argsort(light[near])
                middle = order[
                    int(0.25 * len(order)) : max(int(0.6 * len(order)), int(0.25 * len(order)) + 1)
                ]
                last = tex[near][middle].mean(0)
            if last is not None:
                profile[k] = last
        if last is None:
            profile[:] = (50, 42, 38)
        else:
            first = int(np.argmax(profile.any(1)))
            profile[:first] = profile[first]
        profile = cv2.GaussianBlur(profile[None], (0, 0), 1.2, borderType=cv2.BORDER_REPLICATE)[0]
        # At its rim the picture is half white, and a light in its middle is none of it.
        pure = max(r - 0.8 * max(self.soft, 0.1 * r), 0.6 * r)
        inner = int(np.searchsorted(rings, pure))
        darkest = int(profile[: inner + 1].mean(1).argmin())
        if self.real > 0.5:
            profile[:darkest] = profile[darkest]
        lighter = profile[inner:].mean(1) > profile[inner].mean()
        profile[inner:][lighter] = profile[inner]
        guess = np.stack([np.interp(far, rings, profile[:, k]) for k in range(3)], -1).astype(np.float32)
        over = light - guess.mean(2)
        span = float(np.percentile(light[seen], 95) - np.percentile(light[seen], 20)) if seen.any() else 60.0
        limit = float(np.clip(0.4 * span, 24.0, 40.0))
        within = (seen | maybe) & (far < 0.75 * r)
        if self.real > 0.5 and within.any():
            # In a dark one less is a light.
            lower = min(limit, max(0.5 * float(np.percentile(light[within], 50)), 18.0))
            # From above.
            limit = np.where(dy < 0.1 * r, np.float32(lower), np.float32(limit))
        # They are seen between lashes, too.
        open_ = (self.v > self.up - 0.9 * self.thick + 0.5 * self.soft) & (
            self.v < self.low - 0.4 * self.soft
        )
        open_ = cv2.remap(open_.astype(np.float32), mx, my, cv2.INTER_LINEAR) > 0.95
        spot = np.clip((over - 0.6 * limit) / (0.6 * limit), 0, 1) * open_ * (far < 0.97 * r)
        # What lies about the rim is the white beside it.
        count, parts = cv2.connectedComponents((spot > 0.2).astype(np.uint8), connectivity=8)
        white = [k for k in range(1, count) if np.median(far[parts == k]) > 0.72 * r]
        if self.real > 0.5 and count > 1:
            # Specks beside them are the picture's grain.
            sizes = np.array([float(spot[parts == k].sum()) for k in range(1, count)])
            white += [k + 1 for k in np.flatnonzero(sizes < 0.2 * sizes.max()).tolist()]
            # Below the middle there are lights of the iris's own.
            white += [
                k
                for k in range(1, count)
                if np.median(dy[parts == k]) > 0.15 * r and over[parts == k].max() < 2.2 * np.max(limit)
            ]
        spot *= (parts > 0) & ~np.isin(parts, white)
        # Drawn lights are a part of the drawn iris.
        lit = float((spot > 0.5).sum())
        many = lit > 0.22 * max(float((seen & (far < r)).sum()), 1.0) and lit > 0.2 * np.pi * r * r
        if many or not self.fine:
            spot = np.zeros_like(spot)
        spot = cv2.GaussianBlur(spot, (0, 0), 0.6)
        around = cv2.dilate(spot, disc(max(0.07 * r, 0.03 * r + 0.6 * self.soft)))
        own = seen & (around < 0.08) & (far < 1.02 * r)
        # Beside its rim the white or a lid may show: what is lighter than the rest of its ring is none of it.
        beside = (far > 0.72 * r) & (over > max(0.35 * span, 14.0))
        if self.has_white:
            # Unless it looks more like the iris than like the white.
            white = cv2.remap(self.white, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            own_lab, *others = (
                cv2.cvtColor(k.clip(0, 255).astype(np.uint8), cv2.COLOR_RGB2LAB).astype(np.float32)
                for k in (tex, white, guess)
            )
            # By hue more than by shade.
            far_off = [
                np.linalg.norm((own_lab - other) * np.float32((0.5, 2, 2)), axis=2) for other in others
            ]
            beside &= far_off[0] < far_off[1]
        own &= ~beside
        own &= (far < pure) | (over < 4)
        # Lashes are darker than its rings.
        if self.real > 0.5:
            own |= maybe & (around < 0.08) & (far < pure) & (np.abs(over) < max(0.12 * span, 10.0))
        mirror = own[:, ::-1] & ~own
        off = np.where(own[..., None], tex - guess, (tex - guess)[:, ::-1])
        # What is hidden goes on from what is seen.
        known = own + 0.35 * mirror
        near = guess + filled(off, known.astype(np.float32))
        texture = np.where(own[..., None], tex, np.where(mirror[..., None], 0.5 * (off + guess + near), near))
        keep = cv2.GaussianBlur(own.astype(np.float32), (0, 0), max(0.04 * r, 0.7))[..., None]
        keep = np.clip(2.0 * keep - 1.0, 0, 1)
        self.iris = np.clip(texture * keep + near * (1 - keep), 0, 255).astype(np.float32)
        soft = max(0.10 * r, 1.0, self.soft)
        self.iris_alpha = np.clip((1.03 * r - far) / soft + 0.5, 0, 1).astype(np.float32)
        # Catch-lights in the crop's own place.
        whole = np.zeros(self.u.shape, np.float32)
        back_x, back_y = self.x - self.iris_x + size, self.y - self.iris_y + size
        whole = cv2.remap(
            spot.astype(np.float32), back_x, back_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
        )
        self.glint = cv2.convertScaleAbs(np.dstack([picture * whole[..., None], 255 * whole]))
        if whole.max() > 0.5:
            # Those that shine through lashes come out below them.
            hidden = float(np.percentile((self.up + 0.5 * self.soft - self.v)[whole > 0.5], 80))
            if hidden > 0:
                x, y = (
                    place - np.float32(min(hidden, 0.5 * r) * k)
                    for place, k in zip((self.x, self.y), self.down, strict=True)
                )
                self.glint = cv2.remap(self.glint, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        self.has_glint = bool(whole.max() > 0.1)

    def _disc_share(self, tex: np.ndarray, beside: np.ndarray) -> float:
        """How much smaller than its contour the iris is in a soft picture: where, on the mean, its colour is half-way to the white's.

        Args:
            tex: the iris and what is around it, float32 (n, n, 3).
            beside: which of it is to be seen left and right of the middle, bool (n, n).
        """
        n = tex.shape[0] // 2
        y, x = np.mgrid[-n : n + 1, -n : n + 1].astype(np.float32) / self.radius
        far, shares = np.hypot(x, y), []
        steps = np.arange(0.6, 1.32, 0.04, dtype=np.float32)
        for side in (beside & (x < 0), beside & (x > 0)):
            rings = [side & (np.abs(far - step) < 0.05) for step in steps]
            if min(ring.sum() for ring in rings) < 2:
                continue
            colours = np.stack([np.median(tex[ring], axis=0) for ring in rings])
            iris = np.median(colours[:5], axis=0)
            way = colours[-1] - iris
            length = float(way @ way)
            if length < 30.0**2:
                continue
            at = (colours - iris) @ way / length
            # The last place that looks more like the iris.
            half = int(np.flatnonzero(at <= 0.5)[-1]) + 1
            if 0 < half < len(steps):
                before, after = float(at[half - 1]), float(at[half])
                shares.append(float(steps[half - 1]) + 0.04 * (0.5 - before) / max(after - before, 1e-3))
        return float(np.clip(np.mean(shares), 0.78, 1.0)) if shares else 1.0

    def _rest(self, picture: np.ndarray) -> None:
        """Make the lids over an eye at rest the picture: what it shows before the eyeball, lashes, their shade, the corner's red and
        skin, belongs to the lids and stays while the eye moves.
        """
        if self.has_white:
            # As rough as what is around.
            unseen = 0.3 * self.fine * (1 - self.white_seen)[..., None]
            self.white = np.clip(self.white + self.texture * unseen, 0, 255).astype(np.float32)
            size = self.iris_size
            at = [
                (place - middle + size).astype(np.float32)
                for place, middle in ((self.x, self.iris_x), (self.y, self.iris_y))
            ]
            iris = cv2.remap(self.iris, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            disc = cv2.remap(self.iris_alpha, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)[
                ..., None
            ]
            ball = self.white + (iris * self.shade[..., None] - self.white) * disc
            light = self.glint[..., 3:].astype(np.float32) * (disc / 255)
            ball = ball * (1 - light) + self.glint[..., :3] * disc
        else:
            ball = self.ball.astype(np.float32)
        w, soft = self.width, self.soft
        inside = smooth(-0.02, 0.02, self.u) * smooth(1.02, 0.98, self.u)
        corner = smooth(0.22, 0.1, np.minimum(self.u, 1 - self.u))
        # By how much of the way to skin a colour is another one.
        skin = np.linalg.norm(self.cheek_colour - self.white, axis=2) if self.has_white else 60.0
        enough = np.clip(0.5 * skin, 14.0, 50.0)
        unlike = 1 - self.white_seen if self.has_white else 1.0
        # Shade is a little of the darkest that there is.
        band = self._edge_band(0.05)
        dark = (
            picture[band][self.light[band] <= np.percentile(self.light[band], 5)].mean(0)
            if band.any()
            else 0.0
        )
        lids = []
        for lid, edge, sign in ((self.lower_lid, self.low, -1), (self.upper_lid, self.up, 1)):
            deep = sign * (self.v - edge)
            own = cv2.GaussianBlur(lid[..., 3].astype(np.float32) / 255, (0, 0), max(0.3 * soft, 0.5))
            at_edge = smooth(-1.5 * soft, -0.5 * soft, deep) * inside
            off = picture - ball
            # Lashes and lines are darker than the eyeball, skin and wet rims may be lighter.
            black = np.maximum((ball - dark).mean(2), 20.0)
            darker, lighter = held((-off.mean(2) - 3) / black), held((np.abs(off).max(2) - 4) / enough)
            reach = (0.08 + 0.06 * corner) * w + 0.5 * soft
            if sign < 0:
                # In the corners the line along the upper lid goes with that.
                its = smooth(0.3, 0.6, (self.v - self.up) / np.maximum(self.span, 0.5))
                darker, lighter = darker * its, lighter * np.where(off.mean(2) < 0, its, 1)
            need = darker * smooth(reach, 0.4 * reach, deep)
            shade = need * smooth(1.0, 0.5, lighter * corner) * at_edge
            reach = np.maximum(0.04, 0.2 * corner) * w + 0.3 * soft
            lighter = lighter * smooth(reach, 0.5 * reach, deep) * unlike
            need = np.maximum(need, lighter if sign < 0 else lighter * corner) * at_edge
            # No sharper than the picture: what is seen of rims moves.
            need = cv2.GaussianBlur(need, (0, 0), (0.3 if self.has_white else 0.5) * soft)
            cover = np.maximum(own, need)
            # The colour with which it covers what is behind it as the picture shows.
            solved = (picture - (1 - cover[..., None]) * ball) / np.maximum(cover, 0.02)[..., None]
            solved = np.minimum(solved, np.maximum(picture, lid[..., :3]) + 10)
            solved = lid[..., :3] + (solved.clip(0, 255) - lid[..., :3]) * at_edge[..., None]
            if self.has_white:
                # Before the iris there are lashes and shade as beside it.
                layer, weight = self._beside_iris(np.dstack([solved * shade[..., None], shade]), edge)
                there = np.maximum(layer[..., 3], own)
                colours = (lid[..., :3] * own[..., None] + layer[..., :3]) / np.maximum(
                    own + layer[..., 3], 1e-3
                )[..., None]
                weight = (weight * at_edge)[..., None]
                solved, cover = solved + (colours - solved) * weight, cover + (there - cover) * weight[..., 0]
            lid = np.rint(np.dstack([solved.clip(0, 255), 255 * cover])).astype(np.uint8)
            lids.append(lid)
            ball = ball + (lid[..., :3] - ball) * (lid[..., 3:].astype(np.float32) / 255)
        self.lower_lid, self.upper_lid = lids

    def _beside_iris(self, layer: np.ndarray, edge: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Before the iris what `layer` float32 (h, w, n) shows beside it, as far from the lid's `edge`; and where that is, (h, w)."""
        w = self.width
        reach = (1.12 * self.radius + 0.8 * self.soft) / w
        at, height = self._column(edge)
        u = np.array([self.iris_u / w - reach, self.iris_u / w + reach])
        sides, trust = [], smooth(0.02, 0.12, np.array([u[0], 1 - u[1]]))
        for k, top in zip(np.clip(u, 0.05, 0.95), np.interp(np.clip(u, 0.05, 0.95), at, height), strict=True):
            x, y = self._at(np.broadcast_to(np.float64(k * w), edge.shape), top + self.v - edge)
            sides.append(cv2.remap(layer, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
        across = np.clip((self.u - u[0]) / max(u[1] - u[0], 1e-3), 0, 1)
        shares = np.stack([(1 - across) * (trust[0] + 1e-3), across * (trust[1] + 1e-3)])
        shares = (shares / np.maximum(shares.sum(0), 1e-6)).astype(np.float32)
        last = (1.12 + 0.15 * self.fine) * self.radius + (0.8 + 0.4 * self.fine) * self.soft
        weight = smooth(last, last - 0.1 * self.radius - 0.3 * self.soft, self.away)
        return sides[0] * shares[0][..., None] + sides[1] * shares[1][..., None], weight.astype(np.float32)

    def _hold_gaze(self) -> None:
        """Let the iris go no further aside than where most of what is seen of it at rest is still seen."""
        if not self.has_white:
            return
        r = self.radius
        opening = (self.v > self.up) & (self.v < self.low) & (self.u > 0) & (self.u < 1)
        free = opening * (1 - self.front)
        for lid in (self.upper_lid, self.lower_lid):
            free = free * (1 - lid[..., 3] / np.float32(255))
        dy, dx = (k.ravel() for k in np.mgrid[-8:9, -8:9] / 8)
        disc = np.hypot(dx, dy) <= 1
        dx, dy = dx[disc] * r + self.iris_x, dy[disc] * r + self.iris_y
        steps = np.arange(0.0, 1.7, 0.05)[:, None] * r

        def furthest(sign: float) -> float:
            x, y = dx + sign * steps * self._aside[0], dy + sign * steps * self._aside[1]
            seen = cv2.remap(
                free.astype(np.float32), x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR
            ).mean(1)
            less = seen < VISIBLE * seen[0]
            return float(steps[max(int(less.argmax()) - 1, 0) if less.any() else -1, 0])

        # In narrow eyes, too, they turn.
        self.to_left = min(self.to_left, max(furthest(-1), 0.6 * r))
        self.to_right = min(self.to_right, max(furthest(1), 0.6 * r))
        self._turn_early()

    def _turn_early(self) -> None:
        """An eye turns as far as any, and is held softly where its corner is near."""
        most = 1.3 * TURN * self.radius
        self.turn_right, self.turn_left = (
            float(np.clip(most / far, 1.0, 2.0)) for far in (self.to_right, self.to_left)
        )

    def _find_ends(self) -> None:
        """How far the iris goes to each side: to the corners, and under both lids."""
        r, w = self.radius, self.width
        open_ = float(smooth(0.9, 1.4, self.tall / r))
        # Its edge goes a little past the corner.
        room = 0.9 * min(r, 0.3 * w)
        # More where it looks to the other side at rest.
        right, left = (max(TURN * r + sign * (0.5 * w - self.iris_u), TURN * r) for sign in (1, -1))
        self.to_right = float(np.clip(w - room - self.iris_u, 0.2 * r, right))
        self.to_left = float(np.clip(self.iris_u - room, 0.2 * r, left))
        self._turn_early()
        # How high the upper lid goes, and how far above it the skin gives way: by up to three tenths, to little more than half as tall
        # as wide.
        self.rise = float(np.clip(0.54 * w - self.tall, 0.14 * self.tall, WIDE * self.tall))
        if self.has_white:
            # No more than a little white comes out above the iris.
            covered = float(np.interp(self.iris_u / w, *self._edge_table())) - (self.iris_v - r)
            self.rise = float(np.clip(covered + 0.05 * r, 0.14 * self.tall, self.rise))
        # How far the lower one comes up.
        self.squint = min(0.36, 0.15 * w / max(self.tall, 1.0))
        middle = (self.u > 0.2) & (self.u < 0.8) & (np.abs(self.v - self.low) < 1)
        if self.has_white and middle.any():
            # It stays a curve.
            chord = np.interp(self.u, [0, 1], np.interp([0, 1], *self._column(self.low)))
            deep = float(np.percentile((self.low - chord)[middle], 80))
            self.squint = float(np.clip(0.75 * deep / max(self.tall, 1.0), 0.35 * self.squint, self.squint))
        close = (
            (self.rim > 0)
            & (self.v > self.low)
            & (self.v < self.low + 0.12 * w)
            & (np.abs(self.u - 0.5) < 0.4)
        )
        if close.any():
            # A rim that lies on the lower lid would go along.
            self.squint *= 0.35
        self.gives_way = np.float32(max(0.34 * w, 0.95 * float(self.span.max())))
        # Brows stay where they are.
        self.gives_way_above = np.float32(max(min(self.gives_way, 0.2 * w), 1.7 * self.rise))
        comes_up = float(np.maximum(self.low - self.closed, 0).max())
        self.gives_way_below = max(0.28 * w, 1.5 * comes_up)
        self.to_up = min(0.75 * r, (0.37 + 0.14 * open_) * self.tall)
        self.to_down = min(0.74 * r, 0.46 * self.tall)
        if not self.has_white:
            # Eyes that are all iris turn a little behind their lids.
            self.rise = min(self.rise, 0.05 * w)
            self.to_right = self.to_left = 0.12 * w
            self.turn_right = self.turn_left = 1.0
            self.to_up = self.to_down = min(0.10 * w, 0.12 * self.tall)
            if self.darkness > STONE:
                self.to_right = self.to_left = self.to_up = self.to_down = 0.0
