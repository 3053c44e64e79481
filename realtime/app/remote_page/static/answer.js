// The moving picture as it comes back: decoded by WebCodecs, or as JPEG, the newest on the canvas.
import { NUMBERS, decoderConfig } from "./codecs.js";

const HEAD = 39;
const NAMES = Object.fromEntries(Object.entries(NUMBERS).map(([name, number]) => [number, name]));

export class AnswerReceiver {
  // `show` is told a picture that can be drawn, and what its header says.
  constructor(link, show) {
    Object.assign(this, { link, show, decoder: null, codec: "", last: -1, asked: false });
    this.heads = new Map();
    link.addEventListener("picture", ({ detail }) => this._take(detail));
    link.addEventListener("lost", () => this._restart());
  }

  _restart() {
    this.last = -1;
    this.heads.clear();
    if (this.decoder?.state === "configured") this.decoder.reset();
    this.codec = "";
  }

  _take(view) {
    const head = {
      number: view.getUint32(1, true),
      camera: view.getUint32(5, true),
      codec: NAMES[view.getUint8(9)],
      key: view.getUint8(10) === 1,
      captured: view.getFloat64(11, true),
      received: view.getFloat64(19, true),
      wait: view.getFloat32(27, true),
      render: view.getFloat32(31, true),
      encode: view.getFloat32(35, true),
      arrived: performance.now() / 1000,
    };
    const follows = head.key || (this.last >= 0 && head.number === (this.last + 1) >>> 0);
    if (!follows) {
      this._askKey();
      return;
    }
    this.asked = false;
    this.last = head.number;
    const data = new Uint8Array(view.buffer, HEAD);
    if (head.codec === "jpeg") this._decodeJpeg(data, head);
    else this._decode(data, head);
  }

  _askKey() {
    if (this.asked) return;
    this.asked = true;
    this.last = -1;
    this.link.send({ key: true });
  }

  _decode(data, head) {
    if (!this.decoder || this.decoder.state === "closed") {
      const failed = () => this._askKey();
      this.decoder = new VideoDecoder({ output: (frame) => this._out(frame), error: failed });
      this.codec = "";
    }
    if (head.codec !== this.codec) {
      if (!head.key) return this._askKey();
      this.decoder.configure(decoderConfig(head.codec));
      this.codec = head.codec;
    }
    this.heads.set(head.number, head);
    if (this.heads.size > 32) this.heads.delete(this.heads.keys().next().value);
    try {
      this.decoder.decode(new EncodedVideoChunk({ type: head.key ? "key" : "delta", timestamp: head.number, data }));
    } catch {
      this._askKey();
    }
  }

  _out(frame) {
    const head = this.heads.get(frame.timestamp);
    if (head) this.show(frame, head);
    this.heads.delete(frame.timestamp);
    frame.close();
  }

  async _decodeJpeg(data, head) {
    const picture = await createImageBitmap(new Blob([data], { type: "image/jpeg" })).catch(() => null);
    // A newer one may have been quicker.
    if (picture && head.number > (this.shown ?? -1)) {
      this.shown = head.number;
      this.show(picture, head);
    }
    picture?.close();
  }
}
