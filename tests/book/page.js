// A page without a browser: enough of a document for a widget to run, and for a test to look on.
// Elements are made when asked for and remember what was done to them.
"use strict";

const page = { elements: {}, said: [] };
const location = { hash: "" };
const history = { replaceState: (_, __, url) => { location.hash = url; } };
const requestAnimationFrame = (f) => { if (page.draws) f(); };
const addEventListener = () => {};
globalThis.setTimeout = (f) => f();
globalThis.clearTimeout = () => {};
globalThis.console = { error: (problem) => page.said.push(String(problem)) };
class ResizeObserver {
  constructor(seen) { this.seen = seen; }
  observe() { this.seen(); } // a browser asks once at the beginning
}

class IntersectionObserver {
  constructor(seen) { this.seen = seen; }
  observe() { this.seen([{ isIntersecting: true }]); } // the reader is near
  disconnect() {}
}

class URLSearchParams {
  constructor(from) {
    this.pairs = typeof from === "string" ? from.split("&").map((part) => part.split("="))
      : Object.entries(from);
  }
  [Symbol.iterator]() { return this.pairs[Symbol.iterator](); }
  toString() { return this.pairs.map((pair) => pair.join("=")).join("&"); }
}

const element = () => ({
  clientWidth: 340, clientHeight: 304, innerHTML: "", textContent: "", dataset: {},
  attributes: {}, listeners: {}, validity: "",
  setAttribute(name, value) { this.attributes[name] = String(value); },
  addEventListener(name, f) { this.listeners[name] = f; },
  getBoundingClientRect: () => ({ left: 0, top: 0 }),
  setCustomValidity(text) { this.validity = text; },
  reportValidity() { return this.validity === ""; },
  matches: () => true,
  scrollIntoView() {},
  getContext: () => ({
    createImageData: (w, h) => ({ data: new Uint8ClampedArray(4 * w * h) }), putImageData() {},
  }),
  get previousElementSibling() { return (this.before ||= element()); },
});
page.find = (selector) => (page.elements[selector] ||= element());
const root = element();
root.querySelector = page.find;
page.plots = [".bd-risk", ".bd-gap"];
root.querySelectorAll = (selector) => (selector === ".pd-curves" ? page.plots.map(page.find) : []);
const document = { querySelector: (selector) => (selector === page.widget ? root : null) };

// What a reader does: move a slider, choose from a list, type a number, press a button, click.
const fire = (name, target) => root.listeners[name]({ target });
page.slide = (name, value) => fire("input", { value, dataset: { slider: name } });
page.choose = (name, value) => fire("input", { value, dataset: { view: name } });
page.type = (name, value) => {
  const box = Object.assign(element(), { value, dataset: { exact: name } });
  fire("change", box);
  return box.validity;
};
page.press = (text) => page.find(".pd-presets").listeners.click(
  { target: { matches: () => true, textContent: text } });
page.click = (selector, clientX) => page.find(selector).listeners.click(
  { currentTarget: page.find(selector), clientX });
