// Snapshots and recordings of the canvas, as files that the browser saves. Both say that they are synthetic, as the
// installed livepuppet's do: recordings in the picture, both in their data (realtime/outputs/badge.py has the words).

/** @typedef {{badge: string, comment: string, xmp: string}} Words */

/** What recordings are written as, the most widely played first. */
const KINDS = ["video/mp4;codecs=avc1.42E01F,mp4a.40.2", "video/mp4", "video/webm;codecs=vp9,opus", "video/webm;codecs=vp8,opus", "video/webm"];

/** The box in which an MP4 carries XMP. */
const XMP_BOX = [0xbe, 0x7a, 0xcf, 0xcb, 0x97, 0xa9, 0x42, 0xe8, 0x9c, 0x71, 0x99, 0x94, 0x91, 0xe3, 0xaf, 0xac];

const utf8 = (/** @type {string} */ text) => new TextEncoder().encode(text);

/** @param {string} ending */
const nameWith = (ending) => `livepuppet ${new Date().toISOString().slice(0, 19).replace("T", " ").replaceAll(":", ".")}.${ending}`;

/** @param {Blob} blob @param {string} ending */
function save(blob, ending) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = nameWith(ending);
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  return link.download;
}

/** @param {Uint8Array} data */
function crc32(data) {
  let crc = -1;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

/** @param {string} kind @param {Uint8Array} content @returns {Uint8Array<ArrayBuffer>} */
function chunk(kind, content) {
  const data = new Uint8Array(content.length + 12);
  const view = new DataView(data.buffer);
  view.setUint32(0, content.length);
  data.set(utf8(kind), 4);
  data.set(content, 8);
  view.setUint32(8 + content.length, crc32(data.subarray(4, 8 + content.length)));
  return data;
}

/** What is on the canvas, which was drawn in this very task. @param {HTMLCanvasElement} canvas @param {Words} words @returns {Promise<string>} */
export async function saveSnapshot(canvas, words) {
  /** @type {Blob} */
  const png = await new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("no picture"))), "image/png");
  });
  const tags = [
    chunk("tEXt", utf8(`Comment\0${words.comment}`)),
    chunk("tEXt", utf8("Software\0livepuppet")),
    chunk("iTXt", utf8(`XML:com.adobe.xmp\0\0\0\0\0${words.xmp}`)),
  ];
  // After the signature and the header.
  return save(new Blob([png.slice(0, 33), ...tags, png.slice(33)], { type: "image/png" }), "png");
}

export const canRecord = () => "MediaRecorder" in self && KINDS.some((kind) => MediaRecorder.isTypeSupported(kind));

/** A recording, from its making until `stop`. It keeps the size that the picture had when it began. */
export class Recording {
  /** @param {HTMLCanvasElement} shown @param {MediaStreamTrack[]} sound @param {Words} words */
  constructor(shown, sound, words) {
    this.shown = shown;
    this.words = words;
    this.sound = sound;
    this.canvas = document.createElement("canvas");
    // Encoders want even numbers.
    this.canvas.width = shown.width & ~1;
    this.canvas.height = shown.height & ~1;
    this.context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d", { alpha: false }));
    const stream = this.canvas.captureStream(30);
    for (const track of sound) stream.addTrack(track);
    const mimeType = KINDS.find((kind) => MediaRecorder.isTypeSupported(kind));
    this.recorder = new MediaRecorder(stream, { mimeType, videoBitsPerSecond: 6_000_000 });
    this.began = performance.now();
    /** @type {Blob[]} */
    const parts = [];
    this.recorder.addEventListener("dataavailable", ({ data }) => parts.push(data));
    /** @type {Promise<string>} */
    this.done = new Promise((resolve) => {
      this.recorder.addEventListener("stop", () => {
        for (const track of stream.getTracks()) track.stop();
        const { mimeType: type } = this.recorder;
        const isMp4 = type.startsWith("video/mp4");
        resolve(save(new Blob(isMp4 ? [...parts, this._tag()] : parts, { type }), isMp4 ? "mp4" : "webm"));
      });
    });
    this.draw();
    this.recorder.start(1000);
  }

  _tag() {
    const xmp = utf8(this.words.xmp);
    const head = new Uint8Array(24);
    new DataView(head.buffer).setUint32(0, 24 + xmp.length);
    head.set(utf8("uuid"), 4);
    head.set(XMP_BOX, 8);
    return new Blob([head, xmp]);
  }

  /** Take what is on the canvas, which was drawn in this very task. */
  draw() {
    const { context, shown, canvas } = this;
    const { width, height } = canvas;
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    const scale = Math.min(width / shown.width, height / shown.height);
    const [wide, high] = [shown.width * scale, shown.height * scale];
    context.drawImage(shown, (width - wide) / 2, (height - high) / 2, wide, high);
    const size = Math.max(9, Math.min(width, height) / 36);
    context.font = `${size}px system-ui, sans-serif`;
    const panel = [context.measureText(this.words.badge).width + 1.3 * size, 1.7 * size];
    const [left, top] = [width - 0.6 * size - panel[0], height - 0.6 * size - panel[1]];
    context.fillStyle = "#1010109e";
    context.beginPath();
    context.roundRect(left, top, panel[0], panel[1], 0.28 * panel[1]);
    context.fill();
    context.fillStyle = "#f5f5f5";
    context.textBaseline = "middle";
    context.fillText(this.words.badge, left + 0.65 * size, top + panel[1] / 2);
  }

  get seconds() {
    return (performance.now() - this.began) / 1000;
  }

  /** Its name, once it is saved. @returns {Promise<string>} */
  stop() {
    if (this.recorder.state !== "inactive") this.recorder.stop();
    return this.done;
  }
}
