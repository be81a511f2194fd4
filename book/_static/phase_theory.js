// Asymptotic errors of pretrained linear attention (Lu et al. 2025).
// The formulas are those of iclkit.papers.phase_transition.theory; a test compares the two.
// A point is {alpha, kappa, tau, rho, penalty}: the first three > 0, kappa may be Infinity, the
// last two >= 0.
"use strict";

const phaseTheory = (() => {
  // Inflation from which we speak of a peak; for fresh tasks without ridge 3/4 < tau < 4/3.
  const PEAK = 4;

  // The non-negative root of y^2 - b y - c = 0 for c >= 0, in the form that does not cancel.
  const positiveRoot = (b, c) => {
    const large = 0.5 * (Math.abs(b) + Math.sqrt(b * b + 4 * c));
    return b >= 0 ? large : c / large;
  };

  // Normalised traces of a Wishart matrix R at z > 0; g is the inverse of tr (R + z)^-1.
  const wishart = (z, kappa) => {
    const c = 1 / kappa;
    const surplus = kappa === Infinity ? 1 : (kappa - 1) / kappa;
    const g = positiveRoot(z + surplus, z * c);
    const signal = 1 / (g + c); // tr R (R+z)^-1
    const mixed = 1 / (g * (g + 2 * c) - c * surplus); // tr R (R+z)^-2
    const shrunk = (z * (g + c)) / g;
    return {
      c, g, signal, mixed,
      square: ((g + c) / g) ** 2 * mixed, // tr (R+z)^-2
      signalSquare: signal ** 2 * (1 + c * mixed * shrunk ** 2), // tr R^2 (R+z)^-2
    };
  };

  // M_kappa(z), the limit of tr (R + z)^-1.
  const resolvent = (z, kappa) => 1 / wishart(z, kappa).g;

  // The root xi of penalty = xi (1 - tr A (A+xi)^-1 / tau), A = R + x, for penalty > 0.
  // Newton's method in log xi; where a step leaves the bracket [penalty, root for kappa = inf],
  // which every evaluation narrows, it halves the bracket instead.
  const ridgeRoot = (x, { kappa, tau, penalty }) => {
    let low = penalty;
    let high = positiveRoot((1 / tau - 1) * (1 + x) + penalty, penalty * (1 + x));
    let xi = high;
    for (let step = 0; step < 100; step++) {
      const { g, signal, mixed, square } = wishart(x + xi, kappa);
      const paid = (tau * penalty) / xi;
      // Of two equal forms the one that cancels less.
      const excess = tau > 0.5 ? 1 - tau + paid - xi / g : paid - tau + signal + x / g;
      if (excess > 0) low = xi;
      else high = xi;
      const move = excess / (paid + xi * (mixed + x * square));
      const next = xi * Math.exp(move);
      xi = next >= low && next <= high ? next : Math.sqrt(low * high);
      if (Math.abs(move) < 1e-14 || high - low <= 1e-15 * high) break;
    }
    return xi;
  };

  // The effective ridge xi.
  const effectiveRidge = (point) => {
    const { alpha, kappa, tau, rho, penalty } = point;
    const x = (1 + rho) / alpha;
    if (penalty > 0) return ridgeRoot(x, point);
    return tau < 1 ? (1 / tau - 1) / resolvent(x, kappa / tau) : 0;
  };

  // The errors icl (new tasks), idg (tasks of the pool), their gap, train (pretraining prompts);
  // the effective ridge xi; inflation, the factor by which finite data multiply the error of the
  // best filter. Infinity, never NaN, at the pole tau = 1, penalty = 0.
  const learningCurve = (point) => {
    const { alpha, kappa, tau, rho, penalty } = point;
    const x = (1 + rho) / alpha;
    const xi = effectiveRidge(point);
    const nu = x + xi;
    const { c, g, signal, mixed, square, signalSquare } = wishart(nu, kappa);
    const kept = penalty > 0 ? penalty / xi : Math.max(0, 1 - 1 / tau);
    const slope = mixed + x * square; // tr A (A+xi)^-2
    const inflation = 1 / (kept + (xi * slope) / tau);
    const idg = (rho + x * signal + xi * nu * mixed) * inflation;
    const icl = rho + nu ** 2 * square + x * signalSquare + ((1 + x) * slope * idg) / tau;
    // icl - idg without its cancellation: square - mixed, and (1+x) slope - tr A^2 (A+xi)^-2.
    const unseen = (mixed * c * (c + 2 * g)) / g ** 2;
    const excess = x * unseen + c * (2 - g - c) * mixed * signal;
    const gap = kappa === Infinity ? 0 : nu ** 2 * unseen + (idg / tau) * excess;
    return { xi, icl, idg, gap, train: kept ? idg * kept ** 2 : 0, inflation };
  };

  // What the model does at a point, in one word; the first rule that applies.
  const regime = (point) => {
    const { icl, idg, inflation } = learningCurve(point);
    const { kappa, tau, rho } = point;
    if (inflation === Infinity) return "pole";
    const toPool = Math.abs(Math.log(tau / kappa)); // prompts against those the pool can absorb
    if (inflation >= PEAK) return Math.abs(Math.log(tau)) <= toPool ? "peak" : "pool peak";
    const longer = learningCurve({ ...point, alpha: 1.001 * point.alpha });
    if (kappa < Math.min(tau, 1) && longer.icl > icl) return "too long";
    if (idg >= 0.9 * (1 + rho)) return "nothing";
    if (icl >= 2 * idg) return "memorising";
    return icl <= 1.1 * idg ? "learning" : "between";
  };

  return Object.freeze({ resolvent, effectiveRidge, learningCurve, regime });
})();

if (typeof module === "object") module.exports = phaseTheory;
