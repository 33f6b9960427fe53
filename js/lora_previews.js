// Pictures and trigger words of the LoRAs that are chosen in a stacker, at the end of the node.
//
// A plain element in a DOM widget, which both renderers show. The widget is only for the eye: it is neither
// saved nor queued.

import { element, makeRoom, watcher } from "./node_widgets.js";

const LORA = /^(?<prefix>.*\.)?lora_(?:name_)?(?<number>\d+)$/;
const NONE = "None";
const HEIGHT = 132; // pixels; a longer list scrolls

/** Return the chosen LoRAs of a node's widgets, in the order of the slots, each once. */
export function chosenLoras(widgets) {
  const valueOf = new Map(widgets.map((widget) => [widget.name, widget.value]));
  if (valueOf.get("enabled") === false || valueOf.get("show_previews") === false) {
    return [];
  }
  const chosen = new Set();
  for (const [name, value] of valueOf) {
    const { prefix = "", number } = LORA.exec(name)?.groups ?? {};
    const switches = [`${prefix}enabled_${number}`, `${prefix}lora_${number}_enabled`];
    const isOff = switches.some((each) => valueOf.get(each) === false);
    if (number && !isOff && typeof value === "string" && value && value !== NONE) {
      chosen.add(value);
    }
  }
  return [...chosen];
}

/** Show previews on a node, now and whenever its choices change. */
export function attachPreviews(node, client) {
  const box = element("div", "luna-previews");
  const isEmpty = () => box.childElementCount === 0;
  const widget = node.addDOMWidget("luna_previews", "luna_previews", box, {
    serialize: false,
    margin: 4,
    getMinHeight: () => (isEmpty() ? 0 : HEIGHT),
    getMaxHeight: () => (isEmpty() ? 0 : HEIGHT),
  });
  widget.serialize = false;

  let shown = [];
  const refresh = () => {
    watchChoices();
    const names = chosenLoras(node.widgets);
    if (names.length === shown.length && names.every((name, place) => name === shown[place])) {
      return;
    }
    shown = names;
    box.replaceChildren(...names.map((name) => card(name, client)));
    makeRoom(node);
  };
  const watchChoices = watcher(node, refresh);

  const onConfigure = node.onConfigure;
  node.onConfigure = function (...values) {
    const result = onConfigure?.apply(this, values);
    refresh(); // a saved workflow sets values without telling the widgets
    return result;
  };
  refresh();
}

/** Return the card of a LoRA, which fills itself when the server has answered. */
function card(name, client) {
  const figure = element("figure", "luna-preview");
  figure.title = name;
  const words = element("span", "luna-preview-words", "…");
  figure.append(element("figcaption", "luna-preview-name", shortName(name)), words);
  client.loraMetadata(name).then(
    (told) => fill(figure, words, name, told),
    (error) => {
      words.textContent = error.message;
      figure.classList.add("luna-preview-failed");
    },
  );
  return figure;
}

function fill(figure, words, name, told) {
  words.textContent = told.triggers.join(", ");
  const problems = told.problems.join("\n");
  figure.title = [name, told.metadata["modelspec.title"], problems].filter(Boolean).join("\n");
  figure.classList.toggle("luna-preview-failed", problems !== "");
  // The server makes every picture anew, as a small JPEG; nothing is loaded from anywhere else.
  if (told.thumbnail?.startsWith("data:image/jpeg;base64,")) {
    const picture = element("img", "luna-preview-picture");
    picture.src = told.thumbnail;
    picture.alt = "";
    figure.prepend(picture);
  }
}

function shortName(name) {
  return name.split(/[\\/]/).pop().replace(/\.[^.]+$/, "");
}
