// The finished picture: the avatar's own pixels, bent as the model bent them, with what the model painted added, on the
// background wanted. As realtime/compositing/warp.py, on the graphics card:
//     bent(avatar) + enlarged(model's picture - bent(model's avatar))

/** @typedef {import("./motion/framing.js").Square} Square */
/** What the model drew. @typedef {{pixels: Uint8Array, deformation: Float32Array, rows: number, columns: number}} Drawn */
/** All of a picture, RGBA, premultiplied, as a rig drew it. @typedef {{whole: ArrayBuffer, width: number, height: number}} Whole */

/** Width of the soft edge of a square that lies inside a larger picture, in shares of its side. */
const FEATHER = 0.16;

/** Longest side of the canvas, in pixels. */
const LARGEST = 1080;

/** Side of the picture that a blurred background is enlarged from. */
const BLURRED = 20;

const CORNERS = `#version 300 es
  in vec2 corner; out vec2 at;
  void main() { at = corner * 0.5 + 0.5; gl_Position = vec4(corner, 0.0, 1.0); }`;

const SHIFT = `#version 300 es
  precision highp float;
  uniform sampler2D grid; uniform float size;
  // By how much the model moved the place m, in pixels of its square.
  vec2 shift(vec2 m) {
    vec2 last = vec2(textureSize(grid, 0)) - 1.0;
    vec2 cell = clamp(m / (size - 1.0), 0.0, 1.0) * last;
    ivec2 low = ivec2(min(floor(cell), last - 1.0));
    vec2 part = cell - vec2(low);
    vec2 came = mix(
      mix(texelFetch(grid, low, 0).rg, texelFetch(grid, low + ivec2(1, 0), 0).rg, part.x),
      mix(texelFetch(grid, low + ivec2(0, 1), 0).rg, texelFetch(grid, low + ivec2(1, 1), 0).rg, part.x), part.y);
    return (came - (cell / last * 2.0 - 1.0)) * (size - 1.0) / 2.0;
  }`;

/** What the model painted, as it is in the model's own pixels. */
const PAINTED = `${SHIFT}
  uniform sampler2D drawn, small; in vec2 at; out vec4 colour;
  void main() {
    vec2 m = at * size - 0.5;
    colour = vec4(texture(drawn, at).rgb - texture(small, (m + shift(m) + 0.5) / size).rgb, 1.0);
  }`;

const FINISHED = `${SHIFT}
  uniform sampler2D figure, painted, behind;
  uniform vec3 square;     // of the model, in shares of the picture: left, top, and its height
  uniform vec2 extent;     // of the picture, in its own pixels
  uniform vec4 edges;      // 1 where the square ends inside the picture: left, top, right, bottom
  uniform bool moves, clear;
  in vec2 at; out vec4 colour;
  float ramp(float place, float first, float last) {
    float a = mix(1.0, clamp(place / ${FEATHER}, 0.0, 1.0), first);
    float b = mix(1.0, clamp((1.0 - place) / ${FEATHER}, 0.0, 1.0), last);
    return a * a * (3.0 - 2.0 * a) * b * b * (3.0 - 2.0 * b);
  }
  void main() {
    vec2 uv = vec2(at.x, 1.0 - at.y);
    vec2 side = square.z * vec2(extent.y / extent.x, 1.0);
    vec2 inside = (uv - square.xy) / side;
    vec2 from = uv;
    vec3 added = vec3(0.0);
    if (moves && all(greaterThanEqual(inside, vec2(0.0))) && all(lessThanEqual(inside, vec2(1.0)))) {
      float soft = ramp(inside.x, edges.x, edges.z) * ramp(inside.y, edges.y, edges.w);
      from += shift(inside * size - 0.5) / size * side * soft;
      added = texture(painted, inside).rgb * soft;
    }
    // Its colours are multiplied by its alpha.
    vec4 own = texture(figure, from);
    vec3 full = clamp((own.a > 0.0 ? own.rgb / own.a : own.rgb) + added, 0.0, 1.0);
    vec3 back = texture(behind, uv).rgb;
    colour = clear ? vec4(full * own.a, own.a) : vec4(mix(back, full, own.a), 1.0);
  }`;

/** @param {WebGL2RenderingContext} gl @param {string} fragment */
function programOf(gl, fragment) {
  const program = gl.createProgram();
  for (const [type, source] of /** @type {const} */ ([
    [gl.VERTEX_SHADER, CORNERS],
    [gl.FRAGMENT_SHADER, fragment],
  ])) {
    const shader = /** @type {WebGLShader} */ (gl.createShader(type));
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.bindAttribLocation(program, 0, "corner");
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program) ?? "shader");
  return { program, at: (/** @type {string} */ name) => gl.getUniformLocation(program, name) };
}

