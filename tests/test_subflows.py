# ruff: noqa: F811
"""Several connections of one session: what is late goes over another one, each message counts once, and nobody else gets in."""

from __future__ import annotations

import heapq
import json
import random
import secrets
import shutil
import subprocess
from pathlib import Path

import pytest
import test_render_server as single
from media import gradient
from test_render_server import TOKEN, bundle, bystander, join, next_json, server, wait_for  # noqa: F401
from websockets.exceptions import ConnectionClosed

from livepuppet.core.avatar import Avatar
from livepuppet.realtime.app import clients
from livepuppet.realtime.app.render_server import RenderServer
from livepuppet.realtime.remote.protocol import BadMessage
from livepuppet.realtime.remote.subflows import (
    ARRIVED,
    CLEAR_OF,
    LOSSY_OF,
    MOST_HELD,
    MOST_HELD_BYTES,
    MOST_SAVED,
    MOST_UNACKNOWLEDGED,
    NUDGE,
    NUMBERED,
    REPEATED,
    SUBFLOWS,
    TOLD,
    SubflowReceiver,
    SubflowSender,
)

STATIC = Path(clients.__file__).parent / "remote_page" / "static"
NODE = shutil.which("node")
OTHER = TOKEN[::-1] + "2"


def numbers(written):
    """Subflows and numbers of messages, and None for what only follows them."""
    return [(subflow, None if data == NUDGE else NUMBERED.unpack_from(data)[1]) for subflow, data in written]


def numbered(number, data=b"{}"):
    return NUMBERED.pack(b"M", number) + data


def arrived(following, subflow=0, number=None):
    """That all before `following` have arrived, the last of them over this subflow, unless it is another one."""
    return ARRIVED.pack(b"m", following, following - 1 if number is None else number, subflow)


# Both ends.


def test_what_is_not_acknowledged_in_time_goes_over_another_subflow():
    written = []
    sender = SubflowSender(lambda subflow, data: data == NUDGE or written.extend(numbers([(subflow, data)])))
    sender.send(b"a", 0.0)
    assert sender.check(9.0) is None, "there is no other subflow"
    sender.subflows = 3
    sender.send(b"b", 0.05)
    assert 0 < sender.check(0.1) < 0.1 and written == [(0, 0), (0, 1)]
    sender.check(0.2)
    assert written[2:] == [(1, 0), (1, 1)]
    sender.send(b"c", 0.21)
    assert written[4:] == [(1, 2)]
    # The second subflow is held up, too; the third is the last.
    sender.check(0.4)
    assert written[5:] == [(2, 0), (2, 1), (2, 2)]
    sender.check(9.0)
    assert len(written) == 8
    sender.arrived(arrived(3, 2), 9.0)
    assert sender.check(10.0) is None
    sender.send(b"d", 10.0)
    assert written[8:] == [(2, 3)]


def test_where_packets_are_lost_every_message_goes_over_two_subflows_that_hold_nothing_up():
    written = []
    sender = SubflowSender(lambda subflow, data: data == NUDGE or written.extend(numbers([(subflow, data)])))
    sender.subflows = 4
    for number in range(LOSSY_OF):
        now = float(number)
        assert not sender.lossy
        sender.send(b"a", now)
        sender.check(now)
        if number % 20 == 19:
            # Its first copy comes after the second, which was sent later: so it was lost on the way.
            sender.check(now + 0.2)
            (first, _), (second, _) = written[-2:]
            sender.arrived(arrived(number + 1, second), now + 0.22)
            sender.arrived(arrived(number + 1, first), now + 0.4)
        else:
            sender.arrived(arrived(number + 1, written[-1][0]), now + 0.02)
        if sender.lossy:
            break
    assert sender.lossy and number == 99
    del written[:]
    sender.send(b"b", 200.0)
    assert len(written) == 2 and len({subflow for subflow, _ in written}) == 2
    (held, _), (quick, _) = written
    sender.arrived(arrived(101, quick), 200.02)
    assert sender.check(200.03) is None, "one copy is there"
    sender.send(b"c", 200.2)
    assert held not in [subflow for subflow, _ in written[2:]], "what it brings is late"
    # None was held up for long: the network is well again.
    sender.arrived(arrived(101, held), 200.025)
    number = 101
    for number in range(101, 101 + CLEAR_OF):
        sender.arrived(arrived(number + 1, written[-2][0], number), 201.0 + number)
        sender.arrived(arrived(number + 1, written[-1][0], number), 201.0 + number)
        if not sender.lossy:
            break
        sender.send(b"d", 201.0 + number)
    assert not sender.lossy and number > 200


