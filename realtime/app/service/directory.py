"""Places sessions on workers. Knows nothing of connections: `directory_server` brings what workers and clients say."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from livepuppet.core.errors import UserError
from livepuppet.realtime.app.clients import invitation
from livepuppet.realtime.app.service.keys import Keys
from livepuppet.realtime.app.service.store import Store
from livepuppet.realtime.app.service.tickets import VALID, Signer, Ticket

#: Seconds between a worker's reports, and without one after which nobody is placed there.
REPORT_SECONDS, SILENT = 0.5, 1.5

#: Seconds for which a place is kept for a session whose worker does not yet report it, and for one that has just been lost.
COMING, RETURNING = 5.0, 2.0

#: Ended sessions from which the seconds until a place is free are estimated, and what is taken for one before any has ended.
ENDED, USUAL_SECONDS = 64, 600.0


class Full(UserError):
    """No place is free. Attributes: seconds until one probably is."""

    def __init__(self, seconds: float):
        minutes = max(round(seconds / 60), 1)
        super().__init__(f"All places are taken: try again in about {minutes} min.")
        self.seconds = seconds


@dataclass
class Report:
    """What a worker says of itself.

    Attributes:
        name: of the worker, never that of another one.
        node: the machine that it would be lost with.
        host, port, fingerprint: where clients find it.
        places: sessions that it takes.
        sessions: those that it renders, and whose keys' aliases.
        standbys: sessions that it would take over.
        draining: it takes none, and wants the rest to go elsewhere.
        metrics: host and port where they are read; None: nowhere.
        guests: those of `sessions` that came from a worker that is gone, and have what the others leave.
    """

    name: str
    node: str
    host: str
    port: int
    fingerprint: str | None
    places: int
    sessions: Mapping[str, str] = field(default_factory=dict)
    standbys: int = 0
    draining: bool = False
    metrics: str | None = None
    guests: Collection[str] = ()


@dataclass(frozen=True)
class Placement:
    """Where a session goes: name and address of its worker and of a spare, as clients are told."""

    to: dict[str, str]
    spare: dict[str, str] | None

    def told(self) -> dict:
        return {"move": {"to": self.to, "spare": self.spare}}


@dataclass
class Orders:
    """What a worker has to do.

    Attributes:
        end: sessions to end, and the sentences for their people.
        move: sessions to send elsewhere, and where.
        settled: guests that are none any more.
    """

    end: dict[str, str] = field(default_factory=dict)
    move: dict[str, dict] = field(default_factory=dict)
    settled: list[str] = field(default_factory=list)


@dataclass
class _Known:
    report: Report
    seen: float


@dataclass
class _Session:
    """Attributes: `taken`: a spare has taken it over."""

    key: str
    worker: str
    since: float
    seen: float
    reported: bool = False
    taken: bool = False


class Directory:
    """Places sessions and keeps them there. Belongs to one thread.

    Args:
        keys: who may come.
        store: what outlives it.
        signer: of tickets.
        clock: seconds that never go back.
    """

    def __init__(self, keys: Keys, store: Store, signer: Signer, clock: Callable[[], float] = time.monotonic):
        self._keys, self._store, self._signer, self._clock = keys, store, signer, clock
        self._workers: dict[str, _Known] = {}
        self._sessions: dict[str, _Session] = {}
        #: Sessions by worker and by key.
        self._at: Counter[str] = Counter()
        self._of_key: Counter[str] = Counter()
        self._ended: deque[float] = deque(maxlen=ENDED)
        #: How many were refused for want of a place, and how many for their limits.
        self.refused = self.limited = 0

    # What workers say.

    def report(self, report: Report) -> Orders:
        """A worker lives. Returns what it has to do."""
        now, orders = self._clock(), Orders()
        before = self._workers.get(report.name)
        self._workers[report.name] = _Known(report, now)
        for session, alias in report.sessions.items():
            key = self._keys.of_alias(alias)
            if key is None:
                orders.end[session] = "This address is no longer valid."
                continue
            known = self._sessions.get(session)
            if known is None:
                if self._of_key[key] >= self._keys.limits(key).sessions:
                    orders.end[session] = "This key has no more sessions."
                    continue
                known = self._enter(session, key, report.name)
                known.taken = session in report.guests
            elif known.worker != report.name:
                if before is not None and session in before.report.sessions:
                    # It renders elsewhere by now: what is left here is of a connection that broke.
                    if known.reported and not report.draining:
                        orders.end[session] = "The session goes on at another worker."
                    continue
                # A spare has taken over.
                self._assign(known, report.name)
                known.taken = True
            known.seen, known.reported = now, True
            self._store.put(session, report.name, alias)
            if before is not None:
                self._store.add_seconds(alias, min(now - before.seen, SILENT))
            if self._store.seconds(alias) > 60 * self._keys.limits(key).minutes:
                orders.end[session] = "The minutes of today are used up."
        for session in list(orders.end):
            known = self._sessions.get(session)
            if known is not None and known.worker == report.name:
                self._forget(session)
        if report.draining:
            self._move_from(report, orders)
        else:
            self._move_guests(report, orders)
        self._tidy(now)
        return orders

    def lost(self, worker: str) -> None:
        """Its connection is gone: nobody is placed there. Its sessions' places are theirs for a moment."""
        self._workers.pop(worker, None)

    def _move_from(self, report: Report, orders: Orders) -> None:
        for session, alias in report.sessions.items():
            known = self._sessions.get(session)
            if known is None or session in orders.end:
                continue
            if known.worker == report.name:
                target = self._freest({report.name})
                if target is None:
                    continue
                self._assign(known, target.name)
                self._store.put(session, target.name, alias)
            self._order_move(session, known, orders)

    def _order_move(self, session: str, known: _Session, orders: Orders) -> None:
        worker = self._workers.get(known.worker)
        if worker is not None:
            orders.move[session] = self._placement(known.key, session, worker.report).told()["move"]

    def _move_guests(self, report: Report, orders: Orders) -> None:
        """Send one of its guests at a time to where there is more room, a worker that was started again, say; with no more sessions
        than places nobody is one.
        """
        moving = False
        for session in report.guests:
            known = self._sessions.get(session)
            if known is None or session in orders.end:
                continue
            if known.worker != report.name:
                if not known.reported:
                    self._order_move(session, known, orders)
                    moving = True
            elif not known.taken or self._free(report) >= 0:
                orders.settled.append(session)
            elif not moving and (target := self._freest({report.name})) is not None:
                self._assign(known, target.name)
                self._store.put(session, target.name, report.sessions[session])
                self._order_move(session, known, orders)
                moving = True

    def _tidy(self, now: float) -> None:
        for session, known in list(self._sessions.items()):
            gone = known.worker not in self._workers
            if now - known.seen > (RETURNING if known.reported and not gone else COMING):
                self._forget(session)
        for name, worker in list(self._workers.items()):
            if now - worker.seen > 20 * SILENT:
                del self._workers[name]

    def _enter(self, session: str, key: str, worker: str) -> _Session:
        now = self._clock()
        known = self._sessions[session] = _Session(key, worker, now, now)
        self._at[worker] += 1
        self._of_key[key] += 1
        return known

    def _assign(self, known: _Session, worker: str) -> None:
        self._at[known.worker] -= 1
        self._at[worker] += 1
        known.worker, known.seen, known.reported, known.taken = worker, self._clock(), False, False

    def _forget(self, session: str) -> None:
        known = self._sessions.pop(session)
        for counter, name in ((self._at, known.worker), (self._of_key, known.key)):
            counter[name] -= 1
            if not counter[name]:
                del counter[name]
        self._store.remove(session)
        if known.reported:
            self._ended.append(self._clock() - known.since)

    # What clients ask.

    def place(self, key: str, session: str, at: str | None = None, lost: str | None = None) -> Placement:
        """Where a session is rendered, always the same while that worker lives.

        Args:
            key: its name.
            session: the client's name for it.
            at: the worker that renders it now, which only wants a spare.
            lost: the worker that it does not reach any more.

        Raises:
            Full: no place is free.
            UserError: the key's limits are reached.
        """
        self._tidy(self._clock())
        known = self._sessions.get(session)
        if known is not None and known.key != key:
            raise UserError("This session is another one's.")
        limits, alias = self._keys.limits(key), self._keys.alias(key)
        if self._of_key[key] - (known is not None) >= limits.sessions:
            self.limited += 1
            raise UserError(
                f"This key may have {limits.sessions} sessions at the same time: end another one."
            )
        if self._store.seconds(alias) > 60 * limits.minutes:
            self.limited += 1
            raise UserError(f"The {limits.minutes} minutes of today are used up: come again tomorrow.")
        if known is not None:
            worker = self._living(at or known.worker)
        else:
            worker = self._living(self._store.find(session))
            if worker is not None and self._free(worker) <= 0:
                worker = None
        if worker is None or worker.name == lost:
            # Where there is no other, it may be a client's network that was lost.
            worker = self._freest({lost} if lost else ()) or worker
        if worker is None:
            self.refused += 1
            raise Full(self.seconds_until_free())
        if known is None:
            self._enter(session, key, worker.name)
        elif known.worker != worker.name:
            self._assign(known, worker.name)
            # Its spare has taken over, and has not said so yet.
            known.taken = worker.name == at
        self._store.put(session, worker.name, alias)
        return self._placement(key, session, worker)

    def _placement(self, key: str, session: str, worker: Report) -> Placement:
        limits = self._keys.limits(key)
        ticket = Ticket(session, self._keys.alias(key), time.time() + VALID, limits.pixels, limits.avatars)
        signed = self._signer.sign(ticket)
        spare = self._spare(worker)
        return Placement(_told(worker, signed), None if spare is None else _told(spare, signed))

    def _spare(self, worker: Report) -> Report | None:
        """Of another node if there is one; of those, with the fewest to take over."""
        others = [one for one in self._ready() if one.name != worker.name]
        return min(
            others,
            key=lambda one: (one.node == worker.node, one.standbys, -self._free(one), one.name),
            default=None,
        )

    def _freest(self, besides: Collection[str]) -> Report | None:
        found = [one for one in self._ready() if one.name not in besides and self._free(one) > 0]
        return max(found, key=lambda one: (self._free(one) / one.places, one.name), default=None)

    def _ready(self) -> list[Report]:
        now = self._clock()
        return [
            known.report
            for known in self._workers.values()
            if now - known.seen <= SILENT and not known.report.draining
        ]

    def _living(self, name: str | None) -> Report | None:
        return next((one for one in self._ready() if one.name == name), None)

    def _free(self, worker: Report) -> int:
        return worker.places - self._at[worker.name]

    # For people and metrics.

    @property
    def places(self) -> int:
        """Of workers that live."""
        return sum(one.places for one in self._ready())

    @property
    def used(self) -> int:
        return len(self._sessions)

    @property
    def workers(self) -> int:
        return len(self._ready())

    @property
    def metrics(self) -> list[str]:
        """Hosts and ports where those of workers are read."""
        return [known.report.metrics for known in self._workers.values() if known.report.metrics]

    def seconds_until_free(self) -> float:
        """An estimate: sessions end evenly, after as long as those that have ended."""
        length = sum(self._ended) / len(self._ended) if self._ended else USUAL_SECONDS
        return length / max(len(self._sessions), 1)


def _told(worker: Report, ticket: str) -> dict[str, str]:
    address = invitation(worker.host, worker.port, ticket, worker.fingerprint)
    return {"name": worker.name, "address": address}
