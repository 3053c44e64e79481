// What this browser encodes and decodes without holding a picture back, found out by doing it.

// Numbers as the server has them, and what WebCodecs calls them: constrained baseline, level 3.1.
export const NUMBERS = { jpeg: 0, h264: 1, vp8: 2 };
export const STRINGS = { h264: "avc1.42E01F", vp8: "vp8" };

const [WIDTH, HEIGHT, PICTURES, SKIPPED, PATIENCE] = [640, 480, 6, 2, 400];

export function encoderConfig(codec, width, height, bitrate) {
  const config = { codec: STRINGS[codec], width, height, bitrate, framerate: 30, latencyMode: "realtime" };
  return codec === "h264" ? { ...config, avc: { format: "annexb" } } : config;
}

export const decoderConfig = (codec) => ({ codec: STRINGS[codec], optimizeForLatency: true });

// Milliseconds that a picture of a codec takes to be encoded and decoded; null where either fails, or waits for the next one.
async function tried(codec) {
  const canvas = new OffscreenCanvas(WIDTH, HEIGHT);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  let coded = null;
  let shown = null;
  const failed = () => {
    coded?.(null);
    shown?.(false);
  };
  const encoder = new VideoEncoder({ output: (chunk) => coded?.(chunk), error: failed });
  const decoder = new VideoDecoder({
    output: (frame) => {
      frame.close();
      shown?.(true);
    },
    error: failed,
  });
  const late = (value) => new Promise((resolve) => setTimeout(resolve, PATIENCE, value));
  try {
    encoder.configure(encoderConfig(codec, WIDTH, HEIGHT, 1_000_000));
    decoder.configure(decoderConfig(codec));
    const times = [];
    for (let number = 0; number < PICTURES; number++) {
      context.fillStyle = `hsl(${40 * number} 60% 50%)`;
      context.fillRect(0, 0, WIDTH, HEIGHT);
      context.fillStyle = "#fff";
      context.fillRect(60 * number, 90, 200, 200);
      const began = performance.now();
      const frame = new VideoFrame(canvas, { timestamp: 33_333 * number });
      const chunk = new Promise((resolve) => (coded = resolve));
      encoder.encode(frame, { keyFrame: number === 0 });
      frame.close();
      const found = await Promise.race([chunk, late(null)]);
      if (!found) return null;
      const done = new Promise((resolve) => (shown = resolve));
      decoder.decode(found);
      if (!(await Promise.race([done, late(false)]))) return null;
      times.push(performance.now() - began);
    }
    return times.slice(SKIPPED).sort((a, b) => a - b)[1];
  } catch {
    return null;
  } finally {
    for (const one of [encoder, decoder]) if (one.state !== "closed") one.close();
  }
}

// The codecs of this browser, the quickest first: for the camera, and for what comes back. JPEG is always there.
export async function usableCodecs(only = null) {
  const [up, down] = [[], []];
  if ("VideoEncoder" in self && "VideoDecoder" in self && "OffscreenCanvas" in self) {
    const found = [];
    for (const codec of Object.keys(STRINGS)) {
      if (only && only !== codec) continue;
      const milliseconds = await tried(codec);
      // H.264 costs the machine that renders less.
      if (milliseconds !== null) found.push({ codec, cost: milliseconds + (codec === "h264" ? 0 : 4) });
    }
    found.sort((a, b) => a.cost - b.cost);
    up.push(...found.map((one) => one.codec));
  }
  if ("VideoDecoder" in self && only !== "jpeg") {
    down.push(...up);
    for (const codec of Object.keys(STRINGS)) {
      if (down.includes(codec) || (only && only !== codec) || up.length) continue;
      const known = await VideoDecoder.isConfigSupported(decoderConfig(codec)).catch(() => null);
      if (known?.supported) down.push(codec);
    }
  }
  return { up: [...up, "jpeg"], down: [...down, "jpeg"] };
}
