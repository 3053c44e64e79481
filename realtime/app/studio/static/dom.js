// Small helpers over the document.
export const find = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// Write only what changed: screen readers repeat what is written.
export function say(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

export function set(element, name, value) {
  if (element && element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

// A sentence at the edge of the page for some seconds, perhaps with something to do about it; or until it is closed, where `closes` says so.
export function toast(text, { bad = false, action = null, closes = "" } = {}) {
  const box = make("div", { className: bad ? "toast bad" : "toast" }, make("p", { textContent: text }));
  if (action) {
    const button = make("button", { className: "small", textContent: action.text });
    button.onclick = () => {
      box.remove();
      action.run();
    };
    box.append(button);
  }
  if (closes) {
    const button = make("button", { className: "small", textContent: "×", title: closes, ariaLabel: closes });
    button.onclick = () => box.remove();
    box.append(button);
  }
  const toasts = find("toasts");
  // An open dialog covers everything else, for screen readers, too.
  const place = document.querySelector("dialog[open]") || document.body;
  if (toasts.parentElement !== place) place.append(toasts);
  toasts.append(box);
  // What went wrong outlives what went well.
  while (toasts.children.length > 3) (toasts.querySelector(".toast:not(.bad, :last-child)") || toasts.firstElementChild).remove();
  // Long ones take longer to read.
  if (!closes) setTimeout(() => box.remove(), Math.max(bad ? 9000 : 4500, 60 * text.length));
}

// Do something that may be refused, and show why.
export const attempt = async (work) => {
  try {
    return await work();
  } catch (error) {
    toast(error.message, { bad: true });
    return null;
  }
};

// Fill what the HTML leaves open: data-text the text, data-label what screen readers say.
export function fill(texts, root = document) {
  for (const element of root.querySelectorAll("[data-text]")) element.textContent = texts[element.dataset.text];
  for (const element of root.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", texts[element.dataset.label]);
    element.title ||= texts[element.dataset.label];
  }
}
