// Light, dark, or as the system has it; remembered by the browser.
import { find } from "./dom.js";

const THEMES = ["auto", "dark", "light"];

export function startTheme(texts) {
  const show = (theme) => {
    document.documentElement.dataset.theme = theme;
    const button = find("theme");
    if (button) {
      button.title = texts[`theme_${theme}`];
      button.setAttribute("aria-label", texts[`theme_${theme}`]);
    }
  };
  show(localStorage.getItem("theme") || "auto");
  if (find("theme")) {
    find("theme").onclick = () => {
      const now = document.documentElement.dataset.theme;
      const next = THEMES[(THEMES.indexOf(now) + 1) % THEMES.length];
      localStorage.setItem("theme", next);
      show(next);
    };
  }
}
