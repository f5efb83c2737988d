import { useCallback, useMemo } from "react";

import type { Api } from "../api";
import { bytes } from "../format";
import { Icon } from "../icons";
import { CopyButton } from "../monitor/CopyButton";
import type { RunView } from "../monitor/WorkflowExecutionMonitor";
import { Answer } from "./Answer";
import { useFresh } from "./useFresh";

const SHOWN_CHARACTERS = 200_000;

/** The execution as the API has it, to copy and to take away. */
export function Raw({ api, client, view }: { api: string; client: Api; view: RunView }) {
  const load = useCallback((signal: AbortSignal) => client.execution(view.id, signal), [client, view.id]);
  return <Answer of={useFresh(load, view.seq)}>{(detail) => <Text api={api} id={view.id} detail={detail} />}</Answer>;
}

function Text({ api, id, detail }: { api: string; id: string; detail: unknown }) {
  const text = useMemo(() => JSON.stringify(detail, null, 2), [detail]);
  const cut = text.length > SHOWN_CHARACTERS;
  return (
    <div className="fb-raw">
      <div className="fb-raw-head">
        <span className="fb-muted">
          {bytes(text.length)}
          {cut ? ", the beginning is shown" : ""}
        </span>
        <span className="fb-spacer" />
        <CopyButton text={() => text} label="Copy" className="fb-btn-small" />
        <a className="fb-btn fb-btn-small" href={`${api}/executions/${id}`} download={`execution-${id}.json`}>
          <Icon name="down" size={13} /> Download
        </a>
      </div>
      <pre tabIndex={0} aria-label="JSON of the execution">
        {cut ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text}
      </pre>
    </div>
  );
}
