// Softmax attention over a short prompt, the dual model that it is one step of, and the same with
// random features (Ren and Liu 2024). The formulas are those of iclkit.papers.dual_kernel; a test
// compares them.
// A prompt is {query, keys, values, demos}: vectors whose inner product is the attention score,
// and one number per key; the first `demos` keys are demonstrations, the rest query tokens.
"use strict";

const dualTheory = (() => {
  const sum = (list) => list.reduce((total, v) => total + v, 0);
  const dot = (p, q) => p.reduce((total, v, i) => total + v * q[i], 0);
  const add = (p, q, t = 1) => p.map((v, i) => v + t * q[i]);

  // Weights a of all tokens and what the dual model answers: `zero` before its step and `output`
  // after it. `share` is the weight of the demonstrations together.
  const attend = ({ query, keys, values, demos }) => {
    const scores = keys.map((y) => dot(query, y));
    const most = Math.max(...scores);
    const raised = scores.map((s) => Math.exp(s - most));
    const total = sum(raised);
    const weights = raised.map((k) => k / total);
    return {
      weights, output: dot(weights, values), share: sum(weights.slice(0, demos)),
      zero: dot(weights.slice(demos), values.slice(demos)),
    };
  };

  // Outputs without each demonstration. Sums of what is left do not cancel where one weight is
  // almost 1, unlike (o - a v) / (1 - a).
  const leaveOneOut = (weights, values, demos) =>
    Array.from({ length: demos }, (_, i) => {
      const rest = weights.map((a, j) => (j === i ? 0 : a));
      return dot(rest, values) / sum(rest);
    });

  // Distances to `target` after 0, 1, ... demonstrations. Weights of features lead past it.
  const tokenByToken = (weights, values, demos, target) => {
    let now = dot(weights.slice(demos), values.slice(demos));
    const distances = [Math.abs(now - target)];
    for (let i = 0; i < demos; i++) {
      now += weights[i] * values[i];
      distances.push(Math.abs(now - target));
    }
    return distances;
  };

  // A kind of feature averages f(w z) over projections w, at z = x + y or x - y, and divides by
  // the mean of that for normal projections, e^(+-z^2/2): an estimate of e^(x y) relative to it.
  const KINDS = {
    positive: { f: Math.exp, sign: 1, covariance: Math.expm1 },
    hyperbolic: { f: Math.cosh, sign: 1, covariance: (s) => 2 * Math.sinh(s / 2) ** 2 },
    trigonometric: { f: Math.cos, sign: -1, covariance: (s) => 2 * Math.sinh(s / 2) ** 2 },
  };
  const points = (kind, { query, keys }) => keys.map((y) => add(query, y, KINDS[kind].sign));

  // Covariance of two relative errors, times the number of projections.
  const relativeCovariance = (kind, z1, z2) => KINDS[kind].covariance(dot(z1, z2));

  // Keys shifted by one vector have the same weights; this shift makes z small.
  const centred = (kind, prompt) => {
    const { query, keys } = prompt;
    const mean = query.map((_, i) => sum(keys.map((y) => y[i])) / keys.length);
    const shift = add(mean, query, KINDS[kind].sign);
    return { ...prompt, keys: keys.map((y) => add(y, shift, -1)) };
  };

  // Weights that features give to the tokens, and their normaliser relative to the exact one,
  // which divides if `normalised` is false.
  const featureWeights = (kind, projections, prompt, normalised) => {
    const { f, sign } = KINDS[kind];
    const { weights } = attend(prompt);
    const estimates = points(kind, prompt).map((z, i) => {
      let total = 0;
      for (const w of projections) total += f(dot(w, z));
      return weights[i] * (total / projections.length) * Math.exp(-sign * dot(z, z) / 2);
    });
    const normaliser = sum(estimates);
    const by = normalised ? normaliser : 1;
    return { weights: estimates.map((k) => k / by), normaliser };
  };

  // Variance of a weighted sum of relative errors, times the number of projections.
  const variance = (kind, prompt, parts) => {
    const z = points(kind, prompt);
    return sum(parts.map((p, i) => p * sum(parts.map((q, j) =>
      q * relativeCovariance(kind, z[i], z[j])))));
  };

  // Mean squared error of the output with features, times the number of projections: exact with
  // the exact normaliser, to leading order with that of the features.
  const outputVariance = (kind, prompt, normalised) => {
    const { weights, output } = attend(prompt);
    return variance(kind, prompt,
      weights.map((a, i) => a * (prompt.values[i] - (normalised ? output : 0))));
  };
  // The same for the normaliser relative to the exact one.
  const normaliserVariance = (kind, prompt) => variance(kind, prompt, attend(prompt).weights);

  // Pairs of independent standard normals from a small generator (Mulberry32): the same for each
  // draw in every browser, and the first of many for a smaller count.
  const projections = (count, draw) => {
    let seed = Math.imul(draw, 0x9e3779b9);
    const uniform = () => {
      seed = (seed + 0x6d2b79f5) | 0;
      let t = Math.imul(seed ^ (seed >>> 15), seed | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 2 ** 32;
    };
    return Array.from({ length: count }, () => {
      const [radius, angle] = [Math.sqrt(-2 * Math.log(uniform())), 2 * Math.PI * uniform()];
      return [radius * Math.cos(angle), radius * Math.sin(angle)];
    });
  };

  return Object.freeze({
    attend, leaveOneOut, tokenByToken, relativeCovariance, centred, featureWeights,
    outputVariance, normaliserVariance, projections,
  });
})();

if (typeof module === "object") module.exports = dualTheory;
