// Previews of what a link of an article refers to, on hover or keyboard focus. They stand in the
// page as JSON. Escape closes a preview; it stays while the pointer is on it. A tap is a click.
"use strict";

const previews = (() => {
  const [WAIT, LINGER, GAP, MARGIN] = [350, 250, 6, 8]; // ms, ms, px, px

  const DROPPED = ".headerlink, .citation > .label, .download, .copybtn, .selfcheck, .toctree-wrapper, script, style, form, "
    + "button, details, noscript, input, select, canvas, iframe, .no-preview";

  // A copy of an element of this page, without links, names and controls.
  const copied = (selector) => {
    const found = document.querySelector(selector);
    const copy = document.createElement(found.matches("dt") ? "p" : "div");
    if (found.matches("dt")) copy.className = "preview-name";
    copy.append(...(found.matches("dt") ? found.cloneNode(true).childNodes : [found.cloneNode(true)]));
    for (const extra of copy.querySelectorAll(DROPPED)) extra.remove();
    for (const part of copy.querySelectorAll("a")) part.replaceWith(...part.childNodes);
    for (const part of copy.querySelectorAll("[id], [tabindex]")) {
      part.removeAttribute("id");
      part.removeAttribute("tabindex");
    }
    return copy;
  };

  // Where the box goes: under the link if it fits there, else above if it fits there.
  const place = (link, size, view) => {
    const below = link.bottom + GAP;
    const above = link.top - GAP - size.height;
    const top = below + size.height > view.height - MARGIN && above >= MARGIN ? above : below;
    const left = Math.max(MARGIN, Math.min(link.left, view.width - size.width - MARGIN));
    return { left, top };
  };

  const start = (source, article, frame) => {
    const box = document.createElement("div");
    Object.assign(box, { id: "preview", className: "preview", hidden: true });
    box.setAttribute("role", "tooltip");
    frame.append(box);
    let [known, link, timer, marked] = [null, null, 0, null];

    const find = (target) => {
      const found = target.closest("a[href]");
      known ||= new Map(Object.entries(JSON.parse(source.textContent)));
      return found && known.has(found.getAttribute("href")) ? found : null;
    };
    // The target itself, if all of it is in sight: then it is marked, and needs no preview.
    const inSight = (from) => {
      const [path, name] = from.getAttribute("href").split("#");
      const target = !path && document.getElementById(decodeURIComponent(name));
      const { top, bottom } = target ? target.getBoundingClientRect() : { top: -1 };
      return top >= 0 && bottom <= window.innerHeight ? target : null;
    };
    const later = (action, wait) => {
      clearTimeout(timer);
      timer = setTimeout(action, wait);
    };
    const hide = () => {
      clearTimeout(timer);
      if (marked) marked.classList.remove("preview-target");
      marked = null;
      if (!link) return;
      link.removeAttribute("aria-describedby");
      link = null;
      box.hidden = true;
    };
    // The box is laid out in sight of no one, and then put beside the link.
    const show = async (next, at) => {
      hide();
      marked = inSight(next);
      if (marked) return void marked.classList.add("preview-target");
      link = next;
      link.removeAttribute("title"); // the browser's own box would cover this one
      const kept = known.get(link.getAttribute("href"));
      if (typeof kept === "string") box.innerHTML = kept;
      else box.replaceChildren(...kept.map(copied));
      box.style.visibility = "hidden";
      box.hidden = false;
      await Promise.all([...box.querySelectorAll("img")].map((image) => image.decode().catch(() => {})));
      if (link !== next) return;
      const lines = [...link.getClientRects()];
      const line = lines.find((r) => at && at.y <= r.bottom) || lines[0] || link.getBoundingClientRect();
      const view = { width: document.documentElement.clientWidth, height: window.innerHeight };
      const { left, top } = place(line, box.getBoundingClientRect(), view);
      const base = box.offsetParent.getBoundingClientRect();
      box.style.left = `${left - base.left}px`;
      box.style.top = `${top - base.top}px`;
      box.style.visibility = "";
      link.setAttribute("aria-describedby", box.id);
    };

    article.addEventListener("pointerover", (event) => {
      const over = event.pointerType !== "touch" && find(event.target);
      if (!over || over.contains(event.relatedTarget)) return;
      if (over === link) clearTimeout(timer);
      else later(() => show(over, { y: event.clientY }), WAIT);
    });
    article.addEventListener("pointerout", (event) => {
      const left = find(event.target);
      if (left && !left.contains(event.relatedTarget)) later(hide, LINGER);
    });
    article.addEventListener("focusin", ({ target }) => {
      const at = target.matches(":focus-visible") && find(target);
      if (at) later(() => show(at), WAIT);
    });
    article.addEventListener("focusout", () => later(hide, LINGER));
    article.addEventListener("click", ({ target }) => target.closest("a") && hide());
    box.addEventListener("pointerenter", () => clearTimeout(timer));
    box.addEventListener("pointerleave", () => later(hide, LINGER));
    addEventListener("keydown", ({ key }) => key === "Escape" && hide());
    addEventListener("resize", hide);
  };

  return Object.freeze({ place, start });
})();

if (typeof document === "object") {
  const [source, article] = ["#previews-data", "article"].map((s) => document.querySelector(s));
  if (source && article) previews.start(source, article, document.querySelector("main") || article);
}
if (typeof module === "object") module.exports = previews;
