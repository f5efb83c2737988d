import { useEffect, useId, useMemo, useRef, useState } from "react";

import type { Credential, Finding, InputPort } from "../contract";
import { Icon } from "./icons";
import { isCredential, isTemplate, type CredentialReference } from "./definition";
import { slug } from "./ports";

export interface Reference {
  label: string;
  text: string;
}

interface FieldProps {
  port: InputPort;
  value: unknown;
  findings: readonly Finding[];
  credentials: readonly Credential[];
  references: readonly Reference[];
  onChange: (value: unknown) => void;
}

/** One input of a step, in the control that suits its type. `undefined` removes the stored value. */
export function Field({ port, value, findings, credentials, references, onChange }: FieldProps) {
  const id = useId();
  const area = useRef<HTMLTextAreaElement | HTMLInputElement>(null);
  const credential = isCredential(value) || (port.type === "CREDENTIAL" && value == null);
  const [asText, setAsText] = useState(false);
  const [asCredential, setAsCredential] = useState(false);
  const showCredential = !asText && (credential || asCredential);
  const expression = isTemplate(value);
  const [asExpression, setAsExpression] = useState(false);
  const choice = (port.type === "BOOLEAN" || port.type === "SELECT") && !expression && !asExpression;
  const typed = port.type !== "BOOLEAN" && port.type !== "SELECT" && port.type !== "NUMBER" && !showCredential;
  const secretable = port.type === "STRING" || port.type === "CREDENTIAL" || port.type === "ANY";
  const help = port.help || limits(port);

  const insert = (text: string) => {
    const element = area.current;
    const current = typeof value === "string" ? value : value == null ? "" : JSON.stringify(value);
    const start = element?.selectionStart ?? current.length;
    const end = element?.selectionEnd ?? current.length;
    onChange(current.slice(0, start) + text + current.slice(end));
    requestAnimationFrame(() => {
      element?.focus();
      element?.setSelectionRange(start + text.length, start + text.length);
    });
  };

  return (
    <div className="fb-field" data-error={findings.some((item) => item.severity === "error") || undefined}>
      <div className="fb-field-head">
        <label htmlFor={id}>{port.name}</label>
        {port.required ? (
          <span className="fb-required" title="Required" aria-hidden="true">
            *
          </span>
        ) : null}
        <span className="fb-spacer" />
        {value !== undefined && port.default != null && !same(value, port.default) && port.type !== "CREDENTIAL" ? (
          <button
            type="button"
            className="fb-field-tool"
            title={`Back to the default: ${String(port.default)}`}
            onClick={() => {
              setAsExpression(false);
              onChange(undefined);
            }}
          >
            <Icon name="undo" size={13} />
            <span className="fb-sr">Back to default</span>
          </button>
        ) : null}
        {secretable && (credentials.length > 0 || showCredential || asText) ? (
          <button
            type="button"
            className="fb-field-tool"
            aria-pressed={showCredential}
            title={showCredential ? "Type the value instead" : "Take the value from a credential"}
            onClick={() => {
              setAsText(showCredential);
              setAsCredential(!showCredential);
              onChange(undefined);
            }}
          >
            <Icon name="key" size={13} />
            <span className="fb-sr">{showCredential ? "Type instead" : "From a credential"}</span>
          </button>
        ) : null}
        {port.type === "BOOLEAN" || port.type === "SELECT" ? (
          <button
            type="button"
            className="fb-field-tool"
            aria-pressed={!choice}
            title={choice ? "Use a template instead of a fixed choice" : "Use a fixed choice"}
            onClick={() => {
              setAsExpression(choice);
              if (!choice) onChange(undefined);
            }}
          >
            <Icon name="braces" size={13} />
            <span className="fb-sr">{choice ? "Use a template" : "Fixed choice"}</span>
          </button>
        ) : null}
        {references.length > 0 && !choice && !showCredential ? (
          <InsertMenu references={references} onPick={insert} />
        ) : null}
      </div>
      {showCredential ? (
        <CredentialField id={id} port={port} value={value} credentials={fitting(port, credentials)} onChange={onChange} />
      ) : choice && port.type === "BOOLEAN" ? (
        <Switch
          id={id}
          checked={value === undefined || value === null ? port.default === true : value === true || value === "true"}
          testId={`field-${slug(port.name)}`}
          onChange={onChange}
        />
      ) : choice ? (
        <select
          id={id}
          data-testid={`field-${slug(port.name)}`}
          value={typeof value === "string" ? value : ""}
          onChange={(event) => onChange(event.target.value || undefined)}
        >
          <option value="">{port.default == null ? "Choose" : `${String(port.default)} (default)`}</option>
          {options(port, value).map((option) => (
            <option key={option} value={option}>
              {option}
            </option>
          ))}
        </select>
      ) : port.type === "NUMBER" ? (
        <NumberField id={id} port={port} value={value} onChange={onChange} box={area} />
      ) : isJson(port) ? (
        <JsonField id={id} port={port} value={value} onChange={onChange} box={area} />
      ) : typed || expression || asExpression ? (
        <TextField id={id} port={port} value={value} onChange={onChange} box={area} />
      ) : null}
      {findings.map((finding) => (
        <p key={finding.code + finding.message} className="fb-field-problem" data-kind={finding.severity}>
          {finding.message}
        </p>
      ))}
      {help && findings.length === 0 ? <p className="fb-help">{help}</p> : null}
    </div>
  );
}

