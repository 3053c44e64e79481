// Puts the page together: the camera's way there, the picture's way back, and what a person can change. The page keeps what makes
// the session, so that a server that was restarted is told all of it again.
import { AnswerReceiver } from "./answer.js";
import { CameraSender } from "./camera.js";
import { usableCodecs } from "./codecs.js";
import { attempt, fill, find, make, say, set, toast } from "./dom.js";
import { Recording, canRecord, saveSnapshot } from "./keeping.js";
import { Link, now } from "./link.js";
import { percentile } from "./numbers.js";
import { makeSlider } from "./slider.js";
import { Source, cameraTrouble } from "./source.js";
import { texts } from "./texts.js";
import { startTheme } from "./theme.js";
import { bearsLoss, judgedWay } from "./way.js";

const VERSION = 1;
const [LARGEST_FILE, LARGEST_SIDE] = [64 << 20, 1280];
const WANTED = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } };
// Clock exchanges of the test, seconds between them, and seconds that late ones are waited for.
const [EXCHANGES, BETWEEN, PATIENCE] = [100, 0.01, 0.5];
const MEASURED = 90;
const SLIDERS = [
  ["strength", 2],
  ["smoothing", 2],
  ["shift", 1],
  ["turn", 1],
  ["zoom", 1],
  ["eyes", 2],
];

const canvas = find("picture");
const context = canvas.getContext("2d", { alpha: false });
const source = new Source(find("video"), onFrame, () => {
  showStart();
  toast(texts.cameraGone, { bad: true });
}, WANTED);
const asked = new URLSearchParams(location.search);

let [link, camera, words] = [null, null, null];
// What the server is told again where it has forgotten.
const session = { settings: {}, mirror: false, neutral: null, shown: null };
const pictures = [];
let recording = null;
let hiddenWhile = null;
let chosen = null;
const delays = [];
const times = [];
const stages = Object.fromEntries(["encode", "up", "wait", "render", "answer", "down", "show"].map((name) => [name, []]));
// For whoever measures.
const measured = { all: null, at: null, shown: 0, stages, link: () => link, camera: () => camera, way: null };
Object.assign(window, { livepuppet: measured });

const KEEP = "livepuppet token";

function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(KEEP, given);
    // Nobody who looks at the screen or the history sees it.
    history.replaceState(null, "", location.pathname + location.search);
  }
  return sessionStorage.getItem(KEEP) ?? "";
}

// Start.

async function start() {
  fill(texts);
  startTheme(texts);
  startControls();
  const secure = location.protocol === "https:";
  say(find("leaves"), texts.leaves(location.host));
  say(find("promise"), texts.promise(location.host, secure));
  const token = takeToken();
  if (!token) return fail(texts.noToken);
  if (!navigator.mediaDevices) return fail(texts.insecure);
  say(find("loading"), texts.testing);
  say(find("mode"), texts.testing);
  const codecs = await usableCodecs(asked.get("codec"));
  say(find("loading"), texts.connecting(location.host));
  const name = [...crypto.getRandomValues(new Uint8Array(16))].map((one) => one.toString(16).padStart(2, "0")).join("");
  const hello = { version: VERSION, session: name, codecs: codecs.down, ...(asked.has("echo") ? { echo: true } : {}) };
  link = new Link("/camera", token, hello);
  camera = new CameraSender(link, codecs.up[0]);
  new AnswerReceiver(link, show);
  link.addEventListener("told", ({ detail }) => {
    for (const [about, value] of Object.entries(detail)) heard[about]?.(value, detail);
  });
  link.addEventListener("lost", () => {
    say(find("mode"), texts.lost(location.host));
    set(find("mode"), "data-mode", "lost");
    if (!session.shown) say(find("loading"), texts.connecting(location.host));
  });
  await new Promise((resolve) => link.addEventListener("told", ({ detail }) => "welcome" in detail && resolve()));
  if (!(await testWay(codecs))) return fail(texts.losesPackets);
  document.body.dataset.ready = "true";
  say(find("loading"), "");
  if (!source.stream) say(find("mode"), texts.ready);
  find("start-camera").disabled = false;
}

// Whether the connection bears the codecs.
async function testWay(codecs) {
  const way = await exchanged();
  measured.way = { up: camera.codec, down: codecs.down[0], trip: 1000 * (link.clock?.trip ?? way.trip), late: way.late };
  showWay();
  if (way.unsteady) toast(texts.unsteady);
  return !way.loses || asked.has("codec") || (bearsLoss(camera.codec) && bearsLoss(codecs.down[0]));
}

