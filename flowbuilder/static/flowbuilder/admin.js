/* Menus that are <details>: a click outside or Escape closes them. */
"use strict";

const menus = "details.adm-menu[open], details.adm-filter[open]";

document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll(menus)) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll(menus)) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

/* Times are written in the server's zone, or in a schedule's; the title says the same instant in the reader's, too. */
for (const time of document.querySelectorAll("time[datetime]")) {
  const local = new Date(time.dateTime);
  if (!Number.isNaN(local.getTime())) {
    const exact = time.title.endsWith(" UTC") || !time.title ? "" : `${time.title} = `;
    time.title = exact + new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" }).format(local);
  }
}

/* Instants of a schedule are written in its zone; where the reader's clock shows another time, that is added. */
for (const time of document.querySelectorAll("time[data-zone]")) addReadersTime(time);

function addReadersTime(time) {
  const here = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const text = onClock(time.dateTime, here);
  if (text === onClock(time.dateTime, time.dataset.zone)) return;
  const own = document.createElement("span");
  own.className = "adm-here";
  own.textContent = ` = ${text} your time`;
  time.append(own);
}

function onClock(instant, zone) {
  const format = { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  return new Intl.DateTimeFormat(undefined, { ...format, timeZone: zone }).format(new Date(instant));
}

/* What is to be taken along, a secret that is shown once for example, has a button that copies it. */
for (const text of document.querySelectorAll("[data-copy]")) addCopyButton(text);

function addCopyButton(text) {
  const box = document.createElement("div");
  const button = document.createElement("button");
  const word = document.createElement("span");
  box.className = "adm-copy";
  button.type = "button";
  button.className = "button small";
  button.title = `Copy ${text.dataset.copy}`;
  word.setAttribute("aria-live", "polite");
  word.textContent = "Copy";
  button.append(word);
  text.replaceWith(box);
  box.append(text, button);
  button.addEventListener("click", async () => {
    word.textContent = (await copied(text)) ? "Copied" : "Press Ctrl+C";
    setTimeout(() => (word.textContent = "Copy"), 3000);
  });
}

/* Without https there is no clipboard to write to; what is selected can still be copied. */
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(text);
    return document.execCommand("copy");
  }
}
