// What the interactive figures of the book share: numbers as text, axes of plots, sliders with
// exact entry, and the state in the address.
// An axis has a title, the slider's last step max, at(step), index(value), holds(value) and, as
// text, the range that it holds.
"use strict";

const figureKit = (() => {
  const clamp = (v, low, high) => Math.min(Math.max(v, low), high);
  const round = (v) => +v.toPrecision(3);
  const each = (list, f) => list.map(f).join("");

  const DIGITS = "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079";
  const power = (n) => (n < 0 ? "10\u207b" : "10") + each([...`${Math.abs(n)}`], (c) => DIGITS[c]);
  const minus = (v) => String(v).replace("-", "\u2212");
  const format = (v, digits = 4) => {
    const size = Math.abs(v);
    if (size === Infinity) return "\u221e";
    if (size === 0 || (size >= 0.001 && size < 1e4)) return minus(+v.toPrecision(digits));
    const [head, n] = v.toExponential(digits - 1).split("e");
    return (+head === 1 ? "" : `${minus(+head)}\u00b7`) + power(+n);
  };
  const parse = (text) => (/inf/i.test(text) ? Infinity : Number(text || NaN));

  // Marks of a logarithmic axis at powers of ten between 10^low and 10^high.
  const tick = (n) => (Math.abs(n) > 3 ? power(n) : String(round(10 ** n)));
  const decades = (low, high, unit) => {
    const found = [];
    for (let n = Math.ceil(low); n <= high; n++) found.push([unit(10 ** n), tick(n)]);
    return found;
  };

  // The plot area of an svg; x and y take positions from 0 to 1.
  const frame = (svg, margin = 16) => {
    const [left, top, right, bottom] = [48, 8, svg.clientWidth - margin, svg.clientHeight - 42];
    const [width, height] = [Math.max(0, right - left), bottom - top];
    const x = (u) => left + u * width;
    const y = (u) => bottom - u * height;
    const box = `<rect class="box" x="${left}" y="${top}" width="${width}" height="${height}"/>`;
    return { left, top, right, bottom, width, height, x, y, box };
  };
  const line = (points) => "M" + points.map((p) => p.map((v) => v.toFixed(1)).join(" ")).join("L");
  const surround = (f, across, up) => `${f.box}
${each(across.ticks, ([u, t]) => `<text x="${f.x(u)}" y="${f.bottom + 16}">${t}</text>`)}
${each(up.ticks, ([u, t]) => `<text class="end" x="${f.left - 6}" y="${f.y(u) + 4}">${t}</text>`)}
<text x="${f.x(0.5)}" y="${f.bottom + 36}">${across.title}</text>
<text transform="translate(12 ${f.y(0.5)}) rotate(-90)">${up.title}</text>`;

  const key = (kind, text) => `<li><svg aria-hidden="true" width="34" height="10"><path
class="${kind}" d="M1 5H33"/></svg>${text}`;
  const presets = (names) => `<div class="pd-presets" role="group" aria-label="Presets">${
    each(names, (name) => `<button type="button">${name}</button>`)}</div>`;
  const sliders = (axes) => `<div class="pd-sliders">${each(Object.keys(axes), (name) => `<div>
<label for="pd-${name}">${axes[name].title}</label>
<output for="pd-${name}" aria-live="off"></output>
<input id="pd-${name}" type="range" max="${axes[name].max}" data-slider="${name}"></div>`)}</div>`;
  const entries = (axes, hint) => `<details><summary>All values, and exact entry</summary>
<table><caption>Type a number and press Enter${hint}.</caption>
<tbody>${each(Object.keys(axes), (name) => `<tr><th scope="row">${axes[name].title}
<td><input size="9" aria-label="${axes[name].title}" data-exact="${name}">`)}</tbody>
<tbody class="pd-table"></tbody></table></details>`;

  // Let sliders and boxes show the state.
  const show = (root, axes, state) => {
    for (const name of Object.keys(axes)) {
      const slider = root.querySelector(`#pd-${name}`);
      const exact = root.querySelector(`[data-exact=${name}]`);
      slider.value = axes[name].index(state[name]);
      slider.setAttribute("aria-valuetext", format(state[name]));
      slider.previousElementSibling.textContent = format(state[name]);
      if (exact !== document.activeElement) exact.value = state[name];
    }
  };

  // The change that a box asks for, or null and a message at the box.
  const entered = (box, axes) => {
    const name = box.dataset.exact;
    const { title, range, holds } = axes[name];
    box.setCustomValidity(holds(parse(box.value)) ? "" : `${title}: ${range}`);
    return box.reportValidity() ? { [name]: parse(box.value) } : null;
  };

  // The state in the address behind #prefix: , or null. Only what the controls could have set
  // gets through; choices lists the words that are no numbers.
  const fromHash = (prefix, start, axes, choices) => {
    if (!location.hash.startsWith(`#${prefix}:`)) return null;
    const found = { ...start };
    for (const [name, text] of new URLSearchParams(location.hash.slice(prefix.length + 2))) {
      if (Object.hasOwn(axes, name) && axes[name].holds(parse(text))) found[name] = parse(text);
      else if (Object.hasOwn(choices, name) && choices[name].includes(text)) found[name] = text;
    }
    return found;
  };
  const toHash = (prefix, state) =>
    history.replaceState(history.state, "", `#${prefix}:` + new URLSearchParams(state));

  return Object.freeze({
    clamp, round, each, format, tick, decades, frame, line, surround,
    key, presets, sliders, entries, show, entered, fromHash, toHash,
  });
})();

if (typeof module === "object") module.exports = figureKit;
