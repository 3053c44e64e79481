// The camera's pictures on their way: encoded by WebCodecs, or as JPEG. None waits: what cannot go at once is left out.
import { NUMBERS, encoderConfig } from "./codecs.js";
import { now } from "./link.js";

const HEAD = 15;
// Bits a second: at most, where packets are lost, so that a picture takes few of them, and at least.
const [MOST_RATE, LOSSY_RATE, LEAST_RATE] = [1_500_000, 500_000, 250_000];
// Pictures that may be on their way beyond those of a round trip, and bytes that may wait in the socket.
const [AHEAD, MOST_WAITING, LARGEST] = [2, 48_000, 960];
// Quality and longer side of JPEGs: usually, and where packets are lost.
const [QUALITY, LOSSY_QUALITY, LOSSY_LARGEST] = [0.85, 0.5, 480];
// Pictures after which the rate is looked at, and such looks without trouble after which it grows: each change costs a key picture.
const [MEASURED, CALM] = [60, 5];

export class CameraSender {
  constructor(link, codec) {
    Object.assign(this, { link, codec, encoder: null, size: "", rate: MOST_RATE, number: 0, keyWanted: true, busy: false });
    // Numbers of messages.
    this.onTheWay = new Set();
    this.offered = this.dropped = this.left = this.sent = this.calm = 0;
    this.lossy = false;
    // Milliseconds that encoding takes, by the camera's time, for whoever adds up delays.
    this.encoded = new Map();
    this.canvas = document.createElement("canvas");
    link.addEventListener("arrived", ({ detail }) => this._arrived(detail));
    link.addEventListener("lost", () => this.restart());
  }

  // That picture has come, and those before it.
  _arrived(number) {
    for (const one of this.onTheWay) if (one <= number) this.onTheWay.delete(one);
  }

  // The next picture can be decoded without those before.
  restart() {
    this.keyWanted = true;
    this.onTheWay.clear();
  }

  get _full() {
    const trip = this.link.clock?.trip ?? 0;
    const most = AHEAD + Math.ceil(30 * trip);
    return this.busy || (this.encoder?.encodeQueueSize ?? 0) > 0 || this.onTheWay.size >= most || this.link.waiting > MOST_WAITING;
  }

  // A new picture of `video` was captured at so many seconds of this page's clock. Where the camera itself hands pictures out
  // (`followTrack`) that is too late.
  offer(video, captured) {
    if (video.readyState >= 2 && video.videoWidth && !this.track) this._offer(video, captured, null);
  }

  // Take the pictures as the camera hands them out, which is sooner than a <video> shows them. Returns whether that goes here.
  async followTrack(video, track) {
    this.track = null;
    if (!("MediaStreamTrackProcessor" in self) || this.codec === "jpeg") return;
    const reader = new MediaStreamTrackProcessor({ track, maxBufferSize: 1 }).readable.getReader();
    this.track = track;
    // Its time stamps are of another clock, by which the quickest picture came at once.
    let shift = Infinity;
    for (;;) {
      const { value: frame, done } = await reader.read();
      if (done || this.track !== track) {
        frame?.close();
        reader.cancel().catch(() => {});
        return;
      }
      shift = Math.min(shift, now() - frame.timestamp / 1e6);
      if (video.videoWidth) this._offer(video, frame.timestamp / 1e6 + shift, frame);
      frame.close();
    }
  }

  _offer(video, captured, frame) {
    if (!this.link.isOpen) return;
    this.offered += 1;
    if (this.lossy !== this.link.lossy) this._adapt();
    if (this._full) {
      this.dropped += 1;
      this.left += 1;
    } else if (this.codec === "jpeg") this._sendJpeg(video, captured);
    else this._encode(video, captured, frame);
    if (this.offered >= MEASURED) this._adapt();
  }

