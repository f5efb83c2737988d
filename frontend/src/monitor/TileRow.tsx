import type { ReactNode } from "react";

import { count, duration } from "../format";
import type { Tiles } from "./overview";

const percentFormat = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 });
const rateFormat = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const NONE = "–";

/** The numbers above the list, as the server pushes them; null while it has not, `stale` while it does not. */
export function TileRow({ tiles, stale }: { tiles: Tiles | null; stale: boolean }) {
  if (!tiles) return <div className="fb-tiles" aria-hidden="true" data-loading="true" />;
  const waiting = Object.values(tiles.queues).reduce((sum, depth) => sum + depth, 0);
  return (
    <section
      className="fb-tiles fb-card"
      aria-label={stale ? "Last known figures" : "Live figures"}
      data-stale={stale || undefined}
      data-installation={tiles.slots ? true : undefined}
    >
      <Tile id="running" name="Running now" note={openNote(tiles)}>
        {tiles.running.toLocaleString("en")}
      </Tile>
      <Tile id="throughput" name="Throughput" note="Last 5 minutes">
        {rateFormat.format(tiles.throughput_per_minute)}
        <small> / min</small>
      </Tile>
      <Tile
        id="success"
        name="Success rate"
        note={tiles.success_rate == null ? "None ended, 1 hour" : `${percentFormat.format(1 - tiles.success_rate)} failed, 1 hour`}
        alarm={tiles.success_rate != null && tiles.success_rate < 0.9}
      >
        {tiles.success_rate == null ? NONE : percentFormat.format(tiles.success_rate)}
      </Tile>
      <Tile id="p95" name="p95 duration" note="Last hour">
        {tiles.p95_ms == null ? NONE : duration(tiles.p95_ms)}
      </Tile>
      <Tile id="credits" name="Credits today" note="Since midnight">
        {tiles.credits_today.toLocaleString("en")}
      </Tile>
      {tiles.slots ? (
        <>
          <Tile id="queues" name="Queue depth" note={queueNote(tiles.queues)}>
            {Object.keys(tiles.queues).length === 0 ? NONE : waiting.toLocaleString("en")}
          </Tile>
          <Tile
            id="slots"
            name="Busy slots"
            note={count(tiles.workers ?? 0, "worker")}
            share={part(tiles.slots.busy, tiles.slots.total)}
            alarm={tiles.workers === 0}
          >
            {tiles.slots.busy}
            <small> / {tiles.slots.total}</small>
          </Tile>
        </>
      ) : null}
      {tiles.browsers ? (
        <Tile id="browsers" name="Browsers" note="Pages open" share={part(tiles.browsers.open, tiles.browsers.limit)}>
          {tiles.browsers.open}
          <small> / {tiles.browsers.limit}</small>
        </Tile>
      ) : null}
    </section>
  );
}

function Tile({
  id,
  name,
  note,
  share,
  alarm = false,
  children,
}: {
  id: string;
  name: string;
  note: string;
  share?: number;
  alarm?: boolean;
  children: ReactNode;
}) {
  return (
    <dl className="fb-tile" data-tile={id} data-alarm={alarm || undefined}>
      <dt>{name}</dt>
      <dd className="fb-tile-value">{children}</dd>
      <dd className="fb-tile-note" title={note}>
        {note}
      </dd>
      {share === undefined ? null : (
        <dd className="fb-tile-meter" aria-hidden="true">
          <span style={{ width: `${share}%` }} />
        </dd>
      )}
    </dl>
  );
}

function part(some: number, all: number): number {
  return all > 0 ? Math.min(100, Math.round((some / all) * 100)) : 0;
}

function openNote(tiles: Tiles): string {
  const words = [tiles.pending ? `${tiles.pending} pending` : "", tiles.held ? `${tiles.held} waiting or paused` : ""];
  return words.filter(Boolean).join(", ") || "Nothing pending";
}

/** Return where messages wait, the fullest queue first. */
function queueNote(queues: Readonly<Record<string, number>>): string {
  const names = Object.keys(queues);
  if (names.length === 0) return "Broker is away";
  const filled = names.filter((name) => queues[name]).sort((a, b) => queues[b]! - queues[a]!);
  return filled.map((name) => `${name} ${queues[name]}`).join(", ") || "All empty";
}
