// Self-check questions: the entry of numbers, and the score of a block.
// Choices are `details` elements and work without this script.
"use strict";

const selfCheck = (() => {
  const RAISED = "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079";
  const power = (run) => "^" + [...run].map((c) => (c === "\u207b" ? "-" : RAISED.indexOf(c))).join("");
  const simple = (text) => (/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/.test(text) ? +text : NaN);

  // A number as people write it: 2.7, 2,7, -1/3, 1.5e-3, 2*10^-4 or with raised digits; else NaN.
  const parse = (typed) => {
    const text = typed.toLowerCase().replace(/\s+/g, "").replace(",", ".")
      .replace(/[\u207b\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+/g, power)
      .replace(/[\u2212\u2013]/g, "-")
      .replace(/([*x\u00b7\u00d7]|^[+-]?)10\^/, (_, before) =>
        (/^[+-]?$/.test(before) ? `${before}1e` : "e"));
    const [top, bottom = "1", ...rest] = text.split("/");
    return rest.length ? NaN : simple(top) / simple(bottom);
  };

  // What to say of a number: whether it is right, which remark fits, and a hint if none does.
  const judge = (value, answer, tolerance, remarks) => {
    const near = (a, b, times = 1) => Math.abs(a - b) <= times * tolerance * (1 + 1e-9);
    const away = remarks.map((when) => Math.abs(value - when));
    const remark = away.findIndex((far, i) => near(value, remarks[i]) && far === Math.min(...away));
    const shift = Math.log10(value / answer);
    let hint = value > answer ? "It is too large." : "It is too small.";
    if (!Number.isFinite(value)) hint = "";
    else if (near(value, -answer)) hint = "Its sign is wrong.";
    else if (near(value, answer, 5)) hint = "It is close: calculate with more digits.";
    else if (answer && near(value / 10 ** Math.round(shift), answer)) hint = "It is off by a power of ten.";
    const text = Number.isFinite(value) ? "Not right." : "Write a number such as 2.7, -1/3 or 1.5e-3.";
    if (near(value, answer)) return { right: true, remark: -1, text: "Right." };
    return { right: false, remark, text: remark < 0 ? `${text} ${hint}`.trim() : text };
  };

  const tell = (item) => item.dispatchEvent(new Event("selfcheck", { bubbles: true }));

  // A question keeps what the reader did: whether it is solved, and whether something went wrong.
  const choiceQuestion = (item) => {
    const all = [...item.querySelectorAll("details")];
    const right = all.filter((choice) => choice.matches(".selfcheck-right"));
    const opened = new Set();
    const state = { solved: false, slipped: false, used: false };
    item.addEventListener("toggle", ({ target }) => {
      if (!target.open || !all.includes(target)) return;
      opened.add(target);
      state.used = true;
      state.slipped ||= !state.solved && !right.includes(target);
      state.solved = right.every((choice) => opened.has(choice));
      tell(item);
    }, true);
    const reset = () => {
      opened.clear();
      for (const choice of all) choice.open = false;
    };
    return { state, reset };
  };

  const numberQuestion = (item) => {
    const [form, verdict] = [item.querySelector("form"), item.querySelector(".selfcheck-verdict")];
    const remarks = [...item.querySelectorAll(".selfcheck-remark")];
    const solution = item.querySelector(".selfcheck-solution");
    const box = form.querySelector("input");
    const state = { solved: false, slipped: false, used: false };
    const show = (index) => remarks.forEach((remark, i) => {
      remark.open = i === index;
      remark.hidden = i !== index;
    });
    const reset = () => {
      show(-1);
      verdict.hidden = true;
      solution.open = false;
      box.value = "";
    };
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const known = remarks.map((remark) => +remark.dataset.when);
      const value = parse(box.value);
      const said = judge(value, +form.dataset.answer, +form.dataset.tolerance, known);
      verdict.textContent = said.text;
      verdict.hidden = false;
      show(said.remark);
      if (said.right) solution.open = true;
      state.used = true;
      state.solved ||= said.right;
      state.slipped ||= !said.right && Number.isFinite(value);
      tell(item);
    });
    solution.addEventListener("toggle", () => {
      if (!solution.open || state.solved) return;
      state.used = state.slipped = true;
      tell(item);
    });
    form.hidden = false;
    reset();
    return { state, reset };
  };

  const start = (block) => {
    const items = [...block.querySelectorAll(".selfcheck-questions > li")];
    const questions = items.map((item) =>
      (item.querySelector("form") ? numberQuestion(item) : choiceQuestion(item)));
    const score = block.querySelector(".selfcheck-score");
    const again = document.createElement("button");
    again.type = "button";
    again.textContent = "Start again";
    const count = (test) => questions.filter(({ state }) => test(state)).length;
    const update = () => {
      const [solved, first] = [count((s) => s.solved), count((s) => s.solved && !s.slipped)];
      score.textContent = `${solved} of ${items.length} solved, ${first} at the first try. `;
      score.append(again);
      score.hidden = count((s) => s.used) === 0;
    };
    again.addEventListener("click", () => {
      for (const { state, reset } of questions) {
        reset();
        Object.assign(state, { solved: false, slipped: false, used: false });
      }
      update();
      items[0].querySelector("summary, input").focus();
    });
    block.addEventListener("selfcheck", update);
    update();
  };

  return Object.freeze({ parse, judge, start });
})();

if (typeof document === "object") {
  for (const block of document.querySelectorAll(".selfcheck")) selfCheck.start(block);
}
if (typeof module === "object") module.exports = selfCheck;
