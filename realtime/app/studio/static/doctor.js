// What livepuppet doctor warns of, with its remedies.
import { get } from "./api.js";
import { attempt, find, make } from "./dom.js";
import { texts } from "./texts.js";

export function startDoctor() {
  const button = find("check");
  if (!button) return;
  button.onclick = () => {
    find("check-dialog").showModal();
    look();
  };
  find("again").onclick = () => look(true);
  // Once the session runs calmly.
  setTimeout(look, 4000);
}

async function look(again = false) {
  const told = await attempt(() => get(`/api/findings?again=${again === true}`));
  if (!told) return;
  const list = find("findings");
  const serious = told.findings.length;
  const badge = find("warnings");
  badge.hidden = !serious || told.looking;
  badge.textContent = serious;
  if (told.looking) {
    list.replaceChildren(make("li", { className: "quiet", textContent: texts.checking }));
    setTimeout(look, 1500);
    return;
  }
  list.replaceChildren(
    ...told.findings.map(({ verdict, text, remedy }) =>
      make(
        "li",
        { className: verdict === "FAIL" ? "fail" : "warn" },
        make("b", { textContent: text }),
        make("p", { textContent: remedy }),
      ),
    ),
  );
  if (!serious) list.append(make("li", { className: "well", textContent: texts.allWell }));
}
