import "./execution.css";

import { mountIslands } from "../islands";
import { ExecutionPage } from "./ExecutionPage";

mountIslands("execution", ExecutionPage);
