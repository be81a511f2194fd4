// The reader's place in the table of contents, and keys for what scrolls sideways. Both follow what
// is on the screen: nothing far away is laid out for them.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const BOXES = "pre, .cell_output > .output, div.math, .table-scroll, .pst-scrollable-table-container";
  const FORMULAS = "span.math > math"; // a page has a thousand; they scroll on narrow screens only
  const SCROLLS = `${BOXES}, ${FORMULAS}`;
  const narrow = matchMedia("(max-width: 600px)");

  // A box that scrolls can be reached by keyboard, and only then; it shows where there is more. Boxes
  // on the page are asked in idle moments; those not laid out yet ask for themselves, by their change
  // of size, when they are.
  const ask = (box) => {
    const hidden = box.scrollWidth - box.clientWidth;
    if (hidden > 1) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
    box.toggleAttribute("data-more", hidden > 1 && hidden - box.scrollLeft > 1);
  };
  document.addEventListener("scroll", ({ target }) => {
    if (target !== document && target.hasAttribute("tabindex") && target.matches(SCROLLS)) ask(target);
  }, { capture: true, passive: true });
  const idle = window.requestIdleCallback ||
    ((work) => setTimeout(() => work({ timeRemaining: () => 9 }), 50));
  const laidOut = (box) => !box.checkVisibility || box.checkVisibility({ contentVisibilityAuto: true });
  let queue = [];
  const work = (deadline) => {
    do if (queue.length) ask(queue.shift());
    while (queue.length && deadline.timeRemaining() > 8);
    if (queue.length) idle(work);
  };
  const askAll = () => {
    if (!queue.length) idle(work);
    queue = [...document.querySelectorAll(narrow.matches ? SCROLLS : BOXES)].filter(laidOut);
  };
  const boxes = new ResizeObserver((entries) => entries.forEach(({ target }) => ask(target)));
  const observe = (kind) => document.querySelectorAll(kind).forEach((box) => boxes.observe(box));
  observe(narrow.matches ? SCROLLS : BOXES);
  narrow.addEventListener("change", () => observe(SCROLLS));
  addEventListener("load", () => document.fonts.ready.then(askAll));
  let resized = 0;
  addEventListener("resize", () => {
    clearTimeout(resized);
    resized = setTimeout(askAll, 100);
  });

  // All is laid out before a jump within the page, so that it ends where the link leads.
  const root = document.documentElement;
  const target = () => {
    try { return document.getElementById(decodeURIComponent(location.hash.slice(1))); } catch { return null; }
  };
  const whole = () => delete root.dataset.near;
  document.addEventListener("click", (event) => {
    const link = event.target.closest && event.target.closest("a[href*='#']");
    if (link && link.pathname === location.pathname) whole();
  }, true);
  addEventListener("hashchange", () => {
    if (!("near" in root.dataset)) return;
    whole();
    if (target()) target().scrollIntoView();
  });
  // Letters that come late move a page: who has not moved it yet is led to the anchor once more.
  let moved = false;
  for (const kind of ["wheel", "touchstart", "keydown", "pointerdown"]) {
    addEventListener(kind, () => { moved = true; }, { once: true, passive: true });
  }
  addEventListener("load", () => document.fonts.ready.then(() => {
    if (!moved && target()) target().scrollIntoView();
  }));

  const links = new Map();
  for (const link of document.querySelectorAll(".bd-toc-nav a[href^='#']")) {
    const section = document.getElementById(decodeURIComponent(link.hash.slice(1)));
    if (section) links.set(section, link);
  }
  const seen = new Set();
  const mark = () => {
    const here = [...links.keys()].filter((section) => seen.has(section)).pop();
    for (const [section, link] of links) {
      const on = Boolean(here && section.contains(here));
      link.classList.toggle("active", on);
      link.parentElement.classList.toggle("active", on);
      if (section === here) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  };
  const place = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) seen.add(target);
      else seen.delete(target);
    }
    mark();
  }, { rootMargin: "-80px 0px -60% 0px" });
  for (const section of links.keys()) place.observe(section);
});
