// Errors of ridge regression in context, pretrained on a mixture of two sources (Demir and Dogan
// 2025), by deterministic equivalents that keep the sources apart. The formulas are those of
// iclkit.papers.data_mixing, `resolved`; a test compares them.
// A setting is {dim, context, prompts, penalty, width, intercept, spike, noise0, noise1}: labels
// are ReLU of a linear task plus noise, tasks of source 1 have a spike. The head is linear
// attention if width is 0, with an intercept without ridge if so said, else that many random ReLU
// neurons. penalty > 0, the other numbers >= 0.
"use strict";

const mixingTheory = (() => {
  const sum = (list) => list.reduce((total, v) => total + v, 0);
  const dot = (p, q) => p[0] * q[0] + p[1] * q[1];
  const SIDES = [0, 1]; // the sources
  const MEAN = 1 / Math.sqrt(2 * Math.PI); // E ReLU(z) = E y

  // Mean squared cosine between a task of covariance I + spike e e' and e: an integral over
  // s = e^v of a function that is analytic in v, so that the trapezoidal rule is exact.
  const overlap = (spike, dim) => {
    if (!spike) return 1 / dim;
    let total = 0;
    for (let v = -80; v < 80; v += 0.125) {
      const [s, t] = [Math.exp(v), 1 + spike];
      total += s * t * Math.exp(-1.5 * Math.log1p(2 * s * t) - ((dim - 1) / 2) * Math.log1p(2 * s));
    }
    return total / 8;
  };

  // Second moments of the features vec(x b') of a source: along the spike, across it, and in the
  // last entry of b; `pulls` are means of label times feature there. power = E y^2; size =
  // |features|^2, which concentrates.
  const source = ({ dim, context }, spike, noise) => {
    const power = 0.5 + noise ** 2;
    const fourth = 1.5 + 3 * noise ** 2 + 3 * noise ** 4;
    const along = overlap(spike, dim);
    const across = (1 - along) / (dim - 1);
    const moment = (q) => power / context + (1 / context + (1 - 1 / context) / 4) * q;
    const last = fourth / context + (1 - 1 / context) * power ** 2;
    const values = [moment(along), moment(across), last];
    return {
      power, values, pulls: [along / 4, across / 4, 0],
      size: dim * (values[0] + (dim - 1) * values[1] + last),
    };
  };
  const sources = (setting) => [
    source(setting, 0, setting.noise0), source(setting, setting.spike, setting.noise1),
  ];

  // What the head sees: modes by their number and how many of these labels correlate with; for
  // each source the second moment (load) and the mean of label times feature (pull). The intercept
  // has no ridge. What is not linear in the features looks like noise, the tail.
  const kernel = ({ dim, width, intercept }, pair, shares) => {
    const size = dot(shares, pair.map((s) => s.size));
    const slope = width ? 0.5 / Math.sqrt(size) : 1;
    const scales = pair.map((s) => Math.sqrt(s.size / size)); // of a ReLU neuron
    const counts = [[dim, 1], [dim * (dim - 1), dim - 1], [dim, 0]];
    const modes = counts.map(([count, signal], i) => ({
      count, signal, ridge: 1, load: pair.map((s) => slope ** 2 * s.values[i]),
      pull: pair.map((s) => slope * s.pulls[i]),
    }));
    const mean = (features, ridge) => modes.push({
      count: 1, signal: 1, ridge, load: features.map((v) => v * v),
      pull: features.map((v) => v * MEAN),
    });
    if (intercept) mean([1, 1], 0);
    if (width) mean(scales.map((r) => r * MEAN), 1);
    return { modes, tails: scales.map((r) => (width ? r * r * (0.25 - MEAN ** 2) : 0)) };
  };

  // Traces at leverages d and the effective ridge g. A prompt of source s keeps 1 / (1 + d[s]) of
  // its error; R = 1 / (mean moment of what is kept + g) for each mode.
  const traces = ({ modes, tails }, shares, d, g) => {
    const mass = shares.map((share, s) => share / (1 + d[s]));
    const [single, pulls] = [tails.map((v) => v / g), tails.map((v) => v / g ** 2)];
    const double = [[0, 0], [0, 0]];
    let [degrees, squares, fall] = [dot(mass, single), 0, dot(mass, pulls)];
    const gains = modes.map(({ count, load, ridge }) => {
      const kept = dot(mass, load);
      const r = 1 / (kept + g * ridge);
      for (const s of SIDES) {
        single[s] += count * load[s] * r;
        pulls[s] += count * load[s] * r * r;
        for (const u of SIDES) double[s][u] += count * load[s] * load[u] * r * r;
      }
      degrees += count * kept * r;
      squares += count * (kept * r) ** 2;
      fall += count * kept * r * r; // of the degrees, per unit of g
      return r;
    });
    const pass = mass.map((m, s) => m / (1 + d[s]));
    return { mass, single, pulls, double, degrees, squares, fall, gains, pass };
  };
  // The solution x of (1 - T) x = y, T = table * pass / n.
  const solve = (table, pass, n, y) => {
    const [[a, b], [c, e]] = table.map((row, s) =>
      row.map((v, u) => (s === u) - (v * pass[u]) / n));
    const det = a * e - b * c;
    return [(e * y[0] - b * y[1]) / det, (a * y[1] - c * y[0]) / det];
  };

  // The leverages at g: d = single / n. The right side rises and is concave in d, so that Newton's
  // method descends to the root from where it is below d, and no step leads out of there.
  const leverages = (seen, shares, n, g, from) => {
    const top = ({ count, load, ridge }, s) => (ridge * count * load[s]) / g;
    const most = Math.max(...SIDES.map((s) =>
      seen.tails[s] / g + sum(seen.modes.map((m) => top(m, s))))) / n;
    const above = SIDES.map(() => 2 * most + 2);
    let d = from || above;
    for (let step = 0; step < 100; step++) {
      const { single, double, pass } = traces(seen, shares, d, g);
      const move = solve(double, pass, n, d.map((v, s) => v - single[s] / n));
      d = d.map((v, s) => v - move[s]);
      if (Math.min(...d) <= 0) d = above;
      if (SIDES.every((s) => Math.abs(move[s]) < 1e-13 * d[s])) break;
    }
    return d;
  };

  // The effective ridge g = penalty / (1 - degrees / width), and the leverages there: Newton's
  // method in log g, kept inside a bracket that every evaluation narrows.
  const fixedPoint = (seen, shares, { prompts: n, penalty, width }) => {
    let [g, low, high] = [penalty, penalty, Infinity];
    let d = leverages(seen, shares, n, g);
    for (let step = 0; width && step < 100; step++) {
      const { degrees, fall, pulls, double, pass } = traces(seen, shares, d, g);
      const excess = g * (1 - degrees / width) - penalty;
      if (excess < 0) low = g;
      else high = g;
      const shift = solve(double, pass, n, pulls.map((v) => -v / n)); // of d, per unit of g
      const slope = -fall - g * sum(SIDES.map((u) => pass[u] * pulls[u] * shift[u]));
      const move = -excess / (g * (1 - degrees / width) - (g * g * slope) / width);
      const next = g * Math.exp(move);
      const last = g;
      if (next > low && next < Math.min(high, 8 * g)) g = next;
      else g = high < Infinity ? Math.sqrt(low * high) : 8 * g;
      d = leverages(seen, shares, n, g, d);
      if (Math.abs(g / last - 1) < 1e-14) break;
    }
    return [d, g];
  };

  // Errors of both sources, `errors`, and under the uniform mixture, `error`, after pretraining
  // with a share of source 1. `inflation` is the factor by which finite data multiply the error
  // under the training mixture.
  const atShare = (setting, pair, share) => {
    const { prompts: n, width } = setting;
    const shares = [1 - share, share];
    const seen = kernel(setting, pair, shares);
    const [d, g] = fixedPoint(seen, shares, setting);
    const { mass, pulls, double, squares, gains, pass } = traces(seen, shares, d, g);
    const moves = pulls.map((v) => (width ? (g * g * v) / (width - squares) : 0));
    const base = pair.map((source, s) => source.power + sum(seen.modes.map((m, i) => {
      const best = dot(mass, m.pull) * gains[i];
      return m.signal * best * (best * (m.load[s] + moves[s]) - 2 * m.pull[s]);
    })));
    const table = double.map((row, s) => row.map((v, u) => v + pulls[s] * moves[u]));
    const errors = solve(table, pass, n, base);
    const inflation = dot(shares, errors) / dot(shares, base);
    return { error: dot([0.5, 0.5], errors), errors, inflation };
  };

  // A mixture as a function of the share of source 1.
  const mixture = (setting) => {
    const pair = sources(setting);
    return (share) => atShare(setting, pair, share);
  };

  // The share in [0, 1] with the smallest value of f: the best of `values` on an even grid, then
  // golden section between its neighbours.
  const best = (f, values, rounds) => {
    const [steps, cut] = [values.length - 1, (Math.sqrt(5) - 1) / 2];
    const i = values.indexOf(Math.min(...values));
    let [low, high] = [Math.max(0, (i - 1) / steps), Math.min(1, (i + 1) / steps)];
    let [p, q] = [high - cut * (high - low), low + cut * (high - low)];
    let [atP, atQ] = [f(p), f(q)];
    for (let round = 0; round < rounds; round++) {
      if (atP <= atQ) {
        [high, q, atQ] = [q, p, atP];
        p = high - cut * (high - low);
        atP = f(p);
      } else {
        [low, p, atP] = [p, q, atQ];
        q = low + cut * (high - low);
        atQ = f(q);
      }
    }
    return Math.min(atP, atQ) >= values[i] ? i / steps : atP <= atQ ? p : q;
  };

  // The best shares for the uniform mixture and for either source alone.
  const READINGS = [(e) => e.error, (e) => e.errors[0], (e) => e.errors[1]];
  const optima = (errorsAt, steps = 24, rounds = 40) => {
    const grid = Array.from({ length: steps + 1 }, (_, i) => errorsAt(i / steps));
    return READINGS.map((of) => best((share) => of(errorsAt(share)), grid.map(of), rounds));
  };

  // The shares next to the best one where f exceeds `level`, or the ends.
  const around = (f, share, level) => SIDES.map((end) => {
    let [inside, outside] = [share, share];
    for (let i = 1; f(outside) <= level; i++) {
      if (i > 64) return end;
      [inside, outside] = [outside, share + ((end - share) * i) / 64];
    }
    for (let round = 0; round < 40; round++) {
      const middle = (inside + outside) / 2;
      if (f(middle) <= level) inside = middle;
      else outside = middle;
    }
    return inside;
  });

  return Object.freeze({ overlap, source, mixture, optima, around, MEAN });
})();

if (typeof module === "object") module.exports = mixingTheory;
