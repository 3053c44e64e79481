// Arrays out of a file that NumPy wrote (`np.savez_compressed`).

/** @typedef {Uint8Array | Uint16Array | Float32Array | BigInt64Array} Values */
/** @typedef {{shape: number[], values: Values}} NumpyArray */

/**
 * @param {ArrayBuffer} data of an .npz
 * @returns {Promise<Record<string, NumpyArray>>}
 */
export async function readNpz(data) {
  const view = new DataView(data);
  // The end of central directory has no comment here, so it is the last 22 bytes.
  const end = data.byteLength - 22;
  if (end < 0 || view.getUint32(end, true) !== 0x06054b50) throw new Error("not a zip file");
  /** @type {Record<string, NumpyArray>} */
  const arrays = {};
  let at = view.getUint32(end + 16, true);
  for (let left = view.getUint16(end + 10, true); left > 0; left--) {
    const [method, size] = [view.getUint16(at + 10, true), view.getUint32(at + 20, true)];
    const [nameLength, more, comment] = [28, 30, 32].map((place) => view.getUint16(at + place, true));
    const name = new TextDecoder().decode(new Uint8Array(data, at + 46, nameLength));
    const local = view.getUint32(at + 42, true);
    const begin = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    const packed = new Uint8Array(data, begin, size);
    arrays[name.replace(/\.npy$/, "")] = readNpy(method === 8 ? await inflated(packed) : packed.slice().buffer);
    at += 46 + nameLength + more + comment;
  }
  return arrays;
}

/** @param {Uint8Array<ArrayBuffer>} packed */
const inflated = (packed) => new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"))).arrayBuffer();

/** @param {ArrayBuffer} data of an .npy @returns {NumpyArray} */
function readNpy(data) {
  const view = new DataView(data);
  const [length, begin] = view.getUint8(6) === 1 ? [view.getUint16(8, true), 10] : [view.getUint32(8, true), 12];
  const header = new TextDecoder().decode(new Uint8Array(data, begin, length));
  const type = /'descr': '([^']+)'/.exec(header)?.[1];
  const shape = (/'shape': \(([^)]*)\)/.exec(header)?.[1] ?? "").split(",").filter((part) => part.trim()).map(Number);
  if (header.includes("'fortran_order': True")) throw new Error("an array in Fortran's order");
  const values = data.slice(begin + length);
  if (type === "|u1") return { shape, values: new Uint8Array(values) };
  if (type === "<u2") return { shape, values: new Uint16Array(values) };
  if (type === "<f4") return { shape, values: new Float32Array(values) };
  if (type === "<i8") return { shape, values: new BigInt64Array(values) };
  throw new Error(`an array of type ${type}`);
}
