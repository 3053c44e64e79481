// The camera with the face's square and the avatar's ghost, and the list of what can drive.
import { change, get, image, token } from "./api.js";
import { attempt, find, make, say } from "./dom.js";
import { showFeed, sizeOf } from "./feed.js";
import { texts } from "./texts.js";

let ghost = null;
let ghostOf = "";
let state = null;

export function startCamera() {
  const canvas = find("camera");
  if (!canvas) return;
  const context = canvas.getContext("2d");
  const wish = showFeed("/ws/camera?width=320", token, (bitmap, header) => {
    const { width, height } = canvas;
    const [across, down] = sizeOf(bitmap);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    const scale = Math.min(width / across, height / down);
    const [w, h] = [across * scale, down * scale];
    // As in a mirror, which is how people know themselves.
    context.setTransform(-1, 0, 0, 1, (width + w) / 2, (height - h) / 2);
    context.drawImage(bitmap, 0, 0, w, h);
    const [x, y, side] = header.square;
    if (!side || !state) return;
    const square = [x * w, y * h, side * w, side * w];
    const lines = ["looking", "counting"].includes(state.mode);
    if (ghost && (lines || state.shown.ghost)) {
      context.globalAlpha = 0.45;
      context.drawImage(ghost, ...square);
      context.globalAlpha = 1;
    }
    context.lineWidth = 2;
    context.strokeStyle = state.mode === "lost" ? "#f59e0b" : "#34d399";
    context.beginPath();
    context.roundRect(...square, 8);
    context.stroke();
  });
  // It is smooth while the person looks at it.
  const card = find("source");
  card.addEventListener("pointerenter", () => wish({ near: true }));
  card.addEventListener("pointerleave", () => wish({ near: false }));
  find("choose").onclick = openSources;
  find("sources-dialog").addEventListener("close", () => clearInterval(looking));
}

export function renderCamera(now) {
  state = now;
  if (!find("camera")) return;
  const shown = now.source.name.split(/[\\/]/).pop().replace(/^camera \d+ \((.*)\)$/, "$1");
  say(find("source-name"), now.camera_fps ? `${shown}, ${now.camera_fps.toFixed(0)} FPS` : shown);
  const key = `${now.row[now.number - 1]?.key} ${now.mirror}`;
  if (key !== ghostOf) {
    ghostOf = key;
    image("/api/ghost.jpg")
      .then((bitmap) => {
        ghost = bitmap;
      })
      .catch(() => {});
  }
}

let looking = null;

async function openSources() {
  find("sources-dialog").showModal();
  await attempt(listSources);
  clearInterval(looking);
  looking = setInterval(refreshThumbnails, 2500);
}

async function listSources() {
  const { sources } = await get("/api/sources");
  find("sources").replaceChildren(...sources.map(entry));
  refreshThumbnails();
}

function entry(source) {
  const canvas = make("canvas", { width: 240, height: 135, role: "img", "aria-label": texts.cameraThumbnail });
  // A clip shows itself only while it drives; what needs no camera has nothing to show.
  const seen = !source.without && (source.present || source.id !== "first");
  const facts = [
    source.present && texts.cameraInUse,
    source.virtual && texts.cameraVirtual,
    source.without && texts.cameraWithout,
    source.size,
    source.rate && texts.rate(source.rate),
    source.problem,
  ].filter(Boolean);
  const name = texts[`driving_${source.id}`] || source.name.split(/[\\/]/).pop();
  const button = make(
    "button",
    { className: source.present ? "source used" : "source" },
    seen ? canvas : "",
    make("b", { textContent: name }),
    make("span", { className: "quiet", textContent: facts.join(" · ") }),
  );
  button.source = source;
  button.disabled = Boolean(source.problem);
  button.onclick = async () => {
    button.setAttribute("aria-busy", "true");
    const done = await attempt(() => change("source", source.id));
    button.removeAttribute("aria-busy");
    if (done) find("sources-dialog").close();
  };
  return make("li", {}, button);
}

async function refreshThumbnails() {
  for (const button of document.querySelectorAll("#sources .source")) {
    const { source } = button;
    const canvas = button.querySelector("canvas");
    if (!canvas || source.problem) continue;
    const context = canvas.getContext("2d");
    if (source.present) {
      context.drawImage(find("camera"), 0, 0, canvas.width, canvas.height);
      continue;
    }
    try {
      const bitmap = await image(`/api/sources/${source.id}.jpg`);
      context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    } catch {
      // It is in use elsewhere: its name and size have to do.
    }
  }
}
