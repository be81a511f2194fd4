// The interactive mixing curve: fills the .mixing-diagram element of a page, or leaves it alone if
// anything fails. Needs figure_kit.js and mixing_theory.js.
"use strict";

(() => {
  const root = document.querySelector(".mixing-diagram");
  if (!root) return;
  const { clamp, each, format, marks, scale, tens, frame, line, surround, key } = figureKit;

  const DIM = 40;
  const CLOSE = 1.01; // errors up to 1 % above the best one
  const range = (n) => Array.from({ length: n + 1 }, (_, i) => i);
  const SHARES = range(100).map((i) => i / 100);
  const NOISES = [0, 0.01, ...range(39).map((i) => (i + 1) / 20)];
  // A slider and, for the right plot, the same stops as an axis with marks.
  const axis = (title, stops, ticks, whole) => {
    const slider = scale(title, stops, whole);
    const unit = (v) => slider.index(v) / slider.max;
    return { ...slider, stops, unit, ticks: ticks.map((v) => [unit(v), format(v)]) };
  };
  const whole = (low, high) => [...new Set(tens(low, high, 20).map(Math.round))];
  const AXES = {
    share: axis("share \u03c1 of source 1", SHARES, [0, 0.25, 0.5, 0.75, 1]),
    spike: axis("task spike \u03b8 of source 1", [0, ...tens(-1, 4, 10)],
      [0, 1, 10, 100, 1000, 10000]),
    noise0: axis("noise \u0394\u2080 of source 0", NOISES, [0, 0.5, 1, 1.5, 2]),
    noise1: axis("noise \u0394\u2081 of source 1", NOISES, [0, 0.5, 1, 1.5, 2]),
    context: axis("context length \u2113", whole(1, 3), [10, 100, 1000], true),
    prompts: axis("pretraining prompts n", whole(2, 5), [100, 1000, 10000, 100000], true),
    penalty: axis("ridge \u03bb", tens(-6, 0, 10), [1e-6, 1e-4, 0.01, 1]),
  };
  const OVER = Object.keys(AXES).slice(1);
  const HEADS = {
    linear: "linear attention", intercept: "linear attention, intercept",
    relu: "1,600 random ReLU neurons",
  };
  const RIDGES = { linear: 0.02, intercept: 0.02, relu: 1e-4 }; // that suit a head
  const START = {
    share: 0.5, spike: 1600, noise0: 0.01, noise1: 0.5, context: 80, prompts: 3200,
    penalty: RIDGES.linear, head: "linear", over: "noise1",
  };
  const PRESETS = {
    "Both clean": { noise1: 0.01 },
    "Noises swapped": { noise0: 0.5, noise1: 0.01, over: "noise0" },
    "Few prompts": { prompts: 400, over: "prompts" },
    "Little ridge": { penalty: 1e-3, over: "penalty" },
    Intercept: { head: "intercept" },
    "ReLU head": { head: "relu", penalty: RIDGES.relu, over: "prompts" },
    "Only noise": { head: "relu", penalty: 1e-3, spike: 0, noise1: 1 },
    Reset: {},
  };
  const CURVES = { both: "both sources", first: "source 0", second: "source 1" };
  const KINDS = Object.keys(CURVES);
  const PANELS = { errors: "Errors", shares: "Best shares" };

  let state = START;
  const find = (selector) => root.querySelector(selector);
  const mixtureAt = (at) => mixingTheory.mixture({
    ...at, dim: DIM, width: at.head === "relu" ? 1600 : 0, intercept: at.head === "intercept",
  });
  const parts = ({ error, errors }) => [error, ...errors];

  // Everything of the mixtures that the reader chose, kept while only the share moves.
  let [known, now] = ["", {}];
  const compute = () => {
    const wanted = JSON.stringify({ ...state, share: 0, over: 0 });
    if (wanted === known) return;
    known = wanted;
    const errorsAt = mixtureAt(state);
    const error = (share) => errorsAt(share).error;
    const best = mixingTheory.optima(errorsAt);
    const least = error(best[0]);
    now = {
      errorsAt, best, least, near: mixingTheory.around(error, best[0], CLOSE * least),
      lowest: best.map((share, i) => parts(errorsAt(share))[i]),
      curves: SHARES.map((share) => parts(errorsAt(share))),
      constant: 0.5 + (state.noise0 ** 2 + state.noise1 ** 2) / 2 - mixingTheory.MEAN ** 2,
    };
  };

  const html = () => `<div class="pd-plots">${each(Object.keys(PANELS), (name) => `<div>
<div class="pd-choice">${name === "errors" ? "Error, tested on" : figureKit.choice("over",
    "Best share over", Object.fromEntries(OVER.map((k) => [k, AXES[k].title])))}</div>
<svg class="pd-curves md-${name}" role="img"></svg><ul class="pd-key">${
  each(KINDS, (kind) => key(kind, CURVES[kind]))}${
  name === "errors" ? key("null", "best constant") + key("near", "within 1 % of the best") : ""
}</ul></div>`)}</div>${
  figureKit.words(AXES, figureKit.choice("head", "head", HEADS))}`;

  // A plot of values from low to high; draw(f, y) makes what is inside.
  const plot = (name, { across, title, low, high }, draw) => {
    const svg = find(`.md-${name}`);
    const f = frame(svg);
    const unit = (v) => (v - low) / (high - low);
    svg.innerHTML = draw(f, (v) => f.y(unit(v))) +
      surround(f, across, { title, ticks: marks(low, high, unit) });
    svg.setAttribute("aria-label", `${PANELS[name]} over ${across.title
      }; values are in the text and the table below.`);
  };
  const curve = (kind, points) => `<path class="${kind}" d="${line(points)}"/>`;
  const upright = (kind, f, x) => curve(kind, [[x, f.top], [x, f.bottom]]);
  const dot = (kind, x, y) => `<circle class="${kind}" cx="${x}" cy="${y}" r="5"/>`;
  const square = (kind, x, y) =>
    `<rect class="${kind}" x="${x - 5}" y="${y - 5}" width="10" height="10"/>`;

  const drawErrors = () => {
    const { curves, best, lowest, near, constant } = now;
    const all = [...curves.flat(), ...lowest];
    const [least, most] = [Math.min(...all), Math.max(...all)];
    const room = Math.max(0.08 * (most - least), 0.01 * most);
    const [low, high] = [least - room, most + room];
    plot("errors", { across: AXES.share, title: "mean squared error", low, high }, (f, y) => {
      const here = parts(now.errorsAt(state.share));
      const star = f.x(best[0]);
      return `<rect class="near" x="${f.x(near[0])}" y="${f.top}" width="${
        f.width * (near[1] - near[0])}" height="${f.height}"/>${
        constant > low && constant < high
          ? curve("null", [[f.left, y(constant)], [f.right, y(constant)]]) : ""}${
        upright("now", f, f.x(state.share))}${upright("star", f, star)}${
        each(KINDS, (kind, i) =>
          curve(kind, SHARES.map((share, n) => [f.x(share), y(curves[n][i])])))}${
        each(KINDS, (kind, i) => square(kind, f.x(best[i]), y(lowest[i])) +
          dot(kind, f.x(state.share), y(here[i])))}
<text class="halo" x="${clamp(star, f.left + 40, f.right - 40)}" y="${f.bottom - 8}">\u03c1* = ${
        format(best[0], 3)}</text>`;
    });
  };

  // Best shares at the stops of the axis, kept while only this number or the share moves.
  let [shown, path] = ["", []];
  const computePath = () => {
    const wanted = JSON.stringify({ ...state, share: 0, [state.over]: 0 });
    if (wanted === shown) return;
    shown = wanted;
    path = AXES[state.over].stops.map((v) =>
      mixingTheory.optima(mixtureAt({ ...state, [state.over]: v }), 20, 10));
  };
  const drawShares = () => {
    const across = AXES[state.over];
    plot("shares", { across, title: "best share", low: -0.05, high: 1.05 }, (f, y) => {
      const x = f.x(across.unit(state[state.over]));
      const trace = (kind, i) =>
        curve(kind, path.map((best, n) => [f.x(n / across.max), y(best[i])]));
      return upright("now", f, x) + each(KINDS, trace) +
        each(KINDS, (kind, i) => square(kind, x, y(now.best[i])));
    });
  };

  const digits = (v) => Math.round(1000 * v) / 1000;
  const share = (v) => format(digits(v));
  const percent = (v) => (v < 5e-4 ? "less than 0.1 %" : `${format(100 * v, 2)} %`);
  const verdict = (here) => {
    const { errorsAt, best, least, near, constant } = now;
    const above = (at) => errorsAt(at).error / least - 1;
    const more = (at) => percent(above(at));
    const better = above(0) <= above(1) ? 0 : 1;
    if (Math.max(above(0), above(0.5), above(1)) < 1e-9) {
      return "All the same. The sources are alike, and so is every mixture.";
    }
    const first = () => {
      if ([0, 1].includes(digits(best[0]))) {
        return `Source ${share(best[0])} alone. No mixture does visibly better; equal shares cost ${
          more(0.5)} more.`;
      }
      return `Mix. Pretraining on source ${better} alone costs ${
        more(better)} more than with the best share, ${
        share(best[0])}, and equal shares ${more(0.5)} more.`;
    };
    const flat = near[0] === 0 && near[1] === 1
      ? "Yet it hardly matters: every share costs at most 1 % more than the best."
      : `Shares from ${share(near[0])} to ${share(near[1])} cost at most 1 % more than the best.`;
    const own = `For tests on itself, source 0 would choose a share of ${
      share(best[1])}, source 1 of ${share(best[2])}.`;
    const peak = here.inflation >= 4
      ? ` At \u03c1 = ${format(state.share)} finite data multiply the error by ${
        format(here.inflation, 2)}: the interpolation peak is near.` : "";
    const useless = least > constant
      ? " Even the best constant answer costs less than any mixture." : "";
    return `${first()} ${flat} ${own}${peak}${useless}`;
  };

  const values = (next) => {
    state = next;
    compute();
    const { best, least, near, constant } = now;
    const here = now.errorsAt(state.share);
    const rows = [
      ["error, both sources", format(here.error)], ["error, source 0", format(here.errors[0])],
      ["error, source 1", format(here.errors[1])], ["best constant", format(constant)],
      ["best share \u03c1*", share(best[0])], ["error there", format(least)],
      ["within 1 % of it", near.map(share).join(" to ")],
      ["inflation by finite data", format(here.inflation)],
    ];
    const listed = (list) => KINDS.map((kind, i) => `${CURVES[kind]} ${format(list[i], 6)}`);
    const more = [
      ["best shares", listed(best).join("; ")],
      ...range(10).map((i) =>
        [`errors at \u03c1 = ${i / 10}`, listed(now.curves[10 * i]).join("; ")]),
    ];
    return { text: verdict(here), rows, more };
  };

  const plots = () => {
    computePath();
    drawErrors();
    drawShares();
  };

  const listen = (set) => {
    const follow = (name, move) => {
      const svg = find(`.md-${name}`);
      figureKit.drag(svg, (event) => {
        const [f, at] = [frame(svg), svg.getBoundingClientRect()];
        move(clamp((event.clientX - at.left - f.left) / f.width, 0, 1));
      });
    };
    follow("errors", (u) => set({ share: Math.round(100 * u) / 100 }));
    follow("shares", (u) => {
      const { at, max } = AXES[state.over];
      set({ [state.over]: at(Math.round(u * max)) });
    });
  };

  figureKit.run(root, {
    prefix: "mixing", start: START, axes: AXES, presets: PRESETS, html, values, plots, listen,
    choices: { head: Object.keys(HEADS), over: OVER },
    choose: (name, value) =>
      ({ [name]: value, ...(name === "head" && { penalty: RIDGES[value] }) }),
  });
})();
