/** What time it is on the server, for what a page counts while it runs. */

import { useEffect, useState } from "react";

import { serverNow } from "./api";

/** Return the server's time in milliseconds; while `ticking` it is looked at again every `every` milliseconds. */
export function useServerNow(ticking: boolean, every: number): number {
  const [now, setNow] = useState(serverNow);
  useEffect(() => {
    if (!ticking) return;
    setNow(serverNow());
    const timer = setInterval(() => setNow(serverNow()), every);
    return () => clearInterval(timer);
  }, [ticking, every]);
  return now;
}