async function exchanged() {
  const trips = [];
  const taken = ({ detail }) => trips.push(detail);
  const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  link.addEventListener("exchange", taken);
  for (let number = 0; number < EXCHANGES; number++) {
    link.ask();
    await pause(BETWEEN);
  }
  for (let waited = 0; trips.length < EXCHANGES && waited < PATIENCE; waited += BETWEEN) await pause(BETWEEN);
  link.removeEventListener("exchange", taken);
  return judgedWay(trips, EXCHANGES);
}

function showWay() {
  if (!measured.way) return;
  const trip = 1000 * (link.clock?.trip ?? 0);
  say(find("way"), texts.way(texts[`codec_${camera.codec}`], texts[`codec_${measured.way.down}`], trip));
}

function fail(sentence) {
  say(find("mode"), texts.mode_frozen);
  set(find("mode"), "data-mode", "lost");
  say(find("loading"), sentence);
}

// What the server says.

const heard = {
  welcome(_, { offered, resumed, words: told }) {
    words = told;
    if (!pictures.length) listOffered(offered);
    if (!resumed) {
      if (Object.keys(session.settings).length) link.send({ settings: session.settings });
      if (session.mirror) link.send({ mirror: true });
      if (session.neutral) link.send({ neutral: session.neutral });
    }
    camera?.restart();
    if (chosen) link.send({ show: chosen.id });
  },
  need(id) {
    const picture = pictures.find((one) => one.id === id);
    if (picture?.data) link.send(picture.data);
  },
  ready(id) {
    if (id !== chosen?.id) return;
    session.shown = id;
    find("making").hidden = true;
    for (const one of ["snapshot", "record"]) find(one).disabled = false;
  },
  said(sentences) {
    find("making").hidden = true;
    for (const sentence of sentences) toast(sentence);
  },
  state: showState,
  neutral(pose) {
    session.neutral = pose;
  },
  key() {
    camera.keyWanted = true;
  },
  error(sentence) {
    say(find("loading"), sentence);
    toast(sentence, { bad: true });
  },
};

// Pictures to move.

function listOffered(names) {
  for (const [number, name] of names.entries()) {
    const picture = { id: `offered ${number}`, name, thumbnail: "", data: null };
    pictures.push(picture);
    fetch(`/offered/${number}.jpg`, { headers: { Authorization: `Bearer ${sessionStorage.getItem(KEEP)}` } })
      .then((answer) => answer.blob())
      .then((blob) => {
        picture.thumbnail = URL.createObjectURL(blob);
        listPictures();
        if (chosen === picture) showAtRest();
      })
      .catch(() => {});
  }
  listPictures();
  if (pictures.length) choose(pictures[0]);
}

async function addPicture(file) {
  if (file.size > LARGEST_FILE) return toast(texts.tooLarge(file.name), { bad: true });
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return toast(texts.notPicture(file.name), { bad: true });
  }
  const scale = Math.min(1, LARGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  const drawn = make("canvas", { width: Math.round(bitmap.width * scale), height: Math.round(bitmap.height * scale) });
  const on = drawn.getContext("2d");
  on.imageSmoothingQuality = "high";
  on.drawImage(bitmap, 0, 0, drawn.width, drawn.height);
  bitmap.close();
  const blob = await new Promise((resolve) => drawn.toBlob(resolve, "image/png"));
  const png = new Uint8Array(await blob.arrayBuffer());
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", png));
  const id = [...digest].map((one) => one.toString(16).padStart(2, "0")).join("");
  let picture = pictures.find((one) => one.id === id);
  if (!picture) {
    const data = new Uint8Array(png.length + 1);
    data[0] = 65;
    data.set(png, 1);
    picture = { id, name: file.name.replace(/\.[^.]*$/, ""), thumbnail: URL.createObjectURL(blob), data };
    pictures.push(picture);
    listPictures();
  }
  choose(picture);
}

function choose(picture) {
  chosen = picture;
  showChosen();
  find("making").hidden = false;
  say(find("making"), texts.making);
  link.send({ show: picture.id });
  showAtRest();
}

