import "./monitor.css";
import "./page.css";

import { mountIslands } from "../islands";
import { MonitorPage } from "./MonitorPage";

mountIslands("monitor", MonitorPage);
