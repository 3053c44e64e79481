// Two things that a static host may not do: headers that isolate the page (without which browsers give WebAssembly no
// threads), and being there without a connection. `files.js` is written beside it and names this site's files.
importScripts("./files.js");

const { version, shell, rest } = self.SITE;
const CACHE = `livepuppet ${version}`;
const HEADERS = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(shell)));
});

self.addEventListener("activate", (event) => {
  const old = caches.keys().then((names) => names.filter((name) => name.startsWith("livepuppet ") && name !== CACHE));
  event.waitUntil(old.then((names) => Promise.all(names.map((name) => caches.delete(name)))).then(() => self.clients.claim()));
});

// The page has loaded: what it fetched before this worker was there is kept as well, out of the browser's own cache.
self.addEventListener("message", (event) => {
  if (event.data !== "keep") return;
  const keep = async () => {
    const cache = await caches.open(CACHE);
    for (const path of rest) if (!(await cache.match(path))) await cache.add(path);
    event.source?.postMessage("kept");
  };
  event.waitUntil(keep().catch(() => {}));
});

const isolated = (response) => {
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
};

async function answer(request) {
  const cache = await caches.open(CACHE);
  const known = await cache.match(request, { ignoreSearch: true });
  if (known) return isolated(known);
  const response = await fetch(request);
  if (response.ok && response.status === 200) await cache.put(request, response.clone());
  return response.status === 0 ? response : isolated(response);
}

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const inside = request.url.startsWith(self.registration.scope);
  if (request.method === "GET" && inside) event.respondWith(answer(request));
});