  _adapt() {
    const [share, changed] = [this.dropped / this.offered, this.lossy !== this.link.lossy];
    this.offered = this.dropped = 0;
    this.lossy = this.link.lossy;
    this.calm = share > 0.1 ? 0 : this.calm + 1;
    let { rate } = this;
    if (share > 0.1 && !changed) rate = Math.max(0.6 * rate, LEAST_RATE);
    else if (this.calm % CALM === CALM - 1) rate *= 1.5;
    rate = Math.round(Math.min(rate, this.lossy ? LOSSY_RATE : MOST_RATE));
    if (rate === this.rate) return;
    this.rate = rate;
    this.size = "";
  }

  // Sides in pixels as they are sent: even, and not larger than is of use.
  _sides(video) {
    const largest = this.lossy && this.codec === "jpeg" ? LOSSY_LARGEST : LARGEST;
    const scale = Math.min(1, largest / Math.max(video.videoWidth, video.videoHeight));
    return [video.videoWidth, video.videoHeight].map((side) => 2 * Math.round((side * scale) / 2));
  }

  _encode(video, captured, given) {
    const [width, height] = this._sides(video);
    const size = `${width} ${height}`;
    if (!this.encoder || this.encoder.state === "closed") {
      this.encoder = new VideoEncoder({ output: (chunk) => this._send(chunk), error: () => this._giveUp() });
      this.size = "";
      this.keyWanted = true;
    }
    if (size !== this.size) {
      // Another rate alone needs no key picture, but not every encoder knows that.
      this.encoder.configure(encoderConfig(this.codec, width, height, this.rate));
      this.size = size;
      this.keyWanted = true;
    }
    const frame = this._frame(video, width, height, Math.round(1e6 * captured), given);
    this.encoder.encode(frame, { keyFrame: this.keyWanted });
    frame.close();
    this.keyWanted = false;
  }

  // A phone's camera is turned, and cameras are large: those go over a canvas, which costs a copy.
  _frame(video, width, height, timestamp, given) {
    const frame = new VideoFrame(given ?? video, { timestamp });
    if (!frame.rotation && !frame.flip && frame.displayWidth === width && frame.displayHeight === height) return frame;
    frame.close();
    this._draw(video, width, height);
    return new VideoFrame(this.canvas, { timestamp });
  }

  _draw(video, width, height) {
    const { canvas } = this;
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    this.context ||= canvas.getContext("2d", { alpha: false, willReadFrequently: true });
    this.context.drawImage(video, 0, 0, width, height);
  }

  // An encoder that fails is not asked again.
  _giveUp() {
    this.codec = "jpeg";
    this.encoder = null;
  }

  _send(chunk) {
    const message = new Uint8Array(HEAD + chunk.byteLength);
    chunk.copyTo(message.subarray(HEAD));
    this._post(message, NUMBERS[this.codec], chunk.type === "key", chunk.timestamp / 1e6);
  }

  async _sendJpeg(video, captured) {
    this.busy = true;
    this._draw(video, ...this._sides(video));
    const blob = await new Promise((resolve) => this.canvas.toBlob(resolve, "image/jpeg", this.lossy ? LOSSY_QUALITY : QUALITY));
    this.busy = false;
    if (!blob) return;
    const message = new Uint8Array(HEAD + blob.size);
    message.set(new Uint8Array(await blob.arrayBuffer()), HEAD);
    this._post(message, NUMBERS.jpeg, true, captured);
  }

  _post(message, codec, key, captured) {
    const view = new DataView(message.buffer);
    const number = this.number;
    this.number = (number + 1) >>> 0;
    view.setUint8(0, 86);
    view.setUint32(1, number, true);
    view.setUint8(5, codec);
    view.setUint8(6, key ? 1 : 0);
    view.setFloat64(7, captured, true);
    this.encoded.set(captured, now());
    if (this.encoded.size > 64) this.encoded.delete(this.encoded.keys().next().value);
    this.sent += 1;
    this.onTheWay.add(this.link.sendInOrder(message, codec === NUMBERS.jpeg));
  }
}
