import { act, cleanup, fireEvent, render, screen } from "@testing-library/react";
import { useState } from "react";
import { afterEach, describe, expect, it } from "vitest";

import type { StepData } from "../contract";
import { codesOf, numberOf, Policy } from "./Policy";

let stored: StepData = {};

function Panel({ first }: { first: StepData }) {
  const [step, setStep] = useState(first);
  stored = step;
  const put = (key: keyof StepData, value: unknown) =>
    setStep(({ [key]: _, ...rest }) => (value === undefined ? rest : { ...rest, [key]: value }));
  return <Policy step={step} put={put} />;
}

const type = (label: string, value: string) => act(() => fireEvent.change(screen.getByLabelText(label), { target: { value } }));
const click = (label: string | RegExp) => act(() => fireEvent.click(screen.getByLabelText(label)));

afterEach(cleanup);

describe("Policy", () => {
  it("stores what differs from the default and nothing else", () => {
    render(<Panel first={{}} />);
    type("On error", "output");
    type("Retries", "3");
    type("First pause (seconds)", "0.5");
    type("Timeout (seconds)", "20");
    type("Reuse results for (seconds)", "3600");
    click(/^network/);
    click(/^timeout/);
    click("Vary the pauses");

    expect(stored).toEqual({
      on_error: "output",
      retries: 3,
      backoff_s: 0.5,
      timeout_s: 20,
      cache_ttl_s: 3600,
      retry_on: ["network", "timeout"],
      jitter: false,
    });

    type("On error", "fail");
    type("Retries", "");
    expect(stored).not.toHaveProperty("on_error");
    expect(stored).not.toHaveProperty("retries");
    expect(screen.queryByLabelText("First pause (seconds)")).toBeNull();
  });

  it("leaves values out of recordings, and goes back to what the workflow says", () => {
    render(<Panel first={{ record_inputs: true }} />);
    expect(screen.getByLabelText<HTMLSelectElement>("Record inputs").value).toBe("true");
    type("Record inputs", "false");
    type("Record outputs", "false");
    expect(stored).toEqual({ record_inputs: false, record_outputs: false });

    type("Record inputs", "");
    type("Record outputs", "true");
    expect(stored).toEqual({ record_outputs: true });
  });

  it("takes a code that is not offered, and gives it back", () => {
    render(<Panel first={{ retries: 1, retry_on: ["quota"] }} />);
    const field = screen.getByLabelText("Another error code");
    fireEvent.change(field, { target: { value: " teapot " } });
    act(() => fireEvent.keyDown(field, { key: "Enter" }));

    expect(stored.retry_on).toEqual(["quota", "teapot"]);
    click(/^quota/);
    expect(stored.retry_on).toEqual(["teapot"]);
    click(/^teapot/);
    expect(stored).not.toHaveProperty("retry_on");
  });

  it("says what is wrong and does not store it", () => {
    render(<Panel first={{}} />);
    type("Retries", "1.5");

    expect(screen.getByText("A whole number from 0 to 20.")).toBeTruthy();
    expect(stored).not.toHaveProperty("retries");
  });
});

describe("numberOf", () => {
  it.each([
    ["", false, undefined],
    ["0", false, 0],
    ["2.5", false, 2.5],
    ["2.5", true, undefined],
    ["-1", false, undefined],
    ["101", false, undefined],
    ["abc", false, undefined],
  ])("%j, whole %s: %s", (text, whole, value) => {
    expect(numberOf(text, whole, 100)).toBe(value);
  });
});

it("reads codes from lists and from texts", () => {
  expect([codesOf(undefined), codesOf(["a", " "]), codesOf("a, b,")]).toEqual([[], ["a"], ["a", "b"]]);
});
