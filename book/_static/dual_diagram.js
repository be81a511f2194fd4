// The interactive figure of the dual kernel model: fills the .dual-diagram element of a page, or
// leaves it alone if anything fails. Needs figure_kit.js and dual_theory.js.
"use strict";

(() => {
  const root = document.querySelector(".dual-diagram");
  if (!root) return;
  const { clamp, each, format, marks, scale, tens, frame, line, surround, key } = figureKit;

  const MOST = 12; // demonstrations
  const DRAWS = 20;
  const CLOSE = 0.05; // the error that the needed number of projections is for
  const range = (low, high, step = 1) =>
    Array.from({ length: (high - low) / step + 1 }, (_, i) => low + step * i);
  const ANGLES = range(-180, 180, 3);
  const AXES = {
    query: scale("angle of the query", ANGLES),
    temperature: scale("temperature \u03c4", tens(-1, 1, 20)),
    demos: scale("demonstrations N", range(2, MOST), true),
    own: scale("label in the query token", range(-20, 20).map((v) => v / 20)),
    left: scale("demonstration left out, 0 for none", range(0, MOST), true),
    count: scale("projections m", range(0, 10).map((n) => 2 ** n), true),
    draw: scale("draw of the projections", range(1, DRAWS), true),
  };
  const CHOICES = {
    labels: { wave: "sine", levels: "two levels", odd: "sine, demonstration 2 odd" },
    sees: { all: "all tokens", demos: "demonstrations" },
    kind: { positive: "positive", hyperbolic: "hyperbolic", trigonometric: "trigonometric" },
    keys: { raw: "as they are", centred: "centred" },
    normaliser: { features: "of the features", exact: "exact" },
  };
  const NAMES = {
    labels: "labels", sees: "attends to", kind: "features", keys: "keys",
    normaliser: "normaliser",
  };
  const START = {
    query: 90, temperature: 1.41, demos: 6, own: 0.5, left: 0, count: 64, draw: 1,
    labels: "wave", sees: "all", kind: "trigonometric", keys: "raw", normaliser: "features",
  };
  const PRESETS = {
    "Nearest neighbour": { temperature: 0.1, sees: "demos" },
    "Plain average": { temperature: 10, own: 0 },
    "One odd label": { labels: "odd", left: 2, query: -102, demos: 12 },
    "Positive features": { kind: "positive", count: 1024 },
    "Keys centred": { kind: "positive", count: 1024, keys: "centred" },
    Reset: {},
  };

  let state = START;
  let now = {}; // all that here() finds
  const find = (selector) => root.querySelector(selector);

  // Demonstrations lie at multiples of the golden angle, so that each number of them spreads out.
  const HOMES = range(1, MOST).map((i) => Math.round(360 * ((0.98 + i * 0.618034) % 1)) - 180);
  const onCircle = (angle) => [Math.cos, Math.sin].map((f) => f((angle * Math.PI) / 180));
  const label = (i) => {
    const height = onCircle(HOMES[i])[1];
    if (state.labels === "levels") return 0.8 * Math.sign(height);
    return state.labels === "odd" && i === 1 ? -height : height;
  };

  // The layer doubles positions, and values are labels.
  const promptAt = (query, left = 0) => {
    const at = (angle) => onCircle(angle).map((v) => (2 * v) / Math.sqrt(state.temperature));
    const kept = range(0, state.demos - 1).filter((i) => i !== left - 1);
    const seen = state.sees === "all";
    return {
      query: at(query), demos: kept.length,
      keys: [...kept.map((i) => at(HOMES[i])), ...(seen ? [at(query)] : [])],
      values: [...kept.map(label), ...(seen ? [state.own] : [])],
    };
  };
  const shifted = (prompt) =>
    (state.keys === "centred" ? dualTheory.centred(state.kind, prompt) : prompt);
  const byFeatures = (prompt, projections) => {
    const found = dualTheory.featureWeights(
      state.kind, projections, shifted(prompt), state.normaliser === "features");
    const output = found.weights.reduce((total, a, i) => total + a * prompt.values[i], 0);
    return { ...found, output };
  };
  const variance = (prompt) => Math.max(0,
    dualTheory.outputVariance(state.kind, shifted(prompt), state.normaliser === "features"));

  const known = new Map();
  const projections = (draw) => {
    const name = `${state.count} ${draw}`;
    if (!known.has(name)) known.set(name, dualTheory.projections(state.count, draw));
    return known.get(name);
  };

  // Everything at the query that the reader chose.
  const here = () => {
    const prompt = promptAt(state.query);
    const exact = dualTheory.attend(prompt);
    const features = byFeatures(prompt, projections(state.draw));
    const steps = (weights) =>
      dualTheory.tokenByToken(weights, prompt.values, prompt.demos, exact.output);
    const draws = range(1, DRAWS).map((d) =>
      byFeatures(prompt, projections(d)).output - exact.output);
    const spread = dualTheory.normaliserVariance(state.kind, shifted(prompt));
    return {
      ...exact, prompt, features,
      without: dualTheory.leaveOneOut(exact.weights, prompt.values, prompt.demos),
      steps: steps(exact.weights), featureSteps: steps(features.weights),
      predicted: Math.sqrt(variance(prompt) / state.count),
      measured: Math.hypot(...draws) / Math.sqrt(DRAWS),
      spread: Math.sqrt(spread / state.count),
      needed: Math.max(1, Math.ceil(variance(prompt) / CLOSE ** 2)),
    };
  };

  const KEYS = {
    model: {
      after: "after the step: attention", zero: "before it: zero-shot part",
      features: "with random features", band: "\u00b1 2 predicted errors",
      without: "exact, one demonstration left out",
    },
    weights: { after: "exact", features: "with random features" },
    leave: { after: "output with all", without: "without this one" },
    steps: { after: "exact", features: "with random features" },
  };
  const PANELS = {
    model: "The dual model", weights: "Attention weights",
    leave: "Leave one out", steps: "Token by token",
  };
  const html = () => `<div class="pd-plots">${each(Object.keys(PANELS), (name) => `<div>
<p>${PANELS[name]}</p><svg class="pd-curves dd-${name}" role="img"></svg><ul class="pd-key">${
  each(Object.keys(KEYS[name]), (kind) => key(kind, KEYS[name][kind]))}</ul></div>`)}
</div>${figureKit.words(AXES,
    each(Object.keys(CHOICES), (name) => figureKit.choice(name, NAMES[name], CHOICES[name])))}`;

  // A plot of values from low to high; draw(f, y) makes what is inside.
  const plot = (name, { across, title, low, high }, draw) => {
    const svg = find(`.dd-${name}`);
    const f = frame(svg);
    const unit = (v) => clamp((v - low) / (high - low), -0.1, 1.1);
    svg.innerHTML = `<clipPath id="dd-${name}">${f.box}</clipPath><g clip-path="url(#dd-${name})">${
      draw(f, (v) => f.y(unit(v)))}</g>${
      surround(f, across, { title, ticks: marks(low, high, unit) })}`;
    svg.setAttribute("aria-label", `${PANELS[name]}; values are in the text and the table below.`);
  };
  const level = (f, kind, y) => `<path class="${kind}" d="M${f.left} ${y}H${f.right}"/>`;
  const dot = (kind, x, y, r = 5) => `<circle class="${kind}" cx="${x}" cy="${y}" r="${r}"/>`;
  const curve = (kind, points) => `<path class="${kind}" d="${line(points)}"/>`;

  const degrees = (v) => `${format(v)}\u00b0`;
  const along = (angle) => (angle + 180) / 360;
  let [shown, curves] = ["", []]; // moving the query alone does not compute the curves anew
  const compute = () => {
    const wanted = JSON.stringify({ ...state, query: 0 });
    if (wanted === shown) return;
    shown = wanted;
    curves = ANGLES.map((angle) => {
      const prompt = promptAt(angle);
      const { output, zero } = dualTheory.attend(prompt);
      const two = 2 * Math.sqrt(variance(prompt) / state.count);
      return {
        after: output, zero, low: output - two, high: output + two,
        features: byFeatures(prompt, projections(state.draw)).output,
        without: dualTheory.attend(promptAt(angle, state.left)).output,
      };
    });
  };

  const drawModel = (e) => {
    const across = {
      title: AXES.query.title,
      ticks: [-180, -90, 0, 90, 180].map((v) => [along(v), degrees(v)]),
    };
    plot("model", { across, title: "label", low: -1.5, high: 1.5 }, (f, y) => {
      const path = (kind) => ANGLES.map((a, i) => [f.x(along(a)), y(curves[i][kind])]);
      const x = f.x(along(state.query));
      const demo = (i) => `${dot(i === state.left - 1 ? "left" : "demo", f.x(along(HOMES[i])),
        y(label(i)), 8)}<text x="${f.x(along(HOMES[i]))}" y="${y(label(i)) + 4}">${i + 1}</text>`;
      return `${curve("band", [...path("low"), ...path("high").reverse()])}
<path class="now" d="M${x} ${f.top}V${f.bottom}"/>${curve("zero", path("zero"))}${
  state.left && state.left <= state.demos ? curve("without", path("without")) : ""}${
  curve("features", path("features"))}${curve("after", path("after"))}${
  each(range(0, state.demos - 1), demo)}${dot("zero", x, y(e.zero))}${
  dot("features", x, y(e.features.output))}${dot("after", x, y(e.output))}`;
    });
  };

  const tokens = (n) => ({
    title: "token", ticks: range(0, n - 1).map((i) =>
      [(i + 0.5) / n, i < state.demos ? `${i + 1}` : "q"]),
  });

  const drawWeights = (e) => {
    const [n, most] = [e.weights.length, Math.max(...e.weights)];
    const high = 1.1 * clamp(Math.max(...e.features.weights), most, 1.6 * most);
    const low = clamp(1.1 * Math.min(...e.features.weights), -0.4 * most, 0);
    plot("weights", { across: tokens(n), title: "weight", low, high }, (f, y) => {
      const width = (0.36 * f.width) / n;
      const bar = (kind, of, shift) => each(of, (a, i) => {
        const [top, bottom] = [Math.min(y(a), y(0)), Math.max(y(a), y(0))];
        return `<rect class="${kind}" x="${f.x((i + 0.5) / n) + shift}" y="${top}" width="${width
        }" height="${bottom - top}"/>`;
      });
      return `${bar("after", e.weights, -width)}${bar("features", e.features.weights, 0)}${
        low < 0 ? level(f, "box", y(0)) : ""}`;
    });
  };

  const drawLeave = (e) => {
    const all = [...e.without, e.output];
    const middle = (Math.max(...all) + Math.min(...all)) / 2;
    const half = Math.max(0.05, 0.6 * (Math.max(...all) - Math.min(...all)));
    const n = state.demos;
    plot("leave", {
      across: tokens(n), title: "output", low: middle - half, high: middle + half,
    }, (f, y) => level(f, "after", y(e.output)) + each(e.without, (v, i) => {
      const x = f.x((i + 0.5) / n);
      return `<path class="without" d="M${x} ${y(e.output)}V${y(v)}"/>${dot("without", x, y(v))}`;
    }));
  };

  const drawSteps = (e) => {
    const n = state.demos;
    const most = Math.max(...e.steps);
    const high = 1.1 * clamp(Math.max(...e.featureSteps), most, 2 * most) || 1;
    const at = (t) => (t + 0.5) / (n + 1);
    const across = {
      title: "demonstrations learned", ticks: range(0, n).map((t) => [at(t), `${t}`]),
    };
    plot("steps", { across, title: "distance to the output", low: -high / 30, high }, (f, y) => {
      const path = (of) => of.map((v, t) => [f.x(at(t)), y(v)]);
      const both = [["features", path(e.featureSteps)], ["after", path(e.steps)]];
      return each(both, ([kind, points]) =>
        curve(kind, points) + each(points, ([x, up]) => dot(kind, x, up, 4)));
    });
  };

  const percent = (v) => `${format(100 * v, 2)} %`;
  const largest = (list) => list.reduce((best, v, i) => (v > list[best] ? i : best), 0);
  const verdict = (e) => {
    const top = largest(e.weights);
    const has = `has ${percent(e.weights[top])} of the attention`;
    const first = () => {
      if (top >= state.demos && e.weights[top] >= 0.5) return `Mostly itself. The query ${has}.`;
      if (e.weights[top] >= 0.5) return `Nearest neighbour. Demonstration ${top + 1} ${has}.`;
      if (e.weights[top] <= 1.6 / e.weights.length) {
        return `An average. No token has more than ${percent(e.weights[top])} of the attention.`;
      }
      return `A smoother. The largest weight, that of ${
        top < state.demos ? `demonstration ${top + 1}` : "the query itself"}, ${has}.`;
    };
    const loss = largest(e.without.map((v) => Math.abs(v - e.output)));
    const second = `Without demonstration ${loss + 1}, which matters most, the output would be ${
      format(e.without[loss], 2)} instead of ${format(e.output, 2)}.`;
    const needs = `an error of ${CLOSE} needs ${format(e.needed, 2)} projections`;
    const third = () => {
      if (e.features.normaliser <= 0) return "The normaliser of the features is negative.";
      if (state.normaliser === "features" && e.spread > 0.3) {
        return `Too few projections for the prediction: the normaliser alone errs by ${
          percent(e.spread)}, root mean square.`;
      }
      if (e.predicted > 0.3) return `These features are useless here: ${needs}.`;
      return e.predicted > CLOSE ? `These features are coarse: ${needs}.`
        : "These features do well here.";
    };
    return `${first()} ${second} ${third()}`;
  };

  const values = (next) => {
    state = next;
    now = here();
    const e = now;
    const rows = [
      ["output, after the step", e.output], ["zero-shot part, before it", e.zero],
      ["weight of the demonstrations \u03bb", e.share],
      ["output with features", e.features.output],
      ["its error", e.features.output - e.output], ["predicted error", e.predicted],
      [`error in ${DRAWS} draws`, e.measured],
      [`projections for an error of ${CLOSE}`, e.needed],
      ["normaliser, features / exact", e.features.normaliser],
      ["predicted error of this ratio", e.spread],
    ].map(([name, v]) => [name, format(v)]);
    const token = (a, i) => {
      const own = i >= state.demos;
      const where = own ? "query token" : `demonstration ${i + 1} at ${degrees(HOMES[i])}`;
      const parts = [`label ${format(e.prompt.values[i], 3)}`, `weight ${format(a)}`,
        `with features ${format(e.features.weights[i])}`];
      if (!own) {
        parts.push(`output without it ${format(e.without[i])}`,
          `distance after it ${format(e.steps[i + 1])}`);
      }
      return [where, parts.join("; ")];
    };
    find("#pd-own").disabled = state.sees === "demos";
    return { text: verdict(e), rows, more: e.weights.map(token) };
  };

  const plots = () => {
    compute();
    for (const draw of [drawModel, drawWeights, drawLeave, drawSteps]) draw(now);
  };

  const listen = (set) => {
    const svg = find(".dd-model");
    figureKit.drag(svg, (event) => {
      const [f, at] = [frame(svg), svg.getBoundingClientRect()];
      const u = clamp((event.clientX - at.left - f.left) / f.width, 0, 1);
      set({ query: 3 * Math.round(120 * u) - 180 });
    });
  };

  figureKit.run(root, {
    prefix: "dual", start: START, axes: AXES, presets: PRESETS, html, values, plots, listen,
    choices: Object.fromEntries(Object.keys(CHOICES).map((k) => [k, Object.keys(CHOICES[k])])),
  });
})();