type Box = React.RefObject<HTMLTextAreaElement | HTMLInputElement | null>;
interface ControlProps {
  id: string;
  port: InputPort;
  value: unknown;
  onChange: (value: unknown) => void;
  box: Box;
}

function TextField({ id, port, value, onChange, box }: ControlProps) {
  const text = value == null ? "" : typeof value === "string" ? value : JSON.stringify(value);
  const wasValue = useRef(value != null && typeof value !== "string");
  const change = (next: string) => {
    if (next === "" && (port.default == null || port.default === "")) onChange(undefined);
    else onChange(wasValue.current ? (parse(next) ?? next) : next);
  };
  const shared = {
    id,
    "data-testid": `field-${slug(port.name)}`,
    "data-template": isTemplate(value) || undefined,
    value: text,
    placeholder: port.default != null ? String(port.default) : port.placeholder,
    autoComplete: "off",
    spellCheck: false,
  };
  if (port.variant === "textarea" || text.includes("\n")) {
    return (
      <textarea
        {...shared}
        ref={box as React.RefObject<HTMLTextAreaElement>}
        rows={Math.min(10, Math.max(3, text.split("\n").length))}
        onChange={(event) => change(event.target.value)}
      />
    );
  }
  return (
    <input
      {...shared}
      ref={box as React.RefObject<HTMLInputElement>}
      type={port.variant === "password" && !isTemplate(value) ? "password" : "text"}
      onChange={(event) => change(event.target.value)}
    />
  );
}

function NumberField({ id, port, value, onChange, box }: ControlProps) {
  const [text, setText] = useState(() => (value == null ? "" : String(value)));
  useEffect(() => {
    setText((before) => (toNumber(before) === (value ?? undefined) ? before : value == null ? "" : String(value)));
  }, [value]);
  const bad = text !== "" && typeof toNumber(text) === "string" && !isTemplate(text);
  const outside =
    typeof value === "number" && ((port.min != null && value < port.min) || (port.max != null && value > port.max));
  return (
    <>
      <input
        id={id}
        ref={box as React.RefObject<HTMLInputElement>}
        type="text"
        inputMode="decimal"
        autoComplete="off"
        data-testid={`field-${slug(port.name)}`}
        data-template={isTemplate(text) || undefined}
        aria-invalid={bad || outside}
        value={text}
        placeholder={port.default != null ? String(port.default) : port.placeholder}
        onChange={(event) => {
          setText(event.target.value);
          onChange(toNumber(event.target.value));
        }}
      />
      {bad || outside ? (
        <p className="fb-field-problem" data-kind="error">
          {bad ? "A number is needed, or a template." : limits(port)}
        </p>
      ) : null}
    </>
  );
}

