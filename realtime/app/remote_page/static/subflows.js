// Numbered messages over several connections ("subflows"): as livepuppet/realtime/remote/subflows.py, which says why.

export const SUBFLOWS = 4;
const [HEAD, ARRIVED] = [5, 10];
const [MOST_HELD, COUNTED] = [32, 32];
// Seconds and bytes: as there.
const [SLACK, USUAL, AGAIN, MOST_SAVED, NUDGED_AFTER] = [0.02, 0.1, 0.5, 256_000, 0.01];
export const COPIES = 2;
const [LOSSY, LOSSY_OF, CLEAR, CLEAR_OF, HELD_UP] = [5, 100, 2, 300, 0.025];
const TOLD = 0x80;
const NUDGE = new Uint8Array([110]);

const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];
const sum = (list) => list.reduce((total, one) => total + one, 0);
const viewOf = (data) => new DataView(data.buffer, data.byteOffset);

export class SubflowSender {
  // `write` sends over a subflow, given by its number.
  constructor(write) {
    Object.assign(this, { write, subflows: 1, subflow: 0, again: 0, measured: false, told: false, number: 0, waiting: [], trips: [], heldUp: [] });
    Object.assign(this, { saved: MOST_SAVED, acknowledged: [] });
    this.outstanding = Array.from({ length: SUBFLOWS }, () => []);
  }

  // Send a message; `alone`: which needs none before it.
  send(message, now, alone = false) {
    if (alone) this.waiting = this.waiting.filter((sent) => !sent.alone);
    const data = new Uint8Array(HEAD + message.length);
    data[0] = alone ? 83 : 77;
    viewOf(data).setUint32(1, this.number, true);
    data.set(message, HEAD);
    const sent = { number: this.number, data, alone, last: now, copies: new Map(), nudged: false, arrived: false };
    this.number += 1;
    this.waiting.push(sent);
    this.saved = Math.min(this.saved + AGAIN * data.length, MOST_SAVED);
    [this.subflow] = this.free(now, this.subflow + (alone ? 1 : 0));
    const copies = this.lossy && !alone ? COPIES : 1;
    for (const subflow of this.free(now, this.subflow).slice(0, copies)) this._sendOver(subflow, sent, now);
  }

  // An acknowledgement came. Returns the number of the newest message that was handed out over there.
  arrived(data, now) {
    const view = viewOf(data);
    const [following, number, subflow] = [view.getUint32(1, true), view.getUint32(5, true), data[9] & ~TOLD];
    this.told = (data[9] & TOLD) > 0;
    const outstanding = this.outstanding[subflow];
    const place = outstanding.findIndex((sent) => sent.number === number);
    // A subflow keeps the order.
    const came = outstanding.splice(0, place + 1);
    for (const sent of came) this._copyArrived(sent, sent.copies.get(subflow), now);
    this.waiting = this.waiting.filter((sent) => sent.number >= following && !sent.arrived);
    return Math.max(following - 1, came[place]?.alone ? number : -1);
  }

  // Send again what is late. Returns in how many seconds to look again; null where nothing waits.
  check(now) {
    if (!this.waiting.length || this.subflows === 1) return null;
    return Math.min(this._nudge(now), this._hedge(now));
  }

  _copyArrived(sent, began, now) {
    if (!sent.arrived) {
      Object.assign(sent, { arrived: true, data: new Uint8Array(0) });
      if (began === Math.min(...sent.copies.values())) this.trips.push(now - began);
      if (this.trips.length > COUNTED) this.trips.shift();
    }
    this.heldUp.push(this.acknowledged.some(([sentAt, at]) => began <= sentAt && now - at > HELD_UP) ? 1 : 0);
    this.acknowledged.push([began, now]);
    if (this.acknowledged.length > COUNTED) this.acknowledged.shift();
    if (this.heldUp.length > CLEAR_OF) this.heldUp.shift();
    if (this.measured) this.measured = this.heldUp.length < CLEAR_OF || sum(this.heldUp) > CLEAR;
    else this.measured = sum(this.heldUp.slice(-LOSSY_OF)) >= LOSSY;
  }

  // Whether packets are lost, by what either end sees.
  get lossy() {
    return this.measured || this.told;
  }

  // Seconds after which an acknowledgement is late.
  get _late() {
    return SLACK + (this.trips.length ? median(this.trips) : USUAL);
  }

  // The subflows that hold nothing up, from the `first` on; where there is none, the one with least on its way.
  free(now, first) {
    const late = this._late;
    const { outstanding } = this;
    const turn = Array.from({ length: this.subflows }, (_, step) => (first + step) % this.subflows);
    const free = turn.filter((one) => !outstanding[one].length || now - outstanding[one][0].copies.get(one) < late);
    if (free.length) return free;
    const bytes = turn.map((one) => sum(outstanding[one].map((sent) => sent.data.length)));
    return [turn[bytes.indexOf(Math.min(...bytes))]];
  }

  _nudge(now) {
    const newest = this.waiting[this.waiting.length - 1];
    const left = newest.last + NUDGED_AFTER - now;
    if (newest.nudged || left > 0) return newest.nudged ? Infinity : left;
    newest.nudged = true;
    if (newest.copies.size === 1) this.write(...newest.copies.keys(), NUDGE);
    return Infinity;
  }

  _hedge(now) {
    const [oldest] = this.waiting;
    const late = this._late;
    const left = oldest.last + late - now;
    if (left > 0) return left;
    const free = this.free(now, this.subflow + 1);
    const subflow = free.find((other) => !oldest.copies.has(other));
    // Those whose every copy is behind one that is late.
    const stuck = this.waiting.filter((sent) => !free.some((one) => sent.copies.has(one)));
    if (subflow === undefined || sum(stuck.map((sent) => sent.data.length)) > this.saved) return late;
    this.subflow = subflow;
    for (const sent of stuck) {
      this.saved -= sent.data.length;
      this.again += 1;
      this._sendOver(subflow, sent, now);
    }
    return late;
  }

  _sendOver(subflow, sent, now) {
    sent.copies.set(subflow, now);
    sent.last = now;
    this.outstanding[subflow].push(sent);
    this.write(subflow, sent.data);
  }
}

export class SubflowReceiver {
  constructor() {
    // Held: null was handed out, or overtaken.
    Object.assign(this, { next: 0, held: new Map(), newestAlone: -1 });
  }

  // A numbered message came. Returns those whose turn it is now, each once.
  take(data) {
    const number = viewOf(data).getUint32(1, true);
    if (number < this.next || this.held.has(number) || number > this.next + MOST_HELD) return [];
    const message = data.slice(HEAD);
    const turn = [];
    this.held.set(number, message);
    if (data[0] === 83) {
      this.held.set(number, null);
      if (number > this.newestAlone) {
        this.newestAlone = number;
        turn.push(message);
      }
    }
    for (; this.held.has(this.next); this.next += 1) {
      const due = this.held.get(this.next);
      if (due) turn.push(due);
      this.held.delete(this.next);
    }
    return turn;
  }

  // What to answer to a message that came over this subflow, after `take`, by an end that sees packets being lost, or not.
  acknowledgement(data, subflow, measured = false) {
    const answer = new Uint8Array(ARRIVED);
    answer[0] = 109;
    viewOf(answer).setUint32(1, this.next, true);
    viewOf(answer).setUint32(5, viewOf(data).getUint32(1, true), true);
    answer[9] = subflow | (measured ? TOLD : 0);
    return answer;
  }
}
