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

/* Times are written in the server's zone; the title says the same instant in the reader's. */
for (const time of document.querySelectorAll("time[datetime]")) {
  const local = new Date(time.dateTime);
  if (!Number.isNaN(local.getTime())) {
    time.title = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" }).format(local);
  }
}
