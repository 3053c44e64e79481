"""Puppets drawn while training, on the device that trains: a ring of groups in which the oldest
make room for fresh ones.

On a GPU drawing costs less than reading. A batch of identities is drawn in numbers on the CPU, sent
in one copy and rendered in all its poses in one call; pairs are then picked out of the ring by
indices, which are the only other thing that crosses over. Everything follows from the seed and from
how many batches were drawn, so a resumed training sees the puppets that an undisturbed one would.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from livepuppet.train.device import send
from livepuppet.train.puppets.identities import Identity, Motion, draw_groups, draw_identities, generator
from livepuppet.train.puppets.pairs import Puppets, chunks, geometry
from livepuppet.train.puppets.pool import POSES, SETTING, PoolError, keep_freed_memory
from livepuppet.train.puppets.renderer import RENDERER, Rendering, render

#: First generator seed of streams: above those of shards. Torch uses 32 bits of a seed.
FIRST_SEED, BATCHES, PARTS = 1 << 31, 1 << 18, 64


class PuppetStream(Puppets):
    """A ring of puppets on a device, speaking as `PuppetPool` does.

    Pictures are kept in 8 bits and surfaces in 16: a group of four at 256 pixels takes 0.9 MB.

    Args:
        device: where the ring lies and the renderer works.
        size: side of the pictures.
        coarse: side of the true flow; a quarter of `size` if None.
        setting: which puppets; see `identities.SETTINGS`.
        seed: of everything.
        hold: groups in the ring, a multiple of `fresh`.
        fresh: groups drawn at once.
        every: steps (calls of `refresh_sometimes`) from one batch of fresh groups to the next.
        poses: pictures per group.
        compiled: let `torch.compile` fuse the renderer, which takes a minute and pays on GPUs;
            where that fails it is said, and the renderer works as it is.
        part: which of several processes that train together this is; each draws puppets of its own.
    """

    def __init__(
        self,
        device: torch.device | str,
        size: int = 256,
        coarse: int | None = None,
        setting: str = SETTING,
        seed: int = 0,
        hold: int = 512,
        fresh: int = 32,
        every: int = 8,
        poses: int = POSES,
        compiled: bool = False,
        part: int = 0,
    ):
        if hold % fresh or min(hold, fresh, every) < 1:
            raise ValueError("the ring must hold a whole number of batches of fresh groups")
        keep_freed_memory()
        self.device, self.size, self.coarse = torch.device(device), size, coarse or size // 4
        self.setting, self.seed, self.poses = setting, seed, poses
        self.hold, self.fresh, self.every = hold, fresh, every
        self.part, self.steps = part, 0
        self.clock = _Clock(self.device)
        self._draw: Callable[..., Rendering] = _compiled() if compiled else render
        self._next = 0
        self._ring: dict[str, Tensor] = {}
        self._fields: dict[str, Tensor] = {}
        self._thread: ThreadPoolExecutor | None = None
        self._ahead: tuple[int, Future] | None = None
        if self.device.type != "cpu":
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="next puppets")

    def __len__(self) -> int:
        return self.hold * self.poses

    @property
    def batches(self) -> int:
        """Batches of fresh groups that belong to the steps done so far, the ring's first filling
        included.
        """
        return self.hold // self.fresh + max(self.steps - 1, 0) // self.every

    def refresh_sometimes(self, rng: torch.Generator | None = None) -> None:
        """Once per step: fill the ring if it is empty, and now and then draw fresh groups into it."""
        self.steps += 1
        self._catch_up()

    def state(self) -> dict[str, int | str]:
        """What a checkpoint has to keep of a stream."""
        return {"steps": self.steps, **self._same()}

    def load_state(self, state: dict[str, int | str]) -> None:
        """Go on where another stream stopped: the ring is drawn again as it was then.

        Raises:
            PoolError: that stream drew other puppets.
        """
        for name, value in self._same().items():
            if state.get(name) != value:
                raise PoolError(
                    f"the training that is to go on drew its puppets with {name} {state.get(name)}, and this one has "
                    f"{value}: resume it with the same program and options, or start in another --output folder."
                )
        self.steps = int(state["steps"])
        self._next = self.batches - self.hold // self.fresh
        self._ring = {}

    def _same(self) -> dict[str, int | str]:
        names = ("setting", "seed", "size", "coarse", "hold", "fresh", "every", "poses")
        return {"renderer": RENDERER} | {name: getattr(self, name) for name in names}

    def speed(self) -> dict[str, float]:
        """Pictures drawn so far by this process, per second of drawing, and those seconds (as far
        as they are known).
        """
        seconds = self.clock.seconds()
        pictures = self.clock.count
        return {"drawn": pictures, "drawn/s": pictures / max(seconds, 1e-9), "drawing s": seconds}

    # -------------------------------------------------------------------------------------------------------
    # drawing

    def _catch_up(self) -> None:
        while self._next < self.batches:
            self._refresh(self._next)
            self._next += 1
            if self._thread is not None:
                self._ahead = self._next, self._thread.submit(self._numbers, self._next)

    def _numbers(self, batch: int) -> tuple[Tensor, list[tuple[str, torch.Size]]]:
        """The numbers of a batch of identities and motions, in one row each, and how they are named
        and shaped.
        """
        number = (self.seed * PARTS + self.part) * BATCHES + batch
        rng = generator(FIRST_SEED + number % FIRST_SEED)
        identities = draw_identities(self.fresh, rng, self.setting)
        motions = draw_groups(self.fresh, self.poses, rng, self.setting)
        parts = {**identities.fields, "": motions.values.reshape(self.fresh, self.poses, -1)}
        flat = torch.cat([value.reshape(self.fresh, -1).float() for value in parts.values()], 1)
        return flat, [(name, value.shape[1:]) for name, value in parts.items()]

    def _drawn(self, batch: int) -> tuple[Identity, Motion]:
        """Identities (fresh rows) and their motions (fresh x poses rows) on the device."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == batch:
            flat, names = ahead[1].result()
        else:
            flat, names = self._numbers(batch)
        flat = send(flat, self.device)
        columns = flat.split([shape.numel() for _, shape in names], 1)
        fields = {
            name: column.reshape(-1, *shape) for column, (name, shape) in zip(columns, names, strict=True)
        }
        motions = fields.pop("")
        return Identity(fields), Motion(motions.reshape(self.fresh * self.poses, -1))

    @torch.no_grad()
    def _refresh(self, batch: int) -> None:
        """Draw a batch and put it where the oldest lies."""
        first = batch * self.fresh % self.hold
        # Positions in 16 bits would be wrong by pixels, whatever the training around computes in.
        with self.clock.running(self.fresh * self.poses), torch.autocast(self.device.type, enabled=False):
            identities, motions = self._drawn(batch)
            self._put(self._fields, first, geometry(identities).fields)
            start = first * self.poses
            for rows in chunks(len(motions), self.size, self.device):
                identity, motion = identities[rows // self.poses], motions[rows]
                full = self._draw(identity, motion, self.size)
                values = {
                    "pictures": (full.picture * 255).round().to(torch.uint8).permute(0, 2, 3, 1),
                    "motions": motion.values,
                    "points": full.points,
                    "jacobians": full.jacobians,
                }
                start = self._put(self._ring, start, values)
            start = first * self.poses
            for rows in chunks(len(motions), self.coarse, self.device):
                small = self._draw(identities[rows // self.poses], motions[rows], self.coarse)
                values = {"surfaces": small.surface.half(), "layers": small.layer.to(torch.uint8)}
                start = self._put(self._ring, start, values)

    def _put(self, ring: dict[str, Tensor], first: int, rows: dict[str, Tensor]) -> int:
        """Write rows from place `first` on; returns the place after the last."""
        room = self.hold * (self.poses if ring is self._ring else 1)
        for name, values in rows.items():
            if name not in ring:
                ring[name] = torch.empty(room, *values.shape[1:], dtype=values.dtype, device=self.device)
            ring[name][first : first + len(values)] = values
        return first + len(values)

    # -------------------------------------------------------------------------------------------------------
    # picking

    def _send(self, rows: Tensor) -> Tensor:
        self._catch_up()
        return send(rows, self.device)

    def _rows(self, name: str, rows: Tensor) -> Tensor:
        return self._ring[name].index_select(0, rows)

    def _identities(self, groups: Tensor) -> Identity:
        return Identity({name: value.index_select(0, groups) for name, value in self._fields.items()})


def _compiled() -> Callable[..., Rendering]:
    """The renderer as `torch.compile` makes it, or as it is where that cannot be done here."""
    fused = torch.compile(render)
    working = True

    def draw(identity: Identity, motion: Motion, size: int) -> Rendering:
        nonlocal working
        if working:
            try:
                return fused(identity, motion, size)
            except Exception as error:  # compilers fail in many ways, and none of them is the training's end
                working = False
                why = str(error).strip().splitlines() or [type(error).__name__]
                warnings.warn(
                    f"The renderer could not be compiled ({why[0][:200]}); it works as it is.", stacklevel=2
                )
        return render(identity, motion, size)

    return draw


class _Clock:
    """How long drawing took, without waiting for the device.

    Attributes:
        count: pictures drawn.
    """

    def __init__(self, device: torch.device):
        self.count = 0
        self._device, self._seconds = device, 0.0
        self._open: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def running(self, count: int) -> _Clock:
        self.count += count
        return self

    def _now(self):
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def __enter__(self) -> None:
        self._begin = self._now()

    def __exit__(self, *_) -> None:
        end = self._now()
        if self._device.type == "cuda":
            self._open.append((self._begin, end))  # pyright: ignore[reportArgumentType]
        else:
            self._seconds += end - self._begin  # pyright: ignore[reportOperatorIssue]

    def seconds(self) -> float:
        """Of what has ended."""
        while self._open and self._open[0][1].query():
            begin, end = self._open.pop(0)
            self._seconds += begin.elapsed_time(end) / 1000
        return self._seconds
