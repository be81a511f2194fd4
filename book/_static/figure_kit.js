// What the interactive figures of the book share: numbers as text, axes of plots, sliders with
// exact entry, the state in the address, and what brings a figure to life.
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
  // Marks of a linear axis, at most six.
  const marks = (low, high, unit) => {
    const rough = (high - low) / 5;
    const ten = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((k) => k * ten).find((v) => v >= rough);
    const found = [];
    for (let n = Math.ceil(low / step); n <= high / step; n++) {
      found.push([unit(n * step), format(n * step)]);
    }
    return found;
  };

  // A slider over a list of stops; `whole` numbers only, if asked.
  const scale = (title, stops, whole) => ({
    title, max: stops.length - 1,
    range: `${format(stops[0])} to ${format(stops[stops.length - 1])}${whole ? ", whole" : ""}`,
    at: (i) => stops[i],
    index: (v) => stops.reduce((best, s, i) =>
      (Math.abs(s - v) < Math.abs(stops[best] - v) ? i : best), 0),
    holds: (v) => v >= stops[0] && v <= stops[stops.length - 1] && (!whole || Number.isInteger(v)),
  });
  const tens = (low, high, steps) => // per decade
    Array.from({ length: (high - low) * steps + 1 }, (_, i) => round(10 ** (low + i / steps)));

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
  const buttons = (names) => `<div class="pd-presets" role="group" aria-label="Presets">${
    each(names, (name) => `<button type="button">${name}</button>`)}</div>`;
  const sliders = (axes) => `<div class="pd-sliders">${each(Object.keys(axes), (name) => `<div>
