// Generated code inside installed packages, which export none of it.

import { readdirSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

/** A module of an installed package, by its file name. */
export async function generated(packageName, file) {
  const home = path.dirname(fileURLToPath(import.meta.resolve(packageName)))
  const found = readdirSync(home, { recursive: true }).find((name) => path.basename(name) === file)
  return import(pathToFileURL(path.join(home, found)))
}