def test_either_end_tells_the_other_that_packets_are_lost():
    sender, receiver = SubflowSender(lambda subflow, data: None), SubflowReceiver()
    sender.subflows = 2
    for number, measured in enumerate((True, False)):
        sender.send(b"a", float(number))
        receiver.take(numbered(number, b"a"), float(number))
        sender.arrived(receiver.acknowledgement(numbered(number), 0, measured), number + 0.02)
        assert sender.lossy == measured and not sender.measured


def test_a_slow_network_is_not_taken_for_one_that_loses_packets():
    sender, written = SubflowSender(lambda subflow, data: written.append((subflow, data))), []
    sender.subflows = 4
    now = 0.0
    for number in range(400):
        del written[:]
        sender.send(b"a", now)
        # Every answer is late, now and then by much, but copies come in the order in which they were sent.
        at = now + (0.5 if number % 10 == 9 else 0.02)
        if at > now + 0.3:
            sender.check(now + 0.3)
        for subflow, data in written:
            if data != NUDGE:
                sender.arrived(arrived(number + 1, subflow), at)
        now = at + 0.01
    assert not sender.lossy and sender.again > 30


def test_of_pictures_that_stand_alone_the_newest_counts():
    written = []
    sender = SubflowSender(lambda subflow, data: written.append((subflow, data)))
    sender.subflows = 3
    for number in range(3):
        sender.send(b"picture", number / 30, alone=True)
    assert numbers(written) == [(1, 0), (2, 1), (0, 2)], "in turn: what one of them holds up is not missed"
    sender.check(5.0)
    assert numbers(written)[-1] == (1, 2) and sender.again == 1, "only the newest is sent again"

    receiver = SubflowReceiver()
    alone = [NUMBERED.pack(b"S", number) + bytes([97 + number]) for number in range(4)]
    assert receiver.take(alone[2], 0.0) == [b"c"]
    assert receiver.acknowledgement(alone[2], 1) == arrived(0, 1, 2)
    assert receiver.take(alone[1], 0.0) == [] and receiver.take(alone[2], 0.0) == []
    assert receiver.take(numbered(4, b"{}"), 0.0) == []
    assert receiver.take(alone[0], 0.0) == [] and receiver.take(alone[3], 0.0) == [b"d", b"{}"]


def test_late_is_what_takes_longer_than_it_usually_does():
    sender = SubflowSender(lambda subflow, data: None)
    sender.subflows = 2
    for number in range(40):
        sender.send(b"a", float(number))
        sender.arrived(arrived(number + 1), number + 0.2)
    sender.send(b"a", 50.0)
    assert sender.check(50.21) > 0 and sender.again == 0
    sender.check(50.225)
    assert sender.again == 1


def test_something_follows_each_message_so_that_its_loss_is_noticed():
    written = []
    sender = SubflowSender(lambda subflow, data: written.append((subflow, data)))
    sender.subflows = 2
    sender.send(b"a", 0.0)
    assert sender.check(0.0) == pytest.approx(0.01)
    sender.send(b"b", 0.005)
    sender.check(0.0151)
    sender.check(0.016)
    assert numbers(written) == [(0, 0), (0, 1), (0, None)]


def test_a_slow_network_is_not_asked_for_twice_as_much():
    sender = SubflowSender(lambda subflow, data: None)
    sender.subflows = 3
    size = 20_000
    for number in range(200):
        sender.send(bytes(size), 10.0 * number)
        sender.check(10.0 * number + 5)
        for subflow in range(3):
            sender.arrived(arrived(number + 1, subflow), 10.0 * number + 6)
    sent = 200 * size
    assert sender.again * size <= 0.5 * sent + MOST_SAVED + 200 * NUMBERED.size


