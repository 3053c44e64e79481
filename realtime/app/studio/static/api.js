// Requests and websockets to the session. The token comes behind # and stays in this tab.
import { connect as open } from "./socket.js";

const KEEP = "livepuppet token";

function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(KEEP, given);
    history.replaceState(null, "", location.pathname + location.search);
  }
  return sessionStorage.getItem(KEEP) || "";
}

export const token = takeToken();
export const hasToken = Boolean(token);

async function ask(path, options = {}) {
  const headers = { Authorization: `Bearer ${token}`, ...options.headers };
  const response = await fetch(path, { ...options, headers });
  if (response.ok) return response;
  let sentence = `${response.status}`;
  try {
    sentence = (await response.json()).error;
  } catch {
    // Not ours: the number has to do.
  }
  throw new Error(sentence);
}

export const get = async (path) => (await ask(path)).json();

const post = async (path, body) =>
  (await ask(path, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } })).json();

// An action of the keys, with its value where it takes one.
export const act = (action, value) => post(`/do/${action}`, value === undefined ? {} : { value });

// Everything else: outputs, sources, profiles.
export const change = (what, value) => post("/api/do", { what, value });

export const upload = async (file) =>
  (await ask(`/api/avatars?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file })).json();

// A picture, decoded: no address of it is needed that the page's policy would have to allow.
export const image = async (path) => createImageBitmap(await (await ask(path)).blob());

// A websocket that comes back by itself.
export const connect = (path, handlers) => open(path, token, handlers);
