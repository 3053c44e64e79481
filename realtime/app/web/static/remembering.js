// Rigs that were made here, kept in this browser: a picture that comes again moves at once.

/** How many are kept, the newest; one is some 20 MB. */
const KEPT = 6;

/** @template R @param {IDBRequest<R>} request @returns {Promise<R>} */
const done = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

async function opened() {
  const request = indexedDB.open("livepuppet", 1);
  request.onupgradeneeded = () => request.result.createObjectStore("rigs").createIndex("made", "made");
  return (await done(request)).transaction("rigs", "readwrite").objectStore("rigs");
}

/** What was kept by `key`; null where nothing was, or the browser keeps nothing. @param {string} key @returns {Promise<any>} */
export async function remembered(key) {
  try {
    return (await done((await opened()).get(key)))?.rig ?? null;
  } catch {
    return null;
  }
}

/** @param {string} key @param {any} rig */
export async function remember(key, rig) {
  try {
    const rigs = await opened();
    rigs.put({ rig, made: Date.now() }, key);
    const all = await done(rigs.index("made").getAllKeys());
    for (const old of all.slice(0, -KEPT)) rigs.delete(old);
  } catch {
    // Then it is made anew.
  }
}
