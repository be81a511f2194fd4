// The four live figures of the start page: each fills its element, or leaves it as it came if
// anything fails. Needs figure_kit.js and the four *_theory.js, which hold all formulas.
// A figure has sliders, the stops that they start from, the names of its curves, and look(state),
// which says all of a state: a text, rows [name, value], the two axes, and what to draw. Positions
// on an axis run from 0 to 1. The whole figure stands on a page, at an address with a prefix, and
// whole(state) is what it takes over.
"use strict";

(() => {
  const {
    clamp, round, each, format, marks, decades, scale, frame, line, surround, key,
  } = figureKit;

  const range = (low, high, step = 1) =>
    Array.from({ length: Math.round((high - low) / step) + 1 }, (_, i) => low + step * i);
  const tenths = (low, high) => range(low, high).map((i) => i / 10);
  // 1, 2 and 5 times powers of ten.
  const steps = (low, high) => range(-2, 3)
    .flatMap((n) => [1, 2, 5].map((k) => round(k * 10 ** n)))
    .filter((v) => v >= low && v <= high);
  // The step of a slider at a value; infinity is one of the values.
  const index = ({ max, at }, value) => range(0, max).findIndex((i) => at(i) === value);
  const percent = (v) => (v < 5e-4 ? "less than 0.1 %" : `${format(100 * v, 2)} %`);
  // Axes: a title, marks, and the position of a value; logs run between two powers of ten.
  const linear = (title, low, high) => {
    const unit = (v) => (v - low) / (high - low);
    return { title, unit, ticks: marks(low, high, unit) };
  };
  const logarithmic = (title, low, high) => {
    const unit = (v) => (Math.log10(v) - low) / (high - low);
    return { title, unit, ticks: decades(low, high, unit) };
  };

  // 1. Six demonstrations on a circle; the query goes round.
  const dual = (() => {
    const HOMES = [90, -90, 30, -150, 150, -30];
    const ASKED = -60;
    const onCircle = (angle) => [Math.cos, Math.sin].map((f) => f((angle * Math.PI) / 180));
    const across = linear("angle of the query", -180, 180);
    across.ticks = [-180, -90, 0, 90, 180].map((v) => [across.unit(v), `${format(v)}\u00b0`]);
    const up = linear("label", -1.25, 1.25);
    const labels = HOMES.map((angle) => onCircle(angle)[1]);
    const ask = (angle, temperature) => {
      const at = (a) => onCircle(a).map((v) => (2 * v) / Math.sqrt(temperature));
      return dualTheory.attend(
        { query: at(angle), keys: HOMES.map(at), values: labels, demos: HOMES.length });
    };
    const learned = ({ weights }, seen) =>
      labels.slice(0, seen).reduce((total, v, i) => total + weights[i] * v, 0);
    const look = ({ temperature, seen }) => {
      const curve = (of) => range(-180, 180, 5).map((a) =>
        [across.unit(a), up.unit(of(ask(a, temperature)))]);
      const here = ask(ASKED, temperature);
      const [model, top] = [learned(here, seen), Math.max(...here.weights)];
      const left = dualTheory.tokenByToken(here.weights, labels, HOMES.length, here.output)[seen];
      const state = seen === HOMES.length
        ? "All six learned. The kernel model is softmax attention, exactly"
        : seen === 0 ? "Nothing learned yet. The kernel model starts at zero"
          : `${seen} of 6 learned. The gradient step is not complete`;
      const at = `${format(ASKED)}\u00b0`;
      return {
        text: `${state}. At ${at} it says ${format(model, 2)}, attention ${
          format(here.output, 2)}; one example has ${percent(top)} of the attention.`,
        rows: [
          [`kernel model at ${at}`, model], [`attention at ${at}`, here.output],
          ["distance", left], ["largest weight", top],
        ],
        across, up,
        curves: { two: curve((e) => e.output), one: curve((e) => learned(e, seen)) },
        dots: [
          ...HOMES.map((a, i) => [i < seen ? "seen" : "", across.unit(a), up.unit(labels[i])]),
          ["one", across.unit(ASKED), up.unit(model)],
        ],
        upright: across.unit(ASKED),
      };
    };
    return {
      name: "dual", label: "Kernel model and attention over the angle of the query", look,
      sliders: {
        seen: scale("examples learned", range(0, 6), true),
        temperature: scale("temperature of softmax", steps(0.1, 10)),
      },
      page: "01_dual_kernel", prefix: "dual", start: { seen: 3, temperature: 2 },
      whole: ({ temperature }) => ({ temperature, query: ASKED, sees: "demos" }),
      curves: { one: "kernel model", two: "softmax attention" },
    };
  })();

  // 2. Excess errors over the context length: d = 5, unit variances, noise 1.
  const block = (() => {
    const CONTEXTS = [1, 2, 3, 4, 5, 7, 10, 14, 20, 30, 50, 70, 100, 200, 500, 1000];
    const errors = (norm2, context) => blockTheory.errors({
      levels: [{ value: 1, count: 5, mean: Math.sqrt(norm2) }], noise: 1, context,
    });
    const across = logarithmic("examples in the prompt", 0, 3);
    const up = logarithmic("excess error", -2, 2);
    let [known, found] = [NaN, []]; // moving the context computes no curve anew
    const look = ({ norm2, context }) => {
      if (norm2 !== known) [known, found] = [norm2, CONTEXTS.map((m) => errors(norm2, m))];
      const here = errors(norm2, context);
      const x = across.unit(context);
      const curve = (of) => CONTEXTS.map((m, i) => [across.unit(m), up.unit(of(found[i]))]);
      const text = norm2 === 0
        ? "No mean, no gap. With or without an MLP it is the same function, one step from zero."
        : `${percent(here.gap / here.attention)} of attention's excess error, at ${context} ${
          context === 1 ? "example" : "examples"}, is the price of not storing the mean task.`;
      return {
        text, across, up, upright: x,
        rows: [
          ["attention with MLP", here.block], ["attention alone", here.attention],
          ["Bayes", here.bayes], ["gap", here.gap], ["proved lower bound", here.lower],
        ],
        curves: {
          three: curve((e) => e.bayes), two: curve((e) => e.attention), one: curve((e) => e.block),
        },
        dots: [["two", x, up.unit(here.attention)], ["one", x, up.unit(here.block)]],
      };
    };
    return {
      name: "block", label: "Excess errors over the number of examples", look,
      sliders: {
        norm2: scale("squared length of the mean task", [0, ...steps(0.1, 50), 100]),
        context: scale("examples in the prompt", CONTEXTS, true),
      },
      page: "02_linear_block", prefix: "block", start: { norm2: 5, context: 10 },
      whole: (state) => state,
      curves: { one: "attention with MLP", two: "attention alone", three: "Bayes" },
    };
  })();

  // 3. Errors over the share of the structured source: d = 40, linear attention.
  const mixing = (() => {
    const SHARES = range(0, 50).map((i) => i / 50);
    const across = linear("share of structured prompts in training", 0, 1);
    const parts = ({ error, errors }) => [error, ...errors];
    const look = ({ noise1, prompts }) => {
      const errorsAt = mixingTheory.mixture({
        dim: 40, context: 80, prompts, penalty: 0.02, width: 0, intercept: false,
        spike: 1600, noise0: 0.01, noise1,
      });
      const curves = SHARES.map((share) => parts(errorsAt(share)));
      const [best] = mixingTheory.optima(errorsAt);
      const least = errorsAt(best).error;
      const [plain, structured] = [0, 1].map((share) => errorsAt(share).error / least - 1);
      const all = curves.flat();
      const up = linear("error", 0.95 * Math.min(...all), 1.03 * Math.max(...all));
      const curve = (i) => SHARES.map((share, n) => [across.unit(share), up.unit(curves[n][i])]);
      const cost = Math.min(plain, structured);
      const text = cost < 5e-4
        ? `Do not mix. The ${plain < structured ? "plain" : "structured"} source alone is best.`
        : `Mix. A share of ${format(best, 2)} is best; the plain source alone costs ${
          percent(plain)} more, the structured one alone ${percent(structured)}.`;
      return {
        text, across, up, upright: across.unit(best),
        rows: [
          ["best share", best], ["error there", least],
          ["plain source alone", least * (1 + plain)],
          ["structured source alone", least * (1 + structured)],
        ],
        curves: { three: curve(2), two: curve(1), one: curve(0) },
        dots: [["one", across.unit(best), up.unit(least)]],
      };
    };
    return {
      name: "mixing", label: "Errors over the share of structured prompts in training", look,
      sliders: {
        noise1: scale("label noise of the structured source", [0.01, ...tenths(1, 20)]),
        prompts: scale("prompts in pretraining", range(0, 7).map((i) => 400 * 2 ** i), true),
      },
      page: "03_data_mixing", prefix: "mixing", start: { noise1: 0.5, prompts: 3200 },
      whole: (state) => state,
      curves: { one: "tested on both", two: "on the plain source", three: "on the structured one" },
    };
  })();

  // 4. Errors over the number of pretraining prompts: alpha = 10, rho = 0.01.
  const phase = (() => {
    const ENDS = {
      memorising: "memorised", learning: "learned in context",
      between: "half memorised, half learned", nothing: "little learned",
      "too long": "memorised, and a longer context would hurt",
    };
    const TAUS = [...range(-60, 60).map((i) => 10 ** (i / 60)), 0.985, 0.995, 1.005, 1.015]
      .sort((p, q) => p - q);
    const across = logarithmic("prompts over parameters, \u03c4", -1, 1);
    const up = logarithmic("error", -2, 1);
    const look = ({ kappa, penalty }) => {
      const at = (tau) => ({ alpha: 10, kappa, tau, rho: 0.01, penalty });
      const found = TAUS.map((tau) => phaseTheory.learningCurve(at(tau)));
      const [peak, end] = [1, 10].map((tau) => phaseTheory.learningCurve(at(tau)));
      const curve = (of) => TAUS.map((tau, i) => [across.unit(tau), up.unit(of(found[i]))]);
      const height = peak.icl === Infinity ? "diverges" : `is ${format(peak.icl, 2)}`;
      const word = phaseTheory.regime(at(10));
      return {
        text: `At \u03c4 = 1 the error on new tasks ${height}. At \u03c4 = 10 new tasks cost ${
          format(end.icl / end.idg, 2)} times what known tasks cost: ${ENDS[word]}.`,
        rows: [
          ["new tasks, \u03c4 = 1", peak.icl], ["new tasks, \u03c4 = 10", end.icl],
          ["known tasks, \u03c4 = 10", end.idg],
        ],
        across, up, upright: across.unit(1),
        curves: { two: curve((e) => e.idg), one: curve((e) => e.icl) },
        dots: [],
      };
    };
    return {
      name: "phase", label: "Errors over the number of pretraining prompts", look,
      sliders: {
        kappa: scale("tasks per dimension, \u03ba", [0.05, ...steps(0.1, 20), Infinity]),
        penalty: scale("ridge \u03bb", [0, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3, 1]),
      },
      page: "04_past_the_paper", prefix: "diagram", start: { kappa: 0.5, penalty: 0 },
      whole: (state) => ({ ...state, over: "tau", tau: 10 }),
      curves: { one: "new tasks", two: "tasks of the pretraining" },
    };
  })();

  const html = ({ name, sliders, curves, page }) => `<svg class="home-plot" role="img"></svg>
<ul class="pd-key">${each(Object.keys(curves), (kind) => key(kind, curves[kind]))}</ul>
<p class="home-says"></p><p class="pd-live" role="status" aria-live="polite"></p>
<div class="home-sliders">${each(Object.keys(sliders), (slider) => `<div>
<label for="home-${name}-${slider}">${sliders[slider].title}</label>
<output for="home-${name}-${slider}" aria-live="off"></output>
<input id="home-${name}-${slider}" type="range" max="${sliders[slider].max}"
data-slider="${slider}"></div>`)}</div>
<details><summary>In numbers</summary><table><tbody class="home-rows"></tbody></table></details>
<p><a class="home-whole" href="../notebooks/${page}.html">The whole figure, from here</a></p>`;

  // The plot as SVG; curves leave it where they are cut off.
  const picture = (f, { name }, { across, up, curves, dots, upright }) => {
    const place = ([u, v]) => [f.x(u), f.y(clamp(v, -0.2, 1.2))];
    const dot = ([kind, ...at]) => {
      const [x, y] = place(at);
      return `<circle class="${kind}" cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="5"/>`;
    };
    const x = f.x(upright).toFixed(1);
    return `<clipPath id="home-clip-${name}">${f.box}</clipPath><g clip-path="url(#home-clip-${
      name})"><path class="now" d="M${x} ${f.top}V${f.bottom}"/>${
      each(Object.keys(curves), (kind) =>
        `<path class="${kind}" d="${line(curves[kind].map(place))}"/>`)}${each(dots, dot)}</g>${
      surround(f, across, up)}`;
  };

  const run = (root, figure) => {
    const { name, sliders, start, label, look, prefix, whole } = figure;
    const came = root.innerHTML;
    const find = (selector) => root.querySelector(selector);
    let [state, seen, due, pause] = [start, {}, 0, 0];
    const draw = () => {
      due = 0;
      const svg = find(".home-plot");
      svg.innerHTML = picture(frame(svg), figure, seen);
    };
    const take = (changes) => {
      state = { ...state, ...changes };
      seen = look(state);
      find(".home-says").innerHTML = seen.text.replace(/^.*?\.(?= |$)/, "<strong>$&</strong>");
      find(".home-rows").innerHTML = each(seen.rows, ([row, v]) =>
        `<tr><th scope="row">${row}<td>${v === Infinity ? "diverges" : format(v)}`);
      for (const slider of Object.keys(sliders)) {
        const box = find(`#home-${name}-${slider}`);
        box.value = index(sliders[slider], state[slider]);
        box.setAttribute("aria-valuetext", format(state[slider]));
        box.previousElementSibling.textContent = format(state[slider]);
      }
    };
    const input = ({ target }) => {
      const { slider } = target.dataset;
      if (!slider) return;
      take({ [slider]: sliders[slider].at(+target.value) });
      due ||= requestAnimationFrame(draw);
      clearTimeout(pause); // screen readers follow when the reader pauses
      pause = setTimeout(() => { find(".pd-live").textContent = seen.text; }, 400);
    };
    // The link takes the state along, but only when it is followed: scripts of the theme read all
    // links as names of places.
    const follow = ({ target }) => {
      if (!target.matches(".home-whole")) return;
      const plain = target.href;
      target.href = `${plain}#${prefix}:${new URLSearchParams(whole(state))}`;
      setTimeout(() => { target.href = plain; });
    };
    try {
      root.innerHTML = html(figure);
      take({});
      draw();
      find(".home-plot").setAttribute("aria-label", `${label}; the values are in the text below.`);
      root.addEventListener("input", input);
      for (const kind of ["click", "auxclick"]) root.addEventListener(kind, follow);
      new ResizeObserver(draw).observe(root);
    } catch (problem) {
      root.innerHTML = came;
      console.error(problem);
    }
  };

  const later = globalThis.requestIdleCallback || setTimeout; // the page comes first
  for (const figure of [dual, block, mixing, phase]) {
    const root = document.querySelector(`.home-${figure.name}`);
    if (root) later(() => run(root, figure));
  }
})();
