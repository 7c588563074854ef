// Reads JSON-RPC bodies, one a line in hexadecimal, as Node.js does, and prints what a server would see of each.
'use strict';

const text = (value) => (typeof value === 'string' ? value.toWellFormed() : null);

function seen(message) {
  const params = message?.params;
  const names = [message?.method, params?.name, params?.uri, params?.taskId, params?.ref?.name, params?.ref?.uri];
  return names.map(text);
}

function read(line) {
  try {
    // Without a byte order mark, as body-parser and fetch do it.
    const body = JSON.parse(new TextDecoder().decode(Buffer.from(line, 'hex')));
    return (Array.isArray(body) ? body : [body]).map(seen);
  } catch {
    return null;
  }
}

const lines = require('node:fs').readFileSync(0, 'latin1').trimEnd().split('\n');
process.stdout.write(lines.map((line) => `${JSON.stringify(read(line))}\n`).join(''));
