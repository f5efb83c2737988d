/* Step through a recording: slider, arrow keys and every link to an event, without loading the page anew. */
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const player = document.getElementById("player");
  if (!player) return;
  const count = Number(player.dataset.count);
  const slider = player.querySelector("input[type=range]");
  const body = player.querySelector(".adm-player-body");
  const title = player.querySelector("#player-number");
  const said = player.querySelector("[role=status]");
  const around = document.querySelector("a[data-around]");
  let shown = Number(slider.value);
  let wanted = shown;
  let busy = false;

  /* One request at a time; while it runs only the newest wish is kept. */
  async function show(number) {
    wanted = Math.max(1, Math.min(count, number));
    slider.value = wanted;
    title.textContent = wanted.toLocaleString("en");
    if (busy) return;
    busy = true;
    try {
      while (shown !== wanted) {
        const number = wanted;
        const answer = await fetch(player.dataset.url.replace("/event/0/", `/event/${number}/`));
        if (!answer.ok || answer.redirected) return location.assign(`?event=${number}`);
        const open = [...body.querySelectorAll("details")].map((item) => item.open);
        body.replaceChildren(...new DOMParser().parseFromString(await answer.text(), "text/html").body.childNodes);
        body.querySelectorAll("details").forEach((item, index) => { if (open[index]) item.open = true; });
        shown = number;
        mark();
      }
    } catch {
      location.assign(`?event=${wanted}`);
    } finally {
      busy = false;
    }
  }

  function mark() {
    history.replaceState(null, "", `?event=${shown}`);
    said.textContent = `Event ${shown}: ${body.querySelector(".adm-event-text")?.textContent ?? ""}`;
    around.href = `?event=${shown}&after=${Math.max(0, shown - 25)}#events`;
    around.hidden = document.querySelector(`tr[data-row="${shown}"]`) !== null;
    for (const row of document.querySelectorAll("tr[data-row]")) {
      if (Number(row.dataset.row) === shown) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    }
  }

  const steps = { first: () => 1, previous: () => wanted - 1, next: () => wanted + 1, last: () => count };

  slider.addEventListener("input", () => show(Number(slider.value)));

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-event]");
    if (!link || event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
    event.preventDefault();
    const name = link.dataset.event;
    show(name in steps ? steps[name]() : Number(name));
    if (!player.contains(link)) player.scrollIntoView({ block: "start" });
  });

  document.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: "previous", ArrowRight: "next", Home: "first", End: "last" }[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.target.closest("input:not([type=range]), textarea, select, pre, [contenteditable]")) return;
    event.preventDefault();
    show(steps[step]());
  });
});
