// The connection to the machine that renders: it comes back by itself, and its clock is known.

const CLOCK_SECONDS = 0.25;
const SILENCE = 2;
const WINDOW = 16;

// Seconds of this page's clock.
export const now = () => performance.now() / 1000;

export class Link extends EventTarget {
  // `hello` is said first on every connection. Events: "told" (JSON), "picture" and "receipt" (a DataView), "lost", "refused".
  constructor(path, token, hello) {
    super();
    Object.assign(this, { path, token, hello, socket: null, wait: 0.1, exchanges: [], heard: 0, closed: false });
    this.bytesUp = this.bytesDown = 0;
    this._open();
    setInterval(() => this._keepAlive(), 1000 * CLOCK_SECONDS);
    // Else the place is kept for a while.
    addEventListener("pagehide", () => this.socket?.close(1000));
  }

  get isOpen() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  // Bytes that wait to be sent.
  get waiting() {
    return this.socket?.bufferedAmount ?? 0;
  }

  // Seconds there and back of the quickest of the last exchanges, and what the other clock shows more than ours: as NTP.
  get clock() {
    return this.exchanges.reduce((best, one) => (best && best.trip <= one.trip ? best : one), null);
  }

  send(message) {
    if (!this.isOpen) return;
    const data = message instanceof ArrayBuffer || ArrayBuffer.isView(message) ? message : JSON.stringify(message);
    this.bytesUp += data.byteLength ?? data.length;
    this.socket.send(data);
  }

  ask() {
    const request = new DataView(new ArrayBuffer(9));
    request.setUint8(0, 84);
    request.setFloat64(1, now(), true);
    this.send(request);
  }

  _open() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}${this.path}`, ["livepuppet", `token.${this.token}`]);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.heard = now();
    socket.onopen = () => {
      this.exchanges = [];
      this.heard = now();
      this.send(this.hello);
      this.ask();
    };
    socket.onmessage = ({ data }) => {
      if (this.socket === socket) this._take(data);
    };
    socket.onclose = () => this.socket === socket && this._lost();
  }

  _lost() {
    this.socket = null;
    this.dispatchEvent(new Event("lost"));
    setTimeout(() => this._open(), 1000 * this.wait);
    this.wait = Math.min(2 * this.wait, 2);
  }

  _keepAlive() {
    if (!this.socket) return;
    if (now() - this.heard > SILENCE) {
      // A network that is gone says nothing.
      const { socket } = this;
      this._lost();
      socket.close();
    } else this.ask();
  }

  _take(data) {
    this.heard = now();
    if (typeof data === "string") {
      const told = JSON.parse(data);
      if ("welcome" in told) this.wait = 0.1;
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
      this.exchanges.push({ trip: arrived - sent - (answered - received), offset: (received - sent + answered - arrived) / 2 });
      if (this.exchanges.length > WINDOW) this.exchanges.shift();
    } else if (kind === "P" || kind === "R") {
      this.dispatchEvent(new CustomEvent(kind === "P" ? "picture" : "receipt", { detail: view }));
    }
  }
}