// Something to see until it moves.
async function showAtRest() {
  const picture = chosen;
  if (!picture.thumbnail || source.stream) return;
  const image = make("img", { src: picture.thumbnail });
  await image.decode().catch(() => {});
  if (chosen !== picture || source.stream || !image.naturalWidth) return;
  fit(image.naturalWidth, image.naturalHeight);
  context.drawImage(image, 0, 0);
}

function fit(width, height) {
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  canvas.style.setProperty("--aspect", String(width / height));
}

function listPictures() {
  const tiles = pictures.map((picture) => {
    const image = make("img", { src: picture.thumbnail, alt: "" });
    const button = make("button", { className: "avatar" }, image, make("span", { className: "name", textContent: picture.name }));
    button.onclick = () => choose(picture);
    return make("li", {}, button);
  });
  find("grid").replaceChildren(...tiles);
  showChosen();
}

function showChosen() {
  for (const [at, tile] of [...find("grid").children].entries()) set(tile.firstChild, "aria-pressed", pictures[at] === chosen);
}

// The moving picture.

function show(picture, head) {
  const decoded = now();
  const [width, height] = [picture.displayWidth ?? picture.width, picture.displayHeight ?? picture.height];
  // JPEGs are smaller where packets are lost; a recording goes on as it began.
  const smaller = width < canvas.width && Math.abs(width / height - canvas.width / canvas.height) < 0.01;
  if (!smaller) fit(width, height);
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  recording?.draw();
  const shown = now();
  measured.shown += 1;
  canvas.dataset.frames = String(measured.shown);
  delays.push(1000 * (shown - head.captured));
  measured.all?.push(1000 * (shown - head.captured));
  measured.at?.push(1000 * shown);
  times.push(shown);
  const { clock } = link;
  const sent = camera.encoded.get(head.captured);
  if (clock && sent) {
    const left = head.received + head.wait + head.render + head.encode - clock.offset;
    const spent = { encode: sent - head.captured, up: head.received - clock.offset - sent, wait: head.wait, render: head.render };
    Object.assign(spent, { answer: head.encode, down: head.arrived - left, show: decoded - head.arrived });
    for (const [name, seconds] of Object.entries(spent)) stages[name].push(1000 * seconds);
  }
  for (const list of [delays, times, ...Object.values(stages)]) if (list.length > MEASURED) list.shift();
  showFigures(shown);
}

let [lastShown, warned] = [0, false];

function showFigures(at) {
  if (at - lastShown < 0.5 || times.length < 2) return;
  lastShown = at;
  say(find("fps"), ((times.length - 1) / (times[times.length - 1] - times[0])).toFixed(1));
  say(find("delay"), `${percentile(delays, 0.5).toFixed(0)} / ${percentile(delays, 0.95).toFixed(0)}`);
  if (recording) say(find("record-state"), texts.recording(recording.seconds));
  showWay();
  if (link.lossy && !warned && !bearsLoss(camera.codec)) {
    warned = true;
    toast(texts.comesLate, { bad: true });
  }
  find("stages").replaceChildren(
    ...Object.entries(stages)
      .filter(([, list]) => list.length)
      .map(([name, list]) => make("li", {}, `${texts[`stage_${name}`]} `, make("b", { textContent: Math.max(0, percentile(list, 0.5)).toFixed(1) }))),
  );
}

function showState(state) {
  if (!source.stream) return;
  set(find("mode"), "data-mode", state.mode);
  say(find("mode"), texts[`mode_${state.mode}`] ?? state.mode);
  const counting = state.mode === "counting" && state.left > 0;
  find("countdown").hidden = !counting;
  if (counting) {
    say(find("countdown").querySelector("b"), String(state.left));
    say(find("countdown").querySelector("span"), `${texts.neutralHint} · ${texts.fit(state.fit ?? 0)}`);
  }
  say(find("fit"), state.initial_fit ? texts.fit(state.initial_fit) : texts.neutralHint);
  showSquare(state);
}

let squared = null;
new ResizeObserver(() => squared && showSquare(squared)).observe(find("preview"));

function showSquare(state) {
  squared = state;
  const { square, mode } = state;
  const box = find("square");
  const { videoWidth, videoHeight, clientWidth, clientHeight } = source.video;
  box.hidden = !square || !videoWidth;
  if (box.hidden) return;
  const scale = Math.min(clientWidth / videoWidth, clientHeight / videoHeight);
  const [wide, high] = [videoWidth * scale, videoHeight * scale];
  box.dataset.lost = mode === "lost";
  box.style.left = `${(clientWidth - wide) / 2 + square[0] * wide}px`;
  box.style.top = `${(clientHeight - high) / 2 + square[1] * high}px`;
  box.style.width = box.style.height = `${square[2] * wide}px`;
}

