// "Report a problem with this figure": a button that copies the lines of a report to the clipboard
// and shows them in a text field, where they can be completed. Without this script the lines can
// be read on the page. Nothing is sent anywhere.
//
// The field is made when its box is opened: browsers look for the label of every text field of a page
// before the page answers, and lay out all that stands before the field to do so.
"use strict";

{ // a page of several chapters runs this script several times
  const offer = (place) => {
    const lines = place.querySelector("pre");
    if (!lines) return; // it is there already
    const text = lines.textContent;
    const field = document.createElement("textarea");
    const button = document.createElement("button");
    const said = document.createElement("p");
    const head = place.querySelector("p");

    const select = () => {
      field.focus();
      field.select();
    };
    const tell = (done) => {
      said.textContent = done
        ? "Copied. Say after the last line what is wrong."
        : "Press Ctrl+C or choose Copy, and say after the last line what is wrong.";
    };
    const copyOld = () => tell(document.execCommand("copy")); // of what is selected
    const copy = () => {
      field.hidden = false;
      select();
      if (navigator.clipboard) navigator.clipboard.writeText(field.value).then(() => tell(true), copyOld);
      else copyOld();
    };

    button.type = "button";
    button.addEventListener("click", copy);
    field.hidden = true;
    field.value = text;
    field.rows = text.split("\n").length + 2;
    field.setAttribute("aria-label", `Report, ${text.split("\n")[0]}`);
    said.setAttribute("role", "status");
    lines.replaceWith(field, said);
    if (head.querySelector("a")) {
      button.textContent = "Copy the report";
      head.append(" ", button);
    } else {
      button.textContent = head.querySelector("span").textContent.split(";")[0];
      head.replaceChildren(button);
    }
  };

  document.querySelectorAll(".figure-report").forEach((place) => {
    const box = place.closest("details");
    if (!box || box.open) offer(place);
    else box.addEventListener("toggle", () => offer(place), { once: true });
  });
}
