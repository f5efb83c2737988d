import { afterEach, expect, it, vi } from "vitest";

import { Api, serverNow } from "./api";

afterEach(() => vi.useRealTimers());

const ask = (date: string) => {
  vi.stubGlobal("fetch", async () => new Response("{}", { headers: { Date: date } }));
  return new Api("/api/v1").execution("a");
};

it("goes by the clock of the server where ours is wrong, and by ours where it is about right", async () => {
  vi.useFakeTimers({ now: Date.UTC(2026, 0, 1, 12, 0, 0) });
  await ask("Thu, 01 Jan 2026 11:59:59 GMT");
  expect(serverNow() - Date.now()).toBe(0);
  await ask("Thu, 01 Jan 2026 13:00:00 GMT");
  expect(serverNow() - Date.now()).toBe(3_600_500);
  vi.advanceTimersByTime(1000);
  expect(serverNow() - Date.now()).toBe(3_600_500);
  await ask("");
  expect(serverNow() - Date.now()).toBe(0);
});

it("saves by the tag of what was read, and gives back the tag of what was saved", async () => {
  const sent: (string | null)[] = [];
  vi.stubGlobal("fetch", async (_: string, init: RequestInit) => {
    sent.push(new Headers(init.headers).get("If-Match"));
    return new Response("{}", { headers: { ETag: `"${sent.length}"` } });
  });
  const api = new Api("/api/v1");
  const body = { name: "n", definition: { nodes: [], edges: [] }, base_version: 1 };
  const read = await api.workflow("a");
  const saved = await api.save("a", body, read.etag);
  await api.save("a", body, null);

  expect(saved.etag).toBe('"2"');
  expect(sent).toEqual([null, '"1"', null]);
});
