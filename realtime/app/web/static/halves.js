// Graphs whose weights come in 16 bits: see realtime/app/web/halves.py.

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
  const halves = new DataView(data);
  let from = begin;
  let to = 0;
  for (const [first, last] of spans) {
    graph.set(new Uint8Array(data, from, first - to), to);
    from += first - to;
    for (let at = first; at < last; at += 4, from += 2) view.setFloat32(at, float(halves.getUint16(from, true)), true);
    to = last;
  }
  graph.set(new Uint8Array(data, from), to);
  return graph.buffer;
}

/** A number in 16 bits. @param {number} bits */
function float(bits) {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const size = exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction;
  return bits & 0x8000 ? -size : size;
}
