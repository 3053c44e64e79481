// Puts the page together. Every part shows the session's state as it comes, and keeps none.
import { act, connect, get, hasToken } from "./api.js";
import { renderAvatars, startAvatars } from "./avatars.js";
import { renderCamera, startCamera } from "./camera.js";
import { renderControls, startControls } from "./controls.js";
import { startDoctor } from "./doctor.js";
import { attempt, fill, find, say, set, toast } from "./dom.js";
import { startKeys } from "./keys.js";
import { percentile } from "./numbers.js";
import { showPicture } from "./picture.js";
import { renderPlot } from "./plot.js";
import { texts } from "./texts.js";
import { startTheme } from "./theme.js";

let state = null;
let description = null;
let heard = null;

function render() {
  renderAvatars(state);
  renderCamera(state);
  renderControls(state);
  renderPlot(state, description.stages);
  say(find("mode"), texts[`mode_${state.mode}`] || state.mode);
  set(find("mode"), "data-mode", state.mode);
  const trouble = find("trouble");
  if (trouble) {
    trouble.hidden = !state.trouble;
    say(trouble, state.trouble || "");
    say(find("fps"), state.fps.toFixed(1));
    const { p50, p95 } = state.recent;
    say(find("delay"), p50 === null ? "–" : `${p50.toFixed(0)} / ${p95.toFixed(0)}`);
    say(find("engine"), texts.engine(state.engine));
    find("engine").title = state.engine.reason;
  }
  const countdown = find("countdown");
  countdown.hidden = state.countdown === null;
  if (state.countdown !== null) {
    say(countdown.querySelector("b"), String(Math.max(1, Math.ceil(state.countdown))));
    say(countdown.querySelector("span"), `${texts.neutralHint} · ${texts.fit(Math.round(100 * state.fit))}`);
  }
  say(find("fit"), state.neutral_fit ? texts.fit(Math.round(100 * state.neutral_fit)) : texts.neutralHint);
  showMessages();
}

function showMessages() {
  const newest = state.messages.at(-1)?.number ?? 0;
  // What was told before this page came is over, unless a picture could not be read.
  if (heard === null) heard = newest;
  for (const { number, text } of state.messages) {
    if (number > heard) toast(text);
  }
  heard = Math.max(heard, newest);
}

function startPicture() {
  const ages = [];
  const canvas = find("picture");
  canvas.parentElement.dataset.alpha = description.alpha;
  canvas.style.setProperty("--aspect", description.size[0] / description.size[1]);
  showPicture(canvas, {
    size: description.size,
    alpha: description.alpha,
    drawn: (some) => {
      ages.push(...some);
      ages.splice(0, ages.length - 60);
      if (ages.length) say(find("page-delay"), texts.pictureDelay(percentile(ages, 0.5).toFixed(0)));
    },
  });
  canvas.addEventListener("pointermove", (event) => {
    // Where the head looks, if the pointer drives.
    if (!state?.pointer || event.timeStamp - (canvas.pointed || 0) < 40) return;
    canvas.pointed = event.timeStamp;
    const box = canvas.getBoundingClientRect();
    const share = (at, begin, size) => Math.max(-1, Math.min(1, (2 * (at - begin)) / size - 1));
    act("point", `${share(event.clientX, box.left, box.width)},${share(event.clientY, box.top, box.height)}`).catch(() => {});
  });
}

async function start() {
  fill(texts);
  startTheme(texts);
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.querySelector(".close").onclick = () => dialog.close();
    dialog.addEventListener("close", () => document.body.append(find("toasts")));
  }
  if (!hasToken) {
    toast(texts.noToken, { bad: true });
    return;
  }
  while (!description) {
    description = await attempt(() => get("/api/description"));
    if (!description) await new Promise((resolve) => setTimeout(resolve, 2000));
  }
  startAvatars(description);
  startCamera();
  startControls(description);
  startDoctor();
  startKeys(description, () => state);
  startPicture();
  connect("/ws/state", {
    message: (data) => {
      state = JSON.parse(data);
      document.body.classList.remove("lost");
      render();
    },
    lost: () => {
      if (!document.body.classList.contains("lost")) toast(texts.lostConnection, { bad: true });
      document.body.classList.add("lost");
    },
  });
}

start();