def test_an_end_that_acknowledges_nothing_or_too_much_is_found_out():
    sender = SubflowSender(lambda subflow, data: None)
    for _ in range(MOST_UNACKNOWLEDGED):
        sender.send(b"a", 0.0)
    with pytest.raises(BadMessage):
        sender.send(b"a", 0.0)
    wrongs = arrived(MOST_UNACKNOWLEDGED + 1), b"m", arrived(1) + b"x", arrived(1, 1), arrived(1, 0, 64)
    for wrong in wrongs:
        with pytest.raises(BadMessage):
            sender.arrived(wrong, 0.0)


def test_messages_come_in_order_and_once():
    receiver = SubflowReceiver()
    assert receiver.take(numbered(0, b"a"), 0.0) == [b"a"] and not receiver.lossy(0.0)
    assert receiver.take(numbered(2, b"c"), 0.0) == []
    assert receiver.acknowledgement(numbered(2), 1) == arrived(1, 1, 2)
    assert receiver.take(numbered(2, b"other"), 0.0) == []
    assert receiver.take(numbered(0, b"other"), 0.0) == []
    assert receiver.take(numbered(1, b"b"), 0.0) == [b"b", b"c"]
    assert receiver.acknowledgement(numbered(1), 0) == arrived(3, 0, 1)
    assert receiver.lossy(REPEATED - 0.1) and not receiver.lossy(REPEATED + 0.1)


def test_what_waits_for_its_turn_is_bounded():
    for wrong in (numbered(MOST_HELD + 1), numbered(0, b""), b"M", numbered(1, bytes(MOST_HELD_BYTES))):
        with pytest.raises(BadMessage):
            SubflowReceiver().take(wrong, 0.0)
    # A large one whose turn it is may come.
    assert SubflowReceiver().take(numbered(0, bytes(MOST_HELD_BYTES)), 0.0)


class LossySubflows:
    """Pictures at 30 a second over connections that stand still now and then, and then bring everything at once: as TCP with
    timeouts. Time is simulated.
    """

    def __init__(self, subflows, seed):
        self._chance, self._events, self._order = random.Random(seed), [], 0
        self._free = [0.0] * subflows
        self._now, self.came = 0.0, []
        self.sender, self._receiver = SubflowSender(self._write), SubflowReceiver()
        self.sender.subflows = subflows

    def _write(self, subflow, data):
        if data == NUDGE:
            return
        stall = self._chance.choice((0.25, 0.6, 0.9)) if self._chance.random() < 0.02 else 0.0
        self._free[subflow] = max(self._free[subflow], self._now) + stall
        self._at(self._free[subflow] + 0.01, "data", (subflow, data))

    def _at(self, when, kind, value):
        self._order += 1
        heapq.heappush(self._events, (when, self._order, kind, value))

    def run(self, pictures):
        for number in range(pictures):
            self._at(number / 30, "send", bytes(6000))
        while self._events and len(self.came) < pictures:
            self._now, _, kind, value = heapq.heappop(self._events)
            if kind == "send":
                self.sender.send(value, self._now)
            elif kind == "data":
                self.came += [self._now] * len(self._receiver.take(value[1], self._now))
                self._at(self._now + 0.01, "acknowledged", self._receiver.acknowledgement(value[1], value[0]))
                continue
            elif kind == "acknowledged":
                self.sender.arrived(value, self._now)
            left = self.sender.check(self._now)
            if left is not None:
                self._at(self._now + left, "check", None)
        return max(later - sooner for sooner, later in zip(self.came, self.came[1:], strict=False))


def test_connections_that_stand_still_hold_nothing_up_for_long():
    for seed in range(20):
        subflows = LossySubflows(SUBFLOWS, seed)
        assert subflows.run(300) < 0.3, seed
        assert subflows.sender.again < 150
    assert max(LossySubflows(1, seed).run(300) for seed in range(20)) > 0.5


