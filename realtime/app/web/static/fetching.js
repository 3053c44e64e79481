// Files of this site.

/**
 * The file at `path` beside this module.
 * @param {string} path
 * @param {(bytes: number) => void} advanced told of all bytes so far
 * @returns {Promise<ArrayBuffer>}
 */
export async function fetched(path, advanced = () => {}) {
  const response = await fetch(new URL(path, import.meta.url));
  if (!response.ok || !response.body) throw new Error(`${path}: ${response.status}`);
  const parts = [];
  let bytes = 0;
  const reader = response.body.getReader();
  for (let step = await reader.read(); !step.done; step = await reader.read()) {
    parts.push(step.value);
    bytes += step.value.byteLength;
    advanced(bytes);
  }
  return new Blob(parts).arrayBuffer();
}

/** A file that gzip packed, or one that the host has unpacked on its way. @param {ArrayBuffer} data */
export async function unpacked(data) {
  const [first, second] = new Uint8Array(data, 0, 2);
  if (first !== 0x1f || second !== 0x8b) return data;
  return new Response(new Blob([data]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}
