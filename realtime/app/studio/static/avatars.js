// The avatars as a grid: click to switch, drop or choose files to add, remove, sort.
import { act, change, image, upload } from "./api.js";
import { attempt, find, make, set, toast } from "./dom.js";
import { texts } from "./texts.js";

let shown = [];
let wanted = null;

export const sorted = (state) => {
  const row = state.row.map((one, index) => ({ ...one, number: index + 1 }));
  return state.sort === "newest" ? row.sort((a, b) => b.added - a.added) : row;
};

function tile(avatar) {
  const canvas = make("canvas", { width: 176, height: 176, "aria-hidden": "true" });
  image(`/api/avatars/${avatar.key}.jpg`)
    .then((bitmap) => canvas.getContext("2d").drawImage(bitmap, 0, 0, 176, 176))
    .catch(() => {});
  const choose = make(
    "button",
    { className: "avatar", title: avatar.name },
    canvas,
    make("span", { className: "name", textContent: avatar.name.replace(/\.[^.]*$/, "") }),
  );
  choose.onclick = () => attempt(() => act("select", choose.number));
  const gone = make("button", { className: "remove", textContent: "×", title: texts.remove(avatar.name) });
  gone.setAttribute("aria-label", texts.remove(avatar.name));
  gone.onclick = () => attempt(() => removeOne(avatar.name));
  const item = make("li", {}, choose, gone);
  item.dataset.key = avatar.key;
  return item;
}

async function removeOne(name) {
  await change("remove", name);
  toast(texts.removed(name), { action: { text: texts.undo, run: () => attempt(() => change("restore", name)) } });
}

export function renderAvatars(state) {
  const grid = find("grid");
  const row = sorted(state);
  const keys = row.map((one) => one.key);
  if (keys.join() !== shown.join()) {
    const known = new Map([...grid.children].map((item) => [Number(item.dataset.key), item]));
    const focused = document.activeElement;
    grid.replaceChildren(...row.map((one) => known.get(one.key) || tile(one)));
    if (focused && grid.contains(focused)) focused.focus();
    shown = keys;
  }
  for (const [place, one] of row.entries()) {
    const item = grid.children[place];
    const button = item.querySelector(".avatar");
    button.number = one.number;
    set(button, "aria-pressed", one.number === state.number);
    set(item, "class", one.number === state.number ? "used" : "");
  }
  // What was just added is shown at once.
  const fresh = row.find((one) => one.name === wanted);
  if (fresh) {
    wanted = null;
    attempt(() => act("select", fresh.number));
  }
  const sort = find("sort");
  if (sort && document.activeElement !== sort) sort.value = state.sort;
}

async function addFiles(files, description) {
  for (const file of files) {
    const suffix = file.name.slice(file.name.lastIndexOf(".")).toLowerCase();
    if (!description.suffixes.includes(suffix)) {
      toast(texts.notPicture(file.name), { bad: true });
    } else if (file.size > description.largest_upload) {
      toast(texts.tooLarge(file.name, description.largest_upload >> 20), { bad: true });
    } else {
      const answer = await attempt(() => upload(file));
      if (answer) {
        wanted = answer.stored;
        toast(texts.stored(answer.stored));
      }
    }
  }
}

export function startAvatars(description) {
  const [files, sort] = [find("files"), find("sort")];
  if (files) {
    find("add").onclick = () => files.click();
    files.onchange = async () => {
      await addFiles([...files.files], description);
      files.value = "";
    };
  }
  if (sort) {
    sort.append(...description.sorts.map((one) => make("option", { value: one, textContent: texts[`sort_${one}`] })));
    sort.onchange = () => attempt(() => change("sort", sort.value));
  }
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dropping");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    addFiles([...event.dataTransfer.files], description);
  });
}