@pytest.mark.skipif(NODE is None, reason="there is no Node.js to run the page's modules with")
def test_the_page_does_the_same():
    chance = random.Random(3)
    now, sent, steps = 0.0, 0, []
    for _ in range(1500):
        now += chance.choice((0.001, 0.02, 0.2))
        kind = chance.choice(("send", "alone", "send", "arrived", "check", "check", "take"))
        if kind in ("send", "alone"):
            value, sent = chance.randint(1, 9000), sent + 1
        elif kind == "arrived":
            value = [chance.randint(max(sent - 5, 1), max(sent, 1)), chance.choice((0, 1, 2, TOLD))]
        else:
            value = chance.randint(0, 40)
        steps.append((kind, value, now))
    told: list = []
    sender = SubflowSender(
        lambda subflow, data: told.append(["write", *numbers([(subflow, data)])[0], len(data)])
    )
    sender.subflows, receiver = 3, SubflowReceiver()
    kept = []
    for kind, value, at in steps:
        if kind in ("send", "alone"):
            if len(sender._waiting) >= MOST_UNACKNOWLEDGED:
                continue
            sender.send(bytes(value), at, kind == "alone")
        elif kind == "arrived":
            if value[0] > sender._number:
                continue
            sender.arrived(arrived(*value), at)
            told.append(["lossy", sender.lossy])
        elif kind == "check":
            left = sender.check(at)
            told.append(["left", None if left is None else round(left, 6)])
        elif value - receiver._next <= MOST_HELD:
            message = NUMBERED.pack(b"S" if value % 5 == 0 else b"M", value) + bytes([value])
            told.append(["took", [one[0] for one in receiver.take(message, at)]])
            told.append(["answer", [*receiver.acknowledgement(message, 2, value % 2 == 1)]])
        else:
            continue
        kept.append([kind, value, at])
    script = f"""
        import {{ SubflowSender, SubflowReceiver }} from {json.dumps(str(STATIC / "subflows.js"))};
        const told = [], numberOf = (data) => (data.length === 1 ? null : new DataView(data.buffer).getUint32(1, true));
        const headed = (kind, number, more) => {{
          const data = new Uint8Array(5 + more.length);
          data[0] = kind.charCodeAt(0);
          new DataView(data.buffer).setUint32(1, number, true);
          data.set(more, 5);
          return data;
        }};
        const sender = new SubflowSender((subflow, data) => told.push(["write", subflow, numberOf(data), data.length]));
        sender.subflows = 3;
        const receiver = new SubflowReceiver();
        for (const [kind, value, at] of {json.dumps(kept)}) {{
          if (kind === "send" || kind === "alone") sender.send(new Uint8Array(value), at, kind === "alone");
          else if (kind === "arrived") {{
            const answer = new Uint8Array(10);
            answer[0] = 109;
            new DataView(answer.buffer).setUint32(1, value[0], true);
            new DataView(answer.buffer).setUint32(5, value[0] - 1, true);
            answer[9] = value[1];
            sender.arrived(answer, at);
            told.push(["lossy", sender.lossy]);
          }}
          else if (kind === "check") {{
            const left = sender.check(at);
            told.push(["left", left === null ? null : Math.round(left * 1e6) / 1e6]);
          }} else {{
            const message = headed(value % 5 ? "M" : "S", value, [value]);
            told.push(["took", receiver.take(message).map((one) => one[0])]);
            told.push(["answer", [...receiver.acknowledgement(message, 2, value % 2 === 1)]]);
          }}
        }}
        console.log(JSON.stringify(told));
    """
    done = subprocess.run(
        [NODE, "--input-type=module", "-e", script], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == told and sender.again > 20


# The server.


def enter(wire, server, secret):
    wire.send(single.hello(server, subflows=secret))
    first = wire.recv(timeout=20)
    assert first[:1] == b"M" and json.loads(first[NUMBERED.size :])["welcome"]
    wire.send(arrived(1))


def add_subflow(server, secret, token=TOKEN):
    subflow = join(server, token).__enter__()
    subflow.send(json.dumps({"subflow": secret}))
    return subflow, next_json(subflow)


def test_a_subflow_belongs_to_who_knows_token_and_secret(server):
    secret = secrets.token_hex(16)
    with join(server) as wire:
        enter(wire, server, secret)
        for shown, token in (
            (secrets.token_hex(16), TOKEN),
            (secret, OTHER),
            (secret[:-1], TOKEN),
            (None, TOKEN),
            ({}, TOKEN),
        ):
            subflow, answer = add_subflow(server, shown, token)
            assert "error" in answer
            with pytest.raises(ConnectionClosed):
                subflow.recv(timeout=20)
        subflows = [add_subflow(server, secret) for _ in range(SUBFLOWS)]
        assert [answer == {"subflow": True} for _, answer in subflows] == [True] * (SUBFLOWS - 1) + [False]
        # A second connection cannot take the secret over either.
        with join(server) as thief:
            thief.send(single.hello(server, subflows=secret))
            assert "error" in next_json(thief)
        # What comes over a subflow is answered.
        subflows[0][0].send(numbered(0, b'{"canvas": 1}'))
        assert subflows[0][0].recv(timeout=20) == arrived(1, 1)
    # With the connection its subflows end, and so does the secret.
    for subflow, _ in subflows[:-1]:
        with pytest.raises(ConnectionClosed):
            while True:
                subflow.recv(timeout=20)
    assert "error" in add_subflow(server, secret)[1]
    assert not server._subflows._open


@pytest.mark.parametrize("secret", [5, "", "x" * 32, "a" * 33, ["a" * 32]])
def test_secrets_are_checked(server, secret):
    with join(server) as wire:
        wire.send(single.hello(server, subflows=secret))
        assert "subflows" in next_json(wire)["error"]


@pytest.mark.parametrize(
    "messages",
    [
        [numbered(MOST_HELD + 1)],
        [numbered(5, bytes(MOST_HELD_BYTES))],
        [b"M"],
        [b"m"],
        [arrived(7)],
        [numbered(0, b"X")],
        [numbered(0, b"{}")] * 1400,
        [arrived(1)] * 1400,
    ],
    ids=[
        "far ahead",
        "large ahead",
        "short",
        "short receipt",
        "forged receipt",
        "kind",
        "replays",
        "receipts",
    ],
)
def test_whoever_breaks_a_rule_on_a_subflow_is_cut_and_others_go_on(server, bystander, messages):
    secret = secrets.token_hex(16)
    with join(server) as wire:
        enter(wire, server, secret)
        subflow, _ = add_subflow(server, secret)
        with pytest.raises(ConnectionClosed):
            for message in messages:
                subflow.send(message)
            while True:
                wire.recv(timeout=20)
    bystander()


def test_a_client_that_acknowledges_nothing_is_cut(server, bystander):
    with join(server) as wire:
        enter(wire, server, secrets.token_hex(16))
        wire.send(single.canvas())
        with pytest.raises(ConnectionClosed):
            for _ in range(200):
                wire.send(json.dumps({"show": "0" * 64}))
                wire.recv(timeout=20)
    bystander()


def test_without_subflows_all_is_as_before(server):
    picture = gradient(64, 64)
    with join(server) as wire:
        single.enter(wire, server, Avatar("a", picture, None, picture))
        wire.send(single.frame(1))
        assert single.next_picture(wire) == 1
    assert isinstance(server, RenderServer)


def test_places_count_sessions_and_not_subflows(server, bystander):
    connection = bystander.animator.engine.renderer._connection
    wait_for(lambda: bystander() or connection.subflows == SUBFLOWS)
    assert server.sessions == server.connections == 1


@pytest.mark.skipif(NODE is None, reason="there is no Node.js to run the page's modules with")
def test_the_page_offers_h264_alone_where_packets_are_lost():
    held_up = [0.062, 0.052, 0.044]
    lost = [*[0.022] * 20, *held_up] * 3
    # Once may be the device, and a near server's packets come later than others' quickest ones without being lost.
    busy, near = [*[0.022] * 60, *held_up], [0.002, 0.012, 0.02] * 23
    script = (
        f"import {{ judgedWay, bearsLoss }} from {json.dumps(str(STATIC / 'way.js'))};"
        f"const ways = {json.dumps([lost, busy, near, lost[:46]])}.map((one) => judgedWay(one, 69));"
        "const codecs = ['h264', 'vp8', 'jpeg'].map(bearsLoss);"
        "console.log(JSON.stringify({ loses: ways.map((one) => one.loses), unsteady: ways.map((one) => one.unsteady), codecs }));"
    )
    result = subprocess.run(
        [NODE, "--input-type=module", "-e", script], capture_output=True, text=True, check=True
    )
    assert json.loads(result.stdout) == {
        "loses": [True, False, False, True],
        "unsteady": [False, False, False, True],
        "codecs": [True, False, False],
    }
