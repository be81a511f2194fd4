// The interactive figure of the linear block: fills the .block-diagram element of a page, or leaves
// it alone if anything fails. Needs figure_kit.js and block_theory.js.
"use strict";

(() => {
  const root = document.querySelector(".block-diagram");
  if (!root) return;
  const { clamp, round, each, format, decades, scale, tens, frame, line, surround } = figureKit;

  const CONTEXTS = [...new Set(tens(0, 3, 20).map(Math.round))];
  const AXES = {
    context: scale("context length M", CONTEXTS, true),
    norm2: scale("squared length of the mean task |w|\u00b2", [0, ...tens(-2, 4, 10)]),
    noise: scale("noise variance \u03c3\u00b2", [0, ...tens(-3, 3, 10)]),
    dim: scale("dimension d", Array.from({ length: 20 }, (_, i) => i + 1), true),
    ratio: scale("task variance off the first direction", tens(-2, 0, 20)),
  };
  const LEANS = {
    first: "along the first direction", others: "off the first direction", all: "equally in all",
  };
  const START = { context: 10, norm2: 5, noise: 1, dim: 5, ratio: 1, lean: "first" };
  const PRESETS = {
    "Figure 1": { context: 5, noise: 0 },
    "Table 1": { context: 40, norm2: 2000, noise: 0, dim: 20 },
    "No mean": { norm2: 0 },
    "Loud noise": { context: 5, noise: 100 },
    "Two minima": { context: 4, norm2: 4, dim: 2, ratio: 0.2, lean: "others" },
    Reset: {},
  };
  const CURVES = { // of the left plot, from the best to the worst
    bayes: "Bayes", block: "block", attention: "attention", zero: "GD-0",
  };
  const BOUNDS = { gap: "gap", lower: "proved", printed: "as read", upper: "trivial" };

  let state = START;
  const find = (selector) => root.querySelector(selector);
  const split = ({ dim, ratio }) => dim > 1 && ratio < 1;
  const errorsAt = (at) => {
    const { context, norm2, noise, dim, ratio, lean } = at;
    const share = split(at) ? { first: 1, others: 0, all: 1 / dim }[lean] : 1;
    const level = (value, count, part) => ({ value, count, mean: Math.sqrt(part * norm2) });
    const levels = split(at) ? [level(1, 1, share), level(ratio, dim - 1, 1 - share)]
      : [level(1, dim, 1)];
    return blockTheory.errors({ levels, noise, context });
  };

  const html = () => `<div class="pd-plots"><div><svg class="pd-curves bd-risk" role="img"></svg>
<ul class="pd-key">${each(Object.keys(CURVES), (name) => figureKit.key(name, CURVES[name]))}${
  figureKit.key("nothing", "predicting zero")}</ul></div>
<div><svg class="pd-curves bd-gap" role="img"></svg>
<ul class="pd-key">${figureKit.key("gap", "gap, exact")}${
  figureKit.key("lower", "proved: at least 1")}${
  figureKit.key("printed", "Theorem 4.1 as we read it")}${
  figureKit.key("upper", "trivial upper bound")}</ul></div></div>
${figureKit.words(AXES, figureKit.choice("lean", "mean task lies", LEANS))}`;

  // Marks of a logarithmic axis; on a short one also at 2 and 5 times a power of ten.
  const marks = (low, high, unit) => {
    const found = decades(low, high, unit);
    if (found.length > 2) return found;
    for (let n = Math.floor(low); n <= high; n++) {
      for (const v of [2, 5].map((k) => k * 10 ** n)) {
        if (v >= 10 ** low && v <= 10 ** high) found.push([unit(v), format(round(v))]);
      }
    }
    return found;
  };

  // Heights of labels near those wanted, in their order and at least `room` apart.
  const apart = (wanted, low, high, room) => {
    const order = wanted.map((y, i) => [clamp(y, low, high), i]).sort((a, b) => a[0] - b[0]);
    order.forEach((item, k) => { if (k) item[0] = Math.max(item[0], order[k - 1][0] + room); });
    order.reverse().forEach((item, k) => {
      item[0] = Math.min(item[0], k ? order[k - 1][0] - room : high);
    });
    return order.sort((a, b) => a[1] - b[1]).map(([y]) => y);
  };

  const across = (m) => Math.log10(m) / 3;
  const plot = (svg, id, { title, low, high, curves, here, names }) => {
    const f = frame(svg, 68);
    const unit = (v) => clamp((Math.log10(v) - low) / (high - low), -0.1, 1.1);
    const path = (kind) => `<path class="${kind}" d="${line(CONTEXTS.map((m, i) =>
      [f.x(across(m)), f.y(unit(curves[i][kind]))]))}"/>`;
    const x = f.x(across(state.context));
    const kinds = Object.keys(names);
    const dot = (kind) => `<circle class="${kind}" cx="${x}" cy="${f.y(unit(here[kind]))}" r="5"/>`;
    const ends = kinds.map((kind) => f.y(unit(curves[curves.length - 1][kind])));
    const places = apart(ends, f.top + 6, f.bottom - 4, 14);
    svg.innerHTML = `<clipPath id="${id}">${f.box}</clipPath><g clip-path="url(#${id})">
<path class="now" d="M${x} ${f.top}V${f.bottom}"/>${"nothing" in here ? path("nothing") : ""}${
  each(kinds, path)}${each(kinds, dot)}</g>${
  each(kinds, (kind, i) => `<text class="start" x="${f.right + 5}" y="${places[i] + 4}">${
    names[kind]}</text>`)}${
  surround(f, { title: AXES.context.title, ticks: decades(0, 3, across) },
    { title, ticks: marks(low, high, unit) })}`;
  };

  let shown = ""; // moving the context alone does not compute the curves anew
  let curves = [];
  const compute = () => {
    const now = JSON.stringify({ ...state, context: 0 });
    if (now !== shown) curves = CONTEXTS.map((context) => errorsAt({ ...state, context }));
    shown = now;
  };

  const drawRisks = (here) => {
    const high = Math.log10(1.3 * Math.max(...curves.map((c) => Math.max(c.zero, c.nothing))));
    const low = Math.min(Math.log10(0.3 * curves[curves.length - 1].block), high - 1);
    plot(find(".bd-risk"), "bd-clip1", {
      title: "excess risk, risk \u2212 \u03c3\u00b2", low, high, curves, here,
      names: { ...CURVES, bayes: curves[0].exact ? "Bayes" : "Bayes \u2248" },
    });
  };

  // The gap and its bounds in units of |w|^2 / (M + 1), the bound that is proved.
  const inUnits = (e, context) => {
    const unit = state.norm2 / (context + 1);
    return {
      gap: e.gap / unit, lower: 1, upper: e.upper / unit,
      printed: Math.max(2 / 3, e.printed / unit),
    };
  };
  const drawGap = (here) => {
    const svg = find(".bd-gap");
    if (!state.norm2) {
      svg.innerHTML = '<text x="50%" y="50%">Without a mean there is no gap.</text>';
      return;
    }
    const scaled = curves.map((e, i) => inUnits(e, CONTEXTS[i]));
    const most = Math.max(...scaled.map((e) => Math.max(e.gap, Math.min(e.printed, 1000))));
    plot(svg, "bd-clip2", {
      title: "gap \u00b7 (M + 1) / |w|\u00b2", low: -0.4, high: Math.max(0.9, Math.log10(2 * most)),
      curves: scaled, here: inUnits(here, state.context), names: BOUNDS,
    });
  };

  const verdict = (e) => {
    if (!state.norm2) {
      return "No mean, no gap. The block, attention and one step from zero are the same function.";
    }
    const share = e.gap / e.attention;
    const price = `${format(100 * share, 2)} % of attention's excess risk is the price of the mean`;
    const size = share >= 0.5 ? "Mostly the mean" : share >= 0.1 ? "Partly the mean" : "Small gap";
    const first = e.fixed && split(state)
      ? `Attention recites. It answers with the mean and learns one direction; ${price}.`
      : `${size}. ${price}.`;
    const entry = `${first} The second entry of Theorem 4.1, as we read it, exceeds`;
    if (e.printed > e.upper) return `${entry} even the trivial bound.`;
    return e.printed > e.gap ? `${entry} the exact gap.` : first;
  };

  const values = (next) => {
    state = next;
    const e = errorsAt(state);
    const text = verdict(e);
    const rows = [
      ["block", e.block], ["attention", e.attention], ["one step from zero, GD-0", e.zero],
      [e.exact ? "Bayes" : "Bayes, approximate, too low", e.bayes], ["predicting zero", e.nothing],
      ["gap", e.gap], ["proved: |w|\u00b2/(M + 1)", e.lower], ["trivial upper bound", e.upper],
      ["second entry as we read it", e.printed],
    ].map(([name, v]) => [name, format(v)]);
    const more = Object.keys(CURVES).map((name) =>
      [`risk of ${CURVES[name]}, noise included`, format(e[name] + state.noise, 10)]);
    find("#pd-ratio").disabled = state.dim === 1;
    find("[data-view=lean]").disabled = !split(state);
    return { text, lead: "Excess risks: ", rows, more };
  };

  const plots = () => {
    compute();
    const here = errorsAt(state);
    drawRisks(here);
    drawGap(here);
    for (const name of ["risk", "gap"]) {
      find(`.bd-${name}`).setAttribute("aria-label", `${name === "risk" ? "Excess risks" : "The gap"
      } over the context length; values are in the text below.`);
    }
  };

  const listen = (set) => {
    for (const svg of root.querySelectorAll(".pd-curves")) {
      figureKit.drag(svg, (event) => {
        const [f, at] = [frame(svg, 68), svg.getBoundingClientRect()];
        const u = clamp((event.clientX - at.left - f.left) / f.width, 0, 1);
        set({ context: Math.round(10 ** (3 * u)) });
      });
    }
  };

  figureKit.run(root, {
    prefix: "block", start: START, axes: AXES, choices: { lean: Object.keys(LEANS) },
    presets: PRESETS, html, values, plots, listen,
  });
})();
