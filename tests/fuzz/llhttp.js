// llhttp.js: a second opinion on the first request of each input that the fuzzers have found worth keeping: llhttp, Node's parser.
//
// usage: node llhttp.js UNDICI VERDICTS DIFFERENCES FILE...   UNDICI: the npm package, which carries llhttp as WebAssembly;
// VERDICTS: what verdicts.c says of the same files; DIFFERENCES: the table of those that are explained. Exits 1 if one is not.
'use strict'

const fs = require('node:fs')
const [undici, verdictsFile, differencesFile] = process.argv.slice(2)

const PAUSED = 21, REQUEST = 1
let body, done

const hooks = Object.fromEntries(['url', 'status', 'message_begin', 'header_field', 'header_value', 'headers_complete']
  .map((name) => [`wasm_on_${name}`, () => 0]))
hooks.wasm_on_body = (_, at, length) => { body += Buffer.from(llhttp.memory.buffer, at, length).toString('hex'); return 0 }
hooks.wasm_on_message_complete = () => { done = true; return PAUSED }

const module_ = new WebAssembly.Module(require(`${undici}/lib/llhttp/llhttp-wasm.js`))
const llhttp = new WebAssembly.Instance(module_, { env: hooks }).exports

function text (at) {
  const memory = Buffer.from(llhttp.memory.buffer)
  return at ? memory.toString('latin1', at, memory.indexOf(0, at)) : ''
}

function judge (bytes) {
  const parser = llhttp.llhttp_alloc(REQUEST), at = llhttp.malloc(bytes.length + 1)
  body = ''
  done = false
  Buffer.from(llhttp.memory.buffer, at, bytes.length).set(bytes)
  const rc = llhttp.llhttp_execute(parser, at, bytes.length)
  const end = llhttp.llhttp_get_error_pos(parser) - at, reason = text(llhttp.llhttp_get_error_reason(parser))
  llhttp.free(at)
  llhttp.llhttp_free(parser)
  return done ? { verdict: 'done', end, body } : rc === 0 ? { verdict: 'more' } : { verdict: 'failed', reason }
}

// | Forno says | llhttp says | why |     `*` fits everything, and a cell that ends in * what begins so.
const rows = fs.readFileSync(differencesFile, 'utf8').split('\n').filter((line) => /^\| [^-]/.test(line)).slice(1)
  .map((line) => line.split('|').slice(1, 3).map((cell) => cell.trim().replace(/^`|`$/g, ''))).map((cells) => ({ cells, seen: 0 }))
const fits = (cell, said) => cell.endsWith('*') ? said.startsWith(cell.slice(0, -1)) : cell === said

let agreed = 0
const unexplained = new Map()
for (const line of fs.readFileSync(verdictsFile, 'utf8').split('\n').filter(Boolean)) {
  const [file, verdict, end, rest] = line.split('\t'), bytes = fs.readFileSync(file)
  const theirs = judge(bytes.subarray(bytes.indexOf(10) + 1))
  const same = verdict === theirs.verdict && (verdict !== 'done' || (Number(end) === theirs.end && rest === theirs.body))
  if (same) { agreed++; continue }
  const ours = verdict === 'failed' ? rest : verdict
  const said = verdict === 'done' && theirs.verdict === 'done' ? 'done, elsewhere' : theirs.reason || theirs.verdict
  const row = rows.find(({ cells }) => fits(cells[0], ours) && fits(cells[1], said))
  if (row) row.seen++
  else unexplained.set(`| ${ours} | ${said} |`, [...(unexplained.get(`| ${ours} | ${said} |`) || []), file])
}

const explained = rows.reduce((sum, row) => sum + row.seen, 0)
console.log(`llhttp: ${agreed} inputs judged alike, ${explained} differently for ${rows.filter((row) => row.seen).length} known reasons`)
console.log(`llhttp: no input shows: ${rows.filter((row) => !row.seen).map((row) => row.cells[0]).join(' ') || 'nothing is left'}`)
for (const [pair, files] of unexplained) console.log(`llhttp: NOT EXPLAINED, ${files.length} times: ${pair} as in ${files[0]}`)
process.exitCode = unexplained.size || !agreed ? 1 : 0