/** Size of the canvas for a picture. @param {{width: number, height: number}} picture */
function extentOf({ width, height }) {
  const factor = Math.min(1, LARGEST / Math.max(width, height));
  return [Math.max(1, Math.round(width * factor)), Math.max(1, Math.round(height * factor))];
}

/** By their units. */
const TEXTURES = ["figure", "behind", "small", "drawn", "grid", "painted"];

/** Draws on a canvas by WebGL 2. */
class SharpPainter {
  /** Of the model's square. */
  size = 0;

  /** @param {HTMLCanvasElement} canvas @param {WebGL2RenderingContext} gl */
  constructor(canvas, gl) {
    this.canvas = canvas;
    this.gl = gl;
    /** @type {Shown | null} */
    this._shown = null;
    this._parts = this._build();
    // A driver that was reset gives the canvas back with nothing on it.
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => {
      this._parts = this._build();
      this.size = 0;
      if (this._shown) this.setAvatar(this._shown);
      this.draw(null);
    });
  }

  _build() {
    const { gl } = this;
    canDrawSigned(gl);
    const [painting, finishing] = [PAINTED, FINISHED].map((fragment) => programOf(gl, fragment));
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]), gl.STATIC_DRAW);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(0, 2, gl.FLOAT, false, 0, 0);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    let painted = null;
    for (const [unit, name] of TEXTURES.entries()) {
      gl.activeTexture(gl.TEXTURE0 + unit);
      const texture = gl.createTexture();
      if (name === "painted") painted = texture;
      gl.bindTexture(gl.TEXTURE_2D, texture);
      const filter = name === "grid" ? gl.NEAREST : gl.LINEAR;
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, filter);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, filter);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
    }
    for (const { program, at } of [painting, finishing]) {
      gl.useProgram(program);
      for (const [unit, name] of TEXTURES.entries()) gl.uniform1i(at(name), unit);
    }
    return { painting, finishing, painted, frame: gl.createFramebuffer() };
  }

  /** Whether a rig has drawn over the figure. */
  _replaced = false;

  /** @param {ImageBitmap} figure */
  _setFigure(figure) {
    const { gl } = this;
    this._replaced = false;
    gl.pixelStorei(gl.UNPACK_PREMULTIPLY_ALPHA_WEBGL, true);
    this._use("figure");
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, figure);
    gl.pixelStorei(gl.UNPACK_PREMULTIPLY_ALPHA_WEBGL, false);
  }

  /** @param {string} name */
  _use(name) {
    this.gl.activeTexture(this.gl.TEXTURE0 + TEXTURES.indexOf(name));
  }

  /** @param {Shown} shown */
  setAvatar(shown) {
    const { gl } = this;
    const { painting, finishing, painted, frame } = this._parts;
    const { figure, square, small, size } = (this._shown = shown);
    [this.canvas.width, this.canvas.height] = extentOf(figure);
    this._setFigure(figure);
    this._use("small");
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, size, size, 0, gl.RGB, gl.UNSIGNED_BYTE, small);
    if (this.size !== size) {
      this.size = size;
      this._use("painted");
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA16F, size, size, 0, gl.RGBA, gl.HALF_FLOAT, null);
      gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
      gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, painted, 0);
      gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    }
    const { width, height } = figure;
    const { x, y, side } = square;
    const inside = [x > 1, y > 1, x + side < width - 1, y + side < height - 1].map(Number);
    for (const { program, at } of [painting, finishing]) {
      gl.useProgram(program);
      gl.uniform1f(at("size"), size);
      gl.uniform3f(at("square"), x / width, y / height, side / height);
      gl.uniform2f(at("extent"), width, height);
      gl.uniform4f(at("edges"), inside[0], inside[1], inside[2], inside[3]);
    }
    this.setBackground(shown.background);
  }

  /** @param {Background} background */
  setBackground(background) {
    const { gl } = this;
    const { finishing } = this._parts;
    if (this._shown) this._shown.background = background;
    this._use("behind");
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, behindOf(background));
    gl.useProgram(finishing.program);
    gl.uniform1i(finishing.at("clear"), Number(background === "clear"));
  }

  /** Null is the avatar at rest. @param {Drawn | Whole | null} given */
  draw(given) {
    const { gl, size, canvas } = this;
    const { painting, finishing, painted, frame } = this._parts;
    if (!this._shown) return;
    const whole = given && "whole" in given ? given : null;
    const drawn = given && "pixels" in given ? given : null;
    if (whole) {
      this._use("figure");
      gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, whole.width, whole.height, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(whole.whole));
      this._replaced = true;
    } else if (this._replaced) {
      this._setFigure(this._shown.figure);
    }
    if (drawn) {
      this._use("drawn");
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, size, size, 0, gl.RGB, gl.UNSIGNED_BYTE, drawn.pixels);
      this._use("grid");
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RG32F, drawn.columns, drawn.rows, 0, gl.RG, gl.FLOAT, drawn.deformation);
      gl.useProgram(painting.program);
      gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
      gl.viewport(0, 0, size, size);
      // A texture is not read while it is written.
      this._use("painted");
      gl.bindTexture(gl.TEXTURE_2D, null);
      gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
      gl.bindFramebuffer(gl.FRAMEBUFFER, null);
      gl.bindTexture(gl.TEXTURE_2D, painted);
    }
    gl.useProgram(finishing.program);
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.uniform1i(finishing.at("moves"), Number(drawn !== null));
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
  }
}

