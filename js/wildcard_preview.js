// What the text of a wildcard builder can become, shown on the node while it is written.
//
// A plain element in a DOM widget, as with LoRA previews: neither saved nor queued. The server expands the
// text, with the code that the run uses; nothing of the grammar is known here.

import { element, makeRoom, watcher } from "./node_widgets.js";

const SAMPLES = 20;
const HEIGHT = 150; // pixels; a longer list scrolls
const QUIET_MS = 400; // without a key before the server is asked
const TEXT = "prompt_template";
const ASKED = { seed: 0, dialect: "luna", yaml_directory: "", txt_wildcard_directory: "" };

/** Return what to ask the server for a node, or a sentence why there is nothing to ask. */
export function questionOf(node) {
  const linked = new Set(
    (node.inputs ?? []).filter((input) => input.link != null).map((input) => input.name),
  );
  if (linked.has(TEXT)) {
    return { reason: "The text comes from another node, so it is known only when that has run." };
  }
  const valueOf = new Map(node.widgets.map((widget) => [widget.name, widget.value]));
  const text = valueOf.get(TEXT);
  if (typeof text !== "string" || text.trim() === "") {
    return { reason: "" };
  }
  const question = { text, count: SAMPLES };
  for (const [name, standard] of Object.entries(ASKED)) {
    question[name] = linked.has(name) ? standard : (valueOf.get(name) ?? standard);
  }
  return { question };
}

/** Return the line about how many texts there can be. */
export function countLine(told) {
  if (told.combinations === 1) {
    return "1 combination";
  }
  const isNumber = /^(\d|about \d)/.test(told.combinations_text);
  return isNumber ? `${told.combinations_text} combinations` : `Not counted: ${told.combinations_text}`;
}

/** Return a function that calls `ask` when nothing has come for a while, and shows only the latest answer. */
export function latestOnly(ask, show, { delay = QUIET_MS, later = setTimeout, never = clearTimeout } = {}) {
  let timer;
  let number = 0;
  return (question) => {
    number += 1;
    const mine = number;
    const showMine = (answer) => mine === number && show(answer);
    never(timer);
    if (question === undefined) {
      return;
    }
    timer = later(() => {
      ask(question).then(
        (told) => showMine({ told }),
        (error) => showMine({ error }),
      );
    }, delay);
  };
}

/** Show on a node what its text can become, now and whenever something changes. */
export function attachWildcardPreview(node, client) {
  const box = element("div", "luna-wildcards");
  const isEmpty = () => box.childElementCount === 0;
  const widget = node.addDOMWidget("luna_wildcard_preview", "luna_wildcard_preview", box, {
    serialize: false,
    margin: 4,
    getMinHeight: () => (isEmpty() ? 0 : HEIGHT),
    getMaxHeight: () => (isEmpty() ? 0 : HEIGHT),
  });
  widget.serialize = false;

  const show = (...parts) => {
    box.replaceChildren(...parts);
    makeRoom(node);
  };
  const ask = latestOnly(client.wildcards, ({ told, error }) =>
    show(...(error ? [element("p", "luna-wildcards-failed", error.message)] : samples(told))),
  );
  let asked = "";
  const refresh = () => {
    watchChanges();
    const { question, reason } = questionOf(node);
    const now = JSON.stringify(question ?? reason);
    if (now === asked) {
      return;
    }
    asked = now;
    ask(question);
    if (!question) {
      show(...(reason ? [element("p", "luna-wildcards-note", reason)] : []));
    }
  };
  const watchChanges = watcher(node, refresh);
  for (const event of ["onConfigure", "onConnectionsChange"]) {
    const before = node[event];
    node[event] = function (...values) {
      const result = before?.apply(this, values);
      refresh();
      return result;
    };
  }
  refresh();
}

function samples(told) {
  const list = element("ol", "luna-wildcards-texts");
  list.append(...told.texts.map((text) => element("li", "luna-wildcards-text", text)));
  const warnings = told.warnings.map((text) => element("p", "luna-wildcards-failed", text));
  return [element("p", "luna-wildcards-count", countLine(told)), ...warnings, list];
}
