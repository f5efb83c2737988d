import { cleanup, fireEvent, render, screen } from "@testing-library/react";
import { afterEach, describe, expect, it } from "vitest";

import type { Credential } from "../contract";
import { nodeType } from "../testing/make";
import { Field } from "./fields";

afterEach(cleanup);

const stored = [
  { id: "1", name: "shop", kind: "password" },
  { id: "2", name: "way out", kind: "proxy" },
] as Credential[];

describe("an input that takes a credential", () => {
  it("offers those of its kinds, and asks for no field where it takes them whole", () => {
    const [port] = nodeType("open", [{ name: "Proxy", type: "CREDENTIAL", kinds: ["proxy"], whole: true }], []).inputs;
    let value: unknown;
    render(
      <Field port={port!} value={undefined} findings={[]} credentials={stored} references={[]} onChange={(next) => (value = next)} />,
    );
    const options = screen.getAllByRole("option").map((option) => option.textContent);
    expect(options).toEqual(["Choose a credential", "way out · proxy"]);
    expect(screen.queryByLabelText("Credential field")).toBeNull();

    fireEvent.change(screen.getByTestId("field-proxy"), { target: { value: "2" } });
    expect(value).toEqual({ $credential: "2" });
  });

  it("offers all of them where any kind will do, with the field to take", () => {
    const [port] = nodeType("send", [{ name: "Secret", type: "CREDENTIAL" }], []).inputs;
    let value: unknown;
    render(
      <Field port={port!} value={undefined} findings={[]} credentials={stored} references={[]} onChange={(next) => (value = next)} />,
    );
    expect(screen.getAllByRole("option").length).toBeGreaterThanOrEqual(3);
    fireEvent.change(screen.getByTestId("field-secret"), { target: { value: "1" } });
    expect(value).toEqual({ $credential: "1", field: "password" });
  });
});
