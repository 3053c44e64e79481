// Graphs whose weights come in half as many bits: see realtime/app/web/halves.py.

/**
 * The graph of a file, its weights in 32 bits.
 * @param {ArrayBuffer} data
 */
export function unhalved(data) {
  const length = new DataView(data).getUint32(0, true);
  /** @type {[number, number][]} */
  const spans = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  const begin = 4 + length;
  const graph = new Uint8Array(data.byteLength - begin + spans.reduce((sum, [first, last]) => sum + (last - first) / 2, 0));
  const view = new DataView(graph.buffer);
  const halves = new Uint8Array(data);
  let from = begin;
  let to = 0;
  for (const [first, last] of spans) {
    graph.set(new Uint8Array(data, from, first - to), to);
    from += first - to;
    // The lower bytes of all weights, then the upper ones.
    const count = (last - first) / 4;
    for (let at = 0; at < count; at++) view.setFloat32(first + 4 * at, float(halves[from + at] | (halves[from + count + at] << 8)), true);
    from += 2 * count;
    to = last;
  }
  graph.set(new Uint8Array(data, from), to);
  return graph.buffer;
}

/** Weights that share a scale. */
const BLOCK = 64;

/**
 * The graph of a file, its weights in 16 bits again.
 * @param {ArrayBuffer} data
 */
export function unquartered(data) {
  const length = new DataView(data).getUint32(0, true);
  /** @type {[number, number][]} */
  const spans = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  const begin = 4 + length;
  const blocks = (/** @type {number} */ count) => Math.ceil(count / BLOCK);
  const saved = spans.reduce((sum, [first, last]) => sum + (last - first) / 2 - 2 * blocks((last - first) / 2), 0);
  const graph = new Uint8Array(data.byteLength - begin + saved);
  const view = new DataView(graph.buffer);
  const packed = new DataView(data);
  let from = begin;
  let to = 0;
  for (const [first, last] of spans) {
    graph.set(new Uint8Array(data, from, first - to), to);
    from += first - to;
    const count = (last - first) / 2;
    const numbers = from + 2 * blocks(count);
    for (let at = 0; at < count; at++) {
      const scale = float(packed.getUint16(from + 2 * Math.floor(at / BLOCK), true));
      view.setUint16(first + 2 * at, bitsOf(scale * packed.getInt8(numbers + at)), true);
    }
    from = numbers + count;
    to = last;
  }
  graph.set(new Uint8Array(data, from), to);
  return graph.buffer;
}

/** The 16 bits of a number within their range. @param {number} number */
function bitsOf(number) {
  const size = Math.abs(number);
  const sign = number < 0 ? 0x8000 : 0;
  if (size < 2 ** -14) return sign | Math.round(size * 2 ** 24);
  const exponent = Math.floor(Math.log2(size));
  // A fraction that is rounded up to 1024 goes on into the exponent, as it should.
  return sign | (((exponent + 15) << 10) + Math.round((size / 2 ** exponent - 1) * 1024));
}

/** A number in 16 bits. @param {number} bits */
function float(bits) {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const size = exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction;
  return bits & 0x8000 ? -size : size;
}
