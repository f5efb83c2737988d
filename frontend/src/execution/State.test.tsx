import { cleanup, render, screen } from "@testing-library/react";
import { afterEach, expect, it } from "vitest";

import type { Api } from "../api";
import type { RunView } from "../monitor/WorkflowExecutionMonitor";
import { State } from "./State";

afterEach(cleanup);

const view = (seq: number): RunView => ({ id: "run-1", status: "completed", over: true, detail: null, steps: [], seq });

it("asks for the newest event and for no other before it is known how many there are", async () => {
  const asked: number[] = [];
  const client = {
    state: async (_id: string, seq: number) => {
      asked.push(seq);
      return { seq, event_type: `event_${seq}`, node_name: "", timestamp: 0, parts: [] };
    },
  } as unknown as Api;

  const { rerender } = render(<State client={client} view={view(0)} />);
  expect(screen.getByText("No event yet")).toBeTruthy();
  rerender(<State client={client} view={view(63)} />);
  await screen.findByText("event 63");

  expect(asked).toEqual([63]);
  expect(screen.getByTestId("event-number").textContent).toBe("63 of 63 events");
});
