import { cleanup, fireEvent, render, screen } from "@testing-library/react";
import { afterEach, expect, it, vi } from "vitest";

import type { Wait } from "../contract";
import { Waits } from "./Waits";

const asked: Wait = {
  node_id: "ask",
  node_type: "approval",
  name: "Ask",
  kind: "approval",
  since: null,
  until: null,
  link: "/approvals/token",
  title: "Publish?",
  message: "",
  done: null,
  total: null,
};

afterEach(cleanup);

it("lets who may decide approve with a comment", () => {
  const decide = vi.fn(() => Promise.resolve());
  render(<Waits waits={[asked]} status="waiting" onDecide={decide} />);
  fireEvent.change(screen.getByLabelText("Comment"), { target: { value: "fine" } });
  fireEvent.click(screen.getByRole("button", { name: "Approve" }));
  expect(decide).toHaveBeenCalledWith("ask", { approved: true, comment: "fine" });
});

it("offers no buttons to who may only look", () => {
  render(<Waits waits={[{ ...asked, link: null }]} status="waiting" onDecide={() => Promise.resolve()} />);
  expect(screen.queryByRole("button")).toBeNull();
  expect(screen.getByText("Its owner decides, or somebody whom it names.")).toBeTruthy();
});
