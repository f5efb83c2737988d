import "./builder.css";

import { mountIslands } from "../islands";
import { Builder } from "./Builder";

mountIslands("builder", Builder);
