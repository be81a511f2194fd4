"""What is checked of a page in the browser: each check returns one line per problem."""

from functools import cache
from pathlib import Path

import axe_playwright_python

# Waits until pictures, also those that a page leaves for later, and letters are there.
SETTLED = """async () => {
  for (const picture of document.images) picture.loading = "eager";
  await Promise.allSettled([...document.images].map((i) => i.decode()));
  await document.fonts.ready;
}"""
# Text in which TeX was left as it is typed; code shows TeX on purpose.
RAW_TEX = r"""() => {
  const skip = "pre, code, script, style, textarea, noscript, math, template";
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const { data, parentElement } = walker.currentNode;
    if (/\\[()[\]]|\$\$|\\begin\{|\\[a-z]+\{/.test(data) && !parentElement.closest(skip)) {
      found.push(`TeX is not typeset: ${data.trim().slice(0, 60)}`);
    }
  }
  return found;
}"""
FORMULAS = """() => {
  const wanted = document.querySelectorAll("article .math").length;
  const [drawn, failed] = ["math", "merror"].map(
    (kind) => document.querySelectorAll(`article ${kind}`));
  const found = [...failed].map((e) => `formula fails: ${e.textContent.slice(0, 60)}`);
  if (drawn.length < wanted) found.push(`${drawn.length} of ${wanted} formulas are drawn`);
  return found;
}"""
# What sticks out to the right, though the page as a whole must not scroll sideways.
OVERFLOW = """() => {
  const { scrollWidth, clientWidth } = document.documentElement;
  if (scrollWidth <= clientWidth) return [];
  const wide = [...document.body.querySelectorAll("*")]
    .filter((e) => e.getBoundingClientRect().right > clientWidth + 1)
    .map((e) => `<${e.localName} class="${e.className}">`);
  return [`${scrollWidth} wide on a screen of ${clientWidth}: ${wide.slice(0, 3).join(", ")}`];
}"""
PICTURES = """() => [...document.images]
  .filter((i) => i.getClientRects().length && !(i.complete && i.naturalWidth))
  .map((i) => `picture is not there: ${i.src}`)"""
# Contrast depends on the colours of letters, on whether they are large, and on what lies behind
# them: one element of each kind stands for all, and a kind that was judged is not judged again.
# A page of code has thousands, and axe asks the browser for each of them what it covers.
ONE_OF_EACH = """() => {
  const memory = new Map();
  const behind = (e) => {
    if (!e) return "";
    if (!memory.has(e)) {
      const { backgroundColor, backgroundImage, opacity, filter } = getComputedStyle(e);
      const opaque = /^rgb\\(/.test(backgroundColor) && opacity === "1";
      memory.set(e, [backgroundColor, backgroundImage, opacity, filter].join() +
        (opaque ? "" : behind(e.parentElement)));
    }
    return memory.get(e);
  };
  const seen = window.kindsOfText ||= new Set();
  let found = 0;
  for (const e of document.body.querySelectorAll("*")) {
    e.removeAttribute("data-one-of-each");
    const text = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!text && !e.matches("input, select, textarea")) continue;
    const { color, fontSize, fontWeight, position, visibility, textShadow } = getComputedStyle(e);
    if (visibility !== "visible" || !e.getClientRects().length) continue;
    const large = parseFloat(fontSize) >= (fontWeight >= 700 ? 18.66 : 24);
    const kind = [color, large, position, textShadow, behind(e)].join();
    if (seen.has(kind)) continue;
    seen.add(kind);
    e.setAttribute("data-one-of-each", "");
    found += 1;
  }
  return found;
}"""
# Words of code have their colours alone; without them axe has half as much to go through.
PLAIN_CODE = """() => {
  for (const code of document.querySelectorAll("pre")) {
    if (!code.querySelector("a, button, input, [tabindex]")) code.textContent = code.textContent;
  }
}"""
AXE = """async ([context, options]) => (await axe.run(context, options)).violations.map(
  ({ id, nodes }) => `axe, ${id}: ${nodes.length} times, first ${nodes[0].target}`)"""
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
CONTRAST = "color-contrast"
MAX_BYTES = 3_000_000
BYTES = """() => performance.getEntries().filter((e) => "encodedBodySize" in e)
  .reduce((total, e) => total + e.encodedBodySize, 0)"""
AFTER_RESIZE_MS = 500  # the page asks then which of its boxes scroll
NARROW = {"width": 360, "height": 800}


@cache
def axe_source():
    return (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text("utf-8")


def settle(page):
    """Wait until the page is as its reader will see it.

    Far parts are laid out like near ones, and colours change at once, as for a reader who asked for
    less motion: in between they would be judged by a shade that nobody reads.
    """
    page.emulate_media(reduced_motion="reduce")
    lay_out(page)
    page.evaluate(SETTLED)


def lay_out(page):
    """Lay out far parts like near ones: none moves the page later."""
    page.evaluate("() => { delete document.documentElement.dataset.near; }")


def theme(page, name):
    page.evaluate("(name) => { document.documentElement.dataset.theme = name; }", name)


def content(page):
    """Formulas are drawn, pictures are there, and it is not too much to load."""
    found = [line for check in (RAW_TEX, FORMULAS, PICTURES) for line in page.evaluate(check)]
    size = page.evaluate(BYTES)
    return found + ([f"{size:,} bytes to load"] if size > MAX_BYTES else [])


def overflow(page):
    return page.evaluate(OVERFLOW)


def structure(page):
    """All that axe finds but for colours; a theme changes nothing of it."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(axe_source())
    rules = {CONTRAST: {"enabled": False}}
    only = {"type": "tag", "values": LEVELS}
    return run_axe(page, {"include": [["html"]]}, {"runOnly": only, "rules": rules})


def contrast(page):
    """What axe finds of colours, in one element of each kind."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(axe_source())
    if not page.evaluate(ONE_OF_EACH):
        return []
    return run_axe(page, {"include": [["[data-one-of-each]"]]}, {"runOnly": [CONTRAST]})


def run_axe(page, context, options):
    return page.evaluate(
        AXE, [context, {"resultTypes": ["violations"], "preload": False} | options]
    )


def both_themes(page):
    found = []
    for name in ("light", "dark"):
        theme(page, name)
        found += [f"{name}: {line}" for line in contrast(page)]
    return found


def look(page):
    """All problems of a page that was opened on a wide screen; it ends on a narrow one."""
    settle(page)
    found = content(page)
    colours = both_themes(page)
    page.evaluate(PLAIN_CODE)
    found += [f"wide: {line}" for line in colours + structure(page)]
    page.set_viewport_size(NARROW)
    page.wait_for_timeout(AFTER_RESIZE_MS)
    narrow = overflow(page) + structure(page) + both_themes(page)
    return found + [f"narrow: {line}" for line in narrow]