/** Without WebGL 2: the model's picture over the avatar, as soft as the model draws it. */
class PlainPainter {
  /** What a rig drew. @type {OffscreenCanvas | null} */
  whole = null;

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  }

  /** @param {Shown} shown */
  setAvatar(shown) {
    this._shown = shown;
    [this.canvas.width, this.canvas.height] = extentOf(shown.figure);
    this.square = new OffscreenCanvas(shown.size, shown.size);
    this.pixels = new ImageData(shown.size, shown.size);
  }

  /** @param {Background} background */
  setBackground(background) {
    if (this._shown) this._shown.background = background;
  }

  /** @param {Drawn | Whole | null} drawn */
  draw(drawn) {
    const { context, canvas, square, pixels, _shown: shown } = this;
    if (!shown || !square || !pixels) return;
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (shown.background !== "clear") context.drawImage(behindOf(shown.background), 0, 0, canvas.width, canvas.height);
    if (drawn && "whole" in drawn) {
      this.whole ??= new OffscreenCanvas(drawn.width, drawn.height);
      this.whole.width = drawn.width;
      this.whole.height = drawn.height;
      this.whole.getContext("2d")?.putImageData(new ImageData(straight(drawn.whole), drawn.width, drawn.height), 0, 0);
      context.drawImage(this.whole, 0, 0, canvas.width, canvas.height);
      return;
    }
    context.drawImage(shown.figure, 0, 0, canvas.width, canvas.height);
    if (!drawn) return;
    for (let from = 0, to = 0; from < drawn.pixels.length; from += 3, to += 4) {
      pixels.data.set(drawn.pixels.subarray(from, from + 3), to);
      pixels.data[to + 3] = 255;
    }
    square.getContext("2d")?.putImageData(pixels, 0, 0);
    const scale = canvas.width / shown.figure.width;
    const { x, y, side } = shown.square;
    context.globalCompositeOperation = "source-atop";
    context.drawImage(square, x * scale, y * scale, side * scale, side * scale);
    context.globalCompositeOperation = "source-over";
  }
}

/** Premultiplied colours as a canvas takes them. @param {ArrayBuffer} memory */
function straight(memory) {
  const data = new Uint8ClampedArray(memory);
  for (let at = 0; at < data.length; at += 4) {
    const alpha = data[at + 3];
    if (alpha === 0 || alpha === 255) continue;
    for (let channel = at; channel < at + 3; channel++) data[channel] = (255 * data[channel]) / alpha;
  }
  return data;
}

/**
 * What is behind the figure: `clear`, a colour, or a picture that is shown blurred.
 * @typedef {"clear" | string | ImageBitmap} Background
 */

/**
 * An avatar as it is shown.
 * @typedef {object} Shown
 * @property {ImageBitmap} figure the whole picture
 * @property {Square} square of the model, in its pixels
 * @property {Uint8Array} small the square as the model sees it, RGB (size, size, 3)
 * @property {number} size
 * @property {Background} background
 */

/** @param {Background} background */
function behindOf(background) {
  const side = typeof background === "string" ? 1 : BLURRED;
  const canvas = new OffscreenCanvas(side, side);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.imageSmoothingQuality = "high";
  if (typeof background === "string") {
    context.fillStyle = background === "clear" ? "#000" : background;
    context.fillRect(0, 0, 1, 1);
  } else {
    context.drawImage(background, 0, 0, side, side);
  }
  return canvas;
}

/** What is painted may be darker than nothing: whether textures can hold it. @param {WebGL2RenderingContext} gl */
const canDrawSigned = (gl) => Boolean(gl.getExtension("EXT_color_buffer_float") ?? gl.getExtension("EXT_color_buffer_half_float"));

/** What draws on the canvas. @param {HTMLCanvasElement} canvas @returns {SharpPainter | PlainPainter} */
export function painterOf(canvas) {
  const probe = document.createElement("canvas").getContext("webgl2");
  if (!probe || !canDrawSigned(probe)) return new PlainPainter(canvas);
  const gl = canvas.getContext("webgl2", { alpha: true, antialias: false, depth: false, premultipliedAlpha: true });
  return new SharpPainter(canvas, /** @type {WebGL2RenderingContext} */ (gl));
}
