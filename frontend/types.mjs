// Writes src/api-types.ts from the API's own description; ./flow check says when it was not done after a change.

import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import openapiTS, { astToString } from "openapi-typescript";

const described = `
import json, django
django.setup()
from flowbuilder.api import api
print(json.dumps(api.get_openapi_schema(), sort_keys=True))
`;
const api = JSON.parse(
  execFileSync(".venv/bin/python", ["-c", described], {
    cwd: "..",
    env: { ...process.env, DJANGO_SETTINGS_MODULE: "flowbuilder.settings" },
    encoding: "utf8",
    maxBuffer: 2 ** 26,
  }),
);

// Every operation may fail in the same ways, and every failure is a Problem: only what succeeds is worth a type.
for (const operations of Object.values(api.paths)) {
  for (const operation of Object.values(operations)) {
    for (const status of Object.keys(operation.responses)) {
      if (status >= "400") delete operation.responses[status];
    }
  }
}

// Titles only say the names again.
const untitled = JSON.parse(JSON.stringify(api), (key, value) =>
  key === "title" && typeof value === "string" ? undefined : value,
);

const types = astToString(await openapiTS(untitled, { alphabetize: true }));
writeFileSync("src/api-types.ts", `/** The shapes of the HTTP API. Written by "npm run types"; do not edit. */\n\n${types}`);
