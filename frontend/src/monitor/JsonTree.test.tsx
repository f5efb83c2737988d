import { cleanup, fireEvent, render, screen } from "@testing-library/react";
import { afterEach, expect, it } from "vitest";

import { JsonTree } from "./JsonTree";

afterEach(cleanup);
const text = () => screen.getByTestId("json-tree").textContent;

it("shows every kind of value", () => {
  render(<JsonTree value={{ text: "a", number: 1.5, yes: true, nothing: null, list: [], map: {} }} />);
  expect(text()).toBe('{6}text:"a"number:1.5yes:truenothing:nulllist:[0]map:{0}');
});

it("opens and closes objects and lists; deep ones are closed at first", () => {
  render(<JsonTree value={{ a: { b: { c: 1 } } }} />);
  expect(text()).toBe("{1}a:{1}b:{1}");
  fireEvent.click(screen.getByRole("button", { name: "b, 1 key" }));
  expect(text()).toBe("{1}a:{1}b:{1}c:1");
  fireEvent.click(screen.getByRole("button", { name: "Value, 1 key" }));
  expect(text()).toBe("{1}");
});

it("shows a hundred entries of many, and more when asked", () => {
  render(<JsonTree value={Array.from({ length: 250 }, (_, n) => n)} />);
  expect(document.querySelectorAll(".fb-tree-leaf")).toHaveLength(100);
  fireEvent.click(screen.getByRole("button", { name: "150 more, show 100" }));
  fireEvent.click(screen.getByRole("button", { name: "50 more, show 50" }));
  expect(document.querySelectorAll(".fb-tree-leaf")).toHaveLength(250);
});

it("cuts a long text until somebody wants all of it", () => {
  render(<JsonTree value={"x".repeat(5000)} />);
  expect(text()!.length).toBeLessThan(2100);
  fireEvent.click(screen.getByRole("button", { name: "Show all 5,000 characters" }));
  expect(text()).toBe(`"${"x".repeat(5000)}"`);
});

it("never makes markup of a value", () => {
  render(<JsonTree value={{ "<b>key</b>": "<img src=x onerror=alert(1)>" }} />);
  expect(document.querySelector("img, b")).toBeNull();
  expect(text()).toContain("<img src=x onerror=alert(1)>");
});
