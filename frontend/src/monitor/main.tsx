import "./monitor.css";

import { mountIslands } from "../islands";
import { MonitorPage } from "./MonitorPage";

mountIslands("monitor", MonitorPage);
