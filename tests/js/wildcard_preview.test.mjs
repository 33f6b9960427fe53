// The pure parts of the preview of wildcards: what is asked, when, and which answer counts.
import assert from "node:assert/strict";
import { test } from "node:test";

import { countLine, latestOnly, questionOf } from "../../js/wildcard_preview.js";

const widgets = (values) => Object.entries(values).map(([name, value]) => ({ name, value }));
const VALUES = {
  prompt_template: "a {b|c}",
  seed: 7,
  yaml_directory: "sub",
  txt_wildcard_directory: "",
  dialect: "impact",
  prefix: "not asked for",
};

test("the question has what the server needs, and no more", () => {
  const { question, reason } = questionOf({ widgets: widgets(VALUES), inputs: [] });
  assert.equal(reason, undefined);
  assert.deepEqual(question, {
    text: "a {b|c}",
    count: 20,
    seed: 7,
    dialect: "impact",
    yaml_directory: "sub",
    txt_wildcard_directory: "",
  });
});

test("nothing is asked for an empty text", () => {
  for (const prompt_template of ["", "  \n", undefined]) {
    assert.deepEqual(questionOf({ widgets: widgets({ ...VALUES, prompt_template }) }), { reason: "" });
  }
});

test("a text from another node is not known", () => {
  const inputs = [{ name: "prompt_template", link: 3 }];
  const { question, reason } = questionOf({ widgets: widgets(VALUES), inputs });
  assert.equal(question, undefined);
  assert.match(reason, /another node/);
});

test("a seed from another node is not known, and 0 stands for it", () => {
  const inputs = [{ name: "seed", link: 3 }, { name: "prompt_template", link: null }];
  assert.equal(questionOf({ widgets: widgets(VALUES), inputs }).question.seed, 0);
});

test("how many there are is said in words", () => {
  const line = (combinations, combinations_text) => countLine({ combinations, combinations_text });
  assert.equal(line(1, "1"), "1 combination");
  assert.equal(line(1200, "1 200"), "1 200 combinations");
  assert.equal(line(null, "about 1.2 × 10^17"), "about 1.2 × 10^17 combinations");
  assert.equal(line(null, "Too many."), "Not counted: Too many.");
});

/** A clock that goes on when it is told to. */
function clock() {
  const waiting = new Map();
  let last = 0;
  return {
    later(action) {
      last += 1;
      waiting.set(last, action);
      return last;
    },
    never: (timer) => waiting.delete(timer),
    go() {
      const due = [...waiting.values()];
      waiting.clear();
      for (const action of due) {
        action();
      }
    },
  };
}

test("the server is asked once when typing has stopped", async () => {
  const time = clock();
  const asked = [];
  const ask = latestOnly(async (question) => asked.push(question), () => {}, time);
  ask("a");
  ask("ab");
  time.go();
  assert.deepEqual(asked, ["ab"]);
});

test("an old answer that comes late is not shown", async () => {
  const time = clock();
  const answers = new Map();
  const shown = [];
  const wait = (question) => new Promise((answer, fail) => answers.set(question, { answer, fail }));
  const ask = latestOnly(wait, (what) => shown.push(what), time);
  ask("old");
  time.go();
  ask("new");
  time.go();
  answers.get("new").answer("new told");
  await Promise.resolve();
  answers.get("old").fail(new Error("old failed"));
  await new Promise(setImmediate);
  assert.deepEqual(shown, [{ told: "new told" }]);
});

test("nothing is shown any more when there is nothing to ask", async () => {
  const time = clock();
  const shown = [];
  const ask = latestOnly(async () => "told", (what) => shown.push(what), time);
  ask("a");
  ask(undefined);
  time.go();
  await new Promise(setImmediate);
  assert.deepEqual(shown, []);
});

test("an error is handed on", async () => {
  const time = clock();
  const shown = [];
  const failed = async () => {
    throw new Error("The server is gone.");
  };
  const ask = latestOnly(failed, ({ error }) => shown.push(error.message), time);
  ask("a");
  time.go();
  await new Promise(setImmediate);
  assert.deepEqual(shown, ["The server is gone."]);
});
