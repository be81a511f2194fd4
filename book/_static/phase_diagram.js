// The interactive phase diagram: fills the .phase-diagram element of a page, or leaves it alone if
// anything fails. Needs figure_kit.js and phase_theory.js.
"use strict";

(() => {
  const root = document.querySelector(".phase-diagram");
  if (!root) return;
  const { clamp, round, each, format, tick, decades, frame, line, key } = figureKit;

  const STEPS = 50; // slider steps per decade
  const STRIP = 0.07; // part of an axis that shows its special stop
  const NX = 64; // points of the map
  const NY = 48;
  const CIVIDIS =
    "00224e 083370 35456c 4f576c 666970 7d7c78 948e77 aea371 c8b866 e5cf52 fee838".split(" ");
  const LEVELS = [0.001, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 100];
  const MAPS = { // name and colour range, in powers of ten
    gap: ["task gap", [-3, 1]],
    icl: ["error on new tasks", [-2, 1]],
    idg: ["error on pool tasks", [-2, 1]],
  };
  const START = {
    alpha: 10, kappa: 0.5, tau: 2, rho: 0.01, penalty: 0,
    map: "gap", across: "kappa", up: "alpha", over: "tau",
  };
  const PRESETS = {
    "Figure 1: the peak": { tau: 1.15 },
    "Figure 2: a long context": { alpha: 100, kappa: 0.25, tau: 20, rho: 0.5, over: "alpha" },
    "Figure 4: the transition": { alpha: 40, kappa: 1, tau: 8, over: "kappa" },
    Reset: {},
  };
  const VERDICTS = {
    pole: "Diverges. As many prompts as parameters, and no ridge.",
    peak: "Near the interpolation peak. About as many prompts as parameters, \u03c4 = 1.",
    "pool peak": "Near the peak of the pool. Just enough prompts to fit it, \u03c4 = \u03ba.",
    "too long": "Context too long. A longer one would raise the error on new tasks.",
    nothing: "Little learned. Even pool tasks cost almost as much as predicting zero.",
    memorising: "Memorising. New tasks cost at least twice as much as pool tasks.",
    learning: "Learning in context. New tasks cost at most 10 % more than pool tasks.",
    between: "In between. New tasks cost 10 to 100 % more than pool tasks.",
  };

  // A logarithmic axis from 10^low to 10^high; `stop` is one more value beyond one of its ends.
  // A position on it is a slider step (index) or runs from 0 to 1 (unit).
  const axis = (title, low, high, stop) => {
    const first = stop === 0 ? 1 : 0;
    const count = Math.round(STEPS * (high - low)) + first;
    const left = first * STRIP;
    const right = stop === Infinity ? 1 - STRIP : 1;
    const along = (v) => (clamp(Math.log10(v), low, high) - low) / (high - low);
    const unit = (v) => {
      if (v === stop) return (first ? STRIP : 2 - STRIP) / 2;
      return left + along(v) * (right - left);
    };
    const special = stop === undefined ? [] : [[unit(stop), format(stop)]];
    return {
      title, unit,
      range: `${format(10 ** low, 2)} to ${format(round(10 ** high))}${
        stop === undefined ? "" : ` or ${format(stop)}`}`,
      ticks: [...decades(low + first, high, unit), ...special],
      edge: left || right, // where the special stop begins
      max: count + (right < 1 ? 1 : 0),
      raw: (u) =>
        u < left || u > right ? stop : 10 ** (low + ((u - left) / (right - left)) * (high - low)),
      at: (i) => (i < first || i > count ? stop : round(10 ** (low + (i - first) / STEPS))),
      index: (v) => {
        if (v === stop) return first ? 0 : count + 1;
        return first + Math.round(along(v) * (count - first));
      },
      holds: (v) => v === stop || (v >= 10 ** low && v <= round(10 ** high)),
    };
  };
  const AXES = {
    alpha: axis("context length \u03b1", -2, 4),
    kappa: axis("task diversity \u03ba", -1.32, 1.7, Infinity),
    tau: axis("pretraining prompts \u03c4", -1.32, 2),
    rho: axis("label noise \u03c1", -3, 0.32),
    penalty: axis("ridge \u03bb", -6, 1, 0),
  };
  const NAMES = Object.keys(AXES);

  let state = START;
  const CHOICES = { map: Object.keys(MAPS), across: NAMES, up: NAMES, over: NAMES };
  const find = (selector) => root.querySelector(selector);
  const TITLES = Object.fromEntries(NAMES.map((name) => [name, AXES[name].title]));
  const choice = (view, text = view) => figureKit.choice(view, text, TITLES);
  const html = () => `<div class="pd-plots"><div>
<fieldset class="pd-choice"><legend>Map of</legend>${each(Object.keys(MAPS), (map) =>
    `<label><input type="radio" name="map" value="${map}" data-view="map">${MAPS[map][0]}</label>`)}
</fieldset>
<div class="pd-choice">${choice("across")}${choice("up")}</div>
<div class="pd-map"><canvas width="${NX}" height="${NY}" aria-hidden="true"></canvas>
<svg tabindex="0" role="slider" aria-label="Point on the map (arrow keys)"></svg></div>
<div class="pd-scale" aria-hidden="true"><i style="background:linear-gradient(90deg,#${
  CIVIDIS.join(",#")})"></i><p></p></div>
</div><div>
<div class="pd-choice">${choice("over", "Curves over")}</div>
<svg class="pd-curves" role="img"></svg>
<ul class="pd-key">${key("icl", "new tasks")}${key("idg", "pool tasks")}${
  key("null", "predicting zero, 1 + \u03c1")}${key("floor", "noise floor \u03c1")}</ul>
</div></div>
${figureKit.words(AXES, "", "; infinity is inf")}`;

  const surround = (f, across, up) => figureKit.surround(f, across, up) + `<path class="edge"
d="M${f.x(across.edge)} ${f.top}V${f.bottom}M${f.left} ${f.y(up.edge)}H${f.right}"/>`;

  const palette = CIVIDIS.map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));
  const colour = (t) => {
    const at = clamp(t, 0, 1) * (palette.length - 1);
    const i = Math.min(Math.floor(at), palette.length - 2);
    return palette[i].map((v, k) => v + (at - i) * (palette[i + 1][k] - v));
  };

  // log10 of what the map shows at the centres of its cells, rows from the bottom.
  const field = () => {
    const point = { ...state };
    return Float64Array.from({ length: NX * NY }, (_, n) => {
      point[state.across] = AXES[state.across].raw(((n % NX) + 0.5) / NX);
      point[state.up] = AXES[state.up].raw((Math.floor(n / NX) + 0.5) / NY);
      const value = phaseTheory.learningCurve(point)[state.map];
      return value > 0 ? clamp(Math.log10(value), -12, 12) : -12;
    });
  };

  const paint = (logs, low, high) => {
    const context = find("canvas").getContext("2d");
    const image = context.createImageData(NX, NY);
    logs.forEach((value, n) => {
      const row = NY - 1 - Math.floor(n / NX);
      image.data.set([...colour((value - low) / (high - low)), 255], 4 * (row * NX + (n % NX)));
    });
    context.putImageData(image, 0, 0);
  };

  // Iso-lines as segments. A square of four centres makes two triangles: there lines are straight.
  const isolines = (logs, f) => {
    const lines = LEVELS.map((value) => ({ value, level: Math.log10(value), parts: [] }));
    const place = (n) => [f.x(((n % NX) + 0.5) / NX), f.y((Math.floor(n / NX) + 0.5) / NY)];
    const crossing = (a, b, level) => {
      const t = (level - logs[a]) / (logs[b] - logs[a]);
      const [p, q] = [place(a), place(b)];
      return [p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1])];
    };
    const triangle = (...corners) => {
      const [low, mid, high] = corners.sort((a, b) => logs[a] - logs[b]);
      for (const { level, parts } of lines) {
        if (level <= logs[low] || level > logs[high]) continue;
        const [a, b] = level > logs[mid] ? [mid, high] : [low, mid];
        parts.push([crossing(low, high, level), crossing(a, b, level)]);
      }
    };
    for (let n = 0; n < NX * (NY - 1); n++) {
      if (n % NX === NX - 1) continue;
      triangle(n, n + 1, n + NX + 1);
      triangle(n, n + NX, n + NX + 1);
    }
    return lines;
  };

  // One label per level, near the middle and away from the others.
  const labels = (lines, f) => {
    const taken = [];
    const away = (p, q) => Math.hypot(p[0] - q[0], p[1] - q[1]);
    const off = (p) => away(p, [f.x(0.5), f.y(0.5)]);
    return each(lines, ({ value, parts }) => {
      const [best] = parts
        .map((part) => part[0])
        .filter((p) => Math.abs(p[0] - f.x(0.5)) < 0.43 * f.width)
        .filter((p) => taken.every((q) => away(p, q) > 34))
        .sort((p, q) => off(p) - off(q));
      if (!best) return "";
      taken.push(best);
      return `<text class="halo" x="${best[0]}" y="${best[1] + 4}">${format(value)}</text>`;
    });
  };

  const spot = (f, at) => [
    f.x(AXES[state.across].unit(at[state.across])),
    f.y(AXES[state.up].unit(at[state.up])),
  ];

  // kappa = min(tau, 1) and tau = 1, where the map's axes show them.
  const thresholds = (f) => {
    const trace = (name, value) => {
      const free = { [state.across]: state.up, [state.up]: state.across }[name];
      if (!free) return "";
      return line(Array.from({ length: 41 }, (_, i) => {
        const p = { ...state, [free]: AXES[free].raw(i / 40) };
        return spot(f, { ...p, [name]: value(p) });
      }));
    };
    return trace("kappa", (p) => Math.min(p.tau, 1)) + trace("tau", () => 1);
  };
  const cased = (kind, d) => `<path class="casing" d="${d}"/><path class="${kind}" d="${d}"/>`;

  let shown = ""; // moving the point alone does not compute the backdrop anew
  let backdrop = "";
  const drawMap = () => {
    const svg = find(".pd-map svg");
    const f = frame(svg);
    const [across, up] = [AXES[state.across], AXES[state.up]];
    const now = JSON.stringify([{ ...state, over: 0, [state.across]: 0, [state.up]: 0 }, f]);
    if (now !== shown) {
      shown = now;
      const [low, high] = MAPS[state.map][1];
      const logs = field();
      paint(logs, low, high);
      const lines = isolines(logs, f);
      backdrop = cased("iso", each(lines.flatMap(({ parts }) => parts), line)) +
        cased("threshold", thresholds(f)) + surround(f, across, up) + labels(lines, f);
      find(".pd-scale p").textContent = `\u2264${tick(low)} \u2265${tick(high)}`;
    }
    const [x, y] = spot(f, state);
    const hair = `M${x} ${f.top}V${f.bottom}M${f.left} ${y}H${f.right}`;
    svg.innerHTML =
      backdrop + cased("hair", hair) + `<circle class="ring" cx="${x}" cy="${y}" r="6"/>`;
    svg.setAttribute("aria-valuenow", Math.round(100 * across.unit(state[state.across])));
    svg.setAttribute("aria-valuetext",
      `${across.title} ${format(state[state.across])}, ${up.title} ${format(state[state.up])}`);
  };

  const drawCurves = () => {
    const svg = find(".pd-curves");
    const f = frame(svg);
    const a = AXES[state.over];
    const units = Array.from({ length: 161 }, (_, i) => i / 160);
    if (state.over === "tau") { // the peak is narrower than this spacing
      for (let k = 0; k < 12; k++) units.push(a.unit(1) - 2 ** -k / 40, a.unit(1) + 2 ** -k / 40);
      units.push(a.unit(1));
      units.sort((p, q) => p - q);
    }
    const points = units.map((u) => ({ ...state, [state.over]: a.raw(u) }));
    const curves = points.map(phaseTheory.learningCurve);
    const least = Math.min(...points.map((p) => p.rho), ...curves.map((c) => c.idg));
    const low = Math.floor(Math.log10(least)) - 0.2;
    const high = Math.max(...curves.map((c) => c.icl)) > 10 ? 2 : 1;
    const unit = (v) => clamp((Math.log10(v) - low) / (high - low), -0.1, 1.1);
    const curve = (kind, of) =>
      `<path class="${kind}" d="${line(units.map((u, i) => [f.x(u), f.y(unit(of(i)))]))}"/>`;
    const x = f.x(a.unit(state[state.over]));
    const here = phaseTheory.learningCurve(state);
    const dot = (kind) => `<circle class="${kind}" cx="${x}" cy="${f.y(unit(here[kind]))}" r="5"/>`;
    svg.innerHTML = `<clipPath id="pd-clip">${f.box}</clipPath><g clip-path="url(#pd-clip)">
<path class="now" d="M${x} ${f.top}V${f.bottom}"/>${curve("floor", (i) => points[i].rho)}${
  curve("null", (i) => 1 + points[i].rho)}${curve("idg", (i) => curves[i].idg)}${
  curve("icl", (i) => curves[i].icl)}${dot("idg")}${dot("icl")}</g>${
  surround(f, a, { title: "mean squared error", edge: 1, ticks: decades(low, high, unit) })}`;
    svg.setAttribute("aria-label", `Both errors over ${a.title}; values are in the text below.`);
  };

  const values = (next) => {
    state = next;
    const here = phaseTheory.learningCurve(state);
    const error = (v) => (v === Infinity ? "diverges" : format(v));
    const rows = [
      ...Object.keys(MAPS).map((map) => [MAPS[map][0], error(here[map])]),
      ["training error", format(here.train)],
      ["effective ridge \u03be", format(here.xi)],
      ["distance \u03c4 \u2212 1", format(state.tau - 1)],
    ];
    find(`[value=${state.map}]`).checked = true;
    const more = [["inflation by finite data", error(here.inflation)]];
    return { text: VERDICTS[phaseTheory.regime(state)], rows, more };
  };

  const plots = () => {
    drawMap();
    drawCurves();
  };

  const choose = (name, value) => {
    const other = { across: "up", up: "across" }[name];
    return { ...(state[other] === value && { [other]: state[name] }), [name]: value };
  };

  const moved = (event) => {
    const svg = find(".pd-map svg");
    const [f, at] = [frame(svg), svg.getBoundingClientRect()];
    const value = (name, u) => round(AXES[name].raw(clamp(u, 0, 1)));
    return {
      [state.across]: value(state.across, (event.clientX - at.left - f.left) / f.width),
      [state.up]: value(state.up, (at.top + f.bottom - event.clientY) / f.height),
    };
  };

  const ARROWS = ["ArrowLeft", "ArrowRight", "ArrowDown", "ArrowUp"];
  const step = (event, set) => {
    const i = ARROWS.indexOf(event.key);
    if (i < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const name = state[i < 2 ? "across" : "up"];
    const to = AXES[name].index(state[name]) + (i % 2 ? 1 : -1) * (event.shiftKey ? 10 : 1);
    set({ [name]: AXES[name].at(clamp(to, 0, AXES[name].max)) });
  };

  const listen = (set) => {
    const map = find(".pd-map svg");
    map.addEventListener("keydown", (event) => step(event, set));
    figureKit.drag(map, (event) => set(moved(event)));
  };

  figureKit.run(root, {
    prefix: "diagram", start: START, axes: AXES, choices: CHOICES, presets: PRESETS,
    html, values, plots, listen, choose, allows: ({ across, up }) => across !== up,
  });
})();
