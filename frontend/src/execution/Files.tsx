import { useCallback, useState } from "react";

import type { Api } from "../api";
import type { Artifact } from "../contract";
import { bytes, clock } from "../format";
import { Icon } from "../icons";
import type { RunView } from "../monitor/WorkflowExecutionMonitor";
import { Answer, Empty, Pager } from "./Answer";
import { useFresh } from "./useFresh";

const PAGE = 50;
const KINDS: Record<string, string> = { har: "Network traffic (HAR)", page: "Page (HTML)", screenshot: "Screenshot" };

/** The files that steps saved. Pictures are shown; everything is downloaded, never opened: pages may be hostile. */
export function Files({ client, view }: { client: Api; view: RunView }) {
  const [offset, setOffset] = useState(0);
  const load = useCallback((signal: AbortSignal) => client.artifacts(view.id, offset, PAGE, signal), [client, view.id, offset]);
  return (
    <Answer of={useFresh(load, view.seq)}>
      {(page) =>
        page.count === 0 ? (
          <Empty title="No files">Screenshots, pages and network traffic of browser steps appear here, and files that steps save.</Empty>
        ) : (
          <>
            <ul className="fb-files">
              {page.items.map((file) => (
                <File key={file.seq} file={file} />
              ))}
            </ul>
            <Pager noun="files" offset={offset} size={PAGE} count={page.count} onMove={setOffset} />
          </>
        )
      }
    </Answer>
  );
}

function File({ file }: { file: Artifact }) {
  const kind = KINDS[file.kind] ?? file.kind;
  return (
    <li className="fb-file">
      <div className="fb-file-picture">
        {file.image ? <img src={file.url} alt={`${kind} of ${file.node_name}`} loading="lazy" /> : <Icon name="code" size={26} />}
      </div>
      <strong title={file.name}>{file.name}</strong>
      <span className="fb-muted">
        {kind}, {bytes(file.size_bytes)}
      </span>
      <span className="fb-muted">
        {file.node_name}, {clock(new Date(file.timestamp * 1000).toISOString())}
      </span>
      <a className="fb-btn fb-btn-small" href={file.url} download aria-label={`Download ${file.name} of ${file.node_name}`}>
        <Icon name="down" size={13} /> Download
      </a>
    </li>
  );
}