// The camera.

function onFrame(captured) {
  camera?.offer(source.video, captured / 1000);
}

async function openCamera(deviceId = "") {
  try {
    await source.openCamera(deviceId);
  } catch (error) {
    toast(texts[cameraTrouble(error)], { bad: true });
    return;
  }
  delays.length = times.length = 0;
  camera.restart();
  const track = source.stream.getVideoTracks()[0];
  if (!asked.has("rvfc")) camera.followTrack(source.video, track).catch(() => (camera.track = null));
  link.send({ do: "find" });
  find("start").hidden = true;
  find("stop").hidden = false;
  for (const id of ["neutral", "find"]) find(id).disabled = false;
  say(find("mode"), texts.mode_looking);
  const cameras = (await navigator.mediaDevices.enumerateDevices()).filter((one) => one.kind === "videoinput");
  find("cameras").replaceChildren(...cameras.map((one, at) => make("option", { value: one.deviceId, textContent: one.label || `${at + 1}` })));
  find("cameras").value = source.deviceId;
  find("cameras").hidden = cameras.length < 2;
}

function showStart() {
  find("start").hidden = false;
  find("countdown").hidden = find("square").hidden = true;
  find("stop").hidden = find("cameras").hidden = true;
  for (const id of ["neutral", "find"]) find(id).disabled = true;
  say(find("mode"), texts.ready);
  set(find("mode"), "data-mode", "");
}

// What a person can change.

function startControls() {
  find("sliders").append(
    ...SLIDERS.map(([name, high]) => {
      const texted = { label: texts[`slider_${name}`], help: texts[`help_${name}`], resetLabel: texts.reset };
      const send = (value) => {
        session.settings[name] = value;
        link?.send({ settings: { [name]: value } });
      };
      const made = makeSlider({ ...texted, name, low: 0, high, step: 0.1, default: 1, send });
      made.input.value = 1;
      made.show();
      return made.row;
    }),
  );
  say(find("fit"), texts.neutralHint);
  say(find("record-state"), texts.recordHint);
  find("start-camera").onclick = () => attempt(() => openCamera());
  find("cameras").onchange = ({ target }) => attempt(() => openCamera(target.value));
  find("add").onclick = () => find("files").click();
  find("files").onchange = ({ target }) => {
    attempt(() => addAll([...target.files]));
    target.value = "";
  };
  find("stop").onclick = () => {
    source.close();
    showStart();
    showAtRest();
  };
  find("neutral").onclick = () => link.send({ do: "neutral" });
  find("find").onclick = () => link.send({ do: "find" });
  find("mirror").onclick = () => {
    session.mirror = !session.mirror;
    set(find("mirror"), "aria-pressed", session.mirror);
    link?.send({ mirror: session.mirror });
  };
  find("full").onclick = () => attempt(() => (document.fullscreenElement ? document.exitFullscreen() : canvas.parentElement.requestFullscreen()));
  find("snapshot").onclick = () => attempt(async () => toast(texts.saved(await saveSnapshot(canvas, words))));
  find("record").onclick = () => attempt(toggleRecording);
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    if (link) attempt(() => addAll([...(event.dataTransfer?.files ?? [])]));
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) hiddenWhile = recording;
    else if (hiddenWhile && hiddenWhile === recording) toast(texts.stoodStill);
  });
}

async function addAll(files) {
  for (const file of files) await addPicture(file);
}

async function toggleRecording() {
  const button = find("record");
  if (recording) {
    const ending = recording;
    recording = null;
    set(button, "aria-pressed", false);
    say(button, texts.record);
    say(find("record-state"), texts.recordHint);
    toast(texts.saved(await ending.stop()));
    return;
  }
  if (!canRecord()) return toast(texts.noRecording, { bad: true });
  recording = new Recording(canvas, [], words);
  set(button, "aria-pressed", true);
  say(button, texts.stopRecording);
  say(find("record-state"), texts.recording(0));
}

start().catch((error) => {
  console.error(error);
  fail(texts.noBrowser);
});
