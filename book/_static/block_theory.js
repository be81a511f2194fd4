// Exact excess risks (risk minus noise) of one-layer linear models that learn in context
// (Zhang et al. 2024). The formulas are those of iclkit.papers.linear_block; a test compares them.
// A prior is {levels, noise, context} in whitened coordinates: a level {value, count, mean} holds
// `count` directions in which tasks have the variance `value`; the mean task has the length `mean`
// in it. Values and counts > 0, noise >= 0, context is a whole number >= 1.
"use strict";

const blockTheory = (() => {
  const total = (list, of) => list.reduce((sum, item, i) => sum + of(item, i), 0);

  // kappa is the variance of a label beyond its mean; nothing is the cost of predicting zero.
  const scales = ({ levels, noise }) => {
    const tau = total(levels, ({ value, count }) => count * value);
    const norm2 = total(levels, ({ mean }) => mean * mean);
    return {
      tau, norm2,
      kappa: tau + noise,
      square: total(levels, ({ value, count }) => count * value * value),
      dim: total(levels, ({ count }) => count),
      nothing: tau + norm2,
    };
  };

  // The block, that is one step of gradient descent from the mean task.
  const block = (prior) => {
    const { kappa } = scales(prior);
    return total(prior.levels, ({ value, count }) =>
      (count * value * (value + kappa)) / ((prior.context + 1) * value + kappa));
  };

  // One step from zero: the block for the prior without mean and with the same second moment.
  const zeroStep = (prior) => {
    const { levels, context } = prior;
    const { nothing } = scales(prior);
    const level = nothing + prior.noise;
    const c = level / (context + 1);
    const shrunk = total(levels, ({ value, count }) => (count * value) / (value + c));
    const once = total(levels, ({ value, mean }) => mean ** 2 / (value + c));
    const twice = total(levels, ({ value, mean }) => (mean / (value + c)) ** 2);
    return (nothing + context * c * (shrunk + (c * twice) / (1 + once))) / (context + 1);
  };

  // The excess risk of linear attention as a function of the last row a = (b, u0) of its value
  // map, minimised over all other weights. Homogeneous of degree 0.
  const profile = (prior) => {
    const { levels, context } = prior;
    const { tau, norm2, kappa, square, nothing } = scales(prior);
    const grow = 1 + 1 / context;
    return (a) => {
      const u0 = a[levels.length];
      let [size, spread] = [0, 0];
      levels.forEach(({ value }, i) => {
        size += a[i] * a[i];
        spread += value * a[i] * a[i];
      });
      const floor = (size + u0 * u0 * kappa) / context;
      const spring = (value) => grow * u0 * u0 * value + floor; // D
      const push = (value) => u0 * (grow * kappa + (1 + 3 / context) * value); // n = push b
      let [q, bn, nn, vv, wv, vb] = [0, 0, 0, 0, 0, 0]; // sums with the inverse of D
      levels.forEach(({ value, count, mean }, i) => {
        const [bb, n] = [(a[i] * a[i]) / spring(value), push(value)];
        q += bb;
        bn += n * bb;
        nn += n * n * bb;
        vv += (count * value * value) / spring(value);
        vb += value * value * bb / spring(value);
        wv += (mean * value * a[i]) / spring(value);
      });
      const shrink = 1 / (1 + grow * q); // K = diag(D) + grow b b^T by Sherman and Morrison
      bn *= shrink; // b^T K^-1 n
      const learned = u0 * u0 * (vv - grow * shrink * vb) + (2 * u0 * wv + norm2 * q) * shrink;
      let pp = 0;
      levels.forEach(({ value, mean }, i) => {
        const turned = a[i] * (1 - (u0 * (push(value) - grow * bn)) / spring(value));
        pp += (mean * (u0 * kappa - bn) + value * turned) ** 2;
      });
      const rho = grow * (u0 * u0 * (kappa * kappa + 2 * square) + spread) + kappa * floor +
        (2 * u0 * u0 * square) / context - nn + (grow * bn * bn) / shrink;
      return nothing - learned - (rho > 0 ? pp / rho : 0);
    };
  };

  // Nelder and Mead's simplex from x, whose coordinate `fixed` stays, until the values at its
  // corners agree to `exact`.
  const simplex = (f, x, fixed, exact) => {
    const free = x.map((_, i) => i).filter((i) => i !== fixed);
    const corner = (at) => ({ at, value: f(at) });
    const nudged = (i) => x.map((v, k) => (k === i ? v + 0.02 + 0.2 * Math.abs(v) : v));
    const corners = [corner(x), ...free.map((i) => corner(nudged(i)))];
    const order = () => corners.sort((p, q) => p.value - q.value);
    for (let step = 0; step < 200; step++) {
      const [best] = order();
      const worst = corners[free.length];
      if (worst.value - best.value <= exact * best.value) break;
      const middle = x.map((_, i) => total(corners,
        (c) => (c === worst ? 0 : c.at[i])) / free.length);
      const moved = (t) => corner(middle.map((v, i) => v + t * (v - worst.at[i])));
      let next = moved(1);
      if (next.value < best.value) {
        const further = moved(2);
        if (further.value < next.value) next = further;
      } else if (next.value >= corners[free.length - 1].value) {
        next = moved(next.value < worst.value ? 0.5 : -0.5);
      }
      if (next.value < worst.value) corners[free.length] = next;
      else corners.forEach(({ at }, k) => {
        if (k) corners[k] = corner(at.map((v, i) => (v + best.at[i]) / 2));
      });
    }
    return order()[0];
  };

  // The local minimum of a function of degree 0 near a; the largest coordinate is held at 1.
  const descend = (f, a, exact) => {
    const sizes = a.map(Math.abs);
    const fixed = sizes.indexOf(Math.max(...sizes));
    return simplex(f, a.map((v) => v / a[fixed]), fixed, exact);
  };

  // Starts near one step from zero, near the residual y - X beta* and near u0 = 0, where attention
  // writes down the mean and learns one direction. Without the last the better minimum is missed.
  const starts = ({ levels }) => {
    const along = [0, 0.3, 0.7, 1, 2, 5, 20].map((s) => [...levels.map((l) => s * l.mean), 1]);
    const unit = (i, u0) => [...levels.map((_, k) => (k === i ? 1 : 0)), u0];
    return [...along, ...levels.flatMap((_, i) => [0.03, -0.03, 0.3, -0.3].map((u) => unit(i, u)))];
  };

  // Sine squared of the angle between two vectors.
  const turned = (a, b) => {
    const dot = (p, q) => total(p, (v, i) => v * q[i]);
    return 1 - dot(a, b) ** 2 / (dot(a, a) * dot(b, b));
  };

  // Distinct local minima of the excess risk of attention, {value, u0, b}, the best first;
  // u0 and b are scaled to a vector of length 1.
  const minima = (prior) => {
    const f = profile(prior);
    let found = starts(prior);
    for (const exact of [1e-5, 1e-10, 1e-15]) {
      const ends = found.map((a) => descend(f, a, exact)).sort((p, q) => p.value - q.value);
      found = [];
      for (const { at } of ends) if (found.every((b) => turned(at, b) > 1e-3)) found.push(at);
    }
    return found.map((at) => {
      const length = Math.hypot(...at);
      const b = at.map((v) => v / length);
      return { value: f(at), u0: Math.abs(b.pop()), b };
    });
  };
  // sqrt(x), dx / sqrt(x) and the ground state of the next function, at nodes evenly spaced in t,
  // sqrt(x) = log(1 + e^t); for even n also the primitive of the ground state over sqrt(x).
  const nodes = (n, a) => {
    const h = Math.min(0.1, 0.25 / Math.sqrt(n));
    const [edge, reach] = [Math.sqrt(n + a), Math.sqrt(n) + 9];
    const back = (y) => y + Math.log(-Math.expm1(-y));
    const first = back(Math.max(edge - reach, Math.exp(-40 / (a + 1))));
    const length = Math.ceil((back(edge + reach) - first) / h);
    const at = (i) => {
      const y = Math.log1p(Math.exp(first + i * h));
      const d = (2 * h) / (1 + Math.exp(-first - i * h));
      return { y, d, low: Math.exp(a * Math.log(y / edge) - (y * y - edge * edge) / 2) };
    };
    const list = Array.from({ length }, (_, i) => at(i));
    const norm = Math.sqrt(total(list, ({ y, d, low }) => low * low * y * d));
    const part = (i) => at(i).low * at(i).d;
    const off = Math.sqrt(0.15); // Gauss' rule with three points between two nodes
    let area = 0;
    return list.map(({ y, d, low }, i) => {
      const before = area / norm;
      if (n % 2 === 0) {
        area += (5 * part(i + 0.5 - off) + 8 * part(i + 0.5) + 5 * part(i + 0.5 + off)) / 18;
      }
      return { y, d, low: low / norm, before };
    });
  };

  // Mean density of the n eigenvalues of Z Z^T, where Z has n rows and n + a columns of independent
  // standard normals, as {x, weight}: that of n - 1 eigenvalues of complex normals plus one term
  // (Adler, Forrester, Nagao and van Moerbeke 2000). Integrals of smooth functions to 1e-11.
  const density = (n, a) => {
    const s = (k) => Math.sqrt(k * (k + a));
    const list = nodes(n, a);
    const half = list[list.length - 1].before / 2;
    const rows = list.map(({ y, d, low, before }) => {
      let [old, now, square, primitive] = [0, low, 0, before - half];
      for (let k = 0; k < n - 1; k++) { // Laguerre functions 0 to n - 1
        square += now * now;
        if ((n - k) % 2 && k < n - 2) primitive = (s(k) * primitive + 2 * y * now) / s(k + 1);
        [old, now] = [now, ((2 * k + 1 + a - y * y) * now - s(k) * old) / s(k + 1)];
      }
      return { x: y * y, square: square * y * d, last: now * d, primitive };
    });
    const mass = n % 2 ? total(rows, ({ last }) => last) : Infinity;
    return rows.map(({ x, square, last, primitive }) => ({
      x, weight: square + last * (1 / mass - 0.5 * s(n - 1) * primitive),
    }));
  };

  const known = new Map(); // moving the noise or the mean needs no new density
  const spectrum = (n, a) => {
    const key = `${n} ${a}`;
    if (known.size > 200) known.clear();
    if (!known.has(key)) known.set(key, density(n, a));
    return known.get(key);
  };

  // The excess risk of the best predictor of all if all tasks' variances are equal.
  const bayes = ({ value, count }, noise, context) => {
    const seen = Math.min(count, context);
    const z = noise / value;
    const left = z ? total(spectrum(seen, Math.abs(count - context)), ({ x, weight }) =>
      (weight * z) / (x + z)) : 0;
    return value * (count - seen + left);
  };

  // Its deterministic equivalent for any variances: k = (noise + k sum phi / (phi + k)) / context.
  const equivalent = ({ levels, noise, context }) => {
    const { tau, dim } = scales({ levels, noise });
    if (!noise && context >= dim) return 0;
    let k = (noise + tau) / context; // Newton's method from above on a convex function
    for (let step = 0; step < 200; step++) {
      const sum = total(levels, ({ value, count }) => (count * value) / (value + k));
      const slope = total(levels, ({ value, count }) => count * (value / (value + k)) ** 2);
      const next = k - (k - (noise + k * sum) / context) / (1 - slope / context);
      if (!(next < k * (1 - 1e-15))) break;
      k = next;
    }
    return k * total(levels, ({ value, count }) => (count * value) / (value + k));
  };

  // All excess risks, and what is claimed and known of the gap between attention and block.
  // `exact` says whether that of Bayes is; `printed` is the second entry of Theorem 4.1, as we read
  // it; `fixed` whether attention's values hold no labels.
  const errors = (prior) => {
    const { levels, noise, context } = prior;
    const { kappa, square, norm2, nothing, dim } = scales(prior);
    const [least] = minima(prior);
    const best = block(prior);
    const exact = levels.length === 1 || (!noise && context >= dim);
    return {
      block: best, attention: least.value, zero: zeroStep(prior), nothing, exact,
      bayes: exact && levels.length === 1 ? bayes(levels[0], noise, context) : equivalent(prior),
      gap: norm2 ? Math.max(0, least.value - best) : 0,
      lower: norm2 / (context + 1),
      printed: ((kappa / (context + 1)) ** 2 / square) * norm2,
      upper: nothing - best,
      fixed: least.u0 < 1e-4,
    };
  };

  return Object.freeze({ errors, block, zeroStep, profile, minima, bayes, equivalent, spectrum });
})();

if (typeof module === "object") module.exports = blockTheory;
