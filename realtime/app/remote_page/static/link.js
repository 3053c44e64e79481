// The connection to the machine that renders, of several subflows: it comes back by itself, and its clock is known.
import { COPIES, SUBFLOWS, SubflowReceiver, SubflowSender } from "./subflows.js";

const CLOCK_SECONDS = 0.25;
const SILENCE = 2;
const WINDOW = 16;

// Seconds of this page's clock.
export const now = () => performance.now() / 1000;

const hexadecimal = (bytes) => [...bytes].map((one) => one.toString(16).padStart(2, "0")).join("");

export class Link extends EventTarget {
  // `hello` is said first on every connection. Events: "told" (JSON), "picture" (a DataView), "arrived" (the number of
  // the newest message in order that has come), "exchange" (of the clock, its seconds there and back), "lost", "refused".
  constructor(path, token, hello) {
    super();
    Object.assign(this, { path, token, hello, subflows: [], wait: 0.1, exchanges: [], heard: 0, timer: 0 });
    this.bytesUp = this.bytesDown = 0;
    this._open();
    setInterval(() => this._keepAlive(), 1000 * CLOCK_SECONDS);
    // Else the place is kept for a while.
    addEventListener("pagehide", () => this.subflows.forEach((socket) => socket.close(1000)));
  }

  get isOpen() {
    return this.subflows[0]?.readyState === WebSocket.OPEN;
  }

  // Bytes that wait to be sent.
  get waiting() {
    return this.subflows[this.sender?.subflow ?? 0]?.bufferedAmount ?? 0;
  }

  // Seconds there and back of the quickest of the last exchanges, and what the other clock shows more than ours: as NTP.
  get clock() {
    return this.exchanges.reduce((best, one) => (best && best.trip <= one.trip ? best : one), null);
  }

  // JSON, or bytes that stand alone.
  send(message, subflow = 0) {
    if (!this.isOpen) return;
    const data = message instanceof ArrayBuffer || ArrayBuffer.isView(message) ? message : JSON.stringify(message);
    this.bytesUp += data.byteLength ?? data.length;
    this.subflows[subflow]?.send(data);
  }

  // Bytes that have to arrive, in order; or `alone`, the newest of which counts. A subflow that is held up is left. Returns the
  // message's number.
  sendInOrder(message, alone = false) {
    const { number } = this.sender;
    if (!this.isOpen) return number;
    this.sender.send(message, now(), alone);
    this._check();
    return number;
  }

  // Whether packets are lost.
  get lossy() {
    return Boolean(this.sender?.lossy);
  }

  ask() {
    const request = new DataView(new ArrayBuffer(9));
    request.setUint8(0, 84);
    request.setFloat64(1, now(), true);
    this.send(request);
  }

  _socket() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}${this.path}`, ["livepuppet", `token.${this.token}`]);
    socket.binaryType = "arraybuffer";
    return socket;
  }

  _open() {
    const socket = this._socket();
    this.secret = hexadecimal(crypto.getRandomValues(new Uint8Array(16)));
    this.subflows = [socket];
    this.sender = new SubflowSender((subflow, data) => this.send(data, subflow));
    this.receiver = new SubflowReceiver();
    this.heard = now();
    socket.onopen = () => {
      this.exchanges = [];
      this.heard = now();
      this.send({ ...this.hello, subflows: this.secret });
      this.ask();
    };
    this._use(socket);
  }

  _use(socket) {
    socket.onmessage = ({ data }) => {
      const subflow = this.subflows.indexOf(socket);
      if (subflow >= 0) this._receive(data, subflow);
    };
    socket.onclose = () => this.subflows.includes(socket) && this._lost();
  }

  // One after the other, each of which the server has to confirm.
  _openSubflow() {
    const [first] = this.subflows;
    const socket = this._socket();
    socket.onopen = () => socket.send(JSON.stringify({ subflow: this.secret }));
    socket.onmessage = ({ data }) => {
      if (this.subflows[0] !== first || typeof data !== "string" || JSON.parse(data).subflow !== true) {
        socket.close();
        return;
      }
      this.subflows.push(socket);
      this._use(socket);
      this.sender.subflows = this.subflows.length;
      if (this.subflows.length < SUBFLOWS) this._openSubflow();
    };
  }

  _lost() {
    const { subflows } = this;
    this.subflows = [];
    for (const socket of subflows) socket.close();
    this.dispatchEvent(new Event("lost"));
    setTimeout(() => this._open(), 1000 * this.wait);
    this.wait = Math.min(2 * this.wait, 2);
  }

  _keepAlive() {
    if (!this.subflows.length) return;
    // A network that is gone says nothing.
    if (now() - this.heard > SILENCE) this._lost();
    else this.ask();
  }

  _check() {
    clearTimeout(this.timer);
    const seconds = this.isOpen ? this.sender.check(now()) : null;
    if (seconds !== null) this.timer = setTimeout(() => this._check(), 1000 * seconds);
  }

  _receive(data, subflow) {
    this.heard = now();
    const bytes = typeof data === "string" ? null : new Uint8Array(data);
    const kind = bytes ? String.fromCharCode(bytes[0]) : "";
    if (kind === "m") {
      this.dispatchEvent(new CustomEvent("arrived", { detail: this.sender.arrived(bytes, now()) }));
      this._check();
    } else if (kind === "M" || kind === "S") {
      const turn = this.receiver.take(bytes);
      const answer = this.receiver.acknowledgement(bytes, subflow, this.sender.measured);
      // Where packets are lost, over two: what one of them holds up is not missed.
      const ways = turn.length && this.lossy ? this.sender.free(now(), subflow).slice(0, COPIES) : [subflow];
      for (const way of ways) this.send(answer, way);
      for (const one of turn) this._take(one[0] === 123 ? new TextDecoder().decode(one) : one.buffer);
    } else if (kind !== "n") this._take(data);
  }

  _take(data) {
    if (typeof data === "string") {
      const told = JSON.parse(data);
      if ("welcome" in told) {
        this.wait = 0.1;
        if (this.subflows.length === 1) this._openSubflow();
      }
      // Not at once again: it would be refused again.
      if ("error" in told) this.wait = 2;
      this.dispatchEvent(new CustomEvent("told", { detail: told }));
      return;
    }
    this.bytesDown += data.byteLength;
    const view = new DataView(data);
    const kind = String.fromCharCode(view.getUint8(0));
    if (kind === "T") {
      const [sent, received, answered] = [1, 9, 17].map((at) => view.getFloat64(at, true));
      const arrived = now();
      const trip = arrived - sent - (answered - received);
      this.exchanges.push({ trip, offset: (received - sent + answered - arrived) / 2 });
      this.dispatchEvent(new CustomEvent("exchange", { detail: trip }));
      if (this.exchanges.length > WINDOW) this.exchanges.shift();
    } else if (kind === "P") this.dispatchEvent(new CustomEvent("picture", { detail: view }));
  }
}
