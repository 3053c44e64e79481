// Requests and websockets to the session. The token comes behind # and stays in this tab.
const KEEP = "livepuppet token";

function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(KEEP, given);
    history.replaceState(null, "", location.pathname + location.search);
  }
  return sessionStorage.getItem(KEEP) || "";
}

const token = takeToken();
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
export function connect(path, { message, opened = () => {}, lost = () => {} }) {
  let socket = null;
  let wait = 250;
  const open = () => {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    socket = new WebSocket(`${scheme}://${location.host}${path}`, ["livepuppet", `token.${token}`]);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      wait = 250;
      opened();
    };
    socket.onmessage = (event) => message(event.data);
    socket.onclose = () => {
      lost();
      setTimeout(open, wait);
      wait = Math.min(2 * wait, 4000);
    };
  };
  open();
  return (value) => {
    if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(value));
  };
}
