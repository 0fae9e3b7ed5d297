// Runs SQL in DuckDB and prints tables: query.mjs NODE_MODULES SQL...
import { createRequire } from 'node:module';

const [modules, ...queries] = process.argv.slice(2);
const { DuckDBInstance } = createRequire(modules + '/')('@duckdb/node-api');
const connection = await (await DuckDBInstance.create(':memory:')).connect();
for (const sql of queries) {
  const rows = (await connection.runAndReadAll(sql)).getRowObjectsJson();
  console.table(rows);
}