<label for="pd-${name}">${axes[name].title}</label>
<output for="pd-${name}" aria-live="off"></output>
<input id="pd-${name}" type="range" max="${axes[name].max}" data-slider="${name}"></div>`)}</div>`;
  const entries = (axes, hint) => `<details><summary>All values, and exact entry</summary>
<table><caption>Type a number and press Enter${hint}.</caption>
<tbody>${each(Object.keys(axes), (name) => `<tr><th scope="row"><label
for="pe-${name}">${axes[name].title}</label><td><input id="pe-${name}" size="9" data-exact="${name}">`)}</tbody>
<tbody class="pd-table"></tbody></table></details>`;

  const choice = (view, text, names) => `<label>${text} <select data-view="${view}">${
    each(Object.keys(names), (name) => `<option value="${name}">${names[name]}`)}</select></label>`;
  // What is said of the state, and the controls.
  const words = (axes, choices = "", hint = "") => `<p class="pd-verdict"></p>
<p class="pd-numbers"></p><p class="pd-live" role="status" aria-live="polite"></p>
${sliders(axes)}${choices && `<div class="pd-choice">${choices}</div>`}${entries(axes, hint)}`;

  // Let clicks and drags on a plot move the state.
  const drag = (svg, moveTo) => {
    const drags = (event) => event.pointerType !== "touch"; // a finger taps or scrolls
    svg.addEventListener("click", moveTo);
    svg.addEventListener("pointerdown", (e) => drags(e) && svg.setPointerCapture(e.pointerId));
    svg.addEventListener("pointermove", (e) => drags(e) && e.buttons === 1 && moveTo(e));
  };

  // Act when a reader comes near, or when the page has rested: browsers lay out all that stands
  // before the controls of a page that loads.
  const soon = (root, act) => {
    let acts = act;
    const once = () => {
      near.disconnect();
      acts();
      acts = () => {};
    };
    const near = new IntersectionObserver((seen) => {
      if (seen.some((one) => one.isIntersecting)) once();
    }, { rootMargin: "100%" });
    near.observe(root);
    addEventListener("load", () => setTimeout(once, 3000));
    addEventListener("hashchange", once);
  };

  // Bring a figure to life in its element, or leave the element as it came if anything fails.
  // A figure has the prefix of its addresses, the state that it starts from, axes, choices (words
  // that are no numbers), presets and html(). values(state) takes a new state and returns what to
  // say of it: a text, rows [name, value], more of them for the table. plots() draws it.
  // listen(set) may add listeners; a choice may change more than itself.
  const run = (root, figure) => {
    const { prefix, start, axes, choices, presets, values, plots, listen } = figure;
    const { allows = () => true, choose = (name, value) => ({ [name]: value }) } = figure;
    const came = root.innerHTML;
    const find = (selector) => root.querySelector(selector);
    let [state, said, due, pause] = [start, "", 0, 0];

    const show = () => {
      for (const box of root.querySelectorAll("select")) box.value = state[box.dataset.view];
      for (const name of Object.keys(axes)) {
        const [slider, exact] = [find(`#pd-${name}`), find(`[data-exact=${name}]`)];
        slider.value = axes[name].index(state[name]);
        slider.setAttribute("aria-valuetext", format(state[name]));
        slider.previousElementSibling.textContent = format(state[name]);
        if (exact !== document.activeElement) exact.value = state[name];
      }
    };
    const take = (next) => {
      state = next;
      const { text, rows, more = [], lead = "" } = values(state);
      said = `${text} ${lead}${rows.map((row) => row.join(": ")).join(", ")}.`;
      find(".pd-verdict").innerHTML = text.replace(/^.*?\./, "<strong>$&</strong>");
      find(".pd-numbers").innerHTML = each(rows, ([name, v]) => `<span>${name} <b>${v}</b></span>`);
      find(".pd-table").innerHTML = each([...rows, ...more], ([name, v]) =>
        `<tr><th scope="row">${name}<td>${v}`);
      show();
    };
    // The state in the address, or null. Only what the controls could have set gets through.
    const shared = () => {
      if (!location.hash.startsWith(`#${prefix}:`)) return null;
      const found = { ...start };
      for (const [name, text] of new URLSearchParams(location.hash.slice(prefix.length + 2))) {
        if (Object.hasOwn(axes, name) && axes[name].holds(parse(text))) found[name] = parse(text);
        else if (Object.hasOwn(choices, name) && choices[name].includes(text)) found[name] = text;
      }
      return allows(found) ? found : null;
    };
    const fail = (why) => {
      root.innerHTML = came;
      console.error(why);
    };
    const draw = () => {
      due = 0;
      try { plots(); } catch (why) { fail(why); }
    };
    // Screen readers and the address follow when the reader pauses, not at every step.
    const settle = () => {
      find(".pd-live").textContent = said;
      history.replaceState(history.state, "", `#${prefix}:` + new URLSearchParams(state));
    };
    const set = (changes) => {
      take({ ...state, ...changes });
      due ||= requestAnimationFrame(draw);
      clearTimeout(pause);
      pause = setTimeout(settle, 400);
    };
    const input = ({ target }) => {
      const { slider, view, exact } = target.dataset;
      if (slider) set({ [slider]: axes[slider].at(+target.value) });
      if (view) set(choose(view, target.value));
      if (exact) target.setCustomValidity("");
    };
    const change = ({ target: box }) => {
      const name = box.dataset.exact;
      if (!name) return;
      const { title, range, holds } = axes[name];
      box.setCustomValidity(holds(parse(box.value)) ? "" : `${title}: ${range}`);
      if (box.reportValidity()) set({ [name]: parse(box.value) });
    };
    const live = () => {
      try {
        const linked = shared();
        root.innerHTML = buttons(Object.keys(presets)) + figure.html();
        take(linked || start);
        root.addEventListener("input", input);
        root.addEventListener("change", change);
        find(".pd-presets").addEventListener("click", ({ target }) => {
          if (target.matches("button")) set({ ...start, ...presets[target.textContent] });
        });
        listen(set);
        new ResizeObserver(draw).observe(root);
        addEventListener("hashchange", () => {
          const next = shared();
          if (next) set(next);
        });
        if (linked) addEventListener("load", () => root.scrollIntoView({ behavior: "instant" }));
      } catch (why) { fail(why); }
    };
    if (location.hash.startsWith(`#${prefix}:`)) live();
    else soon(root, live);
  };

  return Object.freeze({
    clamp, round, each, format, tick, decades, marks, scale, tens, frame, line, surround,
    key, choice, words, drag, run,
  });
})();

if (typeof module === "object") module.exports = figureKit;
