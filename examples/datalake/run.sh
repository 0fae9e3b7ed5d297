#!/usr/bin/env bash
# A first data lake: MinIO and Hydrant on loopback, 20,000 real flights in, a SQL question answered over
# the partitions by DuckDB. Needs what `make tools` installs. Nothing is left running; the data stays in
# $DATALAKE_DIR (default: lake/ beside this file).
#
# With --keep-running both servers stay up until Ctrl-C, to try queries and puts of your own.
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
cache=${HYDRANT_CACHE:-$root/.cache}

export DATALAKE_DIR=${DATALAKE_DIR:-$PWD/lake}
export MINIO_ROOT_USER=datalake MINIO_ROOT_PASSWORD=datalake-secret MINIO_UPDATE=off MINIO_BROWSER=off
export AWS_ACCESS_KEY_ID=$MINIO_ROOT_USER AWS_SECRET_ACCESS_KEY=$MINIO_ROOT_PASSWORD AWS_DEFAULT_REGION=us-east-1 AWS_PAGER=
aws=/usr/bin/aws
[ -x "$aws" ] || aws=aws

for need in "$cache/bin/minio" "$cache/node/node_modules"; do
  [ -e "$need" ] || { echo "missing $need: run 'make tools' in $root first" >&2; exit 1; }
done
command -v "$aws" >/dev/null || { echo "missing the AWS CLI: apt-get install awscli" >&2; exit 1; }

# A port that nothing listens on, unless the caller chose one.
free_port() { node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close() })'; }
export MINIO_PORT=${MINIO_PORT:-$(free_port)} API_PORT=${API_PORT:-$(free_port)} ADMIN_PORT=${ADMIN_PORT:-$(free_port)}
s3=http://127.0.0.1:$MINIO_PORT

pids=()
cleanup() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
}
trap cleanup EXIT

# wait_for URL: until it answers 2xx, 30 seconds at most.
wait_for() {
  for _ in $(seq 300); do
    node -e 'fetch(process.argv[1]).then(r => process.exit(r.ok ? 0 : 1), () => process.exit(1))' "$1" && return
    sleep 0.1
  done
  echo "no answer from $1; see $DATALAKE_DIR/*.log" >&2
  exit 1
}

echo "── building hydrant"
mkdir -p "$DATALAKE_DIR"
(cd "$root" && CGO_ENABLED=0 go build -trimpath -o "$DATALAKE_DIR/hydrant-bin" ./cmd/hydrant)
hydrant=$DATALAKE_DIR/hydrant-bin

echo "── MinIO on $s3"
"$cache/bin/minio" server --address "127.0.0.1:$MINIO_PORT" "$DATALAKE_DIR/minio" >"$DATALAKE_DIR/minio.log" 2>&1 &
pids+=($!)
wait_for "$s3/minio/health/live"
"$aws" --endpoint-url "$s3" s3 mb s3://lake >/dev/null 2>&1 || "$aws" --endpoint-url "$s3" s3 ls s3://lake >/dev/null

echo "── Hydrant on http://127.0.0.1:$API_PORT (Firehose API) and http://127.0.0.1:$ADMIN_PORT (admin)"
"$hydrant" run -c hydrant.yaml >"$DATALAKE_DIR/hydrant.log" 2>&1 &
pids+=($!)
wait_for "http://127.0.0.1:$ADMIN_PORT/readyz"

echo "── putting 20,000 flights"
gunzip -c "$root/e2e/testdata/flights-20k.ndjson.gz" |
  "$hydrant" put --stream flights --endpoint "http://127.0.0.1:$API_PORT"
"$hydrant" stream flush flights --admin "http://127.0.0.1:$ADMIN_PORT"

echo "── the bucket"
"$aws" --endpoint-url "$s3" s3 ls --recursive s3://lake/flights/
"$aws" --endpoint-url "$s3" s3 sync --only-show-errors --delete s3://lake "$DATALAKE_DIR/copy"

query="select origin, destination, count(*) flights, round(avg(delay), 1) avg_delay
from read_parquet('$DATALAKE_DIR/copy/flights/**/*.parquet', hive_partitioning = true)
where dt >= '2000-01-01' group by origin, destination order by flights desc, origin, destination limit 5"
echo "── DuckDB: rows by partition, then the five busiest routes"
node query.mjs "$cache/node/node_modules" \
  "select dt, hour, count(*) as rows from read_parquet('$DATALAKE_DIR/copy/flights/**/*.parquet', hive_partitioning = true) group by all order by all" \
  "$query"

if [ "${1:-}" = --keep-running ]; then
  echo "── running until Ctrl-C; credentials $MINIO_ROOT_USER / $MINIO_ROOT_PASSWORD"
  wait
fi
