// What drives: a camera or a video file, played by the page's <video>; and its frames, newest first.

/** The largest picture that a camera is asked for; the model sees a square of 256. */
const WANTED = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };

export class Source {
  /**
   * @param {HTMLVideoElement} video
   * @param {(captured: number, time: number) => void} onFrame called with when each new frame was captured, in milliseconds, and its
   *     time in a clip, in seconds
   * @param {() => void} onEnd called when a camera goes away by itself
   * @param {MediaTrackConstraints} wanted of a camera
   */
  constructor(video, onFrame, onEnd, wanted = WANTED) {
    this.video = video;
    this.wanted = wanted;
    this.onEnd = onEnd;
    /** Of an example the frames themselves are not asked for. @type {"none" | "camera" | "clip" | "example"} */
    this.kind = "none";
    /** @type {MediaStream | null} */
    this.stream = null;
    /** @type {string | null} */
    this.address = null;
    const tick = (/** @type {number} */ now, /** @type {any} */ { captureTime, mediaTime } = {}) => {
      if (this.kind !== "none") onFrame(captureTime ?? now, mediaTime ?? video.currentTime);
      this._next(tick);
    };
    this._next(tick);
  }

  /** @param {(now: number, metadata?: any) => void} tick */
  _next(tick) {
    if ("requestVideoFrameCallback" in this.video) this.video.requestVideoFrameCallback(tick);
    else requestAnimationFrame((now) => tick(now));
  }

  /** The device that runs; empty where none does. */
  get deviceId() {
    return this.stream?.getVideoTracks()[0]?.getSettings().deviceId ?? "";
  }

  /** Throws what `getUserMedia` throws. @param {string} deviceId */
  async openCamera(deviceId = "") {
    const device = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: "user" };
    const stream = await navigator.mediaDevices.getUserMedia({ video: { ...this.wanted, ...device }, audio: false });
    this.close();
    this.stream = stream;
    this.kind = "camera";
    stream.getVideoTracks()[0].addEventListener("ended", () => {
      if (this.stream !== stream) return;
      this.close();
      this.onEnd();
    });
    this.video.srcObject = stream;
    this.video.muted = true;
    await this.video.play();
  }

  /** Whether what is seen moves the picture. */
  get drives() {
    return this.kind === "camera" || this.kind === "clip";
  }

  /** Throws where the browser cannot play it. @param {Blob} file @param {boolean} loop @param {"clip" | "example"} kind */
  async openClip(file, loop = true, kind = "clip") {
    this.close();
    this.kind = kind;
    this.address = URL.createObjectURL(file);
    this.video.srcObject = null;
    this.video.src = this.address;
    this.video.loop = loop;
    this.video.muted = true;
    try {
      await this.video.play();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  close() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    if (this.address) URL.revokeObjectURL(this.address);
    this.stream = this.address = null;
    this.kind = "none";
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.srcObject = null;
  }

  /** The present frame, for a worker; null before there is one. */
  async frame() {
    const { videoWidth: width, videoHeight: height } = this.video;
    if (!width || !height || this.video.readyState < 2) return null;
    const picture = "VideoFrame" in self ? new VideoFrame(this.video, { timestamp: 0 }) : await createImageBitmap(this.video);
    return { picture, width, height };
  }
}

/** Which sentence of the texts says what `getUserMedia` threw. @param {unknown} error */
export function cameraTrouble(error) {
  const name = error instanceof DOMException ? error.name : "";
  if (name === "NotAllowedError" || name === "SecurityError") return "cameraDenied";
  return name === "NotFoundError" || name === "OverconstrainedError" ? "cameraMissing" : "cameraBusy";
}
