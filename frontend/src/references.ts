/** Which steps read which by template. A reference is a dependency like a wire, only not drawn by hand. */

export interface Reader {
  id: string;
  inputs?: Record<string, unknown>;
}

export interface TemplateLink {
  /** The step that is read. */
  source: string;
  /** Its output. */
  output: string;
  /** The step that reads. */
  target: string;
  /** The input that holds the template. */
  input: string;
}

const TEMPLATE = /\{\{([\s\S]*?)\}\}/g;
const NODE = /\bnodes\s*(?:\.\s*([A-Za-z_][\w-]*)|\[\s*(["'])(.+?)\2\s*\])\s*(?:\.\s*([A-Za-z_]\w*)|\[\s*(["'])(.+?)\5\s*\])?/g;

const known = new WeakMap<object, TemplateLink[]>();

/** Return the references of all nodes. What a node's data holds is looked through once. */
export function templateLinks(nodes: readonly Reader[]): TemplateLink[] {
  const ids = new Set(nodes.map((node) => node.id));
  const links: TemplateLink[] = [];
  for (const node of nodes) {
    const { inputs } = node;
    if (!inputs) continue;
    let own = known.get(inputs);
    if (!own || (own[0] && own[0].target !== node.id)) {
      own = Object.entries(inputs).flatMap(([input, value]) => find(value, node.id, input));
      known.set(inputs, own);
    }
    for (const link of own) if (ids.has(link.source) && link.source !== node.id) links.push(link);
  }
  return links;
}

function find(value: unknown, target: string, input: string): TemplateLink[] {
  if (typeof value === "string") {
    if (!value.includes("{{")) return [];
    const found = new Map<string, TemplateLink>();
    for (const [, body] of value.matchAll(TEMPLATE)) {
      for (const match of body!.matchAll(NODE)) {
        const source = match[1] ?? match[3] ?? "";
        const output = match[4] ?? match[6] ?? "";
        found.set(`${source}\n${output}`, { source, output, target, input });
      }
    }
    return [...found.values()];
  }
  if (value && typeof value === "object") return Object.values(value).flatMap((item) => find(item, target, input));
  return [];
}
