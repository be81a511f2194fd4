// Filters of the ledger page. Without JavaScript every claim is shown.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const form = document.querySelector(".ledger-filters");
  if (!form) return;
  const claims = [...document.querySelectorAll("article .claim")];
  const sections = [...document.querySelectorAll("article section")].filter((section) =>
    section.querySelector(":scope > .claim"));
  const status = form.querySelector("[role=status]");
  const chosen = (name) =>
    [...form.querySelectorAll(`input[name=${name}]:checked`)].map((box) => box.value);

  const update = () => {
    const verdicts = chosen("verdict");
    const chapters = chosen("chapter");
    const words = form.querySelector("input[type=search]").value.toLowerCase().trim();
    let shown = 0;
    for (const claim of claims) {
      const fits =
        verdicts.some((v) => claim.classList.contains(v)) &&
        chapters.some((c) => claim.classList.contains(c)) &&
        claim.textContent.toLowerCase().includes(words);
      claim.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    for (const section of sections) {
      section.hidden = !section.querySelector(".claim:not([hidden])");
    }
    status.textContent = `${shown} of ${claims.length} claims shown`;
  };

  for (const claim of claims) {
    claim.setAttribute("role", "article");
    claim.setAttribute("aria-label", claim.querySelector("strong").textContent);
  }
  form.hidden = false;
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  update();
});
