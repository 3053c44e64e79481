"""How many people a service carries, from measured service times: a core, a card, a socket, and a day of arrivals."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from livepuppet.realtime.app.service.scaling import Scaling

#: What people bear: seconds from a frame's arrival to its encoded picture, 95 % of them, and share of frames that are replaced.
LATE, REPLACED = 0.05, 0.02

#: Seconds that are simulated for each count of people, and sets of phases; the worst counts.
SECONDS, PHASES = 20.0, 5

#: Longest wait of a batch for more frames, on a card.
BATCH_WAIT = 0.004

#: Steps of a day, in seconds, and of a worker's start.
STEP, START = 10.0, 20.0


@dataclass(frozen=True)
class Load:
    """What people of one worker see. Attributes: p95 of the delay in seconds, share of frames that are replaced, and of its time in use."""

    p95: float
    replaced: float
    busy: float

    @property
    def bearable(self) -> bool:
        return self.p95 <= LATE and self.replaced <= REPLACED


def one_worker(
    people: int,
    rate: float,
    service: Sequence[float] | Mapping[int, float],
    rng: np.random.Generator,
    seconds: float = SECONDS,
) -> Load:
    """People on one worker: each one's newest frame waits, the oldest of them is rendered next.

    Args:
        people: each with a phase of its own, and a camera that is not quite regular.
        rate: frames a second of each.
        service: seconds of pictures, drawn from at random (a core); or seconds of a batch by its size (a card).
        rng: of phases and times.
        seconds: that are simulated.
    """
    batches = dict(service) if isinstance(service, Mapping) else None
    times = None if batches is not None else np.asarray(service, float)
    most = max(batches) if batches is not None else 1
    arrivals = [(float(phase), person) for person, phase in enumerate(rng.uniform(0, 1 / rate, people))]
    heapq.heapify(arrivals)
    waiting: dict[int, float] = {}
    delays, replaced, now, spent = [], 0, 0.0, 0.0

    def arrive(until: float) -> None:
        nonlocal replaced
        while arrivals[0][0] <= until:
            at, person = arrivals[0]
            replaced += person in waiting
            waiting[person] = at
            heapq.heapreplace(arrivals, (at + 1 / rate + rng.normal(0, 0.001), person))

    while now < seconds:
        if not waiting:
            now = max(now, arrivals[0][0])
        arrive(now)
        if batches is not None and len(waiting) < min(most, people):
            now += BATCH_WAIT
            arrive(now)
        chosen = sorted(waiting, key=waiting.__getitem__)[:most]
        if batches is None:
            assert times is not None
            taken = float(times[rng.integers(len(times))])
        else:
            taken = batches[min(size for size in batches if size >= len(chosen))]
        now += taken
        spent += taken
        delays += [now - waiting.pop(person) for person in chosen]
    return Load(float(np.quantile(delays, 0.95)), replaced / (replaced + len(delays)), spent / now)


def most_people(
    rate: float, service: Sequence[float] | Mapping[int, float], seed: int = 0, seconds: float = SECONDS
) -> int:
    """Most people of one worker for whom every set of phases is bearable."""

    def bearable(people: int) -> bool:
        rng = np.random.default_rng(seed)
        return all(one_worker(people, rate, service, rng, seconds).bearable for _ in range(PHASES))

    people = 0
    while bearable(people + 1):
        people += 1
    return people


@dataclass(frozen=True)
class Day:
    """What a day was like.

    Attributes:
        people: most at the same time.
        workers: most at the same time.
        worker_hours: of all together.
        refused: share of those who came.
        lost: workers that died with their node.
        moved, ended: sessions that others took over, and for which there was no place.
    """

    people: int
    workers: int
    worker_hours: float
    refused: float
    lost: int
    moved: int
    ended: int


def day(
    peak: int,
    places: int,
    seed: int = 0,
    minutes: float = 20.0,
    node: int = 32,
    losses: float = 4.0,
    ceiling: int | None = None,
) -> Day:
    """Arrivals of a day, by a wave with its top in the evening, on a service that scales by its own rules.

    Args:
        peak: people at the same time in the evening, on average.
        places: of one worker.
        seed: of all that is random.
        minutes: that people stay, on average (exponential).
        node: workers of a machine.
        losses: machines that die in the day, on average.
        ceiling: workers at most; None: as many as the rules want.
    """
    rng = np.random.default_rng(seed)
    scaling = Scaling(1, ceiling or 1 << 30)
    workers, starting, most = math.ceil(peak / 4 / places), [], 0
    people = arrived = refused = refusals = lost = moved = ended = top = 0
    hours = 0.0
    for step in range(int(86400 / STEP)):
        now = step * STEP
        wave = 0.55 - 0.45 * math.cos(2 * math.pi * (now / 86400 - 20 / 24 + 0.5))
        people -= rng.binomial(people, 1 - math.exp(-STEP / (60 * minutes)))
        coming = int(rng.poisson(peak * wave * STEP / (60 * minutes)))
        workers += sum(at <= now for at in starting)
        starting = [at for at in starting if at > now]
        if rng.random() < losses * STEP / 86400 and workers > node:
            # A share of .3 of what remains is kept for those who take over.
            share = people * node // workers
            workers, lost = workers - node, lost + node
            room = max(int((workers * places) / 0.7) - (people - share), 0)
            moved, ended = moved + min(share, room), ended + max(share - room, 0)
            people -= max(share - room, 0)
        free = max(workers * places - people, 0)
        arrived, refused = arrived + coming, refused + max(coming - free, 0)
        refusals += coming > free
        people += min(coming, free)
        wanted = scaling.wanted(workers + len(starting), workers * places, people, refusals, now)
        starting += [now + START] * max(wanted - workers - len(starting), 0)
        if wanted < workers:
            workers = wanted
        hours += workers * STEP / 3600
        most, top = max(most, workers), max(top, people)
    return Day(top, most, hours, refused / max(arrived, 1), lost, moved, ended)
