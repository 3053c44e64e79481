// The moving picture, newest first, drawn as it comes; and how old it is by then.
import { connect } from "./api.js";

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
    resize(canvas, bitmap.width, bitmap.height / 2);
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, gl.RGB, gl.UNSIGNED_BYTE, bitmap);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
  };
}

function opaquePainter(canvas) {
  const context = canvas.getContext("2d", { alpha: false });
  return (bitmap) => {
    resize(canvas, bitmap.width, bitmap.height);
    context.drawImage(bitmap, 0, 0);
  };
}

function resize(canvas, width, height) {
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
}

// Percentile of a few numbers.
export function percentile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

// Show a feed. `paint` draws a bitmap; `drawn` is told its header and its age in milliseconds.
export function showFeed(path, paint, drawn = () => {}) {
  let next = null;
  let scheduled = false;
  let behind = null;
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
    const bitmap = await createImageBitmap(new Blob([new Uint8Array(data, HEADER)], { type: "image/jpeg" }));
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
  const send = connect(path, {
    message: (data) => take(data).catch(() => {}),
    opened: () => {
      trips.length = 0;
      ping();
      clearInterval(behind);
      behind = setInterval(ping, 1000);
    },
  });
}

// The finished picture on a canvas.
export function showPicture(canvas, { alpha = false, width = 0, drawn = () => {} } = {}) {
  let painter = null;
  showFeed(
    `/ws/picture?width=${width}&alpha=${alpha ? 1 : 0}`,
    (bitmap, header) => {
      painter ||= (header.alpha && transparentPainter(canvas)) || opaquePainter(canvas);
      painter(bitmap);
      canvas.dataset.number = header.number;
    },
    drawn,
  );
}
