/** Values that tests are built from. */

import { EXECUTE_CONDITION, type ExecutionLog, type InputPort, type NodeType, type OutputPort, type PortType } from "../contract";
import { slug } from "../builder/ports";

export function log(seq: number, part: Partial<ExecutionLog> = {}): ExecutionLog {
  return {
    id: `event-${seq}`,
    execution_id: "run-1",
    seq,
    event: "log",
    node_id: null,
    step_name: "step",
    step_type: "log",
    input_data: {},
    output_data: {},
    duration_ms: 0,
    timestamp: new Date(Date.UTC(2026, 0, 1, 12, 0, 0, seq)).toISOString(),
    error_message: null,
    level: "info",
    message: `line ${seq}`,
    ...part,
  };
}

export function logs(from: number, to: number): ExecutionLog[] {
  return Array.from({ length: to - from + 1 }, (_, index) => log(from + index));
}

/** What the server says that an input takes besides its own type, as far as the tests need it. */
const ACCEPTED: Partial<Record<PortType, PortType[]>> = {
  STRING: ["JSON", "NUMBER"],
  JSON: ["STRING"],
  ANY: ["STRING", "NUMBER", "BOOLEAN", "JSON", "LIST"],
};

type In = Partial<InputPort> & Pick<InputPort, "name" | "type">;
type Out = Omit<OutputPort, "slug">;

export function nodeType(type: string, inputs: In[], outputs: Out[], part: Partial<NodeType> = {}): NodeType {
  return {
    type,
    label: type.replaceAll("_", " "),
    group: "Flow Control",
    credits: 1,
    summary: "",
    effect: "pure",
    start: false,
    subtitle: "",
    inputs: [...inputs, { name: "Execute Condition", type: "CONDITIONAL" as const }].map((port) => ({
      slug: slug(port.name),
      accepts: [port.type, ...(ACCEPTED[port.type] ?? [])],
      takes_many: port.name === EXECUTE_CONDITION,
      kinds: [],
      whole: false,
      ...port,
    })),
    outputs: [...outputs, { name: "Done", type: "CONDITIONAL" as const }].map((port) => ({
      slug: slug(port.name),
      ...port,
    })),
    ...part,
  };
}

/** A loop: `Item` leads to its body, `Results` to what comes after, and the body leads back to `Result`. */
export const LOOP = nodeType(
  "loop_items",
  [
    { name: "Items", type: "LIST", required: true },
    { name: "Result", type: "ANY", returns: true },
  ],
  [
    { name: "Item", type: "JSON", inside: true },
    { name: "Results", type: "JSON" },
  ],
);

export const TYPES: NodeType[] = [
  nodeType("launch", [{ name: "Website URL", type: "STRING", required: true, handle: false }], [{ name: "Web Page", type: "BROWSER_INSTANCE" }], {
    start: true,
    subtitle: "Website URL",
    credits: 5,
  }),
  nodeType(
    "fill_input",
    [
      { name: "Selector", type: "STRING", required: true },
      { name: "Value", type: "STRING", required: true },
      { name: "Web Page", type: "BROWSER_INSTANCE", required: true },
    ],
    [{ name: "Web Page", type: "BROWSER_INSTANCE" }],
    { subtitle: "Selector" },
  ),
  nodeType("get_html", [{ name: "Web Page", type: "BROWSER_INSTANCE", required: true }], [
    { name: "Html Content", type: "STRING" },
    { name: "Web Page", type: "BROWSER_INSTANCE" },
  ]),
  nodeType("transform", [{ name: "Input JSON", type: "JSON", required: true }, { name: "Limit", type: "NUMBER" }], [
    { name: "Result", type: "JSON" },
    { name: "Count", type: "NUMBER" },
  ]),
  nodeType("branch", [{ name: "Left Value", type: "ANY", required: true }], [
    { name: "True Path", type: "CONDITIONAL" },
    { name: "False Path", type: "CONDITIONAL" },
  ]),
];
