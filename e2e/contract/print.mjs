// Prints the wire contract that an installed npm package carries, as canonical JSON: the same contract gives the
// same text, one method, field or enum value a line, everything sorted.
//
//   node e2e/contract/print.mjs <node_modules> bsky  > fixtures/contract/bsky-<version>.json
//   node e2e/contract/print.mjs <node_modules> bsync > fixtures/contract/bsync-<version>.json
//
// The packages publish no .proto files. What they publish is code generated from them, whose message classes know
// their own fields; this reads those classes (protobuf-es, version 1) and nothing else of the package.

import { readFile, readdir } from "node:fs/promises";
import path from "node:path";
import { pathToFileURL } from "node:url";

const PACKAGES = { bsky: "@atproto/bsky", bsync: "@atproto/bsync" };

// By the numbers that descriptors use for them.
const SCALARS = {
  1: "double", 2: "float", 3: "int64", 4: "uint64", 5: "int32", 6: "fixed64", 7: "fixed32", 8: "bool", 9: "string",
  12: "bytes", 13: "uint32", 15: "sfixed32", 16: "sfixed64", 17: "sint32", 18: "sint64",
};

const KINDS = ["unary", "server streaming", "client streaming", "bidirectional"];

const [modules, packageName] = process.argv.slice(2);
if (!modules || !(packageName in PACKAGES)) {
  console.error(`usage: node print.mjs <node_modules> ${Object.keys(PACKAGES).join("|")}`);
  process.exit(2);
}

const home = path.join(path.resolve(modules), PACKAGES[packageName]);
const manifest = await readFile(path.join(home, "package.json"), "utf8").then(JSON.parse, () => {
  console.error(`${PACKAGES[packageName]} is not installed in ${modules}: run npm ci there`);
  process.exit(2);
});

const types = await load(`${packageName}_pb.js`);
const services = await load(`${packageName}_connect.js`);
process.stdout.write(print(read(types, services)));

/** Imports a generated module by its file name, wherever below dist/ it lies. */
async function load(file) {
  const dist = path.join(home, "dist");
  const found = (await readdir(dist, { recursive: true })).find((name) => path.basename(name) === file);
  if (!found) {
    console.error(`${PACKAGES[packageName]}@${manifest.version} has no ${file} below dist/: its layout has changed`);
    process.exit(1);
  }
  // By file, since the package does not export it.
  return import(pathToFileURL(path.join(dist, found)));
}

function read(types, services) {
  const methods = [];
  for (const service of Object.values(services)) {
    for (const it of Object.values(service.methods)) {
      methods.push({
        name: `${service.typeName}/${it.name}`,
        input: it.I.typeName,
        output: it.O.typeName,
        kind: known(KINDS[it.kind], `kind ${it.kind} of ${it.name}`),
      });
    }
  }
  const messages = {};
  const enums = {};
  for (const exported of Object.values(types)) {
    if (exported.fields?.list) {
      messages[exported.typeName] = exported.fields.list().map((field) => fieldOf(exported, field));
      continue;
    }
    const type = enumType(exported);
    if (type) enums[type.typeName] = type.values.map(({ no, name }) => ({ no, name }));
  }
  return { methods, messages, enums };
}

/** The descriptor of an enum hangs on the exported object under a symbol that the library keeps to itself. */
function enumType(exported) {
  return Object.getOwnPropertySymbols(exported)
    .map((symbol) => exported[symbol])
    .find((value) => value?.typeName && Array.isArray(value.values));
}

function fieldOf(message, field) {
  const at = `${message.typeName}.${field.name}`;
  let type = typeOf(field, at);
  let label = "singular";
  if (field.kind === "map") {
    type = `map<${known(SCALARS[field.K], at)}, ${typeOf(field.V, at)}>`;
    label = "map";
  } else if (field.repeated) {
    label = "repeated";
  } else if (field.oneof) {
    label = `oneof ${field.oneof.name}`;
  } else if (field.req) {
    label = "required";
  } else if (field.opt) {
    label = "optional";
  }
  return { no: field.no, name: field.name, json: field.jsonName, type, label };
}

function typeOf({ kind, T }, at) {
  if (kind === "map") return "map";
  return kind === "scalar" ? known(SCALARS[T], at) : known(T?.typeName, at);
}

/** A thing that this script does not know must not go out as an undefined that happens to compare equal. */
function known(value, at) {
  if (value === undefined) throw new Error(`${at}: unknown to this script`);
  return value;
}

function print({ methods, messages, enums }) {
  const line = (value) => JSON.stringify(value);
  const list = (values, indent) =>
    values.length ? `[\n${values.map((value) => indent + line(value)).join(",\n")}\n${indent.slice(1)}]` : "[]";
  const table = (entries, key) =>
    Object.keys(entries)
      .sort()
      .map((name) => `  ${line(name)}: ${list(entries[name].sort((a, b) => a[key] - b[key]), "   ")}`)
      .join(",\n");
  methods.sort((a, b) => (a.name < b.name ? -1 : 1));
  return `{
 "package": ${line(packageName)},
 "source": ${line(`${manifest.name}@${manifest.version}`)},
 "methods": ${list(methods, "  ")},
 "messages": {
${table(messages, "no")}
 },
 "enums": {
${table(enums, "no")}
 }
}
`;
}
