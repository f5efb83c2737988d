/* Say a schedule in words and show its next runs while it is typed, on clocks that admin.js knows to read. */
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  for (const cron of document.querySelectorAll("input[name$='-cron']")) {
    const zone = document.querySelector(`select[name='${cron.name.replace(/-cron$/, "-timezone")}']`);
    if (zone) preview(cron, zone);
  }
});

document.addEventListener("formset:added", (event) => {
  const cron = event.target.querySelector("input[name$='-cron']");
  const zone = event.target.querySelector("select[name$='-timezone']");
  if (cron && zone) preview(cron, zone);
});

function preview(cron, zone) {
  const box = cron.closest("fieldset").querySelector(".adm-preview");
  if (!box || box.dataset.live) return;
  box.dataset.live = "yes";
  let timer, latest = 0;

  async function show() {
    const turn = ++latest;
    if (!cron.value.trim()) return box.replaceChildren();
    const query = new URLSearchParams({ cron: cron.value.trim(), timezone: zone.value, count: "5" });
    let answer;
    try {
      answer = await (await fetch(`/api/v1/schedules/preview?${query}`, { headers: { Accept: "application/json" } })).json();
    } catch {
      return;
    }
    if (turn !== latest) return;
    const sentence = document.createElement("p");
    sentence.textContent = answer.error || answer.text || "";
    box.classList.toggle("adm-wrong", Boolean(answer.error));
    const runs = document.createElement("ol");
    for (const next of answer.next || []) {
      const time = document.createElement("time");
      time.dateTime = next;
      time.dataset.zone = zone.value;
      time.textContent = `${onClock(next, zone.value)} ${zone.value}`;
      addReadersTime(time);
      const item = document.createElement("li");
      item.append(time);
      runs.append(item);
    }
    box.replaceChildren(sentence, runs);
  }

  function later() {
    clearTimeout(timer);
    timer = setTimeout(show, 250);
  }

  cron.addEventListener("input", later);
  zone.addEventListener("change", later);
  show();
}
