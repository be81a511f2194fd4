// Formulas of the book as MathML that browsers lay out themselves. MathJax reads the TeX; what is
// written here adds what its own layout knows and browsers do not: TeX's spacing between atoms,
// letters of other alphabets, the alignment of columns. Runs when the book is built.
"use strict";

const mathml = (() => {
  const { TeX } = MathJax._.input.tex_ts;
  const { AllPackages } = MathJax._.input.tex.AllPackages;
  const { mathjax } = MathJax._.mathjax;
  const { liteAdaptor } = MathJax._.adaptors.liteAdaptor;
  const { RegisterHTMLHandler } = MathJax._.handlers.html_ts;
  const { STATE } = MathJax._.core.MathItem;

  const GAPS = { thinmathspace: 3, mediummathspace: 4, thickmathspace: 5 }; // of 18 parts of an em
  // What browsers do by themselves: spaces before and after, outside scripts.
  const USUAL = [
    [/^[=<>\u2260\u2264\u2265\u2248\u223c\u2243\u224d\u221d\u2208\u2192\u21a6\u226a\u226b\u2273\u22a5\u2225]$/, 5, 5],
    [/^[+\u2212\u00b1\u2213\u00d7\u2297]$/, 4, 4],
    [/^[,;]$/, 0, 3],
    [/^[()[\]{}\u2061\u2062\u27e8\u27e9\u2308\u2309]$/, 0, 0],
  ];
  // First letters A, a, Alpha, alpha and 0 of the alphabets, and letters that stand elsewhere.
  const ALPHABETS = {
    bold: [0x1d400, 0x1d41a, 0x1d6a8, 0x1d6c2, 0x1d7ce],
    "bold-italic": [0x1d468, 0x1d482, 0x1d71c, 0x1d736],
    script: [0x1d49c, 0x1d4b6],
    "double-struck": [0x1d538, 0x1d552, 0, 0, 0x1d7d8],
    "sans-serif": [0x1d5a0, 0x1d5ba, 0, 0, 0x1d7e2],
    monospace: [0x1d670, 0x1d68a, 0, 0, 0x1d7f6],
  };
  const ELSEWHERE = {
    script: { B: "\u212c", E: "\u2130", F: "\u2131", H: "\u210b", I: "\u2110", L: "\u2112",
      M: "\u2133", R: "\u211b", e: "\u212f", g: "\u210a", o: "\u2134" },
    "double-struck": { C: "\u2102", H: "\u210d", N: "\u2115", P: "\u2119", Q: "\u211a",
      R: "\u211d", Z: "\u2124" },
  };
  const FIRSTS = [["A", 26], ["a", 26], ["\u0391", 25], ["\u03b1", 25], ["0", 10]];
  const ACCENTS = { "^": "\u02c6", "~": "\u02dc" };
  const KEPT = {
    mo: ["stretchy", "symmetric", "minsize", "maxsize", "largeop", "movablelimits"],
    mspace: ["width", "height", "depth"],
    mpadded: ["width", "height", "depth", "lspace", "voffset"],
    mfrac: ["linethickness"],
    mstyle: ["displaystyle", "scriptlevel"],
    mtable: ["displaystyle"],
  };
  const ROWS = ["inferredMrow", "mrow", "TeXAtom", "math", "mstyle", "menclose", "msqrt",
    "mpadded", "mphantom", "mtd"];
  const TOKENS = ["mi", "mn", "mo", "mtext", "ms"];

  const escape = (text) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
  const element = (kind, attributes, body) => {
    const words = Object.entries(attributes).map(([k, v]) => ` ${k}="${escape(String(v))}"`);
    return `<${kind}${words.join("")}>${body}</${kind}>`;
  };
  const isAccent = (node) => {
    const over = node.kind === "mover" && node.childNodes[1].coreMO;
    return Boolean(over && node.childNodes[1].coreMO().attributes.get("accent"));
  };
  const explicit = (node) => {
    const found = {};
    for (const name of KEPT[node.kind] || []) {
      const value = node.attributes.getExplicit(name);
      if (value !== undefined) found[name] = value;
    }
    if (isAccent(node)) found.accent = true;
    return found;
  };
  const em = (parts) => (parts ? `${(parts / 18).toFixed(3)}em` : "0");

  const lettered = (text, variant) => {
    const starts = ALPHABETS[variant];
    if (!starts) return text;
    return [...text].map((c) => {
      const other = (ELSEWHERE[variant] || {})[c];
      if (other) return other;
      const row = FIRSTS.findIndex(([first, n]) =>
        c >= first && c.codePointAt(0) < first.codePointAt(0) + n);
      return starts[row] ? String.fromCodePoint(
        starts[row] + c.codePointAt(0) - FIRSTS[row][0].codePointAt(0)) : c;
    }).join("");
  };

  // The space that TeX puts before a node, and the node that follows it in its row.
  const gap = (node) => GAPS[node.texSpacing()] || 0;
  const after = (node) => {
    const row = node.parent;
    if (!row || !ROWS.includes(row.kind)) return null;
    return row.childNodes[row.childIndex(node) + 1] || null;
  };
  const isOperator = (node) => Boolean(node && node.isEmbellished);

  // An operator with its scripts is one atom. The space between two operators belongs to the second.
  const atom = (mo) => {
    let node = mo;
    while (isOperator(node.parent) && node.parent.coreMO() === mo) node = node.parent;
    return node;
  };
  const spacing = (mo, text) => {
    const whole = atom(mo);
    const next = after(whole);
    const left = whole.parent && ROWS.includes(whole.parent.kind) ? gap(whole) : 0;
    const right = next && !isOperator(next) ? gap(next) : 0;
    const [, ...usual] = USUAL.find(([chars]) => chars.test(text)) || [];
    return usual[0] === left && usual[1] === right ? {} : { lspace: em(left), rspace: em(right) };
  };

  // A delimiter of given size stretches; with an exponent, where browsers do not let it, it is a
  // larger letter.
  const sized = (mo, attributes) => {
    const { minsize, maxsize } = attributes;
    if (!minsize || minsize !== maxsize) return;
    attributes.stretchy = ["msub", "msup", "msubsup"].every((kind) => atom(mo).kind !== kind);
    if (attributes.stretchy) return;
    delete attributes.minsize;
    delete attributes.maxsize;
    attributes.style = `font-size:${minsize}`;
  };

  const token = (node) => {
    let text = node.childNodes.map((child) => child.getText()).join("");
    const attributes = explicit(node);
    const variant = (node.attributes.getExplicit("mathvariant") || "")
      .replace("-tex-", "").replace("calligraphic", "script");
    if (node.kind === "mtext" && /bold|monospace|italic/.test(variant)) {
      attributes.class = `tex-${variant}`;
    } else if (variant === "normal" && [...text].length === 1 && node.kind === "mi") {
      attributes.mathvariant = "normal";
    } else if (variant) {
      text = lettered(text, variant);
    }
    if (node.kind === "mo") {
      if (node.attributes.get("accent")) text = ACCENTS[text] || text;
      sized(node, attributes);
      Object.assign(attributes, spacing(node, text));
    }
    return element(node.kind, attributes, escape(text));
  };

  const parts = (node) => node.childNodes.flatMap((child, i) => {
    if (child.kind === "inferredMrow") return parts(child);
    const space = i > 0 && !isOperator(child) && !isOperator(node.childNodes[i - 1]) && gap(child);
    return [...(space ? [`<mspace width="${em(space)}"></mspace>`] : []), write(child)];
  }).filter(Boolean);
  const row = (node) => {
    const found = parts(node);
    return found.length === 1 ? found[0] : element("mrow", {}, found.join(""));
  };

  const choose = (words, i) => words[Math.min(i, words.length - 1)];
  const cell = (node, column, table) => {
    const [align, space] = ["columnalign", "columnspacing"].map((name) =>
      String(table.attributes.get(name)).split(/\s+/));
    const before = column ? parseFloat(choose(space, column - 1)) : 0;
    const style = before ? { style: `padding-left:${before}em` } : {};
    return element("mtd", { class: choose(align, column), ...style }, parts(node).join(""));
  };
  const table = (node) => element("mtable", explicit(node), node.childNodes.map((line) =>
    element("mtr", {}, line.childNodes.map((child, i) => cell(child, i, node)).join(""))).join(""));

  const write = (node) => {
    const { kind } = node;
    if (kind === "merror") throw new Error(node.attributes.get("data-mjx-error"));
    if (kind === "text") return escape(node.getText());
    if (TOKENS.includes(kind)) return token(node);
    if (kind === "mtable") return table(node);
    if (kind === "menclose") return element("mrow", { class: "boxed" }, parts(node).join(""));
    if (kind === "TeXAtom" || kind === "mrow" || kind === "inferredMrow") return row(node);
    const attributes = explicit(node);
    if (kind === "mstyle" && !Object.keys(attributes).length) return row(node);
    return element(kind, attributes, parts(node).join(""));
  };

  RegisterHTMLHandler(liteAdaptor());
  return (macros) => {
    const left = ["bussproofs", "noerrors", "noundefined"]; // proof trees; what hides mistakes
    const packages = AllPackages.filter((name) => !left.includes(name));
    const read = mathjax.document("", { InputJax: new TeX({ packages, macros }) });
    return (tex, display) => {
      const root = read.convert(tex, { display, end: STATE.CONVERT });
      root.setTeXclass(null);
      return element("math", display ? { display: "block" } : {}, parts(root).join(""));
    };
  };
})();