function JsonField({ id, port, value, onChange, box }: ControlProps) {
  const [text, setText] = useState(() => show(value));
  const written = useRef<unknown>(value);
  useEffect(() => {
    if (!same(value, written.current)) {
      written.current = value;
      setText(show(value));
    }
  }, [value]);
  const looksJson = /^\s*[[{]/.test(text);
  const bad = looksJson && parse(text) === undefined && !isTemplate(text);
  return (
    <>
      <textarea
        id={id}
        ref={box as React.RefObject<HTMLTextAreaElement>}
        className="fb-code"
        data-testid={`field-${slug(port.name)}`}
        data-template={isTemplate(text) || undefined}
        aria-invalid={bad}
        rows={Math.min(14, Math.max(3, text.split("\n").length))}
        spellCheck={false}
        autoComplete="off"
        value={text}
        placeholder={port.placeholder || (port.default != null ? show(port.default) : "")}
        onChange={(event) => {
          const next = event.target.value;
          setText(next);
          written.current = fromJsonText(next);
          onChange(written.current);
        }}
      />
      {bad ? (
        <p className="fb-field-problem" data-kind="error">
          Not JSON yet.
        </p>
      ) : null}
    </>
  );
}

function CredentialField({
  id,
  port,
  value,
  credentials,
  onChange,
}: {
  id: string;
  port: InputPort;
  value: unknown;
  credentials: readonly Credential[];
  onChange: (value: unknown) => void;
}) {
  const reference: Partial<CredentialReference> = isCredential(value) ? value : {};
  const known = credentials.find((item) => item.id === reference.$credential || item.name === reference.$credential);
  const partId = useId();
  const choose = (name: string, field?: string) => (field ? { $credential: name, field } : { $credential: name });
  return (
    <div className="fb-credential">
      <select
        id={id}
        data-testid={`field-${slug(port.name)}`}
        value={known?.id ?? reference.$credential ?? ""}
        onChange={(event) =>
          onChange(
            event.target.value ? choose(event.target.value, port.whole ? undefined : (reference.field ?? "password")) : undefined,
          )
        }
      >
        <option value="">{credentials.length > 0 ? "Choose a credential" : "No credentials stored yet"}</option>
        {reference.$credential && !known ? (
          <option value={reference.$credential}>Missing: {reference.$credential}</option>
        ) : null}
        {credentials.map((item) => (
          <option key={item.id} value={item.id}>
            {item.name} · {item.kind}
          </option>
        ))}
      </select>
      {port.whole ? null : (
        <>
          <input
            aria-label="Credential field"
            type="text"
            list={partId}
            value={reference.field ?? "password"}
            disabled={!reference.$credential}
            onChange={(event) => onChange({ $credential: reference.$credential, field: event.target.value })}
          />
          <datalist id={partId}>
            {["password", "username", "token", "api_key"].map((part) => (
              <option key={part} value={part} />
            ))}
          </datalist>
        </>
      )}
    </div>
  );
}

/** The credentials of the kinds that an input takes; all of them where it names none. */
export function fitting(port: InputPort, credentials: readonly Credential[]): readonly Credential[] {
  return port.kinds.length > 0 ? credentials.filter((item) => port.kinds.includes(item.kind)) : credentials;
}

export function Switch({
  id,
  checked,
  testId,
  onChange,
}: {
  id: string;
  checked: boolean;
  testId?: string;
  onChange: (value: boolean) => void;
}) {
  return (
    <span className="fb-switch">
      <input
        id={id}
        type="checkbox"
        role="switch"
        data-testid={testId}
        checked={checked}
        onChange={(event) => onChange(event.target.checked)}
      />
      <span aria-hidden="true" />
      <em aria-hidden="true">{checked ? "On" : "Off"}</em>
    </span>
  );
}

function InsertMenu({ references, onPick }: { references: readonly Reference[]; onPick: (text: string) => void }) {
  return (
    <span className="fb-field-tool fb-insert" title="Insert a value of an earlier step">
      <Icon name="link" size={13} />
      <select
        aria-label="Insert an earlier value"
        value=""
        onChange={(event) => {
          if (event.target.value) onPick(event.target.value);
        }}
      >
        <option value="">Insert a value of an earlier step</option>
        {references.map((reference) => (
          <option key={reference.text} value={reference.text}>
            {reference.label}
          </option>
        ))}
      </select>
    </span>
  );
}

/** Whether the input is written as JSON. */
function isJson(port: InputPort): boolean {
  return port.type === "JSON" || port.type === "LIST" || port.variant === "json";
}

/** Return a number, the text itself if it is none (a template, half-typed), undefined for nothing. */
export function toNumber(text: string): number | string | undefined {
  const trimmed = text.trim();
  if (trimmed === "") return undefined;
  const value = Number(trimmed);
  return Number.isFinite(value) && !/^0[xob]/i.test(trimmed) ? value : text;
}

/** Return what a JSON field stores: the value if it is JSON, else the text as typed. */
export function fromJsonText(text: string): unknown {
  if (text.trim() === "") return undefined;
  return parse(text) ?? text;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

function show(value: unknown): string {
  if (value == null) return "";
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}

function same(a: unknown, b: unknown): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}

function options(port: InputPort, value: unknown): string[] {
  const known = port.options ?? [];
  return typeof value === "string" && value && !known.includes(value) ? [...known, value] : known;
}

function limits(port: InputPort): string {
  if (port.min != null && port.max != null) return `From ${port.min} to ${port.max}.`;
  if (port.min != null) return `At least ${port.min}.`;
  return port.max != null ? `At most ${port.max}.` : "";
}

/** Return the template that reads an output of a node. */
export function referenceText(nodeId: string, output: string): string {
  const safe = /^[A-Za-z_][A-Za-z0-9_]*$/;
  const node = safe.test(nodeId) ? `nodes.${nodeId}` : `nodes["${nodeId}"]`;
  return `{{ ${node}${safe.test(output) ? `.${output}` : `["${output}"]`} }}`;
}

export function useReferences(
  steps: readonly { id: string; label: string; outputs: readonly { name: string; type: string }[] }[],
): Reference[] {
  return useMemo(
    () =>
      steps.flatMap((step) =>
        step.outputs
          .filter((port) => port.type !== "CONDITIONAL" && port.type !== "BROWSER_INSTANCE")
          .map((port) => ({ label: `${step.label}: ${port.name}`, text: referenceText(step.id, port.name) })),
      ),
    [steps],
  );
}
