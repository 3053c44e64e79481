// Pictures as they come, newest first, and how old each was when it had been drawn. Nothing here needs
// a document: it runs in a worker, too.
import { connect } from "./socket.js";

const HEADER = 32;
const ALPHA = 1;

// Draws bitmaps whose lower half is the upper half's alpha.
function transparentPainter(canvas) {
  const gl = canvas.getContext("webgl", { premultipliedAlpha: false, alpha: true });
  if (!gl) return null;
  const shader = (type, source) => {
    const made = gl.createShader(type);
    gl.shaderSource(made, source);
    gl.compileShader(made);
    return made;
  };
  const program = gl.createProgram();
  gl.attachShader(program, shader(gl.VERTEX_SHADER, `
    attribute vec2 corner; varying vec2 at;
    void main() { at = corner * vec2(0.5, -0.5) + 0.5; gl_Position = vec4(corner, 0.0, 1.0); }`));
  gl.attachShader(program, shader(gl.FRAGMENT_SHADER, `
    precision mediump float; uniform sampler2D picture; varying vec2 at;
    void main() {
      vec3 colour = texture2D(picture, vec2(at.x, at.y * 0.5)).rgb;
      float alpha = texture2D(picture, vec2(at.x, at.y * 0.5 + 0.5)).g;
      gl_FragColor = vec4(colour, alpha);
    }`));
  gl.linkProgram(program);
  gl.useProgram(program);
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]), gl.STATIC_DRAW);
  const corner = gl.getAttribLocation(program, "corner");
  gl.enableVertexAttribArray(corner);
  gl.vertexAttribPointer(corner, 2, gl.FLOAT, false, 0, 0);
  gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
  for (const [name, value] of [
    [gl.TEXTURE_MIN_FILTER, gl.LINEAR],
    [gl.TEXTURE_MAG_FILTER, gl.LINEAR],
    [gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE],
    [gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE],
  ]) gl.texParameteri(gl.TEXTURE_2D, name, value);
  return (bitmap) => {
    const [width, height] = sizeOf(bitmap);
    resize(canvas, width, height / 2);
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, gl.RGB, gl.UNSIGNED_BYTE, bitmap);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
  };
}

function opaquePainter(canvas) {
  const context = canvas.getContext("2d", { alpha: false });
  return (bitmap) => {
    resize(canvas, ...sizeOf(bitmap));
    context.drawImage(bitmap, 0, 0);
  };
}

// A bitmap's, or a decoded frame's.
export const sizeOf = (bitmap) => [bitmap.displayWidth ?? bitmap.width, bitmap.displayHeight ?? bitmap.height];

function resize(canvas, width, height) {
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
}

// Draws pictures on a canvas: what the first one's header wants.
export function painterOf(canvas) {
  let paint = null;
  return (bitmap, header) => {
    paint ||= (header.alpha && transparentPainter(canvas)) || opaquePainter(canvas);
    paint(bitmap);
  };
}

// WebCodecs decodes what is in memory; a bitmap of a blob goes through the browser's process first, 2 ms of 19.
async function decode(jpeg) {
  if (!("ImageDecoder" in globalThis)) return createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
  const decoder = new ImageDecoder({ data: jpeg, type: "image/jpeg" });
  try {
    return (await decoder.decode()).image;
  } finally {
    decoder.close();
  }
}

// Show a feed. `paint` draws a bitmap; `drawn` is told its header and its age in milliseconds. What is
// said once more to a session that comes back is what the function that this returns was told last.
export function showFeed(path, token, paint, drawn = () => {}) {
  let next = null;
  let scheduled = false;
  let asking = null;
  let wish = null;
  const trips = [];
  const clock = () => {
    // The session's clock, by the quickest of the last answers.
    const best = trips.reduce((a, b) => (a && a.trip <= b.trip ? a : b), null);
    return best && performance.now() + best.offset;
  };

  const draw = () => {
    scheduled = false;
    const { header, bitmap } = next;
    next = null;
    paint(bitmap, header);
    bitmap.close();
    const now = clock();
    const age = now === null ? null : now - header.captured;
    send({ drawn: header.number, age });
    drawn(header, age);
  };

  const take = async (data) => {
    if (typeof data === "string") {
      const { pong, now } = JSON.parse(data);
      const at = performance.now();
      trips.push({ trip: at - pong, offset: now - (pong + at) / 2 });
      if (trips.length > 8) trips.shift();
      return;
    }
    const view = new DataView(data);
    const header = {
      number: view.getUint32(0, true),
      alpha: Boolean(view.getUint32(4, true) & ALPHA),
      captured: view.getFloat64(8, true),
      square: [16, 20, 24].map((at) => view.getFloat32(at, true)),
    };
    const bitmap = await decode(new Uint8Array(data, HEADER));
    if (next) {
      if (next.header.number > header.number) {
        bitmap.close();
        return;
      }
      next.bitmap.close();
      send({ drawn: next.header.number });
    }
    next = { header, bitmap };
    if (!scheduled) {
      scheduled = true;
      // A page that nobody sees draws nothing, and gets nothing sent.
      requestAnimationFrame(draw);
    }
  };

  const ping = () => send({ ping: performance.now() });
  const send = connect(path, token, {
    message: (data) => take(data).catch(() => {}),
    opened: () => {
      trips.length = 0;
      ping();
      if (wish) send(wish);
      clearInterval(asking);
      asking = setInterval(ping, 1000);
    },
  });
  return (value) => {
    wish = value;
    send(value);
  };
}
