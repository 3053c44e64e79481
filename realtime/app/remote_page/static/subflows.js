// Numbered messages over several connections ("subflows"): as livepuppet/realtime/remote/subflows.py, which says why.

export const SUBFLOWS = 3;
const HEAD = 5;
const [MOST_HELD, COUNTED] = [32, 32];
// Seconds and bytes: as there.
const [SLACK, USUAL, AGAIN, MOST_SAVED, NUDGED_AFTER] = [0.02, 0.1, 0.5, 256_000, 0.01];
const NUDGE = new Uint8Array([110]);

const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];

function headed(kind, number, message = new Uint8Array(0)) {
  const data = new Uint8Array(HEAD + message.length);
  data[0] = kind.charCodeAt(0);
  new DataView(data.buffer).setUint32(1, number, true);
  data.set(message, HEAD);
  return data;
}

const numberOf = (data) => new DataView(data.buffer, data.byteOffset).getUint32(1, true);

export class SubflowSender {
  // `write` sends over a subflow, given by its number.
  constructor(write) {
    Object.assign(this, { write, subflows: 1, subflow: 0, again: 0, number: 0, waiting: [], trips: [], saved: MOST_SAVED });
  }

  send(message, now) {
    const sent = { number: this.number, data: headed("M", this.number, message), first: now, last: now, subflows: new Set(), nudged: false };
    this.number += 1;
    this.waiting.push(sent);
    this.saved = Math.min(this.saved + AGAIN * sent.data.length, MOST_SAVED);
    this._sendOver(this.subflow, sent, now);
  }

  arrived(data, now) {
    const following = numberOf(data);
    while (this.waiting.length && this.waiting[0].number < following) {
      const sent = this.waiting.shift();
      if (sent.subflows.size === 1) this.trips.push(now - sent.first);
      if (this.trips.length > COUNTED) this.trips.shift();
    }
  }

  // Send again what is late. Returns in how many seconds to look again; null where nothing waits.
  check(now) {
    if (!this.waiting.length || this.subflows === 1) return null;
    return Math.min(this._nudge(now), this._hedge(now));
  }

  _nudge(now) {
    const newest = this.waiting[this.waiting.length - 1];
    const left = newest.last + NUDGED_AFTER - now;
    if (newest.nudged || left > 0) return newest.nudged ? Infinity : left;
    newest.nudged = true;
    this.write(this.subflow, NUDGE);
    return Infinity;
  }

  _hedge(now) {
    const [oldest] = this.waiting;
    const late = SLACK + (this.trips.length ? median(this.trips) : USUAL);
    const left = oldest.last + late - now;
    if (left > 0) return left;
    const others = Array.from({ length: this.subflows - 1 }, (_, step) => (this.subflow + step + 1) % this.subflows);
    const subflow = others.find((other) => !oldest.subflows.has(other));
    if (subflow === undefined || this.waiting.reduce((sum, sent) => sum + sent.data.length, 0) > this.saved) return late;
    this.subflow = subflow;
    for (const sent of this.waiting) {
      if (sent.subflows.has(subflow)) continue;
      this.saved -= sent.data.length;
      this.again += 1;
      this._sendOver(subflow, sent, now);
    }
    return late;
  }

  _sendOver(subflow, sent, now) {
    sent.subflows.add(subflow);
    sent.last = now;
    this.write(subflow, sent.data);
  }
}

export class SubflowReceiver {
  constructor() {
    Object.assign(this, { next: 0, held: new Map() });
  }

  // A numbered message came. Returns those whose turn it is now, each once.
  take(data) {
    const number = numberOf(data);
    if (number < this.next || number > this.next + MOST_HELD) return [];
    this.held.set(number, data.slice(HEAD));
    const turn = [];
    for (; this.held.has(this.next); this.next += 1) {
      turn.push(this.held.get(this.next));
      this.held.delete(this.next);
    }
    return turn;
  }

  get acknowledgement() {
    return headed("m", this.next);
  }
}
