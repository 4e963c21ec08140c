"use strict";
// The page says everything without this script: it filters, and shows a mark's description beside the pointer.
const language = document.querySelector("#language");
const category = document.querySelector("#category");
const tip = document.querySelector("#tip");
const MARK = "svg.marks [role=graphics-symbol][aria-label]:not([aria-roledescription=axis], [aria-roledescription=legend])";
const marks = [...document.querySelectorAll(MARK)];

function filter() {
  for (const part of document.querySelectorAll("[data-language]"))
    part.hidden = language.value !== "" && part.dataset.language !== language.value;
  for (const part of document.querySelectorAll("[data-category]"))
    part.hidden = category.value !== "" && part.dataset.category !== category.value;
  for (const mark of marks) {
    const about = mark.getAttribute("aria-label");
    const tags = [...about.matchAll(/\(([A-Za-z0-9-]+)\)/g)].map((found) => found[1]);
    const otherLanguage = language.value !== "" && tags.length > 0 && !tags.includes(language.value);
    const grid = mark.closest("#categories-harmful, #categories-benign") !== null;
    const otherCategory = category.value !== "" && grid && tags.length > 0 && !about.includes(`, ${category.value}: `);
    mark.classList.toggle("dimmed", otherLanguage || otherCategory);
  }
  const chosen = [language, category].filter((select) => select.value !== "");
  document.querySelector("#shown").textContent = chosen.length === 0
    ? "" : `Only ${chosen.map((select) => select.selectedOptions[0].textContent).join(", ")}`;
}

language.addEventListener("change", filter);
category.addEventListener("change", filter);
document.querySelector("#all").addEventListener("click", () => {
  language.value = category.value = "";
  filter();
});
document.querySelector("#filters").hidden = false;

document.addEventListener("pointermove", (event) => {
  const mark = event.target.closest?.(MARK);
  tip.hidden = !mark;
  if (tip.hidden) return;
  tip.textContent = mark.getAttribute("aria-label");
  tip.style.left = `${Math.max(8, Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${event.clientY + 18 + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 10 : event.clientY + 18}px`;
});
// Printed, nothing that was asked for stays folded away; what is harmful does.
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details:not(.example)")) part.open = true;
});
