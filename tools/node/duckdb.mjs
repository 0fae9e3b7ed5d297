// DuckDB behind a line protocol, so that a test runs many queries in one process.
//
// In, one JSON object a line: {"id": N, "sql": "..."}. Several statements may be given; the rows of the last
// one are the answer. Out, one line for each, in the order of asking:
//   {"id": N, "cpu": MICROSECONDS, "columns": [{"name", "type"}...], "rows": [{...}...]}
//   {"id": N, "cpu": MICROSECONDS, "error": "..."}
// cpu is what this process used for it on all its threads, user and system.
//
// Values keep their exactness: an integer is a number without point or exponent, whatever its size; FLOAT and
// DOUBLE always have a point or an exponent, or are {"$float": "NaN" | "Infinity" | "-Infinity"}; BLOB is
// {"$bytes": BASE64}; LIST and ARRAY are arrays, STRUCT an object, MAP an array of {"key", "value"}; every
// other type is its text in DuckDB. The process ends when its standard input does.
import { createInterface } from 'node:readline';
import { DuckDBInstance, DuckDBTypeId as T, version } from '@duckdb/node-api';

const integers = new Set([T.TINYINT, T.SMALLINT, T.INTEGER, T.BIGINT, T.HUGEINT, T.UTINYINT, T.USMALLINT, T.UINTEGER, T.UBIGINT, T.UHUGEINT]);

// text converts a value of a DuckDB type to JSON text.
function text(value, type) {
  if (value === null || value === undefined) return 'null';
  if (integers.has(type.typeId)) return value.toString();
  switch (type.typeId) {
    case T.BOOLEAN:
      return value ? 'true' : 'false';
    case T.FLOAT:
    case T.DOUBLE: {
      if (!Number.isFinite(value)) return `{"$float":"${value}"}`;
      if (Object.is(value, -0)) return '-0.0';
      const s = String(value);
      return /[.e]/.test(s) ? s : s + '.0';
    }
    case T.BLOB:
      return `{"$bytes":"${Buffer.from(value.bytes).toString('base64')}"}`;
    case T.LIST:
    case T.ARRAY:
      return '[' + value.items.map((v) => text(v, type.valueType)).join(',') + ']';
    case T.STRUCT:
      return '{' + type.entryNames.map((n, i) => JSON.stringify(n) + ':' + text(value.entries[n], type.entryTypes[i])).join(',') + '}';
    case T.MAP:
      return '[' + value.entries.map((e) => `{"key":${text(e.key, type.keyType)},"value":${text(e.value, type.valueType)}}`).join(',') + ']';
  }
  return JSON.stringify(String(value));
}

async function answer(connection, { id, sql }) {
  const before = process.cpuUsage();
  const cpu = () => { const c = process.cpuUsage(before); return c.user + c.system; };
  try {
    const reader = await connection.runAndReadAll(sql);
    const used = cpu();
    const names = reader.deduplicatedColumnNames(), types = reader.columnTypes();
    const keys = names.map((n) => JSON.stringify(n) + ':');
    const rows = reader.getRows().map((row) => '{' + row.map((v, i) => keys[i] + text(v, types[i])).join(',') + '}');
    const columns = names.map((n, i) => ({ name: n, type: String(types[i]) }));
    return `{"id":${id},"cpu":${used},"columns":${JSON.stringify(columns)},"rows":[${rows.join(',')}]}\n`;
  } catch (e) {
    return JSON.stringify({ id, cpu: cpu(), error: String(e?.message ?? e) }) + '\n';
  }
}

const connection = await (await DuckDBInstance.create(':memory:')).connect();
await connection.run("set TimeZone = 'UTC'");
process.stdout.write(JSON.stringify({ id: 0, cpu: 0, columns: [{ name: 'version', type: 'VARCHAR' }], rows: [{ version: version() }] }) + '\n');
for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
  if (line.trim() === '') continue;
  const out = await answer(connection, JSON.parse(line));
  if (!process.stdout.write(out)) await new Promise((resolve) => process.stdout.once('drain', resolve));
}
process.exit(0);
